"""Numbers, texts, lists, dicts and arrays in a pickle, read without unpickling.

A pickle is a program, and unpickling runs it. Here its instructions are only walked through: those that make plain
values are followed, the four calls by which numpy writes an array are recognised by their names, and anything else
ends the reading. Nothing that a file names is imported or called.
"""

from __future__ import annotations

import math
import mmap
import pickletools
import re
from enum import Enum
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

from edt_cli.config import UserError
from edt_cli.data.formats import unreadable


class _Name(Enum):
    """What numpy's arrays are made by; never more than a name."""

    ARRAY = "numpy ndarray"
    DTYPE = "numpy dtype"
    RECONSTRUCT = "numpy.core.multiarray _reconstruct"
    FROM_BUFFER = "numpy.core.numeric _frombuffer"
    SCALAR = "numpy.core.multiarray scalar"
    ENCODE = "_codecs encode"


_NAMES = {name.value: name for name in _Name}
_NUMBER = re.compile(r"[fiu][1248]")
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_VALUES = {
    *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"),
    *("SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
    *("SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class _Refused(Exception):
    """What a file has that is not read."""


class _Unfilled:
    """An array or a number type of numpy, before the instruction that says the rest of it."""

    def __init__(self, code: str = "") -> None:
        self.value: Any = np.dtype(code) if code else None


def read_pickled(path: Path) -> Any:
    """Read the value in a pickle: numbers, texts, arrays of numbers, and lists, dicts and tuples of these.

    Raises:
        UserError: If the file cannot be read, is damaged, or has anything else in it.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            return _Reading().value(mapped)
    except OSError as error:
        raise unreadable(path, error) from None
    except _Refused as refusal:
        raise UserError(
            f"{path.name} has more in it than numbers, texts and arrays, and is not read: {refusal}"
        ) from None
    except (ValueError, TypeError, LookupError, OverflowError, MemoryError):
        raise UserError(f"{path.name} is no pickle, or is damaged: download or copy it again") from None


class _Reading:
    """The stack, marks and memo of a pickle."""

    def __init__(self) -> None:
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def value(self, file: mmap.mmap) -> Any:
        """Walk through the instructions, and return the value that they make."""
        for instruction, argument, _ in pickletools.genops(cast(IO[bytes], file)):
            if instruction.name == "STOP":
                (value,) = self._stack
                return tuple(map(_plain, value)) if isinstance(value, tuple) else _plain(value)
            self._follow(instruction.name, argument)
        raise ValueError

    def _follow(self, name: str, argument: Any) -> None:
        stack = self._stack
        if name in _VALUES:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _TUPLES:
            stack.append(tuple(self._top(len(stack) - _TUPLES[name])))
        elif name == "MEMOIZE":
            self._memo[len(self._memo)] = stack[-1]
        elif name in ("BINPUT", "LONG_BINPUT"):
            self._memo[argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(self._memo[argument])
        elif name == "MARK":
            self._marks.append(len(stack))
        elif name == "TUPLE":
            stack.append(tuple(self._top()))
        elif name in ("EMPTY_LIST", "EMPTY_DICT"):
            stack.append([] if name == "EMPTY_LIST" else {})
        elif name in ("APPEND", "APPENDS"):
            values = self._top(None if name == "APPENDS" else len(stack) - 1)
            _of_type(stack[-1], list).extend(map(_plain, values))
        elif name in ("SETITEM", "SETITEMS"):
            values = self._top(None if name == "SETITEMS" else len(stack) - 2)
            keys = [_of_type(_plain(key), int, str) for key in values[::2]]
            _of_type(stack[-1], dict).update(zip(keys, map(_plain, values[1::2]), strict=True))
        elif name == "GLOBAL":
            stack.append(_named(argument))
        elif name == "STACK_GLOBAL":
            module, attribute = self._top(len(stack) - 2)
            stack.append(_named(f"{_of_type(module, str)} {_of_type(attribute, str)}"))
        elif name == "REDUCE":
            made, arguments = self._top(len(stack) - 2)
            stack.append(_made(made, _of_type(arguments, tuple)))
        elif name == "BUILD":
            _fill(_of_type(stack[-2], _Unfilled), _of_type(stack.pop(), tuple))
        elif name not in ("PROTO", "FRAME"):
            raise _Refused(f"an instruction {name}")

    def _top(self, start: int | None = None) -> list[Any]:
        """Take what is on the stack from `start` on, or else from the last mark."""
        start = self._marks.pop() if start is None else start
        if start < 0:
            raise LookupError
        taken = self._stack[start:]
        del self._stack[start:]
        return taken


def _named(name: str) -> _Name:
    """Return what a name stands for; numpy 2 writes `numpy._core` for `numpy.core`."""
    known = _NAMES.get(name.replace("numpy._core.", "numpy.core."))
    if known is None:
        raise _Refused(f"it names {'.'.join(name.split())[:80]!r}")
    return known


def _made(made: object, arguments: tuple[Any, ...]) -> Any:
    """Return what one of numpy's calls would make."""
    match made, arguments:
        case _Name.RECONSTRUCT, (_Name.ARRAY, (0,), _):
            return _Unfilled()
        case _Name.DTYPE, (str(code), *_):
            if not _NUMBER.fullmatch(code):
                raise _Refused(f"an array of type {code[:20]!r}")
            return _Unfilled(code)
        case _Name.ENCODE, (str(text), "latin1"):
            return text.encode("latin-1")
        case _Name.FROM_BUFFER, (buffer, _Unfilled(value=np.dtype() as kind), tuple(shape), str(order)):
            array = _Unfilled()
            array.value = _array(buffer, kind, shape, order)
            return array
        case _Name.SCALAR, (_Unfilled(value=np.dtype() as kind), bytes(data)):
            return _array(data, kind, (1,), "C").item()
    raise _Refused("a call that makes no array of numbers")


def _fill(one: _Unfilled, state: tuple[Any, ...]) -> None:
    """Follow the instruction that gives an array its numbers, or a type its byte order."""
    match one.value, state:
        case np.dtype() as kind, (_, str(order), *_) if order in "<>|=":
            one.value = np.dtype(order + kind.str[1:])
        case None, (_, tuple(shape), _Unfilled(value=np.dtype() as kind), fortran, data):
            one.value = _array(data, kind, shape, "F" if fortran else "C")
        case _:
            raise _Refused("an array of objects")


def _array(data: Any, kind: np.dtype[Any], shape: tuple[Any, ...], order: str) -> np.ndarray:
    """Return numbers as an array that shares the memory of `data`, if they are as many as `shape` says."""
    sizes = [_of_type(size, int) for size in shape]
    if min(sizes, default=0) < 0 or math.prod(sizes) * kind.itemsize != len(_of_type(data, bytes, bytearray)):
        raise ValueError
    return np.frombuffer(data, kind).reshape(sizes, order="F" if order == "F" else "C")


def _plain(value: Any) -> Any:
    """Return a value as it may stand in a list, a dict or a file."""
    if isinstance(value, _Unfilled):
        value = value.value
        if not isinstance(value, np.ndarray):
            raise _Refused("a type without an array")
    if isinstance(value, _Name):
        raise _Refused(f"it names {value.value!r}")
    return value


def _of_type(value: Any, *kinds: type) -> Any:
    if type(value) not in kinds:
        raise TypeError
    return value
