"""litellm's real client against real HTTP servers on loopback."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys

import numpy as np
import pytest
from servers import (
    Reply,
    ollama_chat,
    ollama_embeddings,
    openai_chat,
    openai_embeddings,
    openai_error,
    serve,
)

from edt_backends import endpoint
from edt_backends.base import BackendError, ChatBackend, ChatReply, ChatRequest, Message, Usage
from edt_backends.cache import CachedChat, ReplyCache
from edt_backends.registry import chat_backend, embedding_backend

pytestmark = pytest.mark.e2e

SCHEMA = {"type": "object", "properties": {"items": {"type": "array"}}}
QUESTION = ChatRequest(
    "generate@1",
    (Message("system", "Reply with JSON."), Message("user", "Tea ☕?")),
    schema=SCHEMA,
    max_tokens=99,
    temperature=0.0,
    seed=42,
    inputs={"secret": "inputs stay here"},
    user="A1SECRETUSER",
)
ANSWER = '{"items": []}'
KEY = "sk-test-0123456789abcdef"
CHAT, EMBEDDINGS = "/v1/chat/completions", "/v1/embeddings"


def complete(chat: ChatBackend) -> ChatReply:
    return asyncio.run(chat.complete(QUESTION))


def failure(chat: ChatBackend) -> BackendError:
    with pytest.raises(BackendError) as caught:
        complete(chat)
    assert "\n" not in str(caught.value) and KEY not in str(caught.value)
    assert caught.value.__suppress_context__, "a traceback would show what litellm said"
    return caught.value


class TestOpenAI:
    def test_a_plain_call_on_a_server_of_ones_own(self, tmp_path):
        with serve({CHAT: lambda _: openai_chat(ANSWER, "length")}) as server:
            backend = chat_backend("openai/some-model", api_base=f"{server.url}/v1")
            chat = CachedChat(backend, ReplyCache(tmp_path))
            reply, again = complete(chat), complete(chat)
        assert reply == ChatReply(ANSWER, Usage(11, 7, 0.0), "served-model", False, "length")
        assert again.cached and again.text == ANSWER
        (asked,) = server.asked
        assert asked.body == {
            "model": "some-model",
            "messages": [
                {"role": "system", "content": "Reply with JSON."},
                {"role": "user", "content": "Tea ☕?"},
            ],
            "response_format": {"type": "json_schema", "json_schema": {"name": "generate", "schema": SCHEMA}},
            "max_tokens": 99,
            "temperature": 0.0,
            "seed": 42,
        }
        assert not {"A1SECRETUSER", "inputs stay here"} & set(str(asked).split("'"))
        assert backend.name == "openai/some-model"
        assert not backend.paid and backend.price_per_token() == (0.0, 0.0)

    def test_the_key_of_the_environment_is_used_and_the_price_is_known(self, monkeypatch):
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        monkeypatch.setattr(endpoint, "_is_loopback", lambda _: False)
        with serve({CHAT: lambda _: openai_chat(ANSWER)}) as server:
            backend = chat_backend("openai/gpt-4o-mini", api_base=f"{server.url}/v1")
            usage = complete(backend).usage
        price = backend.price_per_token()
        assert backend.paid and 0 < price[0] < price[1] < 1e-4
        assert usage.cost_usd == pytest.approx(11 * price[0] + 7 * price[1])
        assert {name.lower(): value for name, value in server.asked[0].headers.items()}[
            "authorization"
        ] == f"Bearer {KEY}"

    def test_a_model_with_a_price_costs_it_behind_a_proxy_on_this_machine_too(self):
        base = "http://127.0.0.1:9/v1"
        priced = chat_backend("openai/gpt-4o-mini", api_base=base)
        assert priced.paid and priced.price_per_token()[1] > 0
        for own in ("openai/some-model", "hosted_vllm/some-model", "ollama/llama3.1"):
            assert not chat_backend(own, api_base=base).paid

    def test_who_calls_nobody_needs_no_key(self):
        assert chat_backend("gpt-3.5", dry=True).price_per_token()[0] > 0
        assert embedding_backend("openai/text-embedding-3-small", dry=True).price_per_token() > 0

    def test_an_unknown_model_on_the_network_has_no_price(self, monkeypatch):
        monkeypatch.setattr(endpoint, "_is_loopback", lambda _: False)
        with serve({CHAT: lambda _: openai_chat(ANSWER)}) as server:
            backend = chat_backend("openai/no-such-model", api_base=f"{server.url}/v1")
            assert complete(backend).usage == Usage(11, 7, None)
        assert backend.paid and backend.price_per_token() is None

    def test_short_names_are_models_of_litellms(self, monkeypatch):
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        monkeypatch.setenv("DEEPSEEK_API_KEY", KEY)
        for provider, name in (("gpt-3.5", "openai/gpt-3.5-turbo"), ("deepseek", "deepseek/deepseek-chat")):
            backend = chat_backend(provider)
            assert backend.name == backend.identity()["model"] == name
            assert backend.paid and backend.price_per_token() is not None
        assert chat_backend("deepseek", "deepseek-reasoner").name == "deepseek/deepseek-reasoner"
        assert chat_backend("litellm/openai/gpt-4o").name == "openai/gpt-4o"

    def test_embeddings(self):
        with serve({EMBEDDINGS: openai_embeddings}) as server:
            backend = embedding_backend("openai/some-embedder", api_base=f"{server.url}/v1")
            reply = asyncio.run(backend.embed(["four", "a", "ninechars"]))
        expected = np.array([[4, 2, 0], [1, 2, 0], [9, 2, 0]], np.float32)
        np.testing.assert_allclose(
            reply.vectors, expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-6
        )
        assert reply.vectors.dtype == np.float32 and backend.dimension == 3
        assert reply.usage == Usage(15, 0, 0.0)
        assert server.asked[0].body["input"] == ["four", "a", "ninechars"]

    def test_embeddings_of_a_known_model(self, monkeypatch):
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        monkeypatch.setattr(endpoint, "_is_loopback", lambda _: False)
        with serve({EMBEDDINGS: openai_embeddings}) as server:
            backend = embedding_backend("openai/text-embedding-3-small", api_base=f"{server.url}/v1")
            assert backend.paid and backend.dimension == 1536
            usage = asyncio.run(backend.embed(["four"])).usage
        assert usage.cost_usd == pytest.approx(5 * backend.price_per_token()) and usage.cost_usd > 0

    @pytest.mark.parametrize("vectors", [[], [[0.0, 0.0]], [[float("nan"), 1.0]], [["x", 1.0]]])
    def test_vectors_that_are_none_are_refused(self, vectors):
        def reply(_):
            data = [{"object": "embedding", "index": 0, "embedding": vector} for vector in vectors]
            return Reply({"object": "list", "data": data, "model": "m", "usage": {"prompt_tokens": 1}})

        with serve({EMBEDDINGS: reply}) as server, pytest.raises(BackendError) as caught:
            asyncio.run(embedding_backend("openai/x", api_base=f"{server.url}/v1").embed(["a"]))
        assert caught.value.retryable and re.search("no usable vectors|cannot be read", str(caught.value))


class TestOllama:
    def test_chat(self):
        with serve({"/api/chat": lambda _: ollama_chat(ANSWER)}) as server:
            backend = chat_backend("ollama", "llama3.1", api_base=server.url)
            reply = complete(backend)
        assert (reply.text, reply.usage, reply.finish_reason) == (ANSWER, Usage(11, 7, 0.0), "stop")
        body = server.asked[0].body
        assert body["model"] == "llama3.1" and body["format"] == SCHEMA and body["stream"] is False
        assert body["options"] == {"num_predict": 99, "temperature": 0.0, "seed": 42}
        assert [message["content"] for message in body["messages"]] == ["Reply with JSON.", "Tea ☕?"]
        assert backend.name == "ollama/llama3.1" and not backend.paid

    def test_embeddings(self):
        with serve({"/api/embed": ollama_embeddings}) as server:
            backend = embedding_backend("ollama/nomic-embed-text", api_base=server.url)
            assert backend.dimension is None and not backend.paid
            reply = asyncio.run(backend.embed(["a", "bb"]))
        np.testing.assert_allclose(reply.vectors[1], np.array([1, 1, 0]) / 2**0.5, atol=1e-6)
        assert reply.usage == Usage(10, 0, 0.0) and backend.dimension == 3

    def test_it_needs_no_key_and_its_address_may_come_from_the_environment(self, monkeypatch):
        assert chat_backend("ollama/llama3.1").identity()["api_base"] is None
        with serve({"/api/chat": lambda _: ollama_chat(ANSWER)}) as server:
            monkeypatch.setenv("OLLAMA_API_BASE", server.url)
            backend = chat_backend("ollama", "llama3.1")
            assert complete(backend).text == ANSWER
        assert backend.identity()["api_base"] == server.url

    @pytest.mark.parametrize(
        ("said", "address"),
        [
            ("", None),
            ("gpu", "http://gpu:11434"),
            ("gpu:8080", "http://gpu:8080"),
            (":5000", "http://127.0.0.1:5000"),
            ("0.0.0.0", "http://127.0.0.1:11434"),
            ("http://0.0.0.0:11434/", "http://127.0.0.1:11434"),
            ("https://gpu", "https://gpu:443"),
            ("http://gpu", "http://gpu:80"),
            ("https://gate:8443/ollama", "https://gate:8443/ollama"),
            ("[::]:11434", "http://[::1]:11434"),
            ("::1", "http://[::1]:11434"),
        ],
    )
    def test_its_host_is_read_as_ollama_reads_it(self, said, address):
        assert endpoint.ollama_address(said) == address

    @pytest.mark.parametrize("form", ["http://{}", "{}", "0.0.0.0:{port}"])
    def test_ollama_host_is_where_llm_and_embedder_are_asked(self, monkeypatch, form):
        with serve({"/api/chat": lambda _: ollama_chat(ANSWER), "/api/embed": ollama_embeddings}) as server:
            at = server.url.removeprefix("http://")
            monkeypatch.setenv("OLLAMA_HOST", form.format(at, port=at.rpartition(":")[2]))
            assert complete(chat_backend("ollama", "llama3.1")).text == ANSWER
            assert asyncio.run(embedding_backend("ollama/nomic-embed-text").embed(["a"])).vectors.shape == (1, 3)
            monkeypatch.setenv("OLLAMA_API_BASE", "http://127.0.0.1:9")
            assert chat_backend("ollama/x").identity()["api_base"] == "http://127.0.0.1:9", (
                "litellm's name is stronger"
            )
        assert chat_backend("openai/x", api_base="http://h/v1").identity()["api_base"] == "http://h/v1"

    def test_a_model_that_is_not_there(self):
        with serve({"/api/chat": lambda _: Reply({"error": "model 'llama9' not found"}, 404)}) as server:
            error = failure(chat_backend("ollama", "llama9", api_base=server.url))
        assert not error.retryable and "no such model" in str(error) and "llama9" in str(error)


class TestKeys:
    @pytest.mark.parametrize(
        ("provider", "variable"),
        [
            ("deepseek", "DEEPSEEK_API_KEY"),
            ("gpt-3.5", "OPENAI_API_KEY"),
            ("openai/gpt-4o-mini", "OPENAI_API_KEY"),
            ("gemini/gemini-2.0-flash", "GOOGLE_API_KEY or GEMINI_API_KEY"),
        ],
    )
    def test_a_missing_key_is_named_before_any_call(self, monkeypatch, provider, variable):
        for name in ("GOOGLE_API_KEY", "GEMINI_API_KEY"):
            monkeypatch.delenv(name, raising=False)
        with pytest.raises(BackendError, match=f"needs a key: set the environment variable {variable}$"):
            chat_backend(provider)

    def test_so_is_an_embedders(self):
        with pytest.raises(BackendError, match=r"needs a key: set the environment variable OPENAI_API_KEY$"):
            embedding_backend("openai/text-embedding-3-small")

    @pytest.mark.parametrize("model", ["nonsense/x", "openai-gpt/x/y"])
    def test_an_unknown_provider_lists_what_there_is(self, model):
        with pytest.raises(BackendError, match=f"unknown provider '{model}': there are local, deepseek, "):
            chat_backend(model)

    def test_a_refused_key_is_one_line_without_it(self, monkeypatch, capfd):
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        with serve({CHAT: lambda _: openai_error(401, f"Incorrect API key provided: {KEY}.")}) as server:
            error = failure(chat_backend("openai/gpt-4o-mini", api_base=f"{server.url}/v1"))
        assert str(error) == (
            f"openai/gpt-4o-mini: the key in OPENAI_API_KEY was refused at {server.url}/v1 (HTTP 401)"
        )
        assert not error.retryable
        assert capfd.readouterr() == ("", "")

    def test_what_a_provider_says_is_shown_without_secrets(self, monkeypatch):
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        monkeypatch.setenv("SOME_PASSWORD", "hunter2hunter2")
        said = f"bad request\nfor {KEY} and hunter2hunter2 and Bearer abc.def and sk-other-key"
        with serve({CHAT: lambda _: openai_error(400, said)}) as server:
            error = failure(chat_backend("openai/gpt-4o-mini", api_base=f"{server.url}/v1"))
        assert str(error) == "openai/gpt-4o-mini: bad request for … and … and Bearer … and sk-… (HTTP 400)"

    def test_secrets_in_an_address_stay_out_of_identity_and_errors(self):
        backend = chat_backend("openai/x", api_base="http://someone:hunter2hunter2@localhost:9/v1?key=abcdef")
        assert backend.identity() == {
            "backend": "litellm",
            "model": "openai/x",
            "api_base": "http://localhost:9/v1",
        }
        assert "hunter2" not in str(failure(backend)) and "abcdef" not in str(failure(backend))


class TestFailures:
    @pytest.mark.parametrize(
        ("status", "said", "line", "retryable"),
        [
            (400, "no such thing", "no such thing", False),
            (413, "Request Entity Too Large", "a question is too long", False),
            (402, "Insufficient Balance", "no credit left", False),
            (403, "no", "may not use this model", False),
            (404, "no model x", "no such model", False),
            (429, "slow down", "too many requests", True),
            (429, "You exceeded your current quota: insufficient_quota", "no credit left", False),
            (500, "boom", "boom", True),
            (503, "busy", "busy", True),
            (529, "overloaded", "overloaded", True),
        ],
    )
    def test_each_status_is_one_line(self, status, said, line, retryable):
        with serve({CHAT: lambda _: openai_error(status, said)}) as server:
            error = failure(chat_backend("openai/x", api_base=f"{server.url}/v1"))
        assert error.retryable is retryable and line in str(error) and f"HTTP {status}" in str(error)
        assert error.unbilled is (status < 500)
        assert len(server.asked) == 1

    def test_a_server_that_is_not_there(self):
        for provider in ("openai/x", "ollama/x"):
            error = failure(chat_backend(provider, api_base="http://127.0.0.1:9/v1"))
            assert error.retryable and error.unbilled
            assert "the server at http://127.0.0.1:9/v1 cannot be reached: is it running?" in str(error)

    def test_a_reply_without_choices_is_empty_and_billed(self):
        usage = {"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6}
        empty = {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [], "usage": usage}
        with serve({CHAT: lambda _: Reply(empty)}) as server:
            reply = complete(chat_backend("openai/x", api_base=f"{server.url}/v1"))
        assert (reply.text, reply.usage) == ("", Usage(5, 1, 0.0))

    @pytest.mark.parametrize("body", [{"error": None, "choices": None}, {}, {"choices": "x"}])
    def test_what_is_no_reply_may_have_been_billed(self, body):
        with serve({CHAT: lambda _: Reply(body)}) as server:
            error = failure(chat_backend("openai/x", api_base=f"{server.url}/v1"))
        assert error.retryable and not error.unbilled

    def test_no_try_is_made_that_is_not_paced_and_paid_for(self):
        for status in (429, 500):
            with serve({CHAT: lambda _, status=status: openai_error(status, "busy")}) as server:
                assert failure(chat_backend("openai/x", api_base=f"{server.url}/v1")).status == status
            assert len(server.asked) == 1

    @pytest.mark.parametrize(
        ("reply", "only_this", "line"),
        [
            (
                openai_error(400, "maximum context length is 99 tokens", code="context_length_exceeded"),
                True,
                "long",
            ),
            (openai_error(413, "Request Entity Too Large"), True, "a question is too long"),
            (openai_error(429, "You exceeded your plan", code="insufficient_quota"), False, "no credit left"),
            (openai_error(429, "You exceeded your plan", type="insufficient_quota"), False, "no credit left"),
        ],
    )
    def test_the_code_in_the_body_decides(self, reply, only_this, line):
        with serve({CHAT: lambda _: reply}) as server:
            error = failure(chat_backend("openai/x", api_base=f"{server.url}/v1"))
        assert not error.retryable and error.unbilled and error.only_this is only_this and line in str(error)

    @pytest.mark.parametrize("code", ["content_filter", "content_policy_violation"])
    def test_a_refused_prompt_is_one_lost_answer(self, code):
        with serve({CHAT: lambda _: openai_error(400, "not this", code=code)}) as server:
            reply = complete(chat_backend("openai/x", api_base=f"{server.url}/v1"))
        assert (reply.text, reply.finish_reason, reply.usage) == ("", "content_filter", Usage())


class TestStructuredOutput:
    @pytest.mark.parametrize(
        ("knows", "refusal"),
        [
            ({"json_object", "none"}, openai_error(400, "This response_format type is unavailable now")),
            ({"json_object", "none"}, openai_error(500, "[{'loc': ('body', 'response_format', 'type')}]")),
            ({"none"}, openai_error(422, "response_format is not supported")),
        ],
        ids=["deepseek", "llama-cpp-python", "neither"],
    )
    def test_a_server_gets_the_strongest_form_that_it_knows(self, knows, refusal):
        def answer(body):
            return (
                openai_chat(ANSWER) if body.get("response_format", {"type": "none"})["type"] in knows else refusal
            )

        with serve({CHAT: answer}) as server:
            backend = chat_backend("openai/x", api_base=f"{server.url}/v1")
            assert complete(backend).text == ANSWER
            tries = len(server.asked)
            assert complete(backend).text == ANSWER
        assert tries == 4 - len(knows) and len(server.asked) == tries + 1
        last = server.asked[-1].body.get("response_format")
        assert last == ({"type": "json_object", "schema": SCHEMA} if "json_object" in knows else None)

    @pytest.mark.parametrize(
        ("refused", "message", "more"),
        [
            ("temperature", "Unsupported value: 'temperature' does not support 0.0 with this model.", {}),
            ("max_tokens", "Unsupported parameter", {"param": "max_tokens"}),
            ("seed", "seed: Extra inputs are not permitted", {}),
        ],
    )
    def test_a_parameter_that_is_refused_is_left_out_or_renamed_from_then_on(self, refused, message, more):
        def answer(body):
            return openai_error(400, message, **more) if refused in body else openai_chat(ANSWER)

        with serve({CHAT: answer}) as server:
            backend = chat_backend("openai/x", api_base=f"{server.url}/v1")

            async def several() -> list[ChatReply]:
                return await asyncio.gather(*(backend.complete(QUESTION) for _ in range(4)))

            assert [reply.text for reply in asyncio.run(several())] == [ANSWER] * 4
            before = len(server.asked)
            assert complete(backend).text == ANSWER and len(server.asked) == before + 1
        (note,) = backend.status()["notes"]
        assert note.startswith(f"openai/x does not take `{refused}`: ")
        assert (server.asked[-1].body.get("max_completion_tokens") == 99) is (refused == "max_tokens")

    def test_parameters_of_one_s_own_are_sent_and_are_part_of_the_identity(self):
        with serve({CHAT: lambda _: openai_chat(ANSWER)}) as server:
            base, extra = f"{server.url}/v1", {"num_ctx": 8192, "top_p": 0.5}
            backend = chat_backend("openai/x", api_base=base, extra=extra, structured=False)
            assert complete(backend).text == ANSWER
        body = server.asked[-1].body
        assert (body["num_ctx"], body["top_p"], body["max_tokens"]) == (8192, 0.5, 99)
        assert "response_format" not in body
        plain = chat_backend("openai/x", api_base=base).identity()
        assert backend.identity() == plain | {"extra": extra, "structured": False}

    def test_what_the_provider_knows_from_before_is_counted_at_its_price(self, monkeypatch):
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        answered = openai_chat(ANSWER)
        details = {"prompt_tokens_details": {"cached_tokens": 1024}}
        answered.body["usage"] = {"prompt_tokens": 2000, "completion_tokens": 10, "total_tokens": 2010} | details
        with serve({CHAT: lambda _: answered}) as server:
            backend = chat_backend("openai/gpt-4o-mini", api_base=f"{server.url}/v1")
            usage = complete(backend).usage
        prices, (into, out) = backend.further_prices(), backend.price_per_token()
        assert 0 < prices.cached < into and prices.batch == (into / 2, out / 2)
        assert usage.cached_tokens == 1024
        assert usage.cost_usd == pytest.approx(976 * into + 1024 * prices.cached + 10 * out)

    def test_a_model_that_reasons_has_tokens_for_it(self, monkeypatch):
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        assert chat_backend("openai/o3-mini").thinking_tokens == 8192
        assert chat_backend("openai/gpt-4o-mini").thinking_tokens == 0

    def test_a_server_that_only_streams_is_asked_to(self):
        def answer(body):
            if not body.get("stream"):
                return openai_error(400, "This model only support stream mode, please enable the stream parameter")
            head = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "served-model"}
            parts = [{"content": ANSWER[:5]}, {"content": ANSWER[5:]}, {}]
            chunks = [
                {**head, "choices": [{"index": 0, "delta": part, "finish_reason": None if part else "stop"}]}
                for part in parts
            ]
            usage = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
            lines = [
                f"data: {json.dumps(chunk)}\n\n" for chunk in [*chunks, {**head, "choices": [], "usage": usage}]
            ]
            return Reply({}, raw="".join([*lines, "data: [DONE]\n\n"]).encode())

        with serve({CHAT: answer}) as server:
            reply = complete(chat_backend("openai/x", api_base=f"{server.url}/v1"))
        assert (reply.text, reply.usage, reply.finish_reason) == (ANSWER, Usage(11, 7, 0.0), "stop")

    def test_a_model_without_schemas_gets_json_mode(self, monkeypatch):
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        backend = chat_backend("gpt-3.5")
        with serve({CHAT: lambda _: openai_chat(ANSWER)}) as server:
            monkeypatch.setenv("OPENAI_BASE_URL", f"{server.url}/v1")
            told = chat_backend("gpt-3.5")
            assert complete(told).text == ANSWER
        assert backend._simpler == 1


def test_litellm_comes_late_and_alone(tmp_path):
    """Imported when a model is asked for, without the network and without keys from a .env near by."""
    (tmp_path / ".env").write_text("OPENAI_API_KEY=sk-from-a-file-that-nobody-named\n")
    code = """
        import socket, sys
        def refuse(*_, **__):
            raise SystemExit("the network was asked for")
        socket.socket.connect = socket.getaddrinfo = refuse
        from edt_backends.base import BackendError
        from edt_backends.registry import chat_backend
        from edt_backends.litellm import plugin
        assert "litellm" not in sys.modules
        try:
            chat_backend("gpt-3.5")
        except BackendError as error:
            print(error)
        import os
        os.environ["OPENAI_API_KEY"] = "sk-now"
        print(chat_backend("gpt-3.5").price_per_token() is not None)
    """
    done = subprocess.run(
        [sys.executable, "-c", "import textwrap; exec(textwrap.dedent('''" + code + "'''))"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout.splitlines() == [
        "openai/gpt-3.5-turbo needs a key: set the environment variable OPENAI_API_KEY",
        "True",
    ]
    assert (done.returncode, done.stderr) == (0, "")


def test_what_litellm_loads_at_first_counts_against_no_answer():
    """In a fresh process: the first question has the whole of its time."""
    code = """
import asyncio
from unittest.mock import patch
from edt_backends.base import BackendSpec, ChatRequest, Message
from edt_backends import endpoint, litellm
order = []
chat = litellm.LiteLLMChat(BackendSpec("openai/served", "http://127.0.0.1:9/v1", 1))
def timed(seconds, real=asyncio.timeout):
    order.append("limit")
    return real(seconds)
def warmed(real=endpoint.warm):
    order.append("warm")
    return real()
with patch("asyncio.timeout", timed), patch.object(litellm, "warm", warmed):
    request = ChatRequest("generate@1", (Message("user", "x"),), None, 16, 0.0, 1)
    try:
        asyncio.run(chat.complete(request))
    except Exception as error:
        order.append(type(error).__name__)
print(order)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip().startswith("['warm', 'limit'"), done.stdout + done.stderr
    assert "Timeout" not in done.stdout
