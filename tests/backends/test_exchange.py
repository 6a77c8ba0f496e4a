from __future__ import annotations

import asyncio
import json

import pytest
from test_cache import QUESTION, Lengths, Oracle, complete, replace

from edt_backends.base import BackendError
from edt_backends.cache import CachedChat, CachedEmbeddings
from edt_backends.exchange import Taken, export_lines, import_lines
from edt_backends.store import ReplyCache

HOSTILE = '☕ \x1b[31m \ud800 "\n{}'


@pytest.fixture
def filled(tmp_path):
    cache = ReplyCache(tmp_path / "from")
    complete(CachedChat(Oracle(lambda _: HOSTILE), cache), replace(QUESTION, user="A1SECRET"))
    other = CachedChat(Oracle(), cache)
    complete(other, replace(QUESTION, prompt="other@1"))
    other.reject(replace(QUESTION, prompt="other@1"))
    asyncio.run(CachedEmbeddings(Lengths(), cache).embed(["a", "bb"]))
    return cache


def test_a_lab_shares_its_replies(filled, tmp_path):
    lines = list(export_lines(filled))
    assert len(lines) == 3, "what was set aside is no answer to share"
    assert not any("\n" in line or "A1SECRET" in line or "\x1b" in line for line in lines)
    cache = ReplyCache(tmp_path / "to")
    assert import_lines(cache, lines) == Taken(3, 0)
    assert import_lines(cache, [*lines, "", lines[0]]) == Taken(0, 4)
    oracle, lengths = Oracle(), Lengths()
    assert complete(CachedChat(oracle, cache)).text == HOSTILE and not oracle.asked
    reply = asyncio.run(CachedEmbeddings(lengths, cache).embed(["bb", "a"]))
    assert reply.vectors.shape == (2, 2) and not lengths.asked
    assert list(export_lines(cache)) == lines
    assert len(list(export_lines(cache, "some/lengths"))) == 2


def test_what_is_here_stays(filled, tmp_path):
    cache = ReplyCache(tmp_path / "to")
    complete(CachedChat(Oracle(lambda _: "mine"), cache))
    import_lines(cache, export_lines(filled))
    assert complete(CachedChat(Oracle(), cache)).text == "mine"


def changed(line: str, **changes) -> str:
    document = json.loads(line)
    for path, value in changes.items():
        *parents, last = path.split("__")
        inner = document
        for parent in parents:
            inner = inner[parent]
        inner[last] = value
    return json.dumps(document)


@pytest.mark.parametrize(
    "changes",
    [
        {"key": "0" * 64},
        {"key": "x"},
        {"key": None},
        {"entry": []},
        {"entry__reply": None},
        {"entry__asked__seed": 7},
        {"entry__asked__messages": [["user", "another question"]]},
        {"entry__usage": {}},
        {"entry__usage__cost_usd": -1},
        {"entry__usage__cost_usd": float("nan")},
        {"entry__usage__prompt_tokens": "many"},
        {"entry__time": "now"},
        {"entry__price": ["free"]},
        {"entry__vector": "AAAA"},
    ],
    ids=str,
)
def test_a_line_that_is_none_is_named_and_what_came_before_is_in(filled, tmp_path, changes):
    good = next(line for line in export_lines(filled) if "vector" not in line)
    cache = ReplyCache(tmp_path / "to")
    vector = next(line for line in export_lines(filled) if "vector" in line)
    with pytest.raises(BackendError, match=r"^line 3 is not a reply of `edt cache export` \(.+\); stopped there$"):
        import_lines(cache, [vector, "", changed(good, **changes)])
    assert cache.stats().entries == 1


@pytest.mark.parametrize("line", ["no JSON", "[]", "7", '{"key": 1}', "[" * 100_000, "null"])
def test_what_is_no_line_at_all(tmp_path, line):
    with pytest.raises(BackendError, match=r"^line 1 is not a reply"):
        import_lines(ReplyCache(tmp_path), [line])
