"""Short names of runs and figures, for the ends of curves and the heads of columns."""

from __future__ import annotations

from collections.abc import Sequence

from edt_cli.ui.text import safe


def short_names(names: Sequence[str]) -> list[str]:
    """Return the names without their common beginning, and without the key at the end if they stay unique.

    The common beginning is cut at a dash.
    """
    first, *others = names
    if not others:
        return [first]
    shared = 0
    while shared < len(first) and all(name[: shared + 1] == first[: shared + 1] for name in others):
        shared += 1
    cut = first.rfind("-", 0, shared) + 1
    ends = [name[cut:] for name in names]
    without_key = [name.rpartition("-")[0] for name in ends]
    return without_key if all(without_key) and len(set(without_key)) == len(names) else ends


def short_figure(name: str) -> str:
    """Return the head of a figure's column: `food N` of `ndcg_food`."""
    metric, _, domain = name.partition("_")
    return safe(f"{domain} {'N' if metric == 'ndcg' else 'H'}", 14)


def figure_order(name: str, domains: Sequence[str]) -> tuple[bool, int]:
    """Return the place of a figure's column: NDCG first, domains in the order of their dataset."""
    metric, _, domain = name.partition("_")
    return metric != "ndcg", domains.index(domain) if domain in domains else len(domains)
