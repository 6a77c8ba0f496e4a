"""The file formats, each as SQL of DuckDB's that yields the same rows.

JSON lines (the Amazon releases), Parquet, CSV and the like, RecBole's atomic files; with gzip if the name ends in
.gz. Every row has `broken` (it is no record at all), `odd` (an id of a wrong type, or with control characters in
it) and a text for each role that was asked for.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from edt_cli.config import UserError
from edt_cli.data.columns import Columns, match

JSON_SUFFIXES = (".json", ".jsonl", ".ndjson")
RECBOLE_SUFFIXES = (".inter", ".item")
SUFFIXES = (*JSON_SUFFIXES, *RECBOLE_SUFFIXES, ".csv", ".tsv", ".txt", ".parquet")
IDS = ("user", "item")


@dataclass(frozen=True)
class Rows:
    """`sql` selects the rows; `rejected` (SQL, may be empty) counts by kind those that DuckDB could not split."""

    sql: str
    rejected: str = ""


def rows(
    connection: duckdb.DuckDBPyConnection,
    path: Path,
    columns: Columns,
    roles: Sequence[str],
    *,
    needed: Sequence[str],
    as_json: Sequence[str] = (),
) -> Rows:
    """The rows of a file with a text for each of `roles`, null where it has no such column.

    Roles of `as_json` come as JSON where the file is JSON: they may be lists.
    Errors: UserError for a file that cannot be read or lacks a column for one of `needed`.
    """
    _check(path)
    try:
        if is_json(path):
            found = match(_json_names(connection, path), columns, needed=needed, file=path.name)
            return _json_rows(path, found, roles, as_json)
        if path.suffix.lower() == ".parquet":
            relation = f"read_parquet({text(path)})"
            names = [row[0] for row in connection.execute(f"DESCRIBE SELECT * FROM {relation}").fetchall()]
            return _column_rows(relation, match(names, columns, needed=needed, file=path.name), roles)
        names, relation = _delimited(path, columns)
        found = match(names, columns, needed=needed, file=path.name)
        return Rows(_column_rows(relation, found, roles).sql, _REJECTED)
    except duckdb.Error as error:
        raise unreadable(path, error) from None


def python_literals(path: Path) -> Rows:
    """Metadata of the 2014 release, one Python literal a line: the whole `line`, and the `item` that it is of."""
    # No such delimiter and no quote: a line stays in one piece.
    lines = (
        f"read_csv({text(path)}, columns = {{'line': 'VARCHAR'}}, delim = '\x01', quote = '', escape = '', "
        f"header = false, auto_detect = false, ignore_errors = true, max_line_size = {1 << 24}, "
        f"{_compression(path)})"
    )
    item = f"regexp_extract(line, {text(_LITERAL_ITEM)}, 1)"
    return Rows(f"SELECT false AS broken, false AS odd, line, {item} AS item FROM {lines}")


def is_json(path: Path) -> bool:
    return path.name.lower().removesuffix(".gz").endswith(JSON_SUFFIXES)


def is_python_literals(path: Path) -> bool:
    return is_json(path) and first_line(path).lstrip().startswith(b"{'")


def bare_name(path: Path) -> str:
    """A file's name without the suffixes of its format and compression."""
    name = path.name[: -len(".gz")] if _is_gzip(path) else path.name
    return next((name[: -len(end)] for end in SUFFIXES if name.lower().endswith(end)), name)


def first_line(path: Path) -> bytes:
    """At most a megabyte of it. Errors: UserError if the file is missing, empty, or named .gz and no gzip."""
    opener: Callable[..., Any] = gzip.open if _is_gzip(path) else open
    try:
        with opener(path, "rb") as file:
            line = file.readline(1 << 20)
    except (EOFError, OSError) as error:
        raise unreadable(path, error) from None
    if not line:
        raise UserError(f"{path.name} is empty")
    return line


def unreadable(path: Path, error: Exception) -> UserError:
    said = str(error).split("\n")[0]
    if isinstance(error, EOFError) or "end of GZIP" in said:
        return UserError(f"{path.name} breaks off in the middle of its gzip stream: download or copy it again")
    if isinstance(error, gzip.BadGzipFile) or "GZIP" in said:
        return UserError(f"{path.name} is no gzip file, or a damaged one: download or copy it again")
    if isinstance(error, OSError):
        return UserError(f"cannot read {path}: {error.strerror or said}")
    return UserError(f"cannot read {path.name}: {said}")


def text(value: str | Path) -> str:
    """An SQL literal."""
    return "'" + str(value).replace("'", "''") + "'"


_LITERAL_ITEM = r"""['"]asin['"]: ?['"]([^'"]+)['"]"""
_REJECTED = """SELECT lower(kind::VARCHAR), count(*) FROM
    (SELECT line, min(error_type) AS kind FROM reject_errors GROUP BY line) GROUP BY ALL ORDER BY ALL"""


def _check(path: Path) -> None:
    if not path.name.lower().removesuffix(".gz").endswith(SUFFIXES):
        known = ", ".join(SUFFIXES)
        raise UserError(f"{path.name}: its name does not tell its format; known are {known}, and .gz of each")
    if any(character in str(path) for character in "*?["):
        raise UserError(f"{path}: DuckDB would take * ? and [ in a path for a pattern; rename it")
    first_line(path)


def _is_gzip(path: Path) -> bool:
    return path.name.lower().endswith(".gz")


def _compression(path: Path) -> str:
    return f"compression = '{'gzip' if _is_gzip(path) else 'none'}'"


def _json_rows(path: Path, found: Mapping[str, str], roles: Sequence[str], as_json: Sequence[str]) -> Rows:
    named = [role for role in roles if role in found]
    paths = ", ".join(text('$."' + found[role].replace('"', '\\"') + '"') for role in named)
    cell = {role: f"f[{place}]" for place, role in enumerate(named, start=1)}
    # Ids of the Amazon releases are strings: a number is damage. Elsewhere numbers are ids, too.
    first = "'\"'" if found["item"] == "asin" else "'\"-0123456789'"
    ids = [cell[role] for role in IDS if role in cell]
    # JSON has no control character unless by an escape.
    odd = " OR ".join(
        f"NOT contains({first}, {value}[1]) OR (contains({value}, '\\') AND {_control(_string(value))})"
        for value in ids
    )
    values = (
        f"NULL::VARCHAR AS {role}"
        if role not in cell
        else f"{cell[role]} AS {role}"
        if role in as_json
        else f"{_string(cell[role])} AS {role}"
        for role in roles
    )
    return Rows(
        f"SELECT broken, coalesce({odd}, false) AS odd, {', '.join(values)} FROM "
        f"(SELECT json IS NULL AS broken, json_extract(json, [{paths}])::VARCHAR[] AS f FROM {_objects(path)})"
    )


def _string(value: str) -> str:
    """A JSON scalar as text; null as NULL."""
    return f"({value} ->> '$')"


def _json_names(connection: duckdb.DuckDBPyConnection, path: Path) -> list[str]:
    sample = f"SELECT json FROM {_objects(path)} WHERE json_type(json) = 'OBJECT' LIMIT 1000"
    found = connection.execute(f"SELECT DISTINCT unnest(json_keys(json)) FROM ({sample})").fetchall()
    if not found:
        raise UserError(f"{path.name} has no usable row: no JSON object on any line")
    return sorted(name for (name,) in found)


def _objects(path: Path) -> str:
    return (
        f"read_json_objects({text(path)}, format = 'newline_delimited', ignore_errors = true, {_compression(path)})"
    )


def _column_rows(relation: str, found: Mapping[str, str], roles: Sequence[str]) -> Rows:
    cell = {role: f"trim({_identifier(name)}::VARCHAR)" for role, name in found.items()}
    odd = " OR ".join(_control(cell[role]) for role in IDS if role in roles and role in cell)
    values = (f"{cell.get(role, 'NULL::VARCHAR')} AS {role}" for role in roles)
    return Rows(f"SELECT false AS broken, coalesce({odd}, false) AS odd, {', '.join(values)} FROM {relation}")


def _delimited(path: Path, columns: Columns) -> tuple[list[str], str]:
    """Column names and DuckDB's relation of a CSV, TSV or RecBole file."""
    first = first_line(path).decode("utf-8-sig", "replace").rstrip("\r\n")
    atomic = path.suffix.lower() in RECBOLE_SUFFIXES
    delimiter = "\t" if atomic else max(",;\t|", key=first.count)
    quote = "" if atomic else '"'
    cells = next(
        csv.reader([first], delimiter=delimiter, quoting=csv.QUOTE_NONE if atomic else csv.QUOTE_MINIMAL), []
    )
    names = cells if columns.header else [f"column {place}" for place in range(1, len(cells) + 1)]
    if len(set(names)) < len(names) or not all(names):
        raise UserError(f"{path.name}: its first line leaves a column without a name, or names one twice")
    types = ", ".join(f"{text(name)}: 'VARCHAR'" for name in names)
    options = (
        f"columns = {{{types}}}, header = {str(columns.header).lower()}, delim = {text(delimiter)}, "
        f"quote = {text(quote)}, escape = {text(quote)}, auto_detect = false, ignore_errors = true, "
        f"store_rejects = true, {_compression(path)}"
    )
    return names, f"read_csv({text(path)}, {options})"


def _control(value: str) -> str:
    return f"regexp_matches({value}, '[[:cntrl:]]')"


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
