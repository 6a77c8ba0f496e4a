"""The base of all settings, their validation, and errors that name what a mistyped name may stand for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo

OF_LLM_EDT = (
    "model.threads",
    "model.adapter",
    "training.alpha",
    "training.align_temperature",
    "training.calibrate",
    "model.memory",
    "model.memory_window",
    "model.memory_neighbours",
    "model.memory_period",
    "training.finetune",
    "training.finetune_lr",
    "training.finetune_min_steps",
    "training.finetune_validate_steps",
    "training.finetune_epochs",
)
"""Former settings of every system that are options of LLM-EDT now."""
RENAMED = {
    **{name: "options." + name.partition(".")[2] for name in OF_LLM_EDT},
    "training.negatives_of": "training.negative_pool",
    "training.all_domains": "training.cross_domain_negatives",
    "training.final": "training.train_on",
    "training.course": "training.schedules",
    "training.memory_weights": "training.side_weights",
}
"""Former names of settings, as they occur in older run folders and files, and the current ones."""


class UserError(Exception):
    """An error that the user can fix; its one-line message says what is wrong and what to do."""


class UsageError(UserError):
    """Wrong usage of the command line; the exit code is 2."""


class Section(BaseModel):
    """Base class of all sections of settings: immutable, and strict about unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, defer_build=True)


AnySection = TypeVar("AnySection", bound=Section)


def validated(kind: type[AnySection], values: Mapping[str, Any]) -> AnySection:
    """Build a section of settings from untrusted values.

    Raises:
        UsageError: If a value is not valid; the message names the first problem.
    """
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        raise UsageError(_first_problem(error, kind)) from None


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return sections of settings with those of another source over them, field by field."""
    out = dict(base)
    for section, fields in over.items():
        if isinstance(fields, Mapping) and isinstance(out.get(section, {}), Mapping):
            out[section] = {**out.get(section, {}), **fields}
        else:
            out[section] = fields
    return out


def fields_of(kind: type[Section]) -> Iterator[tuple[str, FieldInfo]]:
    """Yield all fields of a section and of the sections in it, by dotted name."""
    for name, field in kind.model_fields.items():
        yield name, field
        kind_of = get_args(field.annotation)[0] if get_origin(field.annotation) is list else field.annotation
        if isinstance(kind_of, type) and issubclass(kind_of, Section):
            yield from ((f"{name}.{rest}", part) for rest, part in fields_of(kind_of))


def similar_settings(name: str, kind: type[Section]) -> list[str]:
    """Return the settings that a mistyped name may stand for: `training.lr` for `training.learning_rate`, too."""
    words = name.rpartition(".")[2].replace("_", " ")
    meant = [field for field, about in fields_of(kind) if (about.description or "").startswith(words)]
    return similar(name, [field for field, _ in fields_of(kind)]) or meant


def similar(name: str, known: Iterable[str]) -> list[str]:
    """Return at most two known names that a mistyped one may stand for; `lr` may stand for `training.lr`."""
    last = {other: other.rpartition(".")[2] for other in known}
    close = get_close_matches(name.rpartition(".")[2], set(last.values()), n=3)
    return get_close_matches(name, [other for other in last if last[other] in close], n=2, cutoff=0)


def alternatives(name: str, known: Iterable[str], otherwise: str = "there are") -> str:
    """Return `did you mean ...?` with the known names most like `name`, or else all of them."""
    known = list(known)
    return did_you_mean(similar(name, known)) or f"{otherwise}: {', '.join(known) or 'none'}"


def did_you_mean(names: list[str]) -> str:
    """Return a question after the names that may be meant, "" if there are none."""
    return f"did you mean {' or '.join(names)}?" if names else ""


def _first_problem(error: ValidationError, kind: type[Section]) -> str:
    problem = error.errors()[0]
    where = ".".join(str(part) for part in problem["loc"])
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if problem["type"] == "extra_forbidden":
        if where in RENAMED:
            return f"there is no setting {where}; it is {RENAMED[where]} now{more}"
        close = similar_settings(re.sub(r"\.\d+", "", where), kind)
        return f"there is no setting {where}{more}; {did_you_mean(close) or 'edt settings lists them'}"
    message = str(problem["ctx"]["error"]) if problem["type"] == "value_error" else problem["msg"]
    # A conflict between settings has a whole section as its input; do not show it, since addresses may hold keys.
    if isinstance(problem["input"], dict) and problem["type"] == "value_error":
        return f"{message}{more}"
    got = "" if problem["type"] == "missing" else f", got {problem['input']!r}"
    return f"setting {where}: {message}{got}{more}"
