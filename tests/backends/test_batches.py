"""Batch jobs: sent, left, taken up again, paid for once."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from functools import partial

import pytest
from batch_server import serve_batches
from servers import openai_chat
from stack import question

import edt_backends.batches as batches
from edt_backends.base import BackendError, ChatReply, ChatRequest
from edt_backends.batches import BatchedChat
from edt_cli.augmentation.generation import Reply, no_items
from edt_cli.config import Settings
from edt_cli.llm.ask import UsageStats, ask
from edt_cli.llm.providers import Providers
from edt_cli.workspace.layout import Workspace

pytestmark = pytest.mark.e2e
MODEL = "openai/gpt-4o-mini"
PRICE = (0.075e-6, 0.3e-6)
"""Of the model in a job, half of the usual one."""


def said(text: str) -> tuple[int, dict]:
    return 200, openai_chat(text).body


def echo(body: dict) -> tuple[int, dict]:
    """Answer with an item that tells the question."""
    number = body["messages"][-1]["content"].split(' "}')[0].rsplit(" ", 1)[-1].strip('"}]')
    return said(json.dumps({"items": [{"title": f"thing {number}"}]}))


@pytest.fixture
def server():
    with serve_batches(echo) as running:
        yield running


@pytest.fixture
def chat_of(tmp_path, server, monkeypatch):
    """A command's LLM: each call is another command on the same workspace."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-nobody")
    monkeypatch.setattr(batches, "QUIET_SECONDS", 0.05)
    monkeypatch.setattr(batches, "POLL_SECONDS", 0.05)

    def make(provider: str = MODEL, **limits) -> BatchedChat:
        llm = {"provider": provider, "api_base": server.url}
        settings = Settings().changed(llm=llm, limits={"batch_api": True, "price": "0.075,0.3", **limits})
        chat = Providers(Workspace(tmp_path), settings).chat()
        assert isinstance(chat, BatchedChat)
        return chat

    return make


def answers(chat: BatchedChat, requests: list[ChatRequest], seconds: float = 20) -> list[ChatReply | BaseException]:
    async def all_of_them() -> list[ChatReply | BaseException]:
        calls = (chat.complete(request) for request in requests)
        return await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), seconds)

    return asyncio.run(all_of_them())


def accounts(chat: BatchedChat):
    return chat._ledger.accounts()[MODEL]


def open_jobs(chat: BatchedChat) -> list[str]:
    return [path.name for path in chat._folder.glob("*.json")]


def test_questions_are_one_job_whose_replies_are_in_the_cache(chat_of, server):
    requests = [question(number) for number in range(5)]
    chat = chat_of()
    replies = answers(chat, [*requests, requests[0]])
    assert [json.loads(reply.text)["items"][0]["title"] for reply in replies[:5]] == [
        f"thing {n}" for n in range(5)
    ]
    assert [reply.cached for reply in replies] == [False] * 5 + [True]
    assert len(server.jobs) == 1 and len(server.asked) == 5
    first = server.asked[0]
    assert first["model"] == "gpt-4o-mini" and first["max_tokens"] == 1024 and first["seed"] == 42
    assert first["response_format"]["type"] == "json_schema"
    assert not any("U0" in json.dumps(body) for body in server.asked), "no user leaves the machine"
    cost = 11 * PRICE[0] + 7 * PRICE[1]
    assert accounts(chat).delivered == 5
    # The server counts 11 tokens for 1.5 kB, which cannot be: the most that can be true is counted.
    assert accounts(chat).spent_usd > 5 * cost
    assert chat.status()["spent_usd"] == pytest.approx(accounts(chat).spent_usd)
    assert not open_jobs(chat)
    assert all(reply.cached for reply in answers(chat_of(), requests)) and len(server.jobs) == 1


def test_what_follows_on_a_reply_is_another_job(chat_of, server):
    """Of three chains of two questions each, none waits for more than the job before."""
    chat = chat_of()

    async def chain(number: int) -> str:
        await chat.complete(question(number))
        return (await chat.complete(question(100 + number))).text

    async def chains() -> list[str]:
        return await asyncio.wait_for(asyncio.gather(*map(chain, range(3))), 20)

    assert "thing 102" in asyncio.run(chains())[2]
    assert [job["request_counts"]["total"] for job in server.jobs.values()] == [3, 3]


def test_a_command_that_ends_is_taken_up_by_the_next(chat_of, server):
    server.open = False
    requests = [question(number) for number in range(4)]
    chat = chat_of()

    async def left() -> list[BaseException]:
        calls = [asyncio.create_task(chat.complete(request)) for request in requests[:3]]
        while not chat._jobs:
            await asyncio.sleep(0.02)
        assert (chat.status()["in_flight"], chat.status()["batches"]) == (3, 1)
        chat.halt()
        return await asyncio.gather(*calls, return_exceptions=True)

    errors = asyncio.run(left())
    assert all("the same command takes them up again" in str(error) for error in errors)
    assert len(open_jobs(chat)) == 1 and accounts(chat).unconfirmed == 3
    server.open = True
    again = chat_of()
    replies = answers(again, requests)
    assert len({reply.text for reply in replies}) == 4
    assert [job["request_counts"]["total"] for job in server.jobs.values()] == [3, 1], "nothing is sent twice"
    assert (accounts(again).delivered, accounts(again).unconfirmed) == (4, 0)
    assert not open_jobs(again)


@pytest.mark.parametrize("arrived", [True, False])
def test_a_process_that_dies_while_it_sends_pays_once(chat_of, server, monkeypatch, arrived):
    """Whether the job arrived or not is asked by its name, which was on disk before."""
    chat = chat_of()
    submit = chat._client.submit

    async def dies(name, requests):
        if arrived:
            await submit(name, requests)
        raise KeyboardInterrupt

    monkeypatch.setattr(chat._client, "submit", dies)
    with pytest.raises(KeyboardInterrupt):
        answers(chat, [question(1)])
    assert len(server.jobs) == arrived and len(open_jobs(chat)) == 1
    assert len(answers(chat_of(), [question(1)])) == 1
    assert len(server.jobs) == 1 and accounts(chat_of()).calls == 1


def test_the_limit_holds_for_jobs(chat_of, server):
    """Each question may cost 0.0005 USD: two fit, and what they leave over is enough for a third."""
    most = batches.highest_cost(question(0), PRICE) / 1e12
    chat = chat_of(max_cost=2.5 * most)
    replies = answers(chat, [question(number) for number in range(40)])
    sizes = [job["request_counts"]["total"] for job in server.jobs.values()]
    assert sizes[0] == 2 and len(sizes) > 1
    refused = [reply for reply in replies if isinstance(reply, BackendError)]
    assert refused and "the limit of" in str(refused[0])
    assert accounts(chat).spent_usd <= 2.5 * most


def test_a_question_that_expired_is_sent_once_more(chat_of, server):
    server.status = "expired"
    server.answer = lambda body: echo(body) if len(server.jobs) > 2 else None
    (reply,) = answers(chat_of(), [question(1)])
    assert isinstance(reply, BackendError) and reply.retryable and "expired" in str(reply)
    assert len(server.jobs) == 2
    (reply,) = answers(chat_of(), [question(1)])
    assert isinstance(reply, ChatReply) and accounts(chat_of()).delivered == 1


def test_an_error_of_one_question_is_that_questions_error(chat_of, server):
    refusal = {"error": {"message": "content", "code": "content_filter"}}
    broken = {"error": {"message": "the model is overloaded", "code": "server_error"}}

    def answer(body: dict) -> tuple[int, dict]:
        text = body["messages"][-1]["content"]
        return (400, refusal) if ' 1"' in text else (500, broken) if ' 2"' in text else echo(body)

    server.answer = answer
    good, refused, failed = answers(chat_of(), [question(number) for number in range(3)])
    assert good.finish_reason == "stop" and refused.finish_reason == "content_filter"
    assert "overloaded" in str(failed) and failed.retryable and failed.unbilled


def test_a_question_too_long_is_known_from_its_line_and_from_the_context_that_is_stated(chat_of, server, tmp_path):
    refusal = {"error": {"message": "8192 tokens at most", "code": "context_length_exceeded"}}
    server.answer = lambda body: (400, refusal)
    (error,) = answers(chat_of(), [question(1)])
    assert error.only_this and error.unbilled and len(server.jobs) == 1
    (error,) = answers(chat_of(), [question(1)])
    assert error.only_this and len(server.jobs) == 1, "it is not sent again"
    (tmp_path / "models.toml").write_text(f'[mine]\nmodel = "{MODEL}"\ncontext = 1100\n', "utf-8")
    (error,) = answers(chat_of("mine"), [question(2)])
    assert error.only_this and "context of 1,100" in str(error) and len(server.jobs) == 1


def test_a_job_that_is_refused_costs_nothing_and_stops(chat_of, server):
    server.refuses = 400
    chat = chat_of()
    (error,) = answers(chat, [question(1)])
    assert isinstance(error, BackendError) and not error.retryable and "no such job" in str(error)
    assert accounts(chat).spent_usd == 0 and not open_jobs(chat)


def test_replies_are_judged_and_repaired_as_always(chat_of, server):
    """A reply that cannot be used is asked for once more, in the job after."""
    server.answer = lambda body: said("no JSON here") if len(server.jobs) == 1 else echo(body)
    usage = UsageStats()
    found = asyncio.run(ask(chat_of(), question(7), Reply, usage, no_items))
    assert found.items[0].title.startswith("thing") and usage.repaired == 1
    assert len(server.jobs) == 2


def test_a_provider_without_jobs_says_so(chat_of, monkeypatch):
    monkeypatch.setenv("DEEPSEEK_API_KEY", "sk-of-nobody")
    with pytest.raises(BackendError, match="no batch jobs that edt can use: leave out --batch-api"):
        chat_of("deepseek/deepseek-chat")


def test_damaged_files_of_jobs_are_named(chat_of):
    chat = chat_of()
    chat._folder.mkdir(parents=True)
    (chat._folder / "x.json").write_text("{}")
    (error,) = answers(chat, [question(1)])
    assert "x.json is no batch job" in str(error)


def test_parts_of_a_job_hold_what_a_provider_takes(monkeypatch):
    requests = {str(number): replace(question(number), user=None) for number in range(7)}
    monkeypatch.setattr(batches, "LARGEST", 3)
    assert [len(part) for part in batches._parts(requests)] == [3, 3, 1]
    monkeypatch.setattr(batches, "LARGEST_BYTES", 1)
    assert [len(part) for part in batches._parts(requests)] == [1] * 7


def test_a_document_of_a_request_is_the_request():
    request = question(3)
    again = batches._request(json.loads(json.dumps(batches._document(request))))
    assert partial(replace, inputs={})(again) == partial(replace, inputs={})(request)
