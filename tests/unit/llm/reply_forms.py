"""Forms in which models give the JSON that they are asked for, with what is to be read of each.

Run as a script it prints which of them are read: `python tests/unit/llm/reply_forms.py`.
"""

from __future__ import annotations

import json
import sys

from edt_cli.augmentation.generation import Reply
from edt_cli.llm import replies
from edt_cli.profiling.chain import ProfileText, Summaries

PAN, POT = {"title": "Pan"}, {"title": "Pot", "brand": "Lux"}
GOOD = json.dumps({"items": [PAN, POT]})
BOTH = ["Pan", "Pot"]
ITEMS = {
    "plain": (GOOD, BOTH),
    "indented": (json.dumps({"items": [PAN, POT]}, indent=2), BOTH),
    "further fields": (json.dumps({"items": [PAN, POT], "note": "enjoy"}), BOTH),
    "a list for a category": ('{"items": [{"title": "Pan", "category": ["A", "B"]}]}', ["Pan"]),
    "in a fence": (f"```json\n{GOOD}\n```", BOTH),
    "a fence without a language": (f"```\n{GOOD}\n```", BOTH),
    "a fence in capitals": (f"```JSON\n{GOOD}\n```", BOTH),
    "a fence that stays open": (f"```json\n{GOOD}", BOTH),
    "a fence between prose": (f"Here you go:\n```json\n{GOOD}\n```\nEnjoy!", BOTH),
    "prose before": (f"Sure! Here are two: {GOOD}", BOTH),
    "prose after": (f"{GOOD}\nLet me know if you need more.", BOTH),
    "prose with brackets": (f"As asked [1], see {{below}}:\n{GOOD} {{end}}", BOTH),
    "a byte order mark": (f"\ufeff{GOOD}", BOTH),
    "thoughts before": (f"<think>They {{cook}}: {json.dumps({'items': [{'title': 'No'}]})}</think>{GOOD}", BOTH),
    "thoughts without a beginning": (f"They like cooking.</think>\n{GOOD}", BOTH),
    "another mark of thoughts": (f"[THINK]A list: [1, 2][/THINK]{GOOD}", BOTH),
    "channels": (f"<|channel|>analysis<|message|>Hm.<|end|><|channel|>final<|message|>{GOOD}", BOTH),
    "as a text in quotes": (json.dumps(GOOD), BOTH),
    "line comments": ('{"items": [ // two\n {"title": "Pan"}, // "best" one\n {"title": "Pot"}]}', BOTH),
    "block comments": ('{"items": [/* two */ {"title": "Pan"}, {"title": "Pot"}]}', BOTH),
    "a comma too many": ('{"items": [{"title": "Pan",}, {"title": "Pot"},],}', BOTH),
    "a comma too few": ('{"items": [{"title": "Pan"} {"title": "Pot" "brand": "Lux"}]}', BOTH),
    "single quotes": ("{'items': [{'title': 'Pan'}, {'title': 'Pot'}]}", BOTH),
    "a dictionary of Python": (str({"items": [{"title": "Men's pan", "brand": None}]}), ["Men's pan"]),
    "curly quotes": ("{“items”: [{“title”: “Pan”}, {“title”: “Pot”}]}", BOTH),
    "names without quotes": ('{items: [{title: "Pan"}, {title: "Pot"}]}', BOTH),
    "quotes within a text": ('{"items": [{"title": "The "best" pan"}, {"title": "12" pot", "brand": "x"}]}',
                             ['The "best" pan', '12" pot']),
    "a backslash of Markdown": ('{"items": [{"title": "Pan\\_1"}, {"title": "Pot"}]}', ["Pan\\_1", "Pot"]),
    "a line break within a text": ('{"items": [{"title": "Pan", "brand": "a\nb"}, {"title": "Pot"}]}', BOTH),
    "a control character": ('{"items": [{"title": "Pan", "brand": "a\x07\tb"}, {"title": "Pot"}]}', BOTH),
    "no bracket at the end": ('{"items": [{"title": "Pan"}, {"title": "Pot"}]', BOTH),
    "a bracket too many": (GOOD + "}", BOTH),
    "an ellipsis": ('{"items": [{"title": "Pan"}, {"title": "Pot"}, ...]}', BOTH),
    "a list at the top": (json.dumps([PAN, POT]), BOTH),
    "an item without its list": (json.dumps(PAN), ["Pan"]),
    "an item for a list": (json.dumps({"items": PAN}), ["Pan"]),
    "an item a line": (f"{json.dumps(PAN)}\n{json.dumps(POT)}", BOTH),
    "the key in capitals": (json.dumps({"Items": [PAN, POT]}), BOTH),
    "another key": (json.dumps({"products": [PAN, POT]}), BOTH),
    "one more level": (json.dumps({"response": {"items": [PAN, POT]}}), BOTH),
    "a list around it": (json.dumps([{"items": [PAN, POT]}]), BOTH),
    "fields in capitals": (json.dumps({"items": [{"Title": "Pan"}, {"TITLE": "Pot"}]}), BOTH),
    "name for title": (json.dumps({"items": [{"name": "Pan"}, {"product_name": "Pot"}]}), BOTH),
    "texts for items": (json.dumps({"items": BOTH}), BOTH),
    "the same document twice": (f"{GOOD}\n{GOOD}", BOTH),
    "two documents": ('{"items": [{"title": "Pan"}]}\n\n{"items": [{"title": "Pot"}]}', BOTH),
    "a number for a title": ('{"items": [{"title": 1984}, {"title": "Pot"}]}', ["1984", "Pot"]),
    "one bad item": ('{"items": [{"title": "Pan"}, {"titel": null}, {"title": "Pot"}, 5]}', BOTH),
    "an object for a brand": ('{"items": [{"title": "Pan", "brand": {"name": "x"}}, {"title": "Pot"}]}', BOTH),
    "cut off in an item": ('{"items": [{"title": "Pan"}, {"title": "Pot"}, {"title": "Po', BOTH),
    "cut off in a fence": ('```json\n{"items": [{"title": "Pan"}, {"title": "Pot"}, {"title": "', BOTH),
    "nothing": ("", None),
    "a refusal": ("I'm sorry, I can't help with that.", None),
    "a list in Markdown": ("1. Pan\n2. Pot", None),
    "another document": ('{"answer": 42}', None),
    "thoughts without an end": (f"<think>I could say {GOOD}", None),
    "cut off in the first item": ('{"items": [{"title": "Pa', None),
    "apostrophes in single quotes": ("{'items': [{'title': 'Men's pan'}, {'title': 'Pot'}]}", None),
}  # fmt: skip
"""Replies to `generate`: the text, and the titles in it; None where nothing can be read."""
PROFILES = {
    "plain": ('{"profile": "Likes tea."}', "Likes tea."),
    "prose and a capital": ('My answer: {"Profile": "Likes tea."}', "Likes tea."),
    "a draft first": ('{"profile": "Draft."}\nBetter:\n{"profile": "Likes tea."}', "Likes tea."),
    "no bracket at the end": ('{"profile": "Likes tea."', "Likes tea."),
    "one more level": ('{"result": {"profile": "Likes tea."}}', "Likes tea."),
    "a line break within": ('{"profile": "Likes\ntea."}', "Likes\ntea."),
    "cut off": ('{"profile": "Likes te', None),
    "prose": ("The customer likes tea.", None),
    "a list": ('{"profile": ["Likes tea."]}', None),
}
SUMMARIES = {
    "plain": ('{"summaries": [{"cluster": 3, "summary": "Tea."}]}', [(3, "Tea.")]),
    "numbers in quotes": ('{"summaries": [{"cluster": "3", "summary": "Tea."}]}', [(3, "Tea.")]),
    "one without a number": ('[{"cluster": 3, "summary": "Tea."}, {"summary": "Pans."}]', [(3, "Tea.")]),
    "texts without numbers": ('{"summaries": ["Tea."]}', None),
}


def read_of(text: str, kind: type) -> object:
    """What is read, in the form of the tables above."""
    answer = replies.read(text, kind).answer
    if isinstance(answer, Reply):
        return [item.title for item in answer.items]
    if isinstance(answer, Summaries):
        return [(part.cluster, part.summary) for part in answer.summaries]
    return answer if answer is None else answer.profile


KINDS = {Reply: ITEMS, ProfileText: PROFILES, Summaries: SUMMARIES}

if __name__ == "__main__":
    for kind, forms in KINDS.items():
        for name, (text, expected) in forms.items():
            got = read_of(text, kind)
            sys.stdout.write(
                f"{kind.__name__:25} {name:35} {'ok' if got == expected else f'{got!r} {expected!r}'}\n"
            )
