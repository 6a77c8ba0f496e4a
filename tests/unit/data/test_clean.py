"""Catalogue text: HTML, control characters, page source."""

import time

import pytest

from edt_cli.data.clean import MAX_CHARACTERS, clean_text, flatten, is_page_source


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("Cuisinart Grind &amp; Brew", "Cuisinart Grind & Brew"),
        ("twice &amp;amp; thrice", "twice & thrice"),
        ("<b>Bold</b> and&nbsp;<br/>broken", "Bold and broken"),
        ("&lt;p&gt;escaped tags&lt;/p&gt;", "escaped tags"),
        ("<style>p {color: red}</style>Shoe<script>alert(1)</script>", "Shoe"),
        ("<!-- note -->Pan <!-- never closed", "Pan"),
        ("weighs < 5 lb and > 2 lb", "weighs < 5 lb and > 2 lb"),
        ("  many \t\n spaces  ", "many spaces"),
        ("\x1b[31mred\x1b[0m\x07", "[31mred [0m"),
        ("&#27;]0;title&#7;", "]0;title"),
        ("ab\u202ecd\u200be\ufefff", "abcdef"),
        ("lone \ud800 surrogate", "lone surrogate"),
        ("\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"),
        ("[red]markup of another kind[/red]", "[red]markup of another kind[/red]"),
        ("", None),
        ("<p></p>  ", None),
    ],
)
def test_clean_text(raw, expected):
    assert clean_text(raw) == expected


def test_what_is_clean_stays_so():
    once = clean_text("A &amp; <i>B</i>\x00 C")
    assert once is not None
    assert clean_text(once) == once


def test_long_text_is_cut_at_a_word():
    cleaned = clean_text("word " * 5000)
    assert cleaned is not None
    assert MAX_CHARACTERS - 5 <= len(cleaned) <= MAX_CHARACTERS
    assert cleaned.endswith("word")


@pytest.mark.parametrize("hostile", ["<!--" * 50_000, "<script" * 50_000, "&amp;" * 50_000, "<a" * 100_000])
def test_hostile_markup_costs_no_time(hostile):
    began = time.perf_counter()
    clean_text(hostile)
    assert time.perf_counter() - began < 2


def test_page_source_for_a_title():
    assert is_page_source("var aPageStart = (new Date()).getTime();\nvar ue_t0=ue_t0||+new Date();")
    assert not is_page_source("Alarm Clock: get time right")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("Kitchen", "Kitchen"),
        (["Home", "Kitchen", "Home"], "Home, Kitchen"),
        ([["Home", "Kitchen"], ["Home", "Pans"]], "Home, Kitchen, Pans"),
        (5, "5"),
        (True, None),
        (None, None),
        ([], None),
        ({"a": "b"}, None),
    ],
)
def test_flatten(value, expected):
    assert flatten(value) == expected
