"""Times as files have them, to unix seconds. The unit is decided once for a column, never for a value."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from edt_cli.config import UsageError

UNITS = ("s", "ms", "us", "ns", "excel", "ymd", "ymdhms")
"""Units of numbers: seconds and parts of them, Excel's days, and digits such as 20170714 or 20170714093000."""
TIME_NAMES = {
    "excel": "Excel's days",
    "ymd": "dates such as 20170714",
    "ymdhms": "dates such as 20170714093000",
}
LARGEST = 9.2e18  # above it, a number is no time in any unit
STEPS = 1e6  # below it, numbers are steps of a sequence
DAY = 86_400
EXCEL_EPOCH = 25_569  # days from Excel's day 0 to 1970-01-01
EXCEL_DAYS = (32_874, 55_153)  # 1990 to 2050
# A comma after four digits or more is decimal, and not between thousands.
NUMBER = r"CASE WHEN contains(time, ',') THEN regexp_replace(time, '^(\d{4,}),(\d+)$', '\1.\2') ELSE time END"
_PATTERNS = {"ymd": "%Y%m%d", "ymdhms": "%Y%m%d%H%M%S"}
_DIVISORS = {"steps": 1, "s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


def check_format(text: str | None) -> str:
    """Return a `--time-format`: a unit, a pattern such as %d.%m.%Y, or "" for what the numbers look like.

    Raises:
        UsageError: If it is neither.
    """
    if text in (None, "auto"):
        return ""
    if text not in UNITS and "%" not in text:
        known = ", ".join(("auto", *UNITS))
        raise UsageError(f"--time-format takes {known}, or a pattern such as %d.%m.%Y; got {text!r}")
    return text


@dataclass(frozen=True)
class TimeSql:
    """SQL of a column `time`: as a number (null for other text), and as a date in unix seconds."""

    number: str
    date: str

    @classmethod
    def of(cls, time_format: str) -> TimeSql:
        """Return the SQL for a format of `check_format`; a text without a zone is in UTC."""
        if "%" in time_format:
            pattern = time_format.replace("'", "''")
            return cls("NULL::DOUBLE", f"try_cast(epoch(try_strptime(time, '{pattern}')) AS BIGINT)")
        number = f"try_cast({NUMBER} AS DOUBLE)"
        date = "try_cast(epoch(try_cast(time AS TIMESTAMPTZ)) AS BIGINT)"
        return cls(f"CASE WHEN abs({number}) < {LARGEST:.0f} THEN {number} END", date)


def to_seconds(rows: pl.LazyFrame, time_format: str) -> tuple[pl.LazyFrame, str]:
    """Replace the columns `number` and `date` by `time`, unix seconds, null for a number that is no such date.

    Returns:
        The rows, and the unit of their numbers, "steps" for those that are none; "" without numbers.
    """
    unit = time_format if time_format in UNITS else _unit(rows)
    seconds = pl.col("date") if not unit else pl.coalesce(_seconds(unit), "date")
    return rows.with_columns(time=seconds.cast(pl.Int64)).drop("number", "date"), unit


def _seconds(unit: str) -> pl.Expr:
    number = pl.col("number")
    if unit in _DIVISORS:
        return (number / _DIVISORS[unit]).floor().cast(pl.Int64)
    if unit == "excel":
        return ((number - EXCEL_EPOCH) * DAY).round().cast(pl.Int64)
    digits = number.cast(pl.Int64).cast(pl.String)
    return digits.str.to_datetime(_PATTERNS[unit], strict=False).dt.epoch("s")


def _unit(rows: pl.LazyFrame) -> str:
    """Return the unit that fits all numbers of a column."""
    number = pl.col("number").drop_nulls()
    whole = (number == number.floor()).all()
    limits = {"steps": STEPS, "s": 1e11, "ms": 1e14, "us": 1e17, "ns": LARGEST}
    low, high, all_whole, count, *below = (
        rows.select(
            number.min(),
            number.max().alias("high"),
            whole.alias("whole"),
            number.len().alias("count"),
            # Counted, as a median would need all numbers in memory.
            *((number < limit).sum().alias(unit) for unit, limit in limits.items()),
        )
        .collect(engine="streaming")
        .row(0)
    )
    if not count:
        return ""
    if EXCEL_DAYS[0] <= low and high <= EXCEL_DAYS[1]:
        return "excel"
    for unit, first, last in (("ymd", 19000101, 21001231), ("ymdhms", 19000101 * 10**6, 21001232 * 10**6)):
        if all_whole and first <= low and high <= last:
            dates = (
                rows.select(_seconds(unit).drop_nulls().len(), number.len().alias("n"))
                .collect(engine="streaming")
                .row(0)
            )
            if dates[0] == dates[1]:
                return unit
    if count in (2 * less for less in below):  # a limit lies between the two in the middle
        middle = rows.select(number.median()).collect().item()
        return next(unit for unit, limit in limits.items() if middle < limit)
    return next(unit for unit, less in zip(limits, below, strict=True) if 2 * less > count)
