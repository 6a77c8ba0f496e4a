"""A method beside itself without its parts, by the runs there are on the same data."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edt_cli.inference.labels import UNLABELLED, all_settings, identity
from edt_cli.inference.listing import RunRow, model_of
from edt_cli.paper.ablations import ABLATIONS
from edt_cli.reporting.tables import VARIANTS
from edt_cli.ui.library import main_results_of
from edt_cli.ui.text import bar, fit
from edt_cli.ui.tones import Tinted, muted
from edt_cli.workspace.runs import Run
from edt_cli.workspace.status import RunStatus

FULL = "the whole method"


@dataclass(frozen=True)
class Variant:
    """A method with a part taken out.

    Attributes:
        name: Its name in table 3; "" is the whole method.
        level: Mean NDCG@10 over domains and runs.
        runs: Number of its runs.
        here: Whether the run that is looked at is one of them.
    """

    name: str
    level: float
    runs: int
    here: bool


def variants_of(row: RunRow, rows: Sequence[RunRow]) -> list[Variant]:
    """Return the variants of a run's method on its data in the order of table 3, [] if there is one alone.

    Runs are of one method if all settings are the same but for the seed and for those that take a part out.
    """
    method = _method(row)
    same = [
        other
        for other in rows
        if other.data == row.data
        and other.plan.get("data_key") == row.plan.get("data_key")
        and other.status == RunStatus.FINISHED
        and other.figures
        and method is not None
        and _method(other) == method
    ]
    levels: dict[str, list[tuple[str, float]]] = {}
    for other in same:
        for document in main_results_of(other.folder):
            first_phase = document["first_phase"]
            variant = identity(Run(other.folder, other.plan), first_phase=first_phase)["variant"]
            # The first phase of a run without a part lacks two of them.
            if not (first_phase and "," in variant):
                known = [figures["ndcg@10"] for figures in document["domains"].values()]
                if values := [value for value in known if value is not None]:
                    name = "" if first_phase else other.name
                    levels.setdefault(variant, []).append((name, statistics.fmean(values)))
    if len(levels) < 2:
        return []
    order = {name: place for place, name in enumerate(VARIANTS)}
    variants = [
        Variant(name, statistics.fmean(level for _, level in of), len(of), any(run == row.name for run, _ in of))
        for name, of in levels.items()
    ]
    return sorted(variants, key=lambda variant: order.get(variant.name, len(order)))


def _method(row: RunRow) -> dict[str, Any] | None:
    """Return the settings that make a method what it is; None for a run whose settings cannot be read."""
    try:
        values = all_settings(Run(row.folder, row.plan).settings)
    except (ValueError, KeyError, TypeError):
        return None
    parts = {
        f"{section}.{field}"
        for _, changes in ABLATIONS.values()
        for section, fields in changes.items()
        for field in fields
    }
    kept = {name: value for name, value in values.items() if name not in parts and not name.startswith(UNLABELLED)}
    return {**kept, "model.name": model_of(row.plan), "preset": row.preset}


def ablation_lines(variants: Sequence[Variant]) -> list[list[str]]:
    """Return a line for each variant, with its difference to the whole method, where there is a run of that."""
    best = max((variant.level for variant in variants), default=0.0)
    whole = next((variant.level for variant in variants if not variant.name), None)
    rows: list[list[str]] = []
    for variant in variants:
        change = (variant.level - whole) / whole if whole and variant.name else None
        tone = "" if change is None else "bad" if change < 0 else "good"
        rows.append(
            [
                Tinted(
                    ("> " if variant.here else "  ") + fit(variant.name or FULL, 17),
                    "accent" if variant.here else "",
                    bold=variant.here,
                ),
                f" {variant.level:.4f} ",
                Tinted(bar(variant.level / best if best else 0.0, 7), "accent" if variant.here else "muted"),
                Tinted("" if change is None else f" {change:+7.1%}", tone) if variant.name else " " * 8,
                muted(f"  {variant.runs} run{'s' if variant.runs > 1 else ''}"),
            ]
        )
    return rows
