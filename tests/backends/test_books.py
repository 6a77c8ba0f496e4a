"""The ledger's books and the cache's."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from test_cache import QUESTION, Lengths, Oracle, complete

from edt_backends.base import BackendError
from edt_backends.books import compare_books
from edt_backends.budget import Budget, BudgetedChat, BudgetedEmbeddings
from edt_backends.cache import CachedChat, CachedEmbeddings
from edt_backends.exchange import export_lines, import_lines
from edt_backends.ledger import Ledger
from edt_backends.store import ReplyCache


@pytest.fixture
def place(tmp_path):
    """A cache and a ledger after three questions, one rejected and asked again, one in vain, and two embeddings."""
    cache, ledger = ReplyCache(tmp_path / "cache"), Ledger(tmp_path / "ledger.db")
    budget = Budget(ledger)
    chat = CachedChat(BudgetedChat(Oracle(), budget), cache)
    for user in ("A1", "A2"):
        complete(chat, replace(QUESTION, seed=1 if user == "A1" else 2, user=user))
    chat.reject(replace(QUESTION, seed=2))
    complete(chat, replace(QUESTION, seed=2))
    asyncio.run(CachedEmbeddings(BudgetedEmbeddings(Lengths(), budget), cache).embed(["a", "bb", "ccc", "dddd"]))

    def busy(request):
        raise BackendError("busy", retryable=True)

    with pytest.raises(BackendError):
        complete(CachedChat(BudgetedChat(Oracle(busy), budget), cache), replace(QUESTION, seed=3))
    return cache, ledger


def told(cache, ledger):
    return [(one.prompt, one.count, one.what) for one in compare_books(cache, ledger).differences]


def test_what_is_paid_for_is_kept(place):
    books = compare_books(*place)
    assert (books.agreed, books.agreed_usd, books.differences) == (3, 0.75, [])
    assert books.unconfirmed == 1, "the call in vain"


def test_what_is_gone_and_what_nobody_paid_for_is_told(place, tmp_path):
    cache, ledger = place
    other = ReplyCache(tmp_path / "other")
    complete(CachedChat(Oracle(), other), replace(QUESTION, seed=9))
    import_lines(cache, export_lines(other))
    books = compare_books(cache, ledger)
    assert (books.imported, books.differences) == (1, []), "who shares replies has paid for them"
    cache.forget("A1")
    assert told(cache, ledger) == [("test@1", 1, "paid for, and no such reply is kept")]
    complete(CachedChat(Oracle(), cache), replace(QUESTION, seed=5))
    assert told(cache, ledger) == [], "a reply of the same tokens and cost stands for it"
    complete(CachedChat(Oracle(), cache), replace(QUESTION, seed=6))
    assert told(cache, ledger) == [("test@1", 1, "kept, and no such call is in the ledger")]


def test_a_changed_reply_and_lost_vectors_are_told(place):
    cache, ledger = place
    key, entry = next((key, entry) for key, entry in cache.entries() if "asked" in entry)
    cache.put({key: entry | {"usage": entry["usage"] | {"completion_tokens": 1}}})
    found = told(cache, ledger)
    assert [count for _, count, _ in found] == [1, 1], "one is missing, and one is unknown"
    cache.put({key: entry})
    cache.put({"f" * 64: entry})
    assert told(cache, ledger) == [("", 1, "under a key that is not that of its question")]
    cache.clear("some/lengths")
    assert ("embed", 0, "14 tokens paid for, 0 in the vectors that are kept") in told(cache, ledger)
