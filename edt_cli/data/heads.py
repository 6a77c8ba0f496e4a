"""How a delimited file begins: its encoding, line ends, delimiter and names of columns."""

from __future__ import annotations

import csv
import gzip
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edt_cli.config import UserError

HEAD_BYTES = 1 << 20
DELIMITERS = (",", ";", "\t", "|", "::")
ENCODINGS = ("utf-8", "utf-16", "latin-1")
UTF_16 = (b"\xff\xfe", b"\xfe\xff")
GZIP = b"\x1f\x8b"
_LINE_END = re.compile(r"\r\n|\n|\r")
_WORD_IN_QUOTES = re.compile(r"""(?:^|\t)"(?:[^"\t\r\n]|"")*"[^"\t\r\n]""", re.MULTILINE)
"""A cell that begins with a quote and does not end with it: `"Best" pan`."""


@dataclass(frozen=True)
class Head:
    """Beginning of a file.

    Attributes:
        encoding: As DuckDB names it.
        carriage_returns: Whether lines end in carriage returns alone, as on an old Mac.
        skip: Lines before the first one with cells: blank ones, comments, Excel's `sep=;`.
        delimiter: Between cells.
        quoted: Whether quotes enclose cells; else they are part of them.
        cells: Those of the first line.
    """

    encoding: str
    carriage_returns: bool
    skip: int
    delimiter: str
    quoted: bool
    cells: list[str]

    @property
    def names(self) -> list[str]:
        """Names of the columns, each once: `column 1` for an empty one, `price 2` for the second of a name."""
        names: list[str] = []
        for number, cell in enumerate(self.cells, start=1):
            name, count = cell or f"column {number}", 1
            while name in names:
                count += 1
                name = f"{cell or f'column {number}'} {count}"
            names.append(name)
        return names

    @property
    def repeated(self) -> set[str]:
        """Names that several columns have."""
        return {cell for cell in self.cells if cell and self.cells.count(cell) > 1}


def head_of(path: Path, quoted: bool = True, encoding: str = "") -> Head:
    """Read the beginning of a file.

    Args:
        path: The file.
        quoted: Whether its cells may be in quotes; without, they are between tabs, as RecBole writes them.
        encoding: One of ENCODINGS; without, UTF-8, or UTF-16 where the file begins with its mark.

    Raises:
        OSError, EOFError: If the file cannot be read.
        csv.Error: If its first line is no line of cells.
        UserError: If its lines end in two carriage returns.
    """
    opener: Callable[..., Any] = gzip.open if is_gzip(path) else open
    with opener(path, "rb") as file:
        data: bytes = file.read(HEAD_BYTES)
    utf_16 = data[:2] in UTF_16 or data[1:2] == b"\0"
    encoding = encoding or ("utf-16" if utf_16 else "utf-8")
    text = data.decode("utf-8-sig" if encoding == "utf-8" else encoding, "replace")
    if text.partition("\n")[0].endswith("\r\r"):
        raise UserError(
            f"{path.name} has two carriage returns at each line's end, as a file has that was converted twice; "
            f"mend it: tr -d '\\r' < {path.name} > mended.csv"
        )
    skip, separator, line = 0, "", ""
    for line in _LINE_END.split(text):
        if named := re.fullmatch(r"sep=(.)", line.strip()):
            separator = named[1]
        elif line.strip() and not line.startswith("#"):
            break
        skip += 1
    delimiter = separator or ("\t" if not quoted else _most_frequent(line))
    quoted = quoted and not (delimiter == "\t" and _WORD_IN_QUOTES.search(text))
    plain = not quoted or len(delimiter) > 1
    cells = line.split(delimiter) if plain else next(csv.reader([line], delimiter=delimiter), [])
    return Head(
        encoding=encoding,
        carriage_returns="\r" in text and "\n" not in text,
        skip=skip,
        delimiter=delimiter,
        quoted=quoted,
        cells=[cell.strip() for cell in cells],
    )


def is_gzip(path: Path) -> bool:
    """Check whether a file is compressed by gzip: by its name, or else by its first bytes."""
    return path.name.lower().endswith(".gz") or start_of(path, 2) == GZIP


def start_of(path: Path, size: int) -> bytes:
    """Read the first bytes of a file; none if it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(size)
    except OSError:
        return b""


def _most_frequent(line: str) -> str:
    """Guess the delimiter of a line; DuckDB's detection fails for files with damaged rows."""
    best = max(DELIMITERS, key=line.count)
    return " " if best not in line and " " in line.strip() else best
