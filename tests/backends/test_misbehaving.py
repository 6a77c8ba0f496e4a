"""What becomes of each way in which a provider fails, through cache, pace, budget, litellm and real HTTP."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from servers import Reply, ollama_chat, openai_chat, openai_error, serve
from stack import answer_all, question, stack

from edt_backends.base import BackendError
from edt_cli.augmentation.generation import Reply as Items
from edt_cli.config import Settings
from edt_cli.llm.ask import Failed, UsageStats, ask
from edt_cli.llm.providers import Providers
from edt_cli.workspace.layout import Workspace

pytestmark = pytest.mark.e2e

CHAT = "/v1/chat/completions"
GOOD = openai_chat(json.dumps({"items": [{"title": "Copper pan ☕ 鍋"}]}))
BUSY = openai_error(429, "slow down")
EMPTY = Reply({**GOOD.body, "choices": []})
REFUSED = openai_chat("", "content_filter")
LONG = openai_chat(json.dumps({"items": [{"title": "Pan", "description": "é☕\x07" * 30_000}]}))


def script(*replies: Reply) -> Callable[[Any], Reply]:
    """One after the other; the last for ever."""
    left: Iterator[Reply] = iter(replies)
    return lambda _: next(left, replies[-1])


def asked(tmp_path, *replies: Reply, **limits: Any) -> tuple[Items | Failed, Any, list[Any]]:
    """What becomes of one question; the account of the model; what the server saw."""
    with serve({CHAT: script(*replies)}) as server:
        chat = stack(tmp_path, f"{server.url}/v1", timeout=1, backoff=0.01, **limits)
        found = asyncio.run(ask(chat, question(1), Items, UsageStats()))
    account = Providers(Workspace(tmp_path), Settings()).ledger.accounts()["openai/served"]
    return found, account, server.asked


@pytest.mark.parametrize(
    ("failures", "unconfirmed"),
    [
        ([BUSY, BUSY], 0),
        ([openai_error(500, "boom")] * 3, 3),
        ([openai_error(503, "busy"), openai_error(529, "overloaded")], 2),
        ([replace(GOOD, seconds=2.0)], 1),
        ([replace(GOOD, cut=True)], 1),
        ([Reply({}, raw=b"<html>Bad gateway</html>")], 1),
        ([Reply({"choices": None})], 1),
    ],
    ids=["429", "a burst of 500s", "503 and 529", "a hang", "cut in mid-body", "no JSON", "no reply"],
)
def test_what_passes_is_tried_again(tmp_path, failures, unconfirmed):
    found, account, seen = asked(tmp_path, *failures, GOOD)
    assert found.items[0].title == "Copper pan ☕ 鍋"
    assert len(seen) == account.calls == len(failures) + 1
    assert (account.delivered, account.unconfirmed) == (1, unconfirmed)


def test_retry_after_is_kept_to(tmp_path):
    begun = time.monotonic()
    found, _, _ = asked(tmp_path, replace(BUSY, headers={"Retry-After": "1"}), GOOD)
    assert not isinstance(found, Failed) and 1.0 <= time.monotonic() - begun < 3


@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_what_does_not_pass_stops_the_run_at_once(tmp_path, status):
    with serve({CHAT: script(openai_error(status, "no"))}) as server:
        with pytest.raises(BackendError, match=f"HTTP {status}") as caught:
            answer_all(stack(tmp_path, f"{server.url}/v1"), 50)
        assert len(server.asked) <= 16
    assert str(caught.value).endswith("(try: 0 of 50 done, 50 left; run the same command again to continue)")


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (openai_chat("Sure! Here are five."), "no JSON"),
        (openai_chat('{"items": [{"tit', "length"), "cut off"),
        (openai_chat('{"answer": 42}'), "wrong shape"),
        (openai_chat(""), "empty"),
        (EMPTY, "empty"),
        (REFUSED, "refused"),
        (openai_error(400, "not this", code="content_filter"), "refused"),
        (openai_chat("[" * 100_000), "no JSON"),
    ],
    ids=["no JSON", "truncated", "wrong schema", "empty", "no choices", "refused", "refused by code", "100 kB"],
)
def test_what_is_of_no_use_is_repaired_once_or_failed_until_it_is_asked_again(tmp_path, bad, reason):
    found, account, seen = asked(tmp_path, bad, GOOD)
    assert found.items[0].title == "Copper pan ☕ 鍋" and len(seen) == 2
    assert account.delivered == 2
    with serve({CHAT: script(bad, bad, GOOD)}) as server:
        chat = stack(tmp_path / "b", f"{server.url}/v1")
        found = asyncio.run(ask(chat, question(1), Items, UsageStats()))
        assert isinstance(found, Failed) and found.reason == reason and len(server.asked) == 2
        assert asyncio.run(ask(chat, question(1), Items, UsageStats())).reason == reason and len(server.asked) == 2
        chat = stack(tmp_path / "b", f"{server.url}/v1", retry_failed=True)
        assert asyncio.run(ask(chat, question(1), Items, UsageStats())).items and len(server.asked) == 3
        assert asyncio.run(ask(chat, question(1), Items, UsageStats())).items and len(server.asked) == 3


def test_a_repaired_question_is_not_paid_for_again(tmp_path):
    with serve({CHAT: script(openai_chat("Sure!"), GOOD)}) as server:
        for _ in range(2):
            chat = stack(tmp_path, f"{server.url}/v1")
            assert asyncio.run(ask(chat, question(1), Items, UsageStats())).items
        assert len(server.asked) == 2


def test_a_reply_of_100_kb_is_taken_and_kept(tmp_path):
    with serve({CHAT: script(LONG)}) as server:
        for _ in range(2):
            chat = stack(tmp_path, f"{server.url}/v1")
            found = asyncio.run(ask(chat, question(1), Items, UsageStats()))
            assert found.items[0].description == "é☕\x07" * 30_000
        assert len(server.asked) == 1


def test_a_server_drips(tmp_path):
    """Byte by byte, each within the limit for a byte: a reply has its own limit."""
    found, account, _ = asked(tmp_path, replace(GOOD, drip=0.02), GOOD)
    assert not isinstance(found, Failed) and account.unconfirmed == 1


def test_what_the_headers_say_is_learnt(tmp_path):
    limited = replace(GOOD, headers={"x-ratelimit-limit-requests": "120"})
    with serve({CHAT: script(limited)}) as server:
        begun = time.monotonic()
        answer_all(stack(tmp_path, f"{server.url}/v1"), 5, concurrency=1)
        assert len(server.asked) == 5 and time.monotonic() - begun > 1.5  # two a second


def test_ollama_fails_and_is_asked_again(tmp_path):
    good = ollama_chat(json.dumps({"items": [{"title": "Pan"}]}))
    busy = Reply({"error": "server busy, please try again"}, 503)
    with serve({"/api/chat": script(busy, replace(good, cut=True), ollama_chat("Sure!"), good)}) as server:
        llm = {"provider": "ollama", "model": "llama3.1", "api_base": server.url}
        settings = Settings().changed(llm=llm, limits={"backoff": 0.01, "timeout": 5})
        chat = Providers(Workspace(tmp_path), settings).chat()
        found = asyncio.run(ask(chat, question(1), Items, UsageStats()))
    assert found.items[0].title == "Pan" and len(server.asked) == 4


def test_equal_questions_in_one_run_are_paid_once(tmp_path):
    with serve({CHAT: script(replace(GOOD, seconds=0.05))}) as server:
        _, bill = answer_all(
            stack(tmp_path, f"{server.url}/v1"), [replace(question(1), user=f"U{n}") for n in range(40)]
        )
    assert len(server.asked) == 1 and (bill.replies, bill.cached) == (40, 39)


def test_a_limit_stops_the_run_and_the_next_one_goes_on_there(tmp_path):
    with serve({CHAT: script(GOOD)}) as server:
        price = (11 * 0.5 + 7 * 1.5) / 1e6
        with pytest.raises(BackendError, match=r"the limit of 0.005 USD is reached: .* done, \d+ left"):
            answer_all(stack(tmp_path, f"{server.url}/v1", max_cost=0.005), 300)
        done = len(server.asked)
        assert 0 < done < 300 and done * price <= 0.005
        answer_all(stack(tmp_path, f"{server.url}/v1"), 300)
        assert len(server.asked) == 300
