"""What one should doubt about data that was prepared: ids that do not meet, times that are hardly dates."""

from __future__ import annotations

import datetime
import time
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import polars as pl

from edt_cli.config import UserError
from edt_cli.data.dataset import TEXT_FIELDS
from edt_cli.data.sources import File, Sources
from edt_cli.data.times import STEPS
from edt_cli.data.vector_files import VectorTable
from edt_cli.workspace.event_types import Remark
from edt_cli.workspace.events import Events

YEAR = 365 * 86_400
OLDEST = 20 * YEAR  # 1989
FEW_KNOWN = 0.5  # share of a domain's items with metadata below which this may be a mistake
MANY_SHARED = 0.05  # share of items with an id in several domains above which this may be a mistake


def report_doubts(items: pl.DataFrame, domains: Sequence[str], manifest: Mapping[str, Any], events: Events) -> None:
    """Report what is not an error, but probably unintended, of a dataset that was just made."""
    _report_items(items, domains, manifest["tally"], events)
    if not manifest["test_targets"]:
        events.emit(Remark(message="no user has a test target: nothing can be measured on this data"))
    _report_times(manifest["spans"], events)
    if not manifest["users_in_several_domains"]:
        message = "no user is in several domains: do all files write the ids of users alike?"
        events.emit(Remark(message=message))


def _report_times(spans: Mapping[str, Sequence[int]], events: Events) -> None:
    """Report domains that do not overlap in time, and times that are hardly dates."""
    shown = {name: f"{name}: {shown_date(first)} to {shown_date(last)}" for name, (first, last) in spans.items()}
    for (one, (first, last)), (other, (begin, end)) in combinations(spans.items(), 2):
        if first > end or begin > last:
            apart = f"{shown[one]}; {shown[other]}"
            events.emit(
                Remark(message=f"domains do not overlap in time ({apart}): are their units right? --time-format")
            )
    now = time.time()
    for name, (_, last) in spans.items():
        if last < OLDEST and last > STEPS:
            events.emit(Remark(message=f"times before 1990 ({shown[name]}): is their unit right? --time-format"))
        elif last > now + YEAR:
            events.emit(Remark(message=f"times in the future ({shown[name]}): is their unit right? --time-format"))


def check_metadata(
    items: pl.DataFrame, texts: pl.DataFrame, domains: Sequence[str], sources: Sources, events: Events
) -> None:
    """Compare the items of each domain with those of its files of items.

    Raises:
        UserError: If a domain has such a file, and not one item is in it.
    """
    known = texts["item"].unique()
    for number, name in enumerate(domains):
        files = [file for file in sources.items if file.domain == name]
        _check_known(items.filter(domain=number)["item"], name, known, files, events)


def check_vectors(
    ids: pl.Series, domains: Mapping[str, range], tables: Sequence[tuple[File, VectorTable]], events: Events
) -> None:
    """Compare the items of each domain with those of its files of vectors, as with its metadata.

    Raises:
        UserError: If not one item is in a file.
    """
    for file, table in tables:
        span = range(1, len(ids) + 1) if file.domain is None else domains.get(file.domain, range(1, 1))
        of = "the data" if file.domain is None else file.domain
        _check_known(ids[span.start - 1 : span.stop - 1], of, table.ids, [file], events)


def _check_known(ids: pl.Series, of: str, known: pl.Series, files: Sequence[File], events: Events) -> None:
    """Report if fewer than half of a domain's items are in its files, with some ids of each side."""
    names = " or ".join(file.path.name for file in files)
    there = ids.is_in(known.implode())
    if not names or ids.is_empty():
        return
    missing = ", ".join(ids.filter(~there).sort().head(3))
    others = ", ".join(known.filter(~known.is_in(ids.implode())).sort().head(3))
    unlike = f"{missing} (there: {others})" if others else missing
    if not there.any():
        raise UserError(
            f"no item of {of} is in {names}, such as {unlike}: do both use the same ids? "
            "--columns item=NAME and --item-columns item=NAME choose the column of the ids"
        )
    if int(there.sum()) < FEW_KNOWN * len(ids):
        message = f"only {int(there.sum()):,} of {len(ids):,} items of {of} are in {names}; not {unlike}"
        events.emit(Remark(message=message))


def _report_items(items: pl.DataFrame, domains: Sequence[str], tally: Mapping[str, Any], events: Events) -> None:
    """Report domains without items or text, and ids that several domains share."""
    has_text = pl.any_horizontal(pl.col(TEXT_FIELDS).is_not_null())
    for number, name in enumerate(domains):
        of_domain = items.filter(domain=number)
        if of_domain.is_empty():
            events.emit(Remark(message=f"{name} is left without any item"))
        elif not of_domain.select(has_text.any()).item():
            events.emit(Remark(message=f"no item of {name} has text: its metadata is missing or has other ids"))
    shared = tally.get("items in several domains", 0)
    if shared > MANY_SHARED * len(items):
        events.emit(
            Remark(
                message=f"{shared:,} of {len(items):,} items have an id that several domains use; "
                "if these are different items, give them different ids (food-17, kitchen-17)"
            )
        )


def shown_date(seconds: int) -> str:
    """Return the day of a time, or the number where it is of no day."""
    try:
        return datetime.datetime.fromtimestamp(seconds, datetime.UTC).date().isoformat()
    except (OverflowError, ValueError, OSError):
        return str(seconds)
