"""A limit holds whatever happens, and whoever is killed."""

from __future__ import annotations

import asyncio
import random
import signal
import sqlite3
import subprocess
import sys
import textwrap
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from edt_backends.base import (
    BackendError,
    ChatBackend,
    ChatReply,
    ChatRequest,
    EmbeddingBackend,
    EmbeddingReply,
    Message,
    Usage,
)
from edt_backends.budget import Budget, BudgetedChat, BudgetedEmbeddings, OutOfBudget, parse_price, pico
from edt_backends.ledger import PICO, Ledger
from edt_backends.wrappers import request_bytes

QUESTION = ChatRequest("test@1", (Message("user", "Tea?"),), max_tokens=100)
PRICE = (1e-6, 2e-6)
LONG = ChatRequest("test@1", (Message("user", "x" * 3000),), max_tokens=1000)
MOST_IN = request_bytes(LONG)
MOST = request_bytes(QUESTION) * PRICE[0] + 100 * PRICE[1]


class Shop(ChatBackend):
    """Bills what `answer` returns: Usage, or an error that it raises; `billed` is the exact sum in USD."""

    name = "some/shop"
    paid = True

    def __init__(self, answer: Any = None, price: tuple[float, float] | None = PRICE) -> None:
        self.answer = answer or (lambda: Usage(10, 5, 2e-5))
        self.price = price
        self.calls = 0

    def identity(self) -> dict[str, Any]:
        return {}

    def price_per_token(self) -> tuple[float, float] | None:
        return self.price

    async def complete(self, request: ChatRequest) -> ChatReply:
        self.calls += 1
        await asyncio.sleep(0)
        found = self.answer()
        if isinstance(found, BaseException):
            raise found
        return ChatReply("fine", found, "shop-1")


@pytest.fixture
def ledger(tmp_path):
    ledger = Ledger(tmp_path / "ledger.db")
    yield ledger
    ledger.close()


def ask(chat: ChatBackend, times: int = 1) -> list[Any]:
    async def all_at_once() -> list[Any]:
        return await asyncio.gather(*(chat.complete(QUESTION) for _ in range(times)), return_exceptions=True)

    return asyncio.run(all_at_once())


def test_a_price_as_the_user_states_it():
    assert parse_price("free") == (0.0, 0.0)
    assert parse_price("0.15,0.6") == pytest.approx((0.15e-6, 0.6e-6))
    for text in ("", "cheap", "1", "1,2,3", "-1,2", "nan,1", "inf,1", "1e9,0"):
        with pytest.raises(BackendError, match="a price is `free` or IN,OUT"):
            parse_price(text)


def test_money_in_whole_numbers():
    assert pico(0.000194) == 194_000_000 and pico(0.1) + pico(0.2) == pico(0.3)
    assert pico(1.5e-12) == 2


def test_what_is_settled_is_what_was_billed(ledger):
    budget = Budget(ledger, 1.0)
    ask(BudgetedChat(Shop(), budget), 7)
    account = ledger.accounts()["some/shop"]
    assert (account.calls, account.delivered, account.unconfirmed) == (7, 7, 0)
    assert (account.prompt_tokens, account.completion_tokens) == (70, 35)
    assert account.spent_usd == pytest.approx(7 * 2e-5)
    assert budget.status() == {
        "spent_usd": 1.4e-4,
        "unconfirmed_usd": 0,
        "reserved_usd": 0,
        "limit_usd": 1.0,
    }


def test_the_reservation_is_on_disk_before_the_call_leaves(ledger, tmp_path):
    def look() -> Usage:
        with sqlite3.connect(tmp_path / "ledger.db") as other:
            seen.extend(other.execute("SELECT outcome, most, spent FROM calls"))
        return Usage(1, 1, 1e-6)

    seen: list[Any] = []
    ask(BudgetedChat(Shop(look), Budget(ledger)))
    assert seen == [("open", pico(MOST), None)]


@pytest.mark.parametrize(
    ("happens", "counts"),
    [
        (Usage(10, 5, 2e-5), 2e-5),
        (Usage(0, 0, None), MOST),
        (BackendError("429", retryable=True, unbilled=True), 0.0),
        (BackendError("broken", retryable=True), MOST),
        (RuntimeError("a bug"), MOST),
        (asyncio.CancelledError(), MOST),
    ],
    ids=["usage", "no usage", "turned away", "broken", "bug", "cancelled"],
)
def test_what_never_came_back_counts_in_full(ledger, happens, counts):
    budget = Budget(ledger, 1.0)
    ask(BudgetedChat(Shop(lambda: happens), budget))
    assert ledger.accounts()["some/shop"].spent_usd == pytest.approx(counts)
    assert budget.status()["spent_usd"] == pytest.approx(counts) and budget.status()["reserved_usd"] == 0


def test_at_the_limit_nothing_leaves(ledger):
    shop = Shop()
    found = ask(BudgetedChat(shop, Budget(ledger, MOST * 0.99)), 3)
    assert all(isinstance(error, OutOfBudget) and not error.retryable for error in found)
    assert shop.calls == 0 and not ledger.accounts()
    assert str(found[0]).startswith("the limit of ") and "0.000000 USD are spent" in str(found[0])


def test_calls_wait_for_money_that_is_only_reserved(ledger):
    """Three worst cases fit; of real cost, many more."""
    shop = Shop()
    found = ask(BudgetedChat(shop, Budget(ledger, 3.5 * MOST)), 30)
    answered = [reply for reply in found if isinstance(reply, ChatReply)]
    assert len(answered) == shop.calls == int((3.5 * MOST - MOST) / 2e-5) + 1


def test_no_limit_without_a_price(ledger):
    with pytest.raises(BackendError, match=r"the price of some/shop is not known .*--price IN,OUT or --price free"):
        BudgetedChat(Shop(price=None), Budget(ledger, 1.0))
    ask(BudgetedChat(Shop(lambda: Usage(1, 1, None), price=None), Budget(ledger)))
    account = ledger.accounts()["some/shop"]
    assert (account.delivered, account.spent_usd) == (1, 0)


def test_a_stated_price_is_the_price(ledger):
    chat = BudgetedChat(Shop(lambda: Usage(10, 5, None), price=None), Budget(ledger, 1.0), (3e-6, 4e-6))
    (reply,) = ask(chat)
    assert reply.usage.cost_usd == pytest.approx(10 * 3e-6 + 5 * 4e-6) and chat.paid
    free = BudgetedChat(Shop(price=None), Budget(ledger, 0.0), (0.0, 0.0))
    assert ask(free)[0].usage.cost_usd == 0.0 and not free.paid


def test_embeddings_are_in_it_too(ledger):
    class Vectors(EmbeddingBackend):
        name, paid = "some/vectors", True

        def price_per_token(self) -> float | None:
            return 1e-6

        async def embed(self, texts: Any) -> EmbeddingReply:
            return EmbeddingReply(np.ones((len(texts), 1), np.float32), Usage(3, 0, 3e-6))

    embeddings = BudgetedEmbeddings(Vectors(), Budget(ledger, 1e-4))
    asyncio.run(embeddings.embed(["tea", "mint"]))
    assert ledger.accounts()["some/vectors"].spent_usd == pytest.approx(3e-6)
    with pytest.raises(OutOfBudget):
        asyncio.run(embeddings.embed(["x" * 99]))


@pytest.mark.parametrize("seed", range(20))
def test_no_run_passes_its_limit(ledger, seed):
    """Random prices, limits, replies up to the very most that was reserved, and losses; the shop keeps the bill."""
    draw = random.Random(seed)
    price = (draw.uniform(0, 1e-4), draw.uniform(0, 1e-4))
    most = request_bytes(QUESTION) * Fraction(price[0]) + 100 * Fraction(price[1])
    limit = float(most) * draw.uniform(0.5, 40)
    billed: list[Fraction] = []

    def answer() -> Usage | BackendError:
        if draw.random() < 0.1:
            return BackendError("turned away", retryable=True, unbilled=True)
        full = draw.random() < 0.2
        tokens = request_bytes(QUESTION) if full else draw.randint(1, 20), 100 if full else draw.randint(0, 100)
        billed.append(tokens[0] * Fraction(price[0]) + tokens[1] * Fraction(price[1]))
        if draw.random() < 0.1:
            return BackendError("the connection broke", retryable=True)
        return Usage(*tokens, tokens[0] * price[0] + tokens[1] * price[1])

    budget = Budget(ledger, limit)
    found = ask(BudgetedChat(Shop(answer, price), budget), 120)
    spent = budget.status()["spent_usd"]
    assert sum(billed) <= Fraction(limit) * (1 + Fraction(1, 10**9)) and spent <= limit
    assert spent >= float(sum(billed)) - 120 / PICO
    stopped = [error for error in found if isinstance(error, OutOfBudget)]
    assert not stopped or limit - spent < float(most) + 1e-12
    assert spent == pytest.approx(ledger.accounts()["some/shop"].spent_usd) if billed else spent == 0


KILLED = """
    import asyncio, sys
    sys.path.insert(0, {tests!r})
    from pathlib import Path
    from test_budget import QUESTION, Shop
    from edt_backends.base import Usage
    from edt_backends.budget import Budget, BudgetedChat
    from edt_backends.ledger import Ledger

    class Slow(Shop):
        async def complete(self, request):
            print("out", flush=True)
            await asyncio.sleep(0.001 * (self.calls % 3))
            reply = await super().complete(request)
            return reply

    async def main():
        chat = BudgetedChat(Slow(), Budget(Ledger(Path({path!r}))))
        async def worker():
            while True:
                await chat.complete(QUESTION)
                print("settled", flush=True)
        await asyncio.gather(*(worker() for _ in range(8)))

    asyncio.run(main())
"""


def test_a_killed_process_leaves_its_reservations(tmp_path):
    path = tmp_path / "ledger.db"
    from pathlib import Path

    code = textwrap.dedent(KILLED).format(tests=str(Path(__file__).parent), path=str(path))
    out = settled = 0
    for lines in (40, 71):
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        said = [process.stdout.readline() for _ in range(lines)]
        process.send_signal(signal.SIGKILL)
        said += process.stdout.readlines()
        process.wait(10)
        out += said.count("out\n")
        settled += said.count("settled\n")
    account = Ledger(path).accounts()["some/shop"]
    assert account.calls >= out and settled <= account.delivered <= out
    assert account.unconfirmed == account.calls - account.delivered <= 16
    assert account.spent_usd == pytest.approx(account.delivered * 2e-5 + account.unconfirmed * MOST)


def test_several_processes_may_keep_one_ledger(tmp_path):
    ledgers = [Ledger(tmp_path / "ledger.db") for _ in range(4)]

    async def together() -> None:
        chats = [BudgetedChat(Shop(), Budget(ledger)) for ledger in ledgers]
        await asyncio.gather(*(chat.complete(QUESTION) for chat in chats * 25))

    asyncio.run(together())
    assert {ledger.accounts()["some/shop"].delivered for ledger in ledgers} == {100}


def test_hits_are_counted_by_command(tmp_path):
    for hits in (3, 4):
        ledger = Ledger(tmp_path / "ledger.db")
        ledger.save_hits("some/shop", 1, pico(0.5))
        ledger.save_hits("some/shop", hits, pico(hits * 0.5))
    account = ledger.accounts()["some/shop"]
    assert (account.hits, account.saved_usd) == (7, 3.5)


def test_a_ledger_that_cannot_be_used_is_one_line(tmp_path):
    (tmp_path / "ledger.db").write_text("this is no database " * 100)
    with pytest.raises(BackendError, match=r"^the ledger .* cannot be used \(.+\), and without it no call is made"):
        Ledger(tmp_path / "ledger.db")


@pytest.mark.parametrize(
    ("reported", "counted"),
    [
        (Usage(900, 300), Usage(900, 300)),
        (Usage(500, 100), Usage(500, 100)),
        (Usage(-5, 300), Usage(MOST_IN, 300)),
        (Usage(1, 1), Usage(MOST_IN, 1000)),
        (Usage(900, 1_000_000), Usage(900, 1000)),
        (Usage(10**9, 300), Usage(MOST_IN, 300)),
        (Usage(0, 0), Usage(0, 0, None)),
    ],
    ids=str,
)
def test_a_usage_that_cannot_be_true_counts_as_the_most_that_can_be(ledger, reported, counted):
    """Of 3,000 bytes in and 800 out, of at most 1,000 tokens out."""

    class Misreports(Shop):
        async def complete(self, request: ChatRequest) -> ChatReply:
            return ChatReply("x" * 800, reported, "shop-1")

    chat = BudgetedChat(Misreports(), Budget(ledger))
    reply = asyncio.run(chat.complete(LONG))
    believed = replace(counted, cost_usd=reported.cost_usd) == reported
    cost = counted.prompt_tokens * PRICE[0] + counted.completion_tokens * PRICE[1]
    assert reply.usage.prompt_tokens == counted.prompt_tokens
    assert reply.usage.completion_tokens == counted.completion_tokens
    assert believed or reply.usage.cost_usd == pytest.approx(cost)
    assert ("cannot be true" in str(chat.status())) is not believed
