"""File formats, each as DuckDB SQL that yields the same rows.

The formats are JSON (an object a line, as in the Amazon releases, or a list of objects), Parquet, CSV and similar,
and the atomic files of RecBole, all also compressed by gzip. Each row has `broken` (it is not a record), `odd` (an
id has a wrong type or control characters) and a text for each requested role.
"""

from __future__ import annotations

import csv
import gzip
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from edt_cli.config import UserError
from edt_cli.data.columns import Columns, match
from edt_cli.data.heads import UTF_16, Head, head_of, is_gzip, start_of

JSON_SUFFIXES = (".json", ".jsonl", ".ndjson")
RECBOLE_SUFFIXES = (".inter", ".item")
SUFFIXES = (*JSON_SUFFIXES, *RECBOLE_SUFFIXES, ".csv", ".tsv", ".txt", ".dat", ".parquet")
OTHER_FORMATS = {
    b"PK\x03\x04": "a zip archive or an Excel workbook: unpack it, or save it as CSV",
    b"\xd0\xcf\x11\xe0": "an Excel workbook: save it as CSV",
    b"PAR1": "Parquet: let its name end in .parquet",
    b"BZh": "compressed by bzip2: unpack it",
    b"\xfd7zXZ": "compressed by xz: unpack it",
    b"\x28\xb5\x2f\xfd": "compressed by Zstandard: unpack it",
}
"""What files are that cannot be read as they are, by their first bytes, and what to do."""
IDS = ("user", "item")
QUOTE = """'"'"""
WHOLE = r"-?\d+\.0"
"""A whole number as a float is written."""
BACKSLASH = "\\"


@dataclass(frozen=True)
class Rows:
    """SQL that reads a file."""

    sql: str
    """Selects the rows."""
    roles: frozenset[str] = frozenset()
    """Roles that have a column."""
    rejected: str = ""
    """Counts the rows that DuckDB could not parse, by kind; may be empty."""


def rows(
    connection: duckdb.DuckDBPyConnection,
    path: Path,
    columns: Columns,
    roles: Sequence[str],
    *,
    needed: Sequence[str],
    as_json: Sequence[str] = (),
) -> Rows:
    """Select the rows of a file, with a text for each of `roles`, null if it has no such column.

    Args:
        connection: Connection to read the names of columns with.
        path: The file.
        columns: The roles of its columns.
        roles: Roles to select.
        needed: Roles that must have a column.
        as_json: Roles that stay JSON if the file is JSON, since they may be lists.

    Raises:
        UserError: If the file cannot be read or lacks a column for one of `needed`.
    """
    names = column_names(connection, path, columns)
    matches = match(names, columns, needed=needed, file=path.name)
    if is_json(path):
        return _json_rows(path, matches, roles, as_json)
    if is_parquet(path):
        relation = f"read_parquet({text(path)})"
        lists = {name for name, kind, *_ in _described(connection, relation) if kind.endswith("]")}
        return Rows(_column_rows(relation, matches, roles, lists), frozenset(matches))
    head = _head(path, columns)
    for role in needed if columns.header else ():
        if matches[role] in head.repeated:
            raise UserError(
                f"{path.name} has several columns named {matches[role]!r}: choose one with --columns {role}=NAME "
                f"({', '.join(head.names)})"
            )
    return Rows(
        _column_rows(_delimited(path, names, head, columns.header), matches, roles), frozenset(matches), _REJECTED
    )


def column_names(connection: duckdb.DuckDBPyConnection, path: Path, columns: Columns) -> list[str]:
    """Return the names of the columns of a file; for JSON, the keys of its first thousand objects.

    Raises:
        UserError: If the file cannot be read.
    """
    _check(path)
    try:
        if is_json(path):
            return _json_names(connection, path)
        if is_parquet(path):
            return [name for name, *_ in _described(connection, f"read_parquet({text(path)})")]
    except duckdb.Error as error:
        raise unreadable(path, error) from None
    head = _head(path, columns)
    return head.names if columns.header else [f"column {number}" for number in range(1, len(head.cells) + 1)]


def python_literals(path: Path) -> Rows:
    """Select metadata of the 2014 release, one Python literal per line, as `line` and its `item`."""
    # This delimiter does not occur in text, and there are no quotes, so lines are not split.
    lines = (
        f"read_csv({text(path)}, columns = {{'line': 'VARCHAR'}}, delim = '\x01', quote = '', escape = '', "
        f"header = false, auto_detect = false, ignore_errors = true, max_line_size = {1 << 24}"
        f"{_compression(path)})"
    )
    item = f"regexp_extract(line, {text(_LITERAL_ITEM)}, 1)"
    return Rows(f"SELECT false AS broken, false AS odd, line, {item} AS item FROM {lines}")


def is_json(path: Path) -> bool:
    """Check by its name whether a file is JSON lines."""
    return has_suffix(path, JSON_SUFFIXES)


def is_parquet(path: Path) -> bool:
    """Check by its name whether a file is Parquet."""
    return path.suffix.lower() == ".parquet"


def is_python_literals(path: Path) -> bool:
    """Check whether a file has Python literals in place of JSON, as the metadata of the 2014 release."""
    return is_json(path) and first_line(path).lstrip().startswith(b"{'")


def has_suffix(path: Path, suffixes: tuple[str, ...] = SUFFIXES) -> bool:
    """Check whether a file's name ends in one of the suffixes, with or without .gz."""
    return path.name.lower().removesuffix(".gz").endswith(suffixes)


def bare_name(path: Path) -> str:
    """Return a file's name without the suffixes of its format and compression."""
    name = path.name[: -len(".gz")] if path.name.lower().endswith(".gz") else path.name
    return next((name[: -len(end)] for end in SUFFIXES if name.lower().endswith(end)), name)


def first_line(path: Path) -> bytes:
    """Read the first line of a file, at most a megabyte.

    Raises:
        UserError: If the file is missing or empty, or its name ends in .gz and it is not gzip.
    """
    opener: Callable[..., Any] = gzip.open if is_gzip(path) else open
    try:
        with opener(path, "rb") as file:
            line: bytes = file.readline(1 << 20)
    except (EOFError, OSError) as error:
        raise unreadable(path, error) from None
    if not line:
        raise UserError(f"{path.name} is empty")
    return line


def decoded(path: Path) -> str:
    """Read a text file in UTF-8, with or without a byte order mark, or in UTF-16."""
    data = path.read_bytes()
    encoding = "utf-16" if data[:2] in UTF_16 else "utf-8-sig"
    return data.decode(encoding, "replace")


def unreadable(path: Path, error: Exception) -> UserError:
    """Make the message for an error in reading a file."""
    message = str(error).split("\n")[0]
    if isinstance(error, EOFError) or "end of GZIP" in message:
        return UserError(f"{path.name} breaks off in the middle of its gzip stream: download or copy it again")
    if isinstance(error, gzip.BadGzipFile) or "GZIP" in message:
        return UserError(f"{path.name} is not a gzip file, or is damaged: download or copy it again")
    if isinstance(error, OSError):
        return UserError(f"cannot read {path}: {error.strerror or message}")
    return UserError(f"cannot read {path.name}: {message}")


def text(value: str | Path) -> str:
    """Quote a text as an SQL literal."""
    return "'" + str(value).replace("'", "''") + "'"


_LITERAL_ITEM = r"""['"]asin['"]: ?['"]([^'"]+)['"]"""
_REJECTED = """SELECT lower(kind::VARCHAR), count(*) FROM
    (SELECT line, min(error_type) AS kind FROM reject_errors GROUP BY line) GROUP BY ALL ORDER BY ALL"""


def _check(path: Path) -> None:
    start = start_of(path, 8)
    other = next((what for mark, what in OTHER_FORMATS.items() if start.startswith(mark)), None)
    if other and not (is_parquet(path) and start.startswith(b"PAR1")):
        raise UserError(f"{path.name} is {other}")
    if not has_suffix(path):
        known = ", ".join(SUFFIXES)
        raise UserError(f"{path.name}: its name does not show its format; use one of {known}, with or without .gz")
    if any(character in str(path) for character in "*?["):
        raise UserError(f"{path}: *, ? and [ in a path have a special meaning for DuckDB; rename it")
    first_line(path)


def _described(connection: duckdb.DuckDBPyConnection, relation: str) -> list[tuple[str, ...]]:
    """Return name and type of each column."""
    return connection.execute(f"DESCRIBE SELECT * FROM {relation}").fetchall()


def _compression(path: Path) -> str:
    return ", compression = 'gzip'" if is_gzip(path) else ""


def _json_rows(path: Path, matches: Mapping[str, str], roles: Sequence[str], as_json: Sequence[str]) -> Rows:
    named = [role for role in roles if role in matches]
    paths = ", ".join(text('$."' + matches[role].replace('"', '\\"') + '"') for role in named)
    cell = {role: f"f[{number}]" for number, role in enumerate(named, start=1)}
    # In the Amazon releases ids are strings, and a number is an error; in other files ids may be numbers.
    amazon = matches["item"] == "asin"
    odd = " OR ".join(_odd_json(cell[role], amazon) for role in IDS if role in cell)
    values = (
        f"NULL::VARCHAR AS {role}"
        if role not in cell
        else f"{cell[role]} AS {role}"
        if role in as_json
        else f"{_normal(_string(cell[role]), role)} AS {role}"
        for role in roles
    )
    return Rows(
        f"SELECT broken, coalesce({odd}, false) AS odd, {', '.join(values)} FROM "
        f"(SELECT json IS NULL AS broken, json_extract(json, [{paths}])::VARCHAR[] AS f FROM {_objects(path)})",
        frozenset(matches),
    )


def _odd_json(value: str, only_strings: bool) -> str:
    """Return SQL for an id that is not a string (or number), or has a control character.

    Only escapes yield control characters in JSON. CASE checks for them, since DuckDB computes both sides of AND for
    every row.
    """
    kind = f"NOT starts_with({value}, {QUOTE})" if only_strings else f"NOT regexp_matches({value}, '^[\"0-9-]')"
    escaped = f"CASE WHEN contains({value}, {text(BACKSLASH)}) THEN {_control(_string(value))} ELSE false END"
    return f"{kind} OR {escaped}"


def _string(value: str) -> str:
    """Return SQL for a JSON scalar as text, null as NULL."""
    return f"({value} ->> '$')"


def _json_names(connection: duckdb.DuckDBPyConnection, path: Path) -> list[str]:
    sample = f"SELECT json FROM {_objects(path)} WHERE json_type(json) = 'OBJECT' LIMIT 1000"
    keys = connection.execute(f"SELECT DISTINCT unnest(json_keys(json)) FROM ({sample})").fetchall()
    if not keys:
        raise UserError(f"{path.name} has no usable row: no JSON object on any line")
    return sorted(name for (name,) in keys)


def _objects(path: Path) -> str:
    lines = "'newline_delimited', ignore_errors = true"
    form = "'array'" if first_line(path).lstrip(b"\xef\xbb\xbf \t").startswith(b"[") else lines
    return f"read_json_objects({text(path)}, format = {form}{_compression(path)})"


def _column_rows(
    relation: str, matches: Mapping[str, str], roles: Sequence[str], lists: Collection[str] = ()
) -> str:
    """Select the columns of a relation as text; those of `lists` with a comma between their elements."""
    values = {
        role: f"array_to_string({_identifier(name)}, ', ')" if name in lists else f"{_identifier(name)}::VARCHAR"
        for role, name in matches.items()
    }
    cell = {role: _normal(f"trim({value})", role) for role, value in values.items()}
    odd = " OR ".join(_control(cell[role]) for role in IDS if role in roles and role in cell)
    selected = (f"{cell.get(role, 'NULL::VARCHAR')} AS {role}" for role in roles)
    return f"SELECT false AS broken, coalesce({odd}, false) AS odd, {', '.join(selected)} FROM {relation}"


def _normal(value: str, role: str) -> str:
    """Return SQL for the one form of an id: pandas writes whole numbers as 100.0 once one of them is missing."""
    if role not in IDS:
        return value
    whole = f"ends_with({value}, '.0') AND regexp_full_match({value}, {text(WHOLE)})"
    return f"CASE WHEN {whole} THEN left({value}, -2) ELSE {value} END"


def normal_id(value: str) -> str:
    """Return the one form of an id, as `rows` does."""
    value = value.strip()
    return value[:-2] if re.fullmatch(WHOLE, value) else value


def _delimited(path: Path, names: Sequence[str], head: Head, header: bool) -> str:
    """Return the DuckDB relation of a CSV, TSV or RecBole file."""
    types = ", ".join(f"{text(name)}: 'VARCHAR'" for name in names)
    quote = '"' if head.quoted else ""
    line_end = ", new_line = '\\r'" if head.carriage_returns else ""
    return (
        f"read_csv({text(path)}, columns = {{{types}}}, header = {str(header).lower()}, skip = {head.skip}, "
        f"delim = {text(head.delimiter)}, quote = {text(quote)}, escape = {text(quote)}, "
        f"encoding = {text(head.encoding)}{line_end}, auto_detect = false, ignore_errors = true, "
        f"store_rejects = true{_compression(path)})"
    )


def _head(path: Path, columns: Columns) -> Head:
    try:
        return head_of(path, _is_quoted(path), columns.encoding)
    except (EOFError, OSError) as error:
        raise unreadable(path, error) from None
    except csv.Error as error:
        raise UserError(f"{path.name}: its first line is no line of a table ({error})") from None


def _is_quoted(path: Path) -> bool:
    return not has_suffix(path, RECBOLE_SUFFIXES)


def _control(value: str) -> str:
    return f"regexp_matches({value}, '[[:cntrl:]]')"


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
