"""Figures 1, 3, 4, 5 and 6 of the paper, for our data and runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

from edt_cli.config import UserError
from edt_cli.reporting import paper_tables as paper
from edt_cli.reporting.comparison import CUT, CUT_NOTE
from edt_cli.reporting.figure import Axis, Figure, Panel, Series
from edt_cli.reporting.grouping import (
    Kind,
    Protocol,
    by_kind,
    by_protocol,
    data_names,
    data_notes,
    measure,
    seeds_note,
)
from edt_cli.reporting.table import Column, Measure, Row, Table
from edt_cli.reporting.tables import GROUPS, ORDER, OTHER, OURS, shown_metric
from edt_cli.workspace.documents import Figures, Result

IMBALANCED = 0.9
"""r of the paper's bin with most users, and above."""
BY_TOTAL = "total"
AUGMENTED = {("llmcdsr", ""): "LLMCDSR", (OURS, "w/o Aug."): "w/o Aug.", (OURS, ""): "LLM-EDT"}
"""Systems of figure 4, by model and variant."""
BEFORE = "before"


class State(NamedTuple):
    """Users by r before or after an augmentation."""

    label: str
    users: Sequence[int]
    """Number of users in each bin of r."""


def figure_1(data: str, edges: Sequence[float], states: Sequence[State]) -> Figure:
    """Return figure 1 of a dataset: users by r, before augmentation and after each."""
    bins = tuple(f"{low:.1f}-{high:.1f}" for low, high in pairwise(edges))
    series = tuple(
        Series(state.label, bins, tuple(Measure(count, digits=0) for count in state.users)) for state in states
    )
    first = next(number for number, edge in enumerate(edges) if edge >= IMBALANCED)
    shares = [f"{sum(state.users[first:]) / max(1, sum(state.users)):.1%} ({state.label})" for state in states]
    notes = (
        "r = |nA - nB| / (nA + nB), of whole histories: 1 is a user of one domain.",
        f"r of {IMBALANCED} and more: {', '.join(shares)} of the users.",
    )
    return Figure(f"{_title(1)} on {data}", "bars", Axis("r"), Axis("Users"), (Panel("", series),), notes, number=1)


class Placed(NamedTuple):
    """Items of one kind on the map of figure 3."""

    label: str
    places: Sequence[tuple[float, float]]
    inserted: bool
    """Whether they are there after augmentation only."""


class Nearness(NamedTuple):
    """How near a domain's items are to another domain."""

    domain: str
    items: int
    before: float
    """Share of an item's nearest that are of another domain."""
    after: float
    inserted: int
    of_inserted: float | None
    """The same share of the domain's inserted items; None without any."""


def figure_3(data: str, placed: Sequence[Placed], nearness: Sequence[Nearness], notes: Sequence[str]) -> Figure:
    """Return figure 3 of a dataset: its items before augmentation, and those with the inserted ones."""

    def panel(title: str, kinds: Iterable[Placed]) -> Panel:
        return Panel(
            title,
            tuple(
                Series(kind.label, tuple(x for x, _ in kind.places), tuple(Measure(y) for _, y in kind.places))
                for kind in kinds
            ),
        )

    def share(value: float | None) -> Measure | None:
        return None if value is None else Measure(100 * value, digits=1)

    heads = (("Items", BEFORE), ("Foreign (%)", BEFORE), ("Foreign (%)", "after"), ("Items", "inserted"))
    summary = Table(
        "",
        tuple(Column(name, group) for name, group in (*heads, ("Foreign (%)", "inserted"))),
        tuple(
            Row(
                one.domain,
                (
                    Measure(one.items, digits=0),
                    share(one.before),
                    share(one.after),
                    Measure(one.inserted, digits=0),
                    share(one.of_inserted),
                ),
            )
            for one in nearness
        ),
        ("", "Domain"),
        ("Foreign: how many of an item's ten nearest are of another domain, in the space of the embedder.",),
    )
    plane = Axis("", ticks=False)
    before = [kind for kind in placed if not kind.inserted]
    return Figure(
        f"{_title(3)} of {data}",
        "points",
        plane,
        plane,
        (panel(BEFORE, before), panel("after", placed)),
        tuple(notes),
        number=3,
        summary=summary,
    )


def figure_4(results: Sequence[Result], metric: str = "hr@10") -> list[Figure]:
    """Return figure 4 for each protocol and dataset: a metric by a user's number of interactions.

    Raises:
        UserError: If there is no run of its systems, or runs cannot be compared.
    """
    chosen = [result for result in results if (result["model"], result["variant"]) in AUGMENTED]
    if not chosen:
        raise UserError(
            f"figure 4 has {', '.join(AUGMENTED.values())}, and there is no run of them; make them with: "
            "edt reproduce figure-4 --data NAME"
        )
    for result in chosen:
        if BY_TOTAL not in result["groups"]:
            raise UserError(
                f"run {result['run']} was evaluated before users were grouped by their number of interactions: "
                "remove the folder results of this run, and it is evaluated again"
            )
    figures = []
    for protocol, protocol_results in by_protocol(chosen).items():
        for data, name in data_names(protocol_results).items():
            of_data = [result for result in protocol_results if result["data"] == data]
            figures.append(_by_total(protocol, name, of_data, metric))
    return figures


def _by_total(protocol: Protocol, data: str, results: Sequence[Result], metric: str) -> Figure:
    name, digits = shown_metric(metric)
    rows = sorted(by_kind(results).items(), key=lambda row: [*AUGMENTED].index((row[0].model, row[0].variant)))
    groups = list(dict.fromkeys(label for result in results for label in result["groups"][BY_TOTAL]))

    def figures(result: Result, group: str, domain: str) -> Figures:
        return result["groups"][BY_TOTAL].get(group, {}).get(domain, {})

    panels = []
    for domain in dict.fromkeys(domain for result in results for domain in result["domains"]):
        series = tuple(
            Series(
                str(kind),
                tuple(groups),
                tuple(
                    _value(runs, [figures(run, group, domain) for run in runs], metric, digits) for group in groups
                ),
            )
            for kind, runs in rows
        )
        counts = tuple(int(figures(results[0], group, domain).get("users") or 0) for group in groups)
        panels.append(Panel(domain, series, counts))
    there = {(kind.model, kind.variant) for kind, _ in rows}
    missing = [label for system, label in AUGMENTED.items() if system not in there]
    notes = _notes(rows, results, panels)
    notes += [f"Not there yet: {', '.join(missing)}."] if missing else []
    title = f"{name} by a user's number of interactions on {data}: {protocol}"
    return Figure(title, "bars", Axis("Interactions"), Axis(name), tuple(panels), tuple(notes), number=4)


class Weighed(NamedTuple):
    """Result of a run of figure 5, with its weight of L_align."""

    result: Result
    alpha: float
    series: str
    """Name of the run without its alpha and seed."""


def figure_5(runs: Sequence[Weighed], metric: str = "hr@10") -> list[Figure]:
    """Return figure 5 for each protocol and dataset: a metric by alpha, for runs alike in all else.

    Raises:
        UserError: If no two runs differ in alpha alone, or runs cannot be compared.
    """
    figures = []
    of_result = {id(run.result): run for run in runs}
    for protocol, results in by_protocol(run.result for run in runs).items():
        for data, name in data_names(results).items():
            of_data = [of_result[id(result)] for result in results if result["data"] == data]
            alphas: dict[str, set[float]] = {}
            for run in of_data:
                alphas.setdefault(run.series, set()).add(run.alpha)
            varied = [run for run in of_data if len(alphas[run.series]) > 1]
            if varied:
                figures.append(_by_alpha(protocol, name, varied, metric))
    if not figures:
        raise UserError(
            "figure 5 has runs of LLM-EDT that differ in alpha alone, and there are no two; make them with: "
            "edt reproduce figure-5 --data NAME"
        )
    return figures


def _by_alpha(protocol: Protocol, data: str, runs: Sequence[Weighed], metric: str) -> Figure:
    name, digits = shown_metric(metric)
    alphas = sorted({run.alpha for run in runs})
    rows: dict[tuple[str, float], list[Result]] = {}
    for run in runs:
        rows.setdefault((run.series, run.alpha), []).append({**run.result, "label": run.series})
    for of_alpha in rows.values():
        by_kind(of_alpha)  # refuses a seed that would count twice
    results = [run.result for run in runs]

    def value(series: str, alpha: float, domain: str) -> Measure | None:
        of_alpha = rows.get((series, alpha), [])
        return _value(of_alpha, [run["domains"].get(domain, {}) for run in of_alpha], metric, digits)

    panels = tuple(
        Panel(
            domain,
            tuple(
                Series(series, tuple(alphas), tuple(value(series, alpha, domain) for alpha in alphas))
                for series in dict.fromkeys(run.series for run in runs)
            ),
        )
        for domain in dict.fromkeys(domain for result in results for domain in result["domains"])
    )
    labelled = [(Kind(OURS, "", f"α = {alpha:g}", ""), of) for (_, alpha), of in sorted(rows.items())]
    notes = _notes(labelled, results, panels)
    title = f"{name} by the weight α of L_align on {data}: {protocol}"
    return Figure(title, "lines", Axis("α"), Axis(name), panels, tuple(notes), number=5)


class Timed(NamedTuple):
    """Result of a run of figure 6, with the milliseconds that it takes for a user."""

    result: Result
    milliseconds: float


def figure_6(runs: Sequence[Timed], how: str) -> Figure:
    """Return figure 6: parameters against milliseconds a user, a panel for each dataset.

    Args:
        runs: A run of each system and dataset.
        how: How the time was measured.

    Raises:
        UserError: If there is no run of a system with parameters.
    """
    trained = [run for run in runs if run.result["parameters"]]
    if not trained:
        raise UserError(
            "figure 6 has systems with parameters, and there is no run of one; make one with: edt train"
        )
    names = data_names(run.result for run in trained)
    panels = []
    for data, name in names.items():
        of_data = {id(run.result): run for run in trained if run.result["data"] == data}
        kinds = by_kind(run.result for run in of_data.values())
        order = sorted(kinds, key=lambda kind: ORDER.index(kind.model if kind.model in GROUPS else OTHER))
        series = []
        for kind in order:
            run = of_data[id(kinds[kind][0])]
            time = Measure(run.milliseconds, digits=3)
            series.append(Series(str(kind), (float(run.result["parameters"] or 0),), (time,)))
        panels.append(Panel(name, tuple(series)))
    without = dict.fromkeys(str(kind) for kind in by_kind(r.result for r in runs if not r.result["parameters"]))
    notes = [how] + [f"Without parameters, and so not here: {', '.join(without)}."] * bool(without)
    axes = Axis("Parameters", log=True), Axis("Time a user", "ms")
    return Figure(
        f"{_title(6)} on {', '.join(names.values())}", "points", *axes, tuple(panels), tuple(notes), number=6
    )


def _title(number: int) -> str:
    return paper.FIGURES[number].title.partition(",")[0]


def _value(runs: Sequence[Result], figures: Sequence[Figures], metric: str, digits: int) -> Measure | None:
    """Return the mean of a metric over runs, flagged if a limit ended one of them."""
    pairs = ((run["run"], of_run) for run, of_run in zip(runs, figures, strict=True))
    value = measure(pairs, metric, digits)
    cut = any(run.get("cut") for run in runs)
    return replace(value, flag=CUT) if value is not None and cut else value


def _notes(
    rows: Sequence[tuple[Kind, Sequence[Result]]], results: Sequence[Result], panels: Sequence[Panel]
) -> list[str]:
    values = [value for panel in panels for series in panel.series for value in series.y]
    if not any(value is not None for value in values):
        raise UserError("no run has this metric; edt report --help names some")
    notes = [seeds_note([(str(kind), runs) for kind, runs in rows]), *data_notes(results)]
    return notes + [CUT_NOTE] * any(value is not None and value.flag == CUT for value in values)
