"""Filters such as `model:llm-edt ndcg_food>.13 !failed`: all terms must hold, and `!` negates a term."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

from edt_cli.config import UserError

Test = Callable[[Mapping[str, Any]], bool]
COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
_TERM = re.compile(r"(!?)(?:([\w.@-]+?)(>=|<=|>|<|:|=))?(.*)", re.DOTALL)


def parse(text: str) -> Test:
    """Return a test of fields by name; a word without a field is searched in all fields.

    Raises:
        UserError: If a comparison has no number.
    """
    tests = [_term(term) for term in text.split()]
    return lambda fields: all(test(fields) for test in tests)


def _term(term: str) -> Test:
    match = _TERM.fullmatch(term)
    assert match is not None
    inverted, name, sign, wanted = match.groups()
    test = _comparison(name, sign, wanted) if name and sign in COMPARISONS else _contains(name, sign, wanted)
    return (lambda fields: not test(fields)) if inverted else test


def _comparison(name: str, sign: str, wanted: str) -> Test:
    try:
        number = float(wanted)
    except ValueError:
        raise UserError(f"{name}{sign} takes a number, such as {name}{sign}0.13") from None
    compare = COMPARISONS[sign]

    def test(fields: Mapping[str, Any]) -> bool:
        value = fields.get(name)
        return isinstance(value, int | float) and compare(value, number)

    return test


def _contains(name: str | None, sign: str | None, wanted: str) -> Test:
    wanted = wanted.casefold()
    if name is None:
        return lambda fields: any(wanted in str(value).casefold() for value in fields.values())
    if sign == "=":
        return lambda fields: str(fields.get(name, "")).casefold() == wanted
    return lambda fields: wanted in str(fields.get(name, "")).casefold()
