"""Where providers put the text of a reply, and what they say of its end: the table in docs/llm.md, a row a test."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from servers import Reply, ollama_chat, openai_chat, serve
from stack import question

from edt_backends.registry import chat_backend
from edt_cli.augmentation.generation import Reply as Items
from edt_cli.augmentation.generation import no_items
from edt_cli.llm.ask import Failed, UsageStats, ask

pytestmark = pytest.mark.e2e

GOOD = '{"items": [{"title": "Pan"}]}'
CUT = '{"items": [{"title": "Pan"}, {"title": "Po'
DOCS = Path(__file__).parents[2] / "docs" / "llm.md"
CALL = {"id": "1", "type": "function", "function": {"name": "reply", "arguments": GOOD}}


def message(finish_reason: str | None = "stop", **fields: object) -> Reply:
    reply = openai_chat("", finish_reason)
    reply.body["choices"][0]["message"] = {"role": "assistant", "content": None, **fields}
    return reply


def anthropic(text: str, stop_reason: str) -> Reply:
    return Reply(
        {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "claude-x",
            "content": [{"type": "text", "text": text}] if text else [],
            "stop_reason": stop_reason,
            "usage": {"input_tokens": 11, "output_tokens": 7},
        }
    )


def thinking(text: str, thoughts: str) -> Reply:
    reply = ollama_chat(text)
    reply.body["message"]["thinking"] = thoughts
    return reply


def ended(text: str, done_reason: str) -> Reply:
    return Reply({**ollama_chat(text).body, "done_reason": done_reason})


OPENAI = "/v1/chat/completions"
ROWS = {
    "`content`": (OPENAI, message(content=GOOD), "read"),
    "`content` as a list of parts": (OPENAI, message(content=[{"type": "text", "text": GOOD}]), "read"),
    "`content`, with `reasoning_content` beside it": (
        OPENAI,
        message(content=GOOD, reasoning_content="No: {}"),
        "read",
    ),
    "`content` that begins with `<think>`": (OPENAI, message(content=f"<think>No: [</think>{GOOD}"), "read"),
    "`reasoning_content` alone, `finish_reason` `stop`": (OPENAI, message(reasoning_content=GOOD), "read"),
    "`reasoning_content` alone, `length`": (OPENAI, message("length", reasoning_content=GOOD), "cut off"),
    "`tool_calls`": (OPENAI, message("tool_calls", tool_calls=[CALL]), "read"),
    "`function_call`": (OPENAI, message("function_call", function_call=CALL["function"]), "read"),
    "`refusal`": (OPENAI, message(refusal="I cannot help with that."), "refused"),
    "`finish_reason` `content_filter`": (OPENAI, message("content_filter", content="{"), "refused"),
    "`finish_reason` `length`, some items whole": (OPENAI, message("length", content=CUT), "read"),
    "`finish_reason` `length`, none whole": (OPENAI, message("length", content=CUT[:25]), "cut off"),
    "no `finish_reason`": (OPENAI, message(None, content=GOOD), "read"),
    "nothing": (OPENAI, message(content=""), "empty"),
    "no `choices`": (OPENAI, Reply({**openai_chat("").body, "choices": []}), "empty"),
    "Ollama's `thinking`": ("/api/chat", thinking(GOOD, "Hm: {"), "read"),
    "Ollama's `done_reason` `length`": ("/api/chat", ended(CUT[:25], "length"), "cut off"),
    "Anthropic's `end_turn`": ("/v1/messages", anthropic(GOOD, "end_turn"), "read"),
    "Anthropic's `max_tokens`": ("/v1/messages", anthropic(CUT[:25], "max_tokens"), "cut off"),
    "Anthropic's `refusal`": ("/v1/messages", anthropic("", "refusal"), "refused"),
}
PROVIDERS = {OPENAI: ("openai/x", "/v1"), "/api/chat": ("ollama/x", ""), "/v1/messages": ("anthropic/claude-x", "")}


@pytest.mark.parametrize("row", ROWS)
def test_a_reply_is_read_wherever_it_is(row, monkeypatch):
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-test-0123456789")
    path, reply, expected = ROWS[row]
    provider, base = PROVIDERS[path]
    with serve({path: lambda _: reply}) as server:
        backend = chat_backend(provider, api_base=server.url + base)
        backend.cacheable = False  # no repair
        found = asyncio.run(ask(backend, question(1), Items, UsageStats(), no_items))
    if expected == "read":
        assert [item.title for item in found.items] == ["Pan"]
    else:
        assert isinstance(found, Failed) and found.reason == expected


def test_the_table_in_the_docs_is_this_one():
    table = DOCS.read_text("utf-8").partition("| what a provider sends")[2].partition("\n\n")[0]
    lines = [line.split(" | ") for line in table.splitlines() if line.startswith("| ")]
    assert {first.removeprefix("| "): last.removesuffix(" |") for first, *_, last in lines} == {
        name: expected for name, (_, _, expected) in ROWS.items()
    }
