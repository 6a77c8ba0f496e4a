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
QUOTE = """'"'"""
BACKSLASH = "\\"


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
    names = column_names(connection, path, columns)
    found = match(names, columns, needed=needed, file=path.name)
    if is_json(path):
        return _json_rows(path, found, roles, as_json)
    if path.suffix.lower() == ".parquet":
        return Rows(_column_rows(f"read_parquet({text(path)})", found, roles))
    return Rows(_column_rows(_delimited(path, names, columns.header), found, roles), _REJECTED)


def column_names(connection: duckdb.DuckDBPyConnection, path: Path, columns: Columns) -> list[str]:
    """Of a JSON file those of its first thousand objects. Errors: UserError for a file that cannot be read."""
    _check(path)
    try:
        if is_json(path):
            return _json_names(connection, path)
        if path.suffix.lower() == ".parquet":
            described = connection.execute(f"DESCRIBE SELECT * FROM read_parquet({text(path)})").fetchall()
            return [name for name, *_ in described]
    except duckdb.Error as error:
        raise unreadable(path, error) from None
    cells = _first_cells(path)
    names = cells if columns.header else [f"column {place}" for place in range(1, len(cells) + 1)]
    if len(set(names)) < len(names) or not all(names):
        raise UserError(f"{path.name}: its first line leaves a column without a name, or names one twice")
    return names


def python_literals(path: Path) -> Rows:
    """Metadata of the 2014 release, one Python literal a line: the whole `line`, and the `item` that it is of."""
    # No such delimiter and no quote: a line stays in one piece.
    lines = (
        f"read_csv({text(path)}, columns = {{'line': 'VARCHAR'}}, delim = '\x01', quote = '', escape = '', "
        f"header = false, auto_detect = false, ignore_errors = true, max_line_size = {1 << 24}"
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
            line: bytes = file.readline(1 << 20)
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
    return ", compression = 'gzip'" if _is_gzip(path) else ""


def _json_rows(path: Path, found: Mapping[str, str], roles: Sequence[str], as_json: Sequence[str]) -> Rows:
    named = [role for role in roles if role in found]
    paths = ", ".join(text('$."' + found[role].replace('"', '\\"') + '"') for role in named)
    cell = {role: f"f[{place}]" for place, role in enumerate(named, start=1)}
    # Ids of the Amazon releases are strings: a number is damage. Elsewhere numbers are ids, too.
    amazon = found["item"] == "asin"
    odd = " OR ".join(_odd_json(cell[role], amazon) for role in IDS if role in cell)
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


def _odd_json(value: str, only_strings: bool) -> str:
    """An id that is no string (nor number), or has a control character; JSON has none unless by an escape. A CASE,
    because DuckDB works out both sides of AND for every row."""
    kind = f"NOT starts_with({value}, {QUOTE})" if only_strings else f"NOT regexp_matches({value}, '^[\"0-9-]')"
    escaped = f"CASE WHEN contains({value}, {text(BACKSLASH)}) THEN {_control(_string(value))} ELSE false END"
    return f"{kind} OR {escaped}"


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
        f"read_json_objects({text(path)}, format = 'newline_delimited', ignore_errors = true{_compression(path)})"
    )


def _column_rows(relation: str, found: Mapping[str, str], roles: Sequence[str]) -> str:
    cell = {role: f"trim({_identifier(name)}::VARCHAR)" for role, name in found.items()}
    odd = " OR ".join(_control(cell[role]) for role in IDS if role in roles and role in cell)
    values = (f"{cell.get(role, 'NULL::VARCHAR')} AS {role}" for role in roles)
    return f"SELECT false AS broken, coalesce({odd}, false) AS odd, {', '.join(values)} FROM {relation}"


def _delimited(path: Path, names: Sequence[str], header: bool) -> str:
    """DuckDB's relation of a CSV, TSV or RecBole file."""
    types = ", ".join(f"{text(name)}: 'VARCHAR'" for name in names)
    delimiter, quote = _dialect(path)
    return (
        f"read_csv({text(path)}, columns = {{{types}}}, header = {str(header).lower()}, delim = {text(delimiter)}, "
        f"quote = {text(quote)}, escape = {text(quote)}, auto_detect = false, ignore_errors = true, "
        f"store_rejects = true{_compression(path)})"
    )


def _dialect(path: Path) -> tuple[str, str]:
    """Delimiter and quote. A guess from the first line: DuckDB's own gives up on a file with damaged rows."""
    if path.suffix.lower() in RECBOLE_SUFFIXES:
        return "\t", ""
    return max(",;\t|", key=_first_text(path).count), '"'


def _first_cells(path: Path) -> list[str]:
    delimiter, quote = _dialect(path)
    line = _first_text(path)
    return next(csv.reader([line], delimiter=delimiter), []) if quote else line.split(delimiter)


def _first_text(path: Path) -> str:
    return first_line(path).decode("utf-8-sig", "replace").rstrip("\r\n")


def _control(value: str) -> str:
    return f"regexp_matches({value}, '[[:cntrl:]]')"


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
