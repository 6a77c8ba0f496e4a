"""One budget over several processes: nothing is spent beyond it, in a file, by SQLAlchemy, and on a real server."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import postgres
import pytest
from test_budget import MOST, QUESTION, Shop, ask

from edt_backends import shared_budget
from edt_backends.base import BackendError, Usage
from edt_backends.budget import BudgetedChat, OutOfBudget, pico
from edt_backends.ledger import Ledger, open_ledger
from edt_backends.ledger_store import ServerStore
from edt_backends.shared_budget import SharedBudget

PROGRAMS = postgres.programs()


@pytest.fixture(scope="module")
def on_server() -> Iterator[str]:
    if PROGRAMS is None:
        pytest.skip("no PostgreSQL: apt-get install postgresql")
    pytest.importorskip("psycopg", reason="no psycopg: pip install 'edt-cli[postgres]'")
    with postgres.server(PROGRAMS) as url:
        yield url


@pytest.fixture(params=["file", "sqlalchemy", "postgresql"])
def place(request, tmp_path, monkeypatch) -> str:
    """What EDT_LEDGER says: nothing for the file of the workspace."""
    if request.param == "file":
        monkeypatch.delenv("EDT_LEDGER", raising=False)
        return ""
    pytest.importorskip("sqlalchemy")
    if request.param == "sqlalchemy":
        url = f"sqlite:///{tmp_path / 'shared.db'}"
    else:
        url = request.getfixturevalue("on_server")
    monkeypatch.setenv("EDT_LEDGER", url)
    return url


@pytest.fixture
def ledger(place, tmp_path) -> Iterator[Ledger]:
    ledger = open_ledger(tmp_path / "ledger.db")
    yield ledger
    ledger.close()


def test_the_books_are_the_same_wherever_they_are(ledger, tmp_path):
    """Each store holds what the file of a workspace holds, to the last token."""
    plain = Ledger(tmp_path / "plain.db")
    before = ledger.accounts().get("some/shop")
    for one in (plain, ledger):
        asyncio.run(_three_calls(one))
        one.save_hits("some/shop", 2, 10**12)
        one.save_hits("some/shop", 3, 3 * 10**12)
    ours, theirs = plain.accounts(), ledger.accounts()
    assert ours["some/shop"].spent_usd == 0.5 + 2**40 / 10**12 and ours["some/shop"].hits == 3
    if before is None:  # the server's tables are shared by this module's tests
        assert theirs == ours and ledger.delivered() == plain.delivered()
        assert ledger.accounts(by="prompt") == plain.accounts(by="prompt")
        assert set(theirs) == {"some/shop"} and set(ledger.accounts(by="prompt")) == {"generate", "reform"}


async def _three_calls(ledger: Ledger) -> None:
    numbers = [
        await ledger.reserve("some/shop", name, 2**40) for name in ("generate@1", "generate@1+repair@1", "reform@2")
    ]
    await ledger.settle(numbers[0], "delivered", pico(0.5), Usage(3_000_000_000, 7, 0.5))
    await ledger.settle(numbers[1], "unbilled", 0, Usage())


def test_commands_share_a_budget_that_each_names(ledger, tmp_path):
    limit = 3.5 * MOST
    first = BudgetedChat(Shop(lambda: Usage(1, 1, MOST)), SharedBudget(ledger, "ours", limit))
    second = BudgetedChat(Shop(lambda: Usage(1, 1, MOST)), SharedBudget(ledger, "ours", limit))
    other = BudgetedChat(Shop(lambda: Usage(1, 1, MOST)), SharedBudget(ledger, "another", limit))
    assert not any(isinstance(answer, Exception) for answer in ask(first, 2))
    answers = ask(second, 2)
    assert [type(answer) for answer in answers].count(OutOfBudget) == 1
    assert "by all that share 'ours'" in str(next(a for a in answers if isinstance(a, OutOfBudget)))
    assert not any(isinstance(answer, Exception) for answer in ask(other, 3))
    assert ledger.held("ours") == (0, 3 * pico(MOST))


def test_what_others_have_reserved_is_waited_for(ledger, monkeypatch):
    """The other call costs nothing after all, so there is room for this one."""
    monkeypatch.setattr(shared_budget, "POLL_S", 0.05)
    limit = 1.5 * MOST
    first, second = SharedBudget(ledger, "waits", limit), SharedBudget(ledger, "waits", limit)

    async def both() -> Any:
        number = await first.reserve("some/shop", "p@1", pico(MOST))
        waiting = asyncio.create_task(BudgetedChat(Shop(), second).complete(QUESTION))
        await asyncio.sleep(0.3)
        assert not waiting.done()
        await first.settle(number, "unbilled", pico(MOST), 0, Usage())
        return await waiting

    assert asyncio.run(both()).text == "fine"


def test_a_reservation_of_a_dead_process_stands_and_is_not_waited_for_long(ledger, monkeypatch):
    monkeypatch.setattr(shared_budget, "POLL_S", 0.05)
    monkeypatch.setattr(shared_budget, "PATIENCE_S", 0.3)
    dead = SharedBudget(ledger, "dead", 1.5 * MOST)
    asyncio.run(dead.reserve("some/shop", "p@1", pico(MOST)))
    begun = time.monotonic()
    (answer,) = ask(BudgetedChat(Shop(), SharedBudget(ledger, "dead", 1.5 * MOST)))
    assert isinstance(answer, OutOfBudget) and 0.3 <= time.monotonic() - begun < 10
    assert ledger.held("dead") == (pico(MOST), 0)


PROCESS = textwrap.dedent(
    """
    import asyncio, json, sys
    from pathlib import Path
    sys.path.insert(0, sys.argv[1])
    from test_budget import MOST, QUESTION, Shop
    from edt_backends.base import Usage
    from edt_backends.budget import BudgetedChat, OutOfBudget
    from edt_backends.ledger import open_ledger
    from edt_backends.shared_budget import SharedBudget

    async def main():
        shop = Shop(lambda: Usage(1, 1, MOST / 2))
        chat = BudgetedChat(shop, SharedBudget(open_ledger(Path(sys.argv[2])), "crowd", 20.2 * MOST))
        sys.stdin.readline()  # all begin at once
        answers = await asyncio.gather(*(chat.complete(QUESTION) for _ in range(30)), return_exceptions=True)
        others = [a for a in answers if isinstance(a, BaseException) and not isinstance(a, OutOfBudget)]
        print(json.dumps([shop.calls, len(others)]))

    asyncio.run(main())
    """
)


def test_processes_at_once_never_spend_more_than_the_budget(ledger, tmp_path):
    """Three processes want 90 calls of half the most; 40 are paid for, whoever makes them."""
    command = [sys.executable, "-c", PROCESS, str(Path(__file__).parent), str(tmp_path / "ledger.db")]
    pipe = subprocess.PIPE
    crowd = [subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=os.environ) for _ in range(3)]
    done = [process.communicate("go\n", timeout=120)[0] for process in crowd]
    calls = [json.loads(line)[0] for line in done]
    assert all(json.loads(line)[1] == 0 for line in done)
    held = ledger.held("crowd")
    assert held.reserved == 0 and held.spent == sum(calls) * pico(MOST / 2) <= pico(20.2 * MOST)
    assert sum(calls) in (39, 40)


def test_a_password_is_in_no_message(tmp_path):
    pytest.importorskip("sqlalchemy")
    pytest.importorskip("psycopg", reason="no psycopg: pip install 'edt-cli[postgres]'")
    with pytest.raises(BackendError) as caught:
        ServerStore("postgresql://edt:hush-hush@127.0.0.1:9/books")
    said = str(caught.value)
    assert "hush" not in said and "postgresql://edt:***@127.0.0.1:9/books" in said.replace("+psycopg", "")
    for url in ("no url, hush-hush", "oracle+nothing://edt:hush-hush@h/x"):
        with pytest.raises(BackendError) as caught:
            ServerStore(url)
        assert "hush" not in str(caught.value) and "\n" not in str(caught.value)


def test_a_server_refuses_a_wrong_password_in_one_line(on_server):
    with pytest.raises(BackendError, match="password authentication failed") as caught:
        ServerStore(on_server.replace(postgres.PASSWORD, "wrong-wrong"))
    assert "wrong-wrong" not in str(caught.value) and "\n" not in str(caught.value)
