"""A second LLM where the first has no answer, and what else is set of LLM and embedder."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from typer.testing import CliRunner

from edt_backends.base import BackendError, ChatBackend, ChatReply, ChatRequest, Message, Usage
from edt_backends.budget import OutOfBudget
from edt_backends.cache import CachedChat
from edt_backends.fallback import FallbackChat
from edt_backends.store import ReplyCache
from edt_cli.cli.app import app
from edt_cli.config import Settings, UsageError, UserError, load_settings
from edt_cli.llm.providers import Providers
from edt_cli.workspace.layout import Workspace


class Named(ChatBackend):
    """Answers with its name, or fails as `error` says."""

    def __init__(self, name: str, error: BackendError | None = None) -> None:
        self.name, self.error, self.asked = name, error, 0

    def identity(self) -> dict[str, Any]:
        return {"model": self.name}

    async def complete(self, request: ChatRequest) -> ChatReply:
        self.asked += 1
        if self.error is not None:
            raise self.error
        return ChatReply(self.name, Usage(1, 1, 0.1), self.name)


def question(number: int) -> ChatRequest:
    return ChatRequest("test@1", (Message("user", str(number)),))


@pytest.fixture
def asks(tmp_path):
    """Ask questions of a first and a second LLM, and return the replies and both."""

    def ask(first: Named, second: Named, *numbers: int) -> tuple[list[ChatReply], FallbackChat]:
        cache = ReplyCache(tmp_path)
        chat = FallbackChat(first, cache, CachedChat(second, cache))

        async def every() -> list[ChatReply]:
            return [await chat.complete(question(number)) for number in numbers]

        return asyncio.run(every()), chat

    return ask


def test_who_has_no_credit_is_asked_no_more(asks):
    first, second = Named("first", BackendError("first: no credit")), Named("second")
    replies, chat = asks(first, second, 1, 2, 3)
    assert [reply.text for reply in replies] == ["second"] * 3 and (first.asked, second.asked) == (1, 3)
    assert chat.status()["notes"] == ["first: no credit; all further questions go to second"]
    first.error = None
    replies, chat = asks(first, second, 1, 4)
    assert [(reply.text, reply.cached) for reply in replies] == [("second", True), ("first", False)]
    assert [one.hits for one in chat.parts] == [0, 1], "what the second answered is not asked of the first again"


def test_a_call_that_fails_for_good_goes_to_the_second_alone(asks):
    first, second = Named("first", BackendError("busy", retryable=True)), Named("second")
    replies, chat = asks(first, second, 1, 2)
    assert [reply.text for reply in replies] == ["second"] * 2 and (first.asked, second.asked) == (2, 2)
    assert chat.status()["notes"] == ["busy; what it does not answer goes to second"]


@pytest.mark.parametrize("error", [BackendError("long", only_this=True), OutOfBudget("the limit is reached")])
def test_what_concerns_both_alike_is_passed_on(asks, error):
    second = Named("second")
    with pytest.raises(BackendError, match=str(error)):
        asks(Named("first", error), second, 1)
    assert second.asked == 0


def settings(**llm: Any) -> Settings:
    return load_settings("llm-edt-ce", flags={"llm": llm}, environment={})


def test_local_is_no_fallback_and_has_none(tmp_path):
    with pytest.raises(BackendError, match="`local` is none"):
        Providers(Workspace(tmp_path), settings(provider="local", fallback="local")).check()


def test_the_embedder_s_server_is_the_llm_s_for_the_same_provider(tmp_path):
    base = "http://gate/v1"
    s = settings(provider="gpt-3.5", api_base=base)
    for embedder, address in (("openai/e", base), ("ollama/e", None), ("local", None)):
        changed = s.changed(embedding={"embedder": embedder})
        assert Providers(Workspace(tmp_path), changed)._embedder_address == address
    changed = s.changed(embedding={"embedder": "openai/e", "api_base": "http://other"})
    assert Providers(Workspace(tmp_path), changed)._embedder_address == "http://other"


def test_parameters_of_one_s_own_are_read_and_what_edt_sets_is_refused():
    extra = settings(extra="reasoning_effort=low, num_ctx=8192,top_p=0.5,think=false").llm.extra
    assert extra == {"reasoning_effort": "low", "num_ctx": 8192, "top_p": 0.5, "think": False}
    for wrong in ("model=x", {"api_key": "sk-1"}, "num_ctx"):
        with pytest.raises(UsageError, match=r"llm\.extra") as caught:
            settings(extra=wrong)
        assert "sk-1" not in str(caught.value)


ALIAS = """
[mine]
model = "openai/served"
api_base = "http://gpu:8000/v1"
price = "0.5,2"
context = 4096
extra = { top_k = 20 }
structured = "off"
"""


def test_a_name_of_one_s_own_stands_for_a_model_with_server_price_context_and_parameters(tmp_path):
    (tmp_path / "models.toml").write_text(ALIAS, "utf-8")
    providers = Providers(Workspace(tmp_path), settings(provider="mine", extra={"top_p": 0.5}))
    identity = providers.backend.identity()
    assert (providers.backend.name, identity["api_base"]) == ("openai/served", "http://gpu:8000/v1")
    assert identity["extra"] == {"top_k": 20, "top_p": 0.5} and identity["structured"] is False
    assert providers.price == (0.5e-6, 2e-6)
    shown = CliRunner().invoke(app, ["providers", "mine", "--workspace", str(tmp_path), "--json"])
    (row,) = json.loads(shown.stdout)["providers"]
    assert (row["provider"], row["model"]) == ("mine", "openai/served")
    gate = providers.settings.changed(embedding={"embedder": "openai/e"})
    assert Providers(Workspace(tmp_path), gate)._embedder_address == "http://gpu:8000/v1"
    free = {"limits": {"price": "free"}}
    for fallback, paid in ((None, False), ("mine", True)):
        s = settings(provider="ollama/x", fallback=fallback).changed(**free)
        assert Providers(Workspace(tmp_path), s).paid is paid, "a fallback may cost what the first does not"
    long = ChatRequest("test@1", (Message("user", "x" * 20_000),))
    with pytest.raises(BackendError, match="longer than its context of 4,096") as caught:
        asyncio.run(providers.chat().complete(long))
    assert caught.value.only_this and caught.value.unbilled


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[local]\nmodel = 'openai/x'\n", "'local' is the name of a provider already"),
        ("[mine]\nmodel = 'served'\n", r"\[mine\]: setting model"),
        ("[mine]\nmodel = 'openai/x'\nextra = { api_key = 'sk-1' }\n", "cannot set api_key"),
        ("mine = 'openai/x'\n", "each model is a table"),
    ],
)
def test_a_mistake_in_the_names_is_one_line(tmp_path, text, problem):
    (tmp_path / "models.toml").write_text(text, "utf-8")
    with pytest.raises(UserError, match=problem):
        Providers(Workspace(tmp_path), settings(provider="mine")).check()
