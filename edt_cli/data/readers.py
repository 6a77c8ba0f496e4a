"""Readers of interactions and items in any format: usable rows, and a tally of the others.

DuckDB reads and checks the rows and writes them to a scratch Parquet file, in file order. Files may therefore be
larger than memory.
"""

from __future__ import annotations

import ast
import json
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from edt_cli.config import UserError
from edt_cli.data.clean import clean_text, flatten, is_nothing, is_page_source, unlisted
from edt_cli.data.columns import NAMES, STAND_INS, TEXT_ROLES, Columns, item_columns, match
from edt_cli.data.formats import (
    Rows,
    column_names,
    is_json,
    is_python_literals,
    python_literals,
    rows,
    text,
    unreadable,
)
from edt_cli.data.times import TIME_NAMES, TimeSql, to_seconds
from edt_cli.workspace.event_types import Remark
from edt_cli.workspace.events import Events
from edt_cli.workspace.files import explained

MEMORY_LIMIT = "768MB"
LARGE = 1 << 28  # size in bytes above which a message announces the reading of a file
PROBLEMS = ("", "cut off or no record", "missing field", "wrong type", "time zero or negative")

StageProgress = dict[str, int]
"""Counts of a file's rows: `lines`, `usable`, and the problems of the others."""

_TEXTS = (*TEXT_ROLES, *STAND_INS.values())
_ITEM_SCHEMA = dict.fromkeys(("item", "domain", *_TEXTS), pl.String())


@dataclass(frozen=True)
class Reader:
    """Reader of files, by way of the folder `scratch`, which needs enough space for them."""

    scratch: Path
    events: Events

    def interactions(
        self, path: Path, columns: Columns, *, domain_needed: bool = False, rated: bool = False
    ) -> tuple[pl.LazyFrame, StageProgress]:
        """Read a file of interactions.

        Args:
            path: The file.
            columns: The roles of its columns.
            domain_needed: Whether a row without a domain is unusable.
            rated: Whether ratings are read; the file then needs a column of them.

        Returns:
            The usable rows in file order, as user, item (str), time (i64, unix seconds; the number of the line
            in a file without times), domain (str, null if unknown) and rating (f64, null if there is none); and
            counts of all rows.

        Raises:
            UserError: If the file cannot be read, lacks a needed column, or has no usable row.
        """
        roles = ("user", "item", "time", "domain", *["rating"] * rated)
        timed = self.has_times(path, columns)
        needed = ["user", "item", *["time"] * timed, *["domain"] * domain_needed]
        missing = " OR ".join(f"coalesce({role}, '') = ''" for role in needed)
        time = TimeSql.of(columns.time_format) if timed else TimeSql("1::DOUBLE", "NULL::BIGINT")
        with _connection(self.scratch) as connection:
            source = rows(connection, path, columns, roles, needed=[*needed, *["rating"] * rated])
            rating = (
                "nullif(try_cast(replace(rating, ',', '.') AS DOUBLE), 'nan'::DOUBLE)" if rated else "NULL::DOUBLE"
            )
            target, tally = self._write(
                connection,
                f"""SELECT (CASE WHEN broken THEN 1 WHEN {missing} THEN 2
                                 WHEN odd OR coalesce(number, date) IS NULL THEN 3
                                 WHEN coalesce(number, date) < 0 THEN 4 ELSE 0 END)::UTINYINT AS problem,
                           "user", item, number, date, domain, {rating} AS rating
                    FROM (SELECT *, {time.number} AS number, {time.date} AS date FROM ({source.sql}))""",
                source,
                path,
            )
        if not tally["usable"]:
            hint = "; if its times have another form, name it with --time-format" if PROBLEMS[3] in tally else ""
            raise UserError(f"{path.name} has no usable row: {describe(tally)}{hint}")
        if not timed:
            in_order = pl.scan_parquet(target, glob=False).filter(problem=0).with_row_index("time", offset=1)
            return in_order.select("user", "item", pl.col("time").cast(pl.Int64), "domain", "rating"), tally
        usable, unit = to_seconds(
            pl.scan_parquet(target, glob=False).filter(problem=0).drop("problem"), columns.time_format
        )
        if unit in TIME_NAMES:
            self.events.emit(Remark(message=f"the times of {path.name} are read as {TIME_NAMES[unit]}"))
        # A step of a sequence may be 0; in reviews, and among dates, 0 is a time that is not there.
        right = pl.col("time") >= 0 if unit == "steps" and not is_json(path) else pl.col("time") > 0
        wrong = usable.select((~right).fill_null(True).sum()).collect(engine="streaming").item()
        if wrong:
            tally |= {"usable": tally["usable"] - wrong, PROBLEMS[4]: tally.get(PROBLEMS[4], 0) + wrong}
        if not tally["usable"]:
            raise UserError(f"{path.name} has no usable row: {describe(tally)}")
        return usable.filter(right).select("user", "item", "time", "domain", "rating"), tally

    def items(
        self, path: Path, columns: Columns, wanted: pl.Series | None = None
    ) -> tuple[pl.DataFrame, StageProgress]:
        """Read the cleaned text of the wanted items, or of all.

        Returns:
            item, domain (null if the file has none) and TEXT_ROLES, one row per item, with the first text of each
            field of a repeated item; and counts of all rows.

        Raises:
            UserError: If the file cannot be read or lacks a column of items.
        """
        literals = is_python_literals(path)
        roles = ("item", "domain", *_TEXTS)
        with _connection(self.scratch) as connection:
            source = (
                python_literals(path)
                if literals
                else rows(connection, path, columns, roles, needed=("item",), as_json=_TEXTS)
            )
            target, tally = self._write(
                connection,
                f"""SELECT (CASE WHEN broken THEN 1 WHEN coalesce(item, '') = '' THEN 2 WHEN odd THEN 3
                                 ELSE 0 END)::UTINYINT AS problem, * EXCLUDE (broken, odd) FROM ({source.sql})""",
                source,
                path,
            )
        usable = pl.scan_parquet(target, glob=False).filter(pl.col("problem") == 0)
        if wanted is not None:
            usable = usable.filter(pl.col("item").is_in(wanted.implode()))
        distinct = usable.unique(maintain_order=True).collect(engine="streaming")
        decode = _from_literals if literals else _from_json if is_json(path) else pl.DataFrame
        texts, page_sources, empty = _cleaned(decode(distinct))
        counts = {
            "repeated item": usable.select(pl.len()).collect(engine="streaming").item() - len(texts),
            "page source for a title": page_sources,
            "empty text, such as nan or None": empty,
        }
        return texts, tally | {name: count for name, count in counts.items() if count}

    def records(self, path: Path, columns: Columns, roles: Sequence[str]) -> pl.DataFrame:
        """Read a small file in which only the items are needed.

        Returns:
            The roles of each row, null where there is no such column, or no item; `time` in the file's unit.

        Raises:
            UserError: If the file cannot be read or has no column of items.
        """
        time = TimeSql.of(columns.time_format)
        with _connection(self.scratch) as connection:
            source = rows(connection, path, columns, ("time", *(r for r in roles if r != "time")), needed=("item",))
            others = ", ".join(f'"{role}"' for role in roles if role != "time")
            order = f", coalesce({time.number}, {time.date}) AS time" if "time" in roles else ""
            target, _ = self._write(
                connection,
                f"""SELECT (CASE WHEN broken THEN 1 WHEN odd THEN 3 ELSE 0 END)::UTINYINT AS problem,
                           {others}{order}
                    FROM (SELECT * REPLACE (nullif(item, '') AS item) FROM ({source.sql}))""",
                source,
                path,
            )
        return pl.scan_parquet(target, glob=False).filter(problem=0).drop("problem").collect()

    def has_times(self, path: Path, columns: Columns) -> bool:
        """Check whether a file has a column of times, or is said to have one."""
        if "time" in (*columns.names, *columns.positions):
            return True
        with _connection(self.scratch) as connection:
            return "time" in match(column_names(connection, path, columns), columns, needed=(), file=path.name)

    def item_columns(self, path: Path, columns: Columns) -> dict[str, str]:
        """Return the columns of a file that are known as ids of items, best first."""
        if is_python_literals(path):
            return {"asin": "asin"}
        with _connection(self.scratch) as connection:
            return item_columns(column_names(connection, path, columns))

    def has_item_text(self, path: Path, columns: Columns) -> bool:
        """Check whether a file of interactions has text of its items.

        JSON never counts, since the title of a review is not the title of the item.
        """
        if is_json(path):
            return False
        with _connection(self.scratch) as connection:
            matches = match(column_names(connection, path, columns), columns, needed=(), file=path.name)
        return any(role in matches for role in TEXT_ROLES)

    def _write(
        self, connection: duckdb.DuckDBPyConnection, query: str, source: Rows, path: Path
    ) -> tuple[Path, StageProgress]:
        """Write the rows of `query` to a scratch file, and count them by problem."""
        target = self.scratch / f"{len(list(self.scratch.glob('*.parquet')))}.parquet"
        copy = f"COPY ({query}) TO {text(target)} (FORMAT parquet, COMPRESSION snappy, ROW_GROUP_SIZE 30720)"
        if path.stat().st_size > LARGE:
            message = f"reading {path.name} ({path.stat().st_size / 1e9:.1f} GB)"
            self.events.emit(Remark(message=message))
        try:
            with explained(self.scratch.parent, full_only=True):
                _execute(connection, copy, lambda percent: self.events.progress(f"read {path.name}", percent, 100))
            rejected = dict(connection.execute(source.rejected).fetchall()) if source.rejected else {}
        except duckdb.Error as error:
            raise unreadable(path, error) from None
        counts = dict(
            pl.scan_parquet(target, glob=False).group_by("problem").len().collect(engine="streaming").iter_rows()
        )
        problems = {name: counts.get(number, 0) for number, name in enumerate(PROBLEMS) if number} | rejected
        if foreign := rejected.get("invalid encoding"):
            message = f"{foreign:,} lines of {path.name} are not UTF-8: try --encoding latin-1"
            self.events.emit(Remark(message=message))
        tally = {"lines": sum(problems.values()) + counts.get(0, 0), "usable": counts.get(0, 0)}
        return target, tally | {name: count for name, count in problems.items() if count}


def describe(tally: Mapping[str, int]) -> str:
    """Describe a tally, such as `12 lines, 3 cut off or no record, 1 wrong type`."""
    problems = [f"{count:,} {what}" for what, count in tally.items() if what not in ("lines", "usable")]
    return ", ".join([f"{tally['lines']:,} lines", *problems])


def _connection(scratch: Path) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(":memory:")
    settings = {
        "memory_limit": text(MEMORY_LIMIT),
        "temp_directory": text(scratch / "duckdb"),
        "threads": min(8, os.cpu_count() or 1),
        "TimeZone": "'UTC'",
        "enable_progress_bar": "true",
        "enable_progress_bar_print": "false",
        "autoinstall_known_extensions": "false",
    }
    for name, value in settings.items():
        connection.execute(f"SET {name} = {value}")
    return connection


def _execute(connection: duckdb.DuckDBPyConnection, sql: str, tick: Callable[[int], None]) -> None:
    """Run a statement in a second thread, while this one shows the progress and can be interrupted."""
    failure: list[BaseException] = []

    # Not Thread.join: a KeyboardInterrupt within it marks a running thread as ended (bpo-45274).
    ended = threading.Event()

    def run() -> None:
        try:
            connection.execute(sql)
        except BaseException as error:
            failure.append(error)
        finally:
            ended.set()

    threading.Thread(target=run, daemon=True).start()
    try:
        while not ended.wait(0.1):
            tick(max(0, int(connection.query_progress())))
    except BaseException:
        connection.interrupt()
        ended.wait()
        raise
    if failure:
        raise failure[0]


def _from_json(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(
        pl.Series(role, [flatten(json.loads(value)) if value else None for value in frame[role]], pl.String)
        for role in _TEXTS
    )


def _from_literals(frame: pl.DataFrame) -> pl.DataFrame:
    records = [_literal(line) for line in frame["line"]]
    texts = {
        role: [flatten(next((record[name] for name in NAMES[role] if name in record), None)) for record in records]
        for role in _TEXTS
    }
    return pl.DataFrame({"item": frame["item"], "domain": None, **texts}, schema=_ITEM_SCHEMA)


def _literal(line: str) -> dict[str, Any]:
    try:
        record = ast.literal_eval(line)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


def _cleaned(frame: pl.DataFrame) -> tuple[pl.DataFrame, int, int]:
    """Clean text, with one row per item and the first text of each field.

    Also returns the number of titles that were the source of a page, and of texts that say that there is none.
    """
    nothing = {role: [value is not None and is_nothing(value) for value in frame[role]] for role in _TEXTS}
    frame = frame.with_columns(
        pl.when(pl.Series(nothing[role], dtype=pl.Boolean)).then(None).otherwise(pl.col(role)).alias(role)
        for role in _TEXTS
    )
    frame = frame.with_columns(pl.coalesce(pl.col(role, other)).alias(role) for role, other in STAND_INS.items())
    page = pl.Series([title is not None and is_page_source(title) for title in frame["title"]], dtype=pl.Boolean)
    frame = frame.with_columns(pl.when(page).then(None).otherwise(pl.col("title")).alias("title"))
    frame = frame.with_columns(
        pl.Series(role, [clean_text(unlisted(value)) if value else None for value in frame[role]], pl.String)
        for role in TEXT_ROLES
    )
    once = frame.group_by("item", maintain_order=True).agg(pl.col("domain", *TEXT_ROLES).drop_nulls().first())
    return (
        once.select("item", "domain", *TEXT_ROLES),
        int(page.sum()),
        sum(sum(nothing[role]) for role in TEXT_ROLES),
    )
