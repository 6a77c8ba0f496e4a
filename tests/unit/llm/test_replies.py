from __future__ import annotations

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel
from reply_forms import ITEMS, KINDS, read_of

from edt_cli.augmentation.generation import Reply
from edt_cli.llm import replies
from edt_cli.llm.replies import read


class Answer(BaseModel):
    word: str


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind, forms in KINDS.items() for name in forms], ids=str
)
def test_what_is_in_a_reply_is_read_and_nothing_else(kind, name):
    text, expected = KINDS[kind][name]
    assert read_of(text, kind) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no JSON"),
        ("Sure! Here you go: {}", "wrong shape"),
        ('{"word": "hi', "no JSON"),
        ("[" * 100_000, "no JSON"),
        ('{"a": ' * 1000, "no JSON"),
        ("{ " * 100_000, "no JSON"),
        ('{"word": true}', "wrong shape"),
        ('["hi"]', "wrong shape"),
        ("NaN", "no JSON"),
    ],
    ids=range(9),
)
def test_why_nothing_can_be_read(text, reason):
    found = read(text, Answer)
    assert found.answer is None and found.reason == reason and found.detail and not found.mended


def test_half_a_character_is_none():
    for text in ('{"word": "hi\\ud800"}', '{"word": "hi\ud800"}'):
        assert read(text, Answer).answer == Answer(word="hi")


def test_what_was_mended_is_counted():
    text, _ = ITEMS["one bad item"]
    assert read(text, Reply).mended == {replies.LEFT_OUT: 2}
    text = "Well: [{'title': 7}, {'name': 'Pan'}]"
    counts = {replies.AROUND: 1, replies.SYNTAX: 1, replies.ENVELOPE: 1, replies.NUMBERS: 1, replies.NAMES: 1}
    assert read(text, Reply).mended == counts
    assert read(ITEMS["cut off in an item"][0], Reply).mended == {replies.CUT_OFF: 1}
    assert not read(ITEMS["plain"][0], Reply).mended


WORDS = st.text("abc XYZ09-'&()/é鍋☕", min_size=1, max_size=12)
TEXTS = st.text("a Z9-'\"{}[]:,\\/é鍋☕\n", max_size=12)
PARTS = st.lists(
    st.fixed_dictionaries({"title": WORDS, "brand": st.none() | WORDS}), min_size=1, max_size=5, unique_by=str
)
HARMLESS = {
    "prose": lambda text, draw: f"Sure [{draw.randint(1, 9)}]:\n{text}\nDone.",
    "fence": lambda text, draw: f"```{draw.choice(['', 'json', 'JSON'])}\n{text}\n```",
    "commas": lambda text, draw: text.replace("}]", "},]"),
    "no commas": lambda text, draw: text.replace("}, {", "} {"),
    "comments": lambda text, draw: text.replace(": [", ": [ // a list\n"),
    "unquoted names": lambda text, draw: text.replace('"title"', "title"),
    "names": lambda text, draw: text.replace('"items"', draw.choice(['"Items"', '"products"'])),
    "bare": lambda text, draw: text.removeprefix('{"items": ').removesuffix("}"),
    "no end": lambda text, draw: text.removesuffix("}"),
    "thoughts": lambda text, draw: f"<think>{text[: draw.randrange(len(text))]}</think>{text}",
}


@given(PARTS, st.sampled_from(sorted(HARMLESS)), st.integers())
def test_nothing_is_lost(parts, flaw, seed):
    text = HARMLESS[flaw](json.dumps({"items": parts}, ensure_ascii=False), random.Random(seed))
    answer = read(text, Reply).answer
    assert [item.model_dump(include={"title", "brand"}) for item in answer.items] == parts


@given(st.lists(st.fixed_dictionaries({"title": TEXTS, "brand": TEXTS}), max_size=4), st.integers())
def test_nothing_is_invented(parts, seed):
    """However a reply is damaged: each text that is read stands in it, quotes and escapes aside."""
    draw, text = random.Random(seed), json.dumps({"items": parts}, ensure_ascii=False)
    for _ in range(draw.randint(1, 4)):
        place = draw.randrange(len(text))
        text = text[:place] + draw.choice(["", "", '"', "{", "}", "]", ",", "\\", "x "]) + text[place + 1 :]
    answer = read(text, Reply).answer

    def letters(part: str) -> str:
        return "".join(part.split()).translate(dict.fromkeys(map(ord, "n\"'\\,")))  # n: of a line break, escaped

    for item in answer.items if answer else ():
        assert letters(item.title) in letters(text) and letters(item.brand or "") in letters(text)


@given(PARTS, st.integers())
def test_of_what_is_cut_off_the_whole_items_are_read(parts, seed):
    text = json.dumps({"items": parts}, ensure_ascii=False)
    cut = text[: random.Random(seed).randrange(len(text))]
    answer = read(cut, Reply).answer
    got = [item.model_dump(include={"title", "brand"}) for item in answer.items] if answer else []
    whole = cut.count('"title": ') and sum(cut.count(json.dumps(part, ensure_ascii=False)) > 0 for part in parts)
    assert len(got) >= whole and [part["title"] for part in got] == [part["title"] for part in parts[: len(got)]]
