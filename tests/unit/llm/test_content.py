from __future__ import annotations

import pytest

from edt_backends.base import ChatRequest, Message
from edt_cli.llm.content import Content, repeats
from edt_cli.reporting.stage_summary import summary_lines

QUESTION = ChatRequest(
    "analyze@2",
    (
        Message("system", "The profile is 60 to 100 words of plain text on the customer's preferences."),
        Message("user", '{"food": ["Likes green tea with jasmine, loose leaf, and little sugar."]}'),
    ),
)


@pytest.mark.parametrize(
    ("text", "repeated"),
    [
        ("The customer drinks fine teas at home and cooks for many guests.", False),
        ("The profile is 60 to 100 words of plain text.", True),
        ("the PROFILE is 60 to 100 words, of plain text on jam", True),
        ("Likes green tea with jasmine, loose leaf; probably owns a kettle and a good teapot for friends", False),
        ("green tea", True),
        ("green teapot", False),
        ("...", True),
        ("", True),
    ],
)
def test_a_text_repeats_the_question_if_half_of_it_stands_there(text, repeated):
    assert repeats(text, QUESTION) is repeated


def test_the_glance_is_the_same_in_any_order():
    texts = [f"A buyer of teapots number {n} and of cups." for n in range(20)] + ["green tea"] * 10
    forward, backward = Content(), Content()
    for text in texts:
        forward.add(text, QUESTION)
    for text in reversed(texts):
        backward.add(text, QUESTION)
    found = forward.summary()
    assert found == backward.summary()
    assert (found["texts"], found["different"], found["repeating"], len(found["samples"])) == (30, 21, 10, 3)
    (warning,) = forward.warnings("profiles")
    assert warning.startswith("10 of 30 profiles repeat what the prompt says, such as: green tea | ")
    forward.repeating = 6
    assert forward.warnings("profiles") == []


def test_the_glance_is_in_the_summary():
    content = Content()
    content.add("Green tea", QUESTION)
    counts = dict.fromkeys(("users", "asked_users", "eligible_users", "users_without_text", "profiles"), 1)
    llm = dict.fromkeys(("repairs", "replies", "cached", "prompt_tokens"), 0)
    summary = {**counts, "failed": {}, "degrees": [1], "chain": "naive", "llm": llm, "content": content.summary()}
    lines = dict(summary_lines(summary))
    assert lines["the profiles"] == "1, of which 1 (100%) differ and 1 (100%) repeat the prompt"
    assert lines["such as"] == "Green tea" and "the profiles" not in dict(
        summary_lines({**summary, "content": None})
    )
