"""Reading of an LLM's reply: its JSON is found and mended, and what is valid in it is taken, item by item.

Nothing is invented: each text of an answer stands in the reply, and what is incomplete is left out.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, get_args

from pydantic import BaseModel, ValidationError

Shape = TypeVar("Shape", bound=BaseModel)

AROUND, SYNTAX, CUT_OFF, THOUGHTS = "text around it", "syntax", "cut off", "thoughts"
ENVELOPE, NAMES, NUMBERS, SEVERAL = "envelope", "names of fields", "numbers as text", "several documents"
LEFT_OUT = "left out"
"""What is mended in a reply; left out are items and fields that are not valid."""

ALIASES = {"title": ("name", "product", "productname", "producttitle", "item", "itemname")}
"""Names that models give to a field, without capitals and underscores."""
ENVELOPES = 3
"""Most objects around the document that was asked for."""
MENDED_CHARACTERS, MENDED_DEPTH, DOCUMENTS = 200_000, 20, 50
"""Longest and deepest text that is mended, and most documents in a reply: more is no answer to any question."""

_THOUGHTS = re.compile(
    r"\A.*</think(?:ing)?>|<(think|thinking|reasoning)>.*?(?:</\1>|\Z)|\[THINK\].*?(?:\[/THINK\]|\Z)"
    r"|\A.*<\|message\|>",
    re.DOTALL | re.IGNORECASE,
)
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\]]', re.DOTALL)
_GARBLED = re.compile(r"[\"'“”]\s*[}\]]|[{\[]\s*[\"'“”]|[\"'“”]\s*:\s*[\"'“”{\[]")
"""JSON inside of a text: where it ends was mistaken."""
_QUOTE_OPEN = re.compile(r'(?:\\|[:,{\[]\s*)"\Z')
_HALVES = re.compile("[\ud800-\udfff]")
"""Halves of characters, which stand for nothing and cannot be written to a file."""
_OPENING = re.compile(r"[{\[]")


@dataclass
class Reading(Generic[Shape]):
    """What a reply says.

    Attributes:
        answer: The answer; None if nothing of the shape is in the reply.
        reason: Why there is none: "no JSON" or "wrong shape".
        detail: What is wrong.
        mended: What was mended, and how often.
    """

    answer: Shape | None
    reason: str = ""
    detail: str = ""
    mended: Counter[str] = field(default_factory=Counter)


@dataclass
class _Document:
    """A document of a reply and what was mended in it; `guessed` where the end of its texts was guessed."""

    value: Any
    mended: Counter[str]
    guessed: bool = False


@dataclass
class _Fit:
    """A document as an answer; the less lies between it and the shape, the higher is `rank`."""

    rank: int
    value: Any
    mended: Counter[str]


def read(text: str, shape: type[Shape]) -> Reading[Shape]:
    """Read a reply as an answer of the given shape, which has one list of objects or plain fields.

    A reply that is one valid document is taken as it is. Otherwise its documents are found and mended, and a list
    is taken for what is valid in it. Of several documents those nearest to the shape count: their lists are joined,
    and of plain ones the last is taken.
    """
    text = _HALVES.sub("", text).removeprefix("\ufeff").strip()
    try:
        return Reading(shape.model_validate_json(text))
    except ValidationError as error:
        problem = _problem(error.errors(include_url=False, include_context=False)[0])
    mended: Counter[str] = Counter()
    spoken = _THOUGHTS.sub("", text).strip()
    mended[THOUGHTS] += spoken != text
    reader, found = _Reader(shape), False
    fits: list[_Fit] = []
    for document in _documents(_unquoted(spoken, mended)):
        found = True
        fits += reader.fits(document)
    if not fits:
        if found:
            return Reading(None, "wrong shape", reader.problem or problem)
        return Reading(None, "no JSON", problem)
    best = max(fit.rank for fit in fits)
    fits = [fit for fit in fits if fit.rank == best]
    value = fits[-1].value
    if any(fit.value != value for fit in fits):
        mended[SEVERAL] += 1
        value = value if reader.listed is None else _distinct(fits)
    if reader.listed is not None:
        value = {reader.listed: value}
    for fit in fits:
        mended += fit.mended
    return Reading(shape.model_validate(value), mended=+mended)


class _Reader:
    """Finds a shape in documents; `problem` is what was wrong with the last that does not have it."""

    def __init__(self, shape: type[BaseModel]) -> None:
        self.shape, self.problem = shape, ""
        parts = {name: _element(field.annotation) for name, field in shape.model_fields.items()}
        self.listed = next((name for name, element in parts.items() if element), None)
        self.element = parts.get(self.listed or "") or shape

    def fits(self, document: _Document) -> Iterator[_Fit]:
        """Yield the answers in a document: the shape itself, or within other objects, or without its own."""
        if self.listed is None:
            yield from self._plain(document.value, document, ENVELOPES)
        else:
            yield from self._list(document.value, document, ENVELOPES)

    def _plain(self, value: Any, document: _Document, rank: int) -> Iterator[_Fit]:
        mended = Counter(document.mended)
        mended[ENVELOPE] += rank < ENVELOPES
        if isinstance(value, dict) and (found := self._valid(value, self.shape, mended, document)) is not None:
            yield _Fit(rank, found, mended)
        elif rank and isinstance(value, dict | list):
            for inner in value.values() if isinstance(value, dict) else value:
                if isinstance(inner, dict):
                    yield from self._plain(inner, document, rank - 1)

    def _list(self, value: Any, document: _Document, rank: int) -> Iterator[_Fit]:
        """Yield the list under its own name; else under another, or bare; else a single element."""
        if isinstance(value, dict):
            named = {name: inner for name, inner in value.items() if _plain_name(name) == self.listed}
            for name, inner in named.items():
                how = Counter({NAMES: int(name != self.listed), ENVELOPE: int(rank < ENVELOPES)})
                yield from self._elements(inner, document, 10 * (rank + 1) + (name == self.listed), how)
            if named:
                return
            how = Counter({ENVELOPE: 1})
            if (single := self._valid(value, self.element, how, document)) is not None:
                yield _Fit(1, [single], document.mended + how)
                return
        elif not isinstance(value, list):
            return
        elif not any(isinstance(inner, dict) and self._holds(inner) for inner in value):
            objects = any(isinstance(inner, dict) for inner in value)
            yield from self._elements(value, document, 2 * objects, Counter({ENVELOPE: 1}))
            return
        for inner in value.values() if isinstance(value, dict) else value:
            if rank:
                yield from self._list(inner, document, rank - 1)

    def _holds(self, value: dict[str, Any]) -> bool:
        return any(_plain_name(name) == self.listed for name in value)

    def _elements(self, value: Any, document: _Document, rank: int, how: Counter[str]) -> Iterator[_Fit]:
        """Yield the valid elements of a list, if there are any, or if it is empty under the shape's own name."""
        if not isinstance(value, list | dict):
            self.problem = f"a list was expected, not {json.dumps(value)[:100]}"
            return
        parts = value if isinstance(value, list) else [value]
        valid = [self._valid(part, self.element, how, document) for part in parts]
        elements = [element for element in valid if element is not None]
        how[LEFT_OUT] += len(parts) - len(elements)
        if elements or (not parts and rank > 2):
            yield _Fit(rank, elements, document.mended + how)

    def _valid(
        self, value: Any, model: type[BaseModel], mended: Counter[str], document: _Document
    ) -> dict[str, Any] | None:
        """Return the fields of an object as the model has them; None if it is not valid.

        Names of fields may differ in form, numbers stand for texts, a bare text for an object of one needed text.
        An optional field that is not valid is left out.
        """
        needed = [name for name, part in model.model_fields.items() if part.is_required()]
        how: Counter[str] = Counter()
        if isinstance(value, str) and model is not self.shape and len(needed) == 1 and not document.guessed:
            how[NAMES] += 1
            value = {needed[0]: value}
        if not isinstance(value, dict):
            self.problem = f"an object was expected, not {json.dumps(value)[:100]}"
            return None
        value = {name: _HALVES.sub("", got) if isinstance(got, str) else got for name, got in value.items()}
        given = {name: value[name] for name in model.model_fields if name in value}
        for name in model.model_fields.keys() - given.keys():
            forms = (name, *(ALIASES.get(name, ()) if name in needed else ()))
            if (other := next((key for key in value if _plain_name(key) in forms), None)) is not None:
                how[NAMES] += 1
                given[name] = value[other]
        for flaw in _flaws(model, given):
            name, got = str(flaw["loc"][0]), flaw["input"]
            if flaw["type"] == "string_type" and isinstance(got, int | float) and not isinstance(got, bool):
                how[NUMBERS] += 1
                given[name] = str(got)
            elif name not in needed and name in given:
                how[LEFT_OUT] += 1
                del given[name]
        if flaws := _flaws(model, given):
            self.problem = _problem(flaws[0])
            return None
        if document.guessed and any(isinstance(got, str) and _GARBLED.search(got) for got in given.values()):
            self.problem = "where its texts end cannot be told"
            return None
        mended.update(how)
        return given


def _documents(text: str) -> Iterator[_Document]:
    """Yield the JSON documents in a text, in order; after one that does not end, those in it as well."""
    position, ended, around = 0, True, text[:1] not in ("{", "[")
    openings = 0
    while openings < DOCUMENTS and (opening := _OPENING.search(text, position)):
        start, openings = opening.start(), openings + 1
        document, position = _standard(text, start)
        if document is None and ended:
            end, ended = _end(text, start)
            document = _mended(text[start:end], ended)
            position = end if ended else start + 1
        if document is not None:
            document.mended[AROUND] += around or (ended and bool(text[position:].strip()))
            yield document


def _standard(text: str, start: int) -> tuple[_Document | None, int]:
    """Return the document that begins at `start`, and where it ends; control characters may be in its texts."""
    for decoder, syntax in ((json.JSONDecoder(), 0), (json.JSONDecoder(strict=False), 1)):
        try:
            value, end = decoder.raw_decode(text, start)
            return _Document(value, Counter({SYNTAX: syntax})), end
        except (ValueError, RecursionError):
            continue
    return None, start + 1


def _end(text: str, start: int) -> tuple[int, bool]:
    """Return where the bracket at `start` closes, and whether it does; else the end of the text."""
    depth = 0
    for token in _TOKEN.finditer(text, start):
        depth += {"{": 1, "[": 1, "}": -1, "]": -1}.get(token[0], 0)
        if depth == 0:
            return token.end(), True
    return len(text), False


def _mended(text: str, whole: bool) -> _Document | None:
    """Mend a document; of one without an end, what follows its last complete part is left out."""
    from json_repair import repair_json

    mended: Counter[str] = Counter({SYNTAX: 1})
    if not whole:
        text = text.rstrip("` \n\r\t")
        if not text.endswith(("}", "]", '"')) or _QUOTE_OPEN.search(text):
            text = text[: text.rfind("}") + 1]
        mended = Counter({CUT_OFF: 1})
    if not text or len(text) > MENDED_CHARACTERS or _deepest(text) > MENDED_DEPTH:
        return None
    try:
        value = repair_json(text, skip_json_loads=True, return_objects=True)
    except (ValueError, RecursionError, IndexError):
        return None
    kind = dict if text[0] == "{" else list
    return _Document(value, mended, guessed=True) if isinstance(value, kind) else None


def _deepest(text: str) -> int:
    depth = deepest = 0
    for bracket in re.findall(r"[{}\[\]]", text):
        depth += 1 if bracket in "{[" else -1
        deepest = max(deepest, depth)
    return deepest


def _unquoted(text: str, mended: Counter[str]) -> str:
    """Return a document that stands in quotes, as one text, without them."""
    if text.startswith('"'):
        try:
            inside, _ = json.JSONDecoder(strict=False).raw_decode(text)
        except ValueError:
            return text
        if "{" in inside or "[" in inside:
            mended[ENVELOPE] += 1
            return str(inside)
    return text


def _element(annotation: Any) -> type[BaseModel] | None:
    """Return the class of the objects in a list; None for any other type."""
    (part,) = get_args(annotation) or (None,) if len(get_args(annotation)) < 2 else (None,)
    return part if isinstance(part, type) and issubclass(part, BaseModel) else None


def _plain_name(name: str) -> str:
    return re.sub(r"[\W_]", "", name).lower()


def _distinct(fits: list[_Fit]) -> list[Any]:
    unique: list[Any] = []
    for part in (part for fit in fits for part in fit.value):
        if part not in unique:
            unique.append(part)
    return unique


def _flaws(model: type[BaseModel], given: dict[str, Any]) -> list[Any]:
    try:
        model.model_validate(given)
    except ValidationError as error:
        return list(error.errors(include_url=False, include_context=False))
    return []


def _problem(flaw: Any) -> str:
    where = ".".join(str(part) for part in flaw["loc"])
    return f"{where}: {flaw['msg']}" if where else str(flaw["msg"])
