from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import diskcache
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
from edt_backends.cache import CachedChat, CachedEmbeddings, ReplyCache
from edt_backends.json_disk import JSONOnlyDisk
from edt_backends.store import digest

QUESTION = ChatRequest("test@1", (Message("system", "Be brief."), Message("user", "Tea?")), seed=42)


class Oracle(ChatBackend):
    """Answers with a running number, or as `answer` says; `asked` is what reached it."""

    name = "some/oracle"
    paid = True

    def __init__(self, answer: Callable[[ChatRequest], str] | None = None, model: str = "oracle") -> None:
        self.asked: list[ChatRequest] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.answer = answer or (lambda _: f"answer {len(self.asked)}")
        self.model = model

    def identity(self) -> dict[str, Any]:
        return {"model": self.model}

    async def complete(self, request: ChatRequest) -> ChatReply:
        self.asked.append(request)
        text = self.answer(request)
        await self.gate.wait()
        return ChatReply(text, Usage(10, 5, 0.25), "oracle-2025-01-01", finish_reason="length")


class Lengths(EmbeddingBackend):
    """The vector of a text points to its length; one call takes three texts."""

    name = "some/lengths"
    batch_size = 3
    dimension = 2

    def __init__(self, fail_after: int | None = None) -> None:
        self.asked: list[list[str]] = []
        self.fail_after = fail_after

    def identity(self) -> dict[str, Any]:
        return {"model": "lengths"}

    async def embed(self, texts: Sequence[str]) -> EmbeddingReply:
        if self.fail_after is not None and len(self.asked) >= self.fail_after:
            raise BackendError("no more")
        self.asked.append(list(texts))
        return EmbeddingReply(np.stack([direction(text) for text in texts]), Usage(7, 0, 0.5))


def direction(text: str) -> np.ndarray:
    return np.array([np.cos(len(text)), np.sin(len(text))], np.float32)


@pytest.fixture
def cache(tmp_path):
    cache = ReplyCache(tmp_path)
    yield cache
    cache.close()


def complete(chat: ChatBackend, request: ChatRequest = QUESTION) -> ChatReply:
    return asyncio.run(chat.complete(request))


class TestChat:
    def test_a_second_ask_makes_no_call(self, cache, tmp_path):
        backend = Oracle()
        first = complete(CachedChat(backend, cache))
        again = complete(CachedChat(backend, ReplyCache(tmp_path)))
        assert first == ChatReply("answer 1", Usage(10, 5, 0.25), "oracle-2025-01-01", False, "length")
        assert again == replace(first, cached=True)
        assert len(backend.asked) == 1

    @pytest.mark.parametrize(
        "change",
        [
            {"prompt": "test@2"},
            {"messages": QUESTION.messages[:1]},
            {"messages": (Message("user", "Be brief."), Message("user", "Tea?"))},
            {"schema": {"type": "object"}},
            {"temperature": 0.5},
            {"seed": 43},
        ],
        ids=lambda change: next(iter(change)),
    )
    def test_whatever_can_change_a_reply_is_asked_anew(self, cache, change):
        backend = Oracle()
        chat = CachedChat(backend, cache)
        other = replace(QUESTION, **change)
        complete(chat)
        assert not chat.contains(other)
        assert complete(chat, other).text == "answer 2"
        assert complete(chat).text == "answer 1"

    def test_more_tokens_ask_anew_what_was_cut_off_and_nothing_else(self, cache):
        backend = Oracle()
        chat = CachedChat(backend, cache)
        complete(chat)
        assert complete(chat, replace(QUESTION, max_tokens=9)).cached
        longer = replace(QUESTION, max_tokens=2048)
        assert not chat.contains(longer) and complete(chat, longer).text == "answer 2"
        assert complete(chat).text == "answer 2" and len(backend.asked) == 2
        costs = [(entry.get("rejected"), entry["usage"]["cost_usd"]) for _, entry in cache.entries()]
        assert sorted(costs, key=str) == [(None, 0.25), (True, 0.25)], "both were paid for, and are on record"

    def test_another_name_of_the_server_asks_nothing_anew_and_is_told(self, cache):
        class Served(Oracle):
            def identity(self) -> dict[str, Any]:
                return {"model": self.model, "api_base": self.address}

        first, second = Served(), Served()
        first.address, second.address = "http://box:8000/v1", "http://10.0.0.7:8000/v1"
        complete(CachedChat(first, cache))
        chat = CachedChat(second, cache)
        assert complete(chat).cached and complete(chat).cached and not second.asked
        (told,) = chat.status()["notes"]
        assert "http://box:8000/v1" in told and "edt cache clear --model some/oracle" in told

    def test_replies_of_before_address_and_tokens_left_the_key_are_found(self, cache):
        chat = CachedChat(Oracle(), cache)
        _, before = chat._keys(QUESTION)
        complete(chat)
        ((key, entry),) = cache.entries()
        asked = entry["asked"] | {"max_tokens": 1024}
        cache.clear()
        old = {name: entry[name] for name in entry if name not in ("max_tokens", "address")} | {"asked": asked}
        assert key != before == digest(asked)
        cache.put({before: old})
        assert chat.contains(QUESTION) and complete(chat).cached
        assert not chat.contains(replace(QUESTION, max_tokens=2048))
        chat.reject(QUESTION)
        assert not chat.contains(QUESTION) and [reply.text for reply in chat.set_aside(QUESTION)] == ["answer 1"]

    def test_another_model_is_asked_anew(self, cache):
        complete(CachedChat(Oracle(), cache))
        assert not complete(CachedChat(Oracle(model="other"), cache)).cached

    def test_who_asks_changes_nothing(self, cache):
        chat = CachedChat(Oracle(), cache)
        complete(chat, replace(QUESTION, user="A1", inputs={"task": "x"}))
        assert chat.contains(QUESTION)
        assert complete(chat, replace(QUESTION, user="A2")).cached

    def test_a_failure_is_not_remembered(self, cache):
        def fail_first(_):
            if len(backend.asked) == 1:
                raise BackendError("overloaded", retryable=True)
            return "fine"

        backend = Oracle(fail_first)
        chat = CachedChat(backend, cache)
        with pytest.raises(BackendError, match="overloaded"):
            complete(chat)
        assert not chat.contains(QUESTION)
        assert complete(chat).text == "fine"

    def test_equal_questions_at_one_time_are_asked_once(self, cache):
        async def ask_many() -> list[ChatReply]:
            backend.gate.clear()
            tasks = [asyncio.create_task(chat.complete(QUESTION)) for _ in range(20)]
            await asyncio.sleep(0.01)
            backend.gate.set()
            return await asyncio.gather(*tasks)

        backend = Oracle()
        chat = CachedChat(backend, cache)
        replies = asyncio.run(ask_many())
        assert len(backend.asked) == 1
        assert {reply.text for reply in replies} == {"answer 1"}
        assert sorted(reply.cached for reply in replies) == [False] + [True] * 19

    def test_a_failure_reaches_everybody_who_waits(self, cache):
        def fail(_):
            raise BackendError("no")

        async def ask_many() -> list[ChatReply | BaseException]:
            return await asyncio.gather(*(chat.complete(QUESTION) for _ in range(5)), return_exceptions=True)

        backend = Oracle(fail)
        chat = CachedChat(backend, cache)
        assert [str(reply) for reply in asyncio.run(ask_many())] == ["no"] * 5
        assert len(backend.asked) == 1

    def test_who_is_cancelled_has_paid_and_keeps_the_reply(self, cache):
        async def cancel() -> None:
            backend.gate.clear()
            task = asyncio.create_task(chat.complete(QUESTION))
            await asyncio.sleep(0.01)
            task.cancel()
            backend.gate.set()
            with pytest.raises(asyncio.CancelledError):
                await task
            while not chat.contains(QUESTION):
                await asyncio.sleep(0.01)

        backend = Oracle()
        chat = CachedChat(backend, cache)
        asyncio.run(asyncio.wait_for(cancel(), 10))
        assert complete(chat).cached

    def test_a_rejected_reply_is_asked_for_again_and_its_cost_stays(self, cache):
        chat = CachedChat(Oracle(), cache)
        complete(chat)
        chat.reject(QUESTION)
        assert not chat.contains(QUESTION)
        again = complete(chat)
        assert (again.text, again.cached) == ("answer 2", False)
        assert complete(chat).text == "answer 2"
        assert cache.stats().cost_usd == 0.5
        assert sorted(entry.get("rejected", False) for _, entry in cache.entries()) == [False, True]

    def test_a_backend_that_is_not_cacheable_is_passed_through(self, cache):
        backend = Oracle()
        backend.cacheable = False
        chat = CachedChat(backend, cache)
        assert [complete(chat).text, complete(chat).text] == ["answer 1", "answer 2"]
        assert not chat.contains(QUESTION) and cache.stats().entries == 0
        chat.reject(QUESTION)

    def test_any_text_comes_back_as_it_was(self, cache):
        text = "☕ \x1b[31m \ud800 \"' {}" + "ä" * 100_000
        chat = CachedChat(Oracle(lambda _: text), cache)
        request = replace(QUESTION, messages=(Message("user", text),))
        complete(chat, request)
        assert complete(chat, request).text == text

    def test_an_entry_says_what_it_is(self, cache):
        complete(CachedChat(Oracle(), cache), replace(QUESTION, user="A1"))
        ((key, entry),) = cache.entries()
        assert entry.pop("time") > 1e9 and 0 <= entry.pop("seconds") < 60
        assert key == digest(entry["asked"])
        assert entry == {
            "backend": "some/oracle",
            "model": "oracle-2025-01-01",
            "users": ["A1"],
            "asked": {
                "identity": {"model": "oracle"},
                "prompt": "test@1",
                "messages": [["system", "Be brief."], ["user", "Tea?"]],
                "schema": None,
                "temperature": 0.0,
                "seed": 42,
            },
            "reply": "answer 1",
            "finish_reason": "length",
            "max_tokens": 1024,
            "address": None,
            "usage": {"prompt_tokens": 10, "completion_tokens": 5, "cost_usd": 0.25, "cached_tokens": 0},
            "price": None,
        }

    def test_what_the_cache_answered_is_counted(self, cache):
        chat = CachedChat(Oracle(), cache)
        for _ in range(3):
            complete(chat)
        assert (chat.hits, chat.saved_usd) == (2, 0.5)
        assert chat.status() == {"hits": 2, "saved_usd": 0.5}


def test_two_processes_do_not_pay_for_one_question(tmp_path):
    """Two that share nothing but the folder."""

    class Slow(Oracle):
        async def complete(self, request: ChatRequest) -> ChatReply:
            await asyncio.sleep(0.3)
            return await super().complete(request)

    async def both() -> list[ChatReply]:
        return await asyncio.gather(*(chat.complete(QUESTION) for chat in chats))

    oracle = Slow()
    chats = [CachedChat(oracle, ReplyCache(tmp_path)) for _ in range(2)]
    first, second = asyncio.run(both())
    assert first.text == second.text and len(oracle.asked) == 1 and first.cached != second.cached
    assert [chat.hits for chat in chats] in ([0, 1], [1, 0])


class TestUsers:
    """One question may be about several people, and forgetting one takes nothing from another."""

    def about(self, cache, *users: str) -> None:
        for user in users:
            complete(CachedChat(Oracle(), cache), replace(QUESTION, user=user))

    def test_forgetting(self, cache):
        self.about(cache, "A1", "A2", "A2")
        other = replace(QUESTION, prompt="other@1", user="A1")
        complete(CachedChat(Oracle(), cache), other)
        assert [entry["asked"]["prompt"] for _, entry in cache.asked_about("A1")] == ["test@1", "other@1"]
        assert cache.forget("A1") == 2 and not list(cache.asked_about("A1"))
        chat = CachedChat(Oracle(), cache)
        assert chat.contains(QUESTION) and not chat.contains(other)
        assert cache.forget("A2") == 1 and not chat.contains(QUESTION) and cache.forget("A2") == 0

    def test_what_was_set_aside_is_forgotten_too(self, cache):
        self.about(cache, "A1")
        CachedChat(Oracle(), cache).reject(QUESTION)
        assert cache.forget("A1") == 1 and cache.stats().entries == 0

    def test_nothing_of_it_is_left_in_the_file(self, cache, tmp_path):
        chat = CachedChat(Oracle(lambda _: "plain"), cache)
        complete(chat, replace(QUESTION, user="A1FORGETME"))
        key = chat.key(QUESTION)

        def on_disk() -> bool:
            return any(key.encode() in path.read_bytes() for path in tmp_path.iterdir() if path.is_file())

        assert on_disk()
        cache.forget("A1FORGETME")
        assert not on_disk()


class TestEmbeddings:
    def test_only_what_is_missing_is_asked_and_once(self, cache):
        backend = Lengths()
        embeddings = CachedEmbeddings(backend, cache)
        asyncio.run(embeddings.embed(["a", "bbb"]))
        reply = asyncio.run(embeddings.embed(["ccccc", "bbb", "dd", "dd", "a", "eeee", "ffffff", "ccccc"]))
        assert backend.asked == [["a", "bbb"], ["dd", "eeee", "ccccc"], ["ffffff"]]
        expected = [direction("x" * length) for length in (5, 3, 2, 2, 1, 4, 6, 5)]
        np.testing.assert_array_equal(reply.vectors, expected)
        assert reply.vectors.dtype == np.float32
        assert reply.usage == Usage(14, 0, 1.0)
        assert asyncio.run(embeddings.embed(["a"])).usage == Usage(0, 0, 0.0)

    def test_what_each_text_is_put_down_for_sums_up(self, cache):
        asyncio.run(CachedEmbeddings(Lengths(), cache).embed(["a", "bb", "ccc"]))
        (stats,) = cache.stats().models.values()
        assert (stats.entries, stats.prompt_tokens) == (3, 7) and stats.cost_usd == pytest.approx(0.5)

    def test_a_batch_is_on_disk_before_the_next_leaves(self, cache):
        with pytest.raises(BackendError, match="no more"):
            asyncio.run(CachedEmbeddings(Lengths(fail_after=1), cache).embed(["a", "bb", "ccc", "dddd"]))
        backend = Lengths()
        asyncio.run(CachedEmbeddings(backend, cache).embed(["a", "bb", "ccc", "dddd"]))
        assert backend.asked == [["dddd"]]

    def test_nothing_in_nothing_out(self, cache):
        backend = Lengths()
        assert asyncio.run(CachedEmbeddings(backend, cache).embed([])).vectors.shape == (0, 2)
        assert not backend.asked

    def test_a_text_is_no_question_and_no_other_embedders_text(self, cache):
        class Other(Lengths):
            def identity(self) -> dict[str, Any]:
                return {"model": "other"}

        asyncio.run(CachedEmbeddings(Lengths(), cache).embed(["a"]))
        backend = Other()
        asyncio.run(CachedEmbeddings(backend, cache).embed(["a"]))
        assert backend.asked == [["a"]]


class TestStore:
    def test_stats_and_clear_by_model(self, cache):
        complete(CachedChat(Oracle(), cache))
        asyncio.run(CachedEmbeddings(Lengths(), cache).embed(["a", "bb"]))
        stats = cache.stats()
        assert stats.entries == 3 and stats.cost_usd == 0.75 and stats.bytes > 1000
        assert {name: model.entries for name, model in stats.models.items()} == {
            "some/oracle": 1,
            "some/lengths": 2,
        }
        assert cache.clear("some/lengths") == 2
        assert list(cache.stats().models) == ["some/oracle"]
        assert cache.clear("nobody") == 0
        assert cache.clear() == 1 and cache.stats().entries == 0

    def test_nothing_is_ever_evicted_and_nothing_lies_beside_the_database(self, cache, tmp_path):
        cache.put({"big": {"backend": "b", "time": 0, "usage": {}, "reply": os.urandom(200_000).hex()}})
        with diskcache.Cache(str(tmp_path), disk=JSONOnlyDisk) as plain:
            assert (plain.eviction_policy, plain.cull_limit) == ("none", 0)
        assert {path.name for path in tmp_path.iterdir() if path.is_file()} <= {
            "cache.db",
            "cache.db-wal",
            "cache.db-shm",
        }

    def test_a_put_is_all_or_nothing(self, cache):
        entry = {"backend": "b", "time": 0, "usage": {}}
        with pytest.raises(TypeError):
            cache.put({"one": entry, "two": {**entry, "reply": object()}})
        assert "one" not in cache

    @pytest.mark.parametrize("broken", ["a file", "no database"])
    def test_a_folder_that_cannot_be_used_is_one_line(self, tmp_path, broken):
        target = tmp_path / "cache"
        if broken == "a file":
            target.write_text("")
        else:
            target.mkdir()
            (target / "cache.db").write_text("this is no database " * 100)
        with pytest.raises(BackendError, match=r"^the reply cache .*cache cannot be used \(.+\): is the disk full"):
            ReplyCache(target)


class Evil:
    """Unpickling one writes a file."""

    path: str

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (self.path, "w"))


class TestForeignRows:
    """A pickle in the database is code: it must not run, whoever put it there."""

    @pytest.fixture
    def evil(self, tmp_path):
        evil = Evil()
        evil.path = str(tmp_path / "executed")
        return evil

    @pytest.fixture
    def plain(self, cache, tmp_path):
        with diskcache.Cache(str(tmp_path)) as plain:
            yield plain

    def test_a_pickled_value_is_refused_and_not_run(self, cache, plain, evil, tmp_path):
        chat = CachedChat(Oracle(), cache)
        complete(chat)
        ((key, _),) = cache.entries()
        plain.set(key, evil)
        for read in (lambda: complete(chat), lambda: cache.get_many([key]), cache.stats):
            with pytest.raises(BackendError, match="holds an entry that this program did not write"):
                read()
        assert not (tmp_path / "executed").exists()
        plain.get(key).close()
        assert (tmp_path / "executed").exists(), "the row was harmless: this test proves nothing"

    def test_a_pickled_value_in_a_file_is_refused_too(self, cache, plain, evil, tmp_path):
        plain.disk.min_file_size = 0
        plain.set("k", evil)
        with pytest.raises(BackendError, match="did not write"):
            cache.get("k")
        assert not (tmp_path / "executed").exists()

    def test_a_pickled_key_is_refused_and_not_run(self, cache, plain, evil, tmp_path):
        plain.set(evil, 1)
        with pytest.raises(BackendError, match="did not write"):
            list(cache.entries())
        assert not (tmp_path / "executed").exists()

    @pytest.mark.parametrize("value", [b"\x80\x04N.", b"", "text", 7, 1.5])
    def test_other_rows_that_are_not_ours_are_refused(self, cache, plain, value):
        plain.set("k", value)
        with pytest.raises(BackendError, match="did not write"):
            cache.get("k")

    def test_such_a_cache_can_still_be_cleared(self, cache, plain, evil):
        plain.set("k", evil)
        assert cache.clear() == 1
        assert cache.get("k") is None


WRITER = """
    import sys
    from edt_backends.cache import ReplyCache
    cache = ReplyCache(sys.argv[1])
    first, last = int(sys.argv[2]), int(sys.argv[3])
    for number in range(first, last):
        cache.put({str(number): {"backend": "w", "time": 0, "usage": {}, "reply": f"reply {number} " * 50}})
        print(number, flush=True)
"""


class TestProcesses:
    def start(self, folder, first: int, last: int) -> subprocess.Popen[str]:
        arguments = [sys.executable, "-c", textwrap.dedent(WRITER), str(folder), str(first), str(last)]
        return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)

    def whole(self, folder, numbers: Sequence[int]) -> None:
        cache = ReplyCache(folder)
        assert all(cache.get(str(number))["reply"] == f"reply {number} " * 50 for number in numbers)
        with diskcache.Cache(str(folder), disk=JSONOnlyDisk) as plain:
            assert not plain.check()

    def test_processes_may_write_at_once(self, tmp_path):
        writers = [self.start(tmp_path, first, first + 150) for first in (0, 100, 200)]
        assert [writer.communicate(timeout=60) and writer.returncode for writer in writers] == [0, 0, 0]
        self.whole(tmp_path, range(350))

    def test_a_killed_writer_loses_nothing_that_it_had_written(self, tmp_path):
        for attempt in range(3):
            writer = self.start(tmp_path, attempt * 10_000, attempt * 10_000 + 9_999)
            written = [int(writer.stdout.readline()) for _ in range(20 + 13 * attempt)]
            writer.send_signal(signal.SIGKILL)
            written += [int(line) for line in writer.stdout if line.endswith("\n")]
            assert writer.wait(10) == -signal.SIGKILL
            self.whole(tmp_path, written)
        ReplyCache(tmp_path).put({"after": {"backend": "w", "time": 0, "usage": {}}})


class TestTooLong:
    """A question that a server refused as too long is not sent whole again by a later command."""

    @staticmethod
    def refuse(request: ChatRequest) -> str:
        raise BackendError("the context is too small", only_this=True, unbilled=True, status=400)

    def refused(self, chat: CachedChat, request: ChatRequest = QUESTION) -> BackendError:
        with pytest.raises(BackendError) as caught:
            asyncio.run(chat.complete(request))
        return caught.value

    def test_it_is_remembered_beside_the_cache(self, tmp_path):
        cache, first, later = ReplyCache(tmp_path), Oracle(self.refuse), Oracle()
        assert self.refused(CachedChat(first, cache)).status == 400 and len(first.asked) == 1
        chat = CachedChat(later, ReplyCache(tmp_path))
        error = self.refused(chat)
        assert error.only_this and error.unbilled and "--retry-failed" in str(error) and not later.asked
        assert self.refused(chat, replace(QUESTION, max_tokens=QUESTION.max_tokens + 1)).only_this
        asyncio.run(chat.complete(replace(QUESTION, max_tokens=QUESTION.max_tokens - 1)))
        assert len(later.asked) == 1, "with fewer tokens for its reply it may fit"
        assert "Tea" not in (tmp_path / "too-long.jsonl").read_text(), "nothing of what it says"

    def test_who_asks_again_asks_again(self, tmp_path):
        self.refused(CachedChat(Oracle(self.refuse), ReplyCache(tmp_path)))
        again = CachedChat(oracle := Oracle(), ReplyCache(tmp_path), retry_failed=True)
        asyncio.run(again.complete(QUESTION))
        assert len(oracle.asked) == 1
        cache = ReplyCache(tmp_path)
        cache.clear()
        assert not CachedChat(oracle, ReplyCache(tmp_path)).was_too_long(QUESTION)

    def test_other_failures_and_broken_lines_are_not(self, tmp_path):
        def fail(request: ChatRequest) -> str:
            raise BackendError("longer than the context that models.toml states", only_this=True)

        self.refused(CachedChat(Oracle(fail), ReplyCache(tmp_path)))
        (tmp_path / "too-long.jsonl").write_text('{"key": "x"\n[1]\n{"key": "y"}\n')
        asyncio.run(CachedChat(oracle := Oracle(), ReplyCache(tmp_path)).complete(QUESTION))
        assert len(oracle.asked) == 1


def test_texts_are_embedded_in_calls_of_the_size_that_is_set(tmp_path, monkeypatch):
    from edt_backends import registry
    from edt_cli.config import Settings
    from edt_cli.llm.providers import Providers
    from edt_cli.workspace.layout import Workspace

    monkeypatch.setattr(registry, "embedding_backend", lambda *given, **named: Lengths())
    sizes = {}
    for size in (None, 2, 5):
        settings = Settings().changed(embedding={"batch_size": size})
        chosen = Providers(Workspace(tmp_path), settings).embedder
        texts = [f"{size} {number}" for number in range(5)]
        asyncio.run(chosen.embed(texts))
        sizes[size] = [len(call) for call in chosen._backend.asked]
    assert sizes == {None: [3, 2], 2: [2, 2, 1], 5: [5]}
