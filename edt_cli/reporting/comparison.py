"""The tables of a plan: figures of each system on each domain, what they cost, and where the method is better.

A cell that is not there yet is a dash. † marks one of which a phase was ended by a limit, not by its own patience.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, TypedDict

from edt_cli.reporting import paper_tables as paper
from edt_cli.reporting.grouping import Result, by_protocol, data_names, measure, seeds_note, seen_notes, users_note
from edt_cli.reporting.table import Cell, Column, Measure, PValue, Table, improvement, mark_best
from edt_cli.reporting.table import Row as TableRow
from edt_cli.reporting.tables import GROUPS, METRICS, ORDER, OTHER

MISSING, CUT = "–", "†"


class PhaseCost(TypedDict):
    """`ended` by "patience", "epochs" or "minutes"; `epoch_seconds` an epoch, its validation among them."""

    epochs: int
    best_epoch: int
    ended: str
    epoch_seconds: float | None


class Outcome(Result):
    """The result of a planned run. `cut`: the budget ended a phase. `rank_seconds`: from the weights on disk to the
    rank of every user, under all protocols."""

    phases: dict[str, PhaseCost]
    cut: bool
    rank_seconds: float | None


class Row(NamedTuple):
    label: str
    model: str
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Grid:
    """What a plan asks for. domains: of each dataset; `method`: the model that is held against the others."""

    domains: Mapping[str, Sequence[str]]
    rows: Sequence[Row]
    method: str


class Claim(TypedDict):
    """That the method's mean NDCG@10 is above the best rival's. `p`: one-sided, `p_holm` corrected; `low`, `high`:
    95% of the difference. None where it was not tested; `verdict` says why not."""

    protocol: str
    negatives: int | None
    data: str
    domain: str
    method: str
    rival: str | None
    method_ndcg: float | None
    rival_ndcg: float | None
    difference: float | None
    low: float | None
    high: float | None
    p: float | None
    p_holm: float | None
    users: int | None
    verdict: str


def comparison_tables(grid: Grid, outcomes: Sequence[Outcome], claims: Sequence[Claim]) -> list[Table]:
    """For each protocol the figures and the tests; then what each system cost."""
    ordered = replace(grid, rows=sorted(grid.rows, key=_position))
    names = data_names(outcomes)
    found = []
    for protocol, together in by_protocol(outcomes).items():
        of_protocol: list[Outcome] = [outcome for outcome in outcomes if outcome in together]
        found.append(_figures(ordered, names, str(protocol), of_protocol))
        asked = [claim for claim in claims if claim["protocol"] == protocol.protocol]
        if asked:
            found.append(_tests(names, str(protocol), asked, len(claims), _aside(ordered, of_protocol)))
    return [*found, _costs(ordered, names, outcomes)] if outcomes else []


def _position(row: Row) -> int:
    return ORDER.index(row.model if row.model in GROUPS else OTHER)


def _figures(grid: Grid, names: Mapping[str, str], protocol: str, outcomes: Sequence[Outcome]) -> Table:
    """Table 2, its holes and marks among it."""
    places = [(data, domain, metric) for data, own in grid.domains.items() for domain in own for metric in METRICS]
    several = len(grid.domains) > 1
    columns = tuple(
        Column(
            "H@10" if metric == "hr@10" else "N@10",
            f"{names.get(data, data)} / {domain}" if several else domain,
            ranked=True,
        )
        for data, domain, metric in places
    )

    def cell(row: Row, place: tuple[str, str, str]) -> Cell:
        data, domain, metric = place
        runs = _of(outcomes, row, data)
        found = measure(((run["run"], run["domains"].get(domain, {})) for run in runs), metric, 4)
        if found is None:
            return MISSING
        return replace(found, flag=CUT if any(run["cut"] for run in runs) else "")

    rows = [
        TableRow(row.label, tuple(cell(row, place) for place in places), GROUPS.get(row.model, OTHER))
        for row in grid.rows
    ]
    pairs = list(zip(grid.rows, rows, strict=True))
    ours = [shown for row, shown in pairs if row.model == grid.method]
    others = [shown for row, shown in pairs if row.model != grid.method]
    gains = [
        improvement(row, others, f"Improv. of {row.label} (%)" if len(ours) > 1 else "Improv. (%)") for row in ours
    ]
    gains = [row for row in gains if any(row.cells)]
    behind = [(row.label, [run for run in outcomes if run["label"] == row.label]) for row in grid.rows]
    seeds = seeds_note([(label, runs) for label, runs in behind if runs])
    notes = [seeds, users_note(outcomes), *seen_notes(outcomes)]
    data = ", ".join(names.get(one, one) for one in grid.domains)
    title = f"{paper.TABLES[2].title} on {data}: {protocol}"
    everything = [value for row in rows for value in row.cells]
    if MISSING in everything:
        notes.append(f"{MISSING} not there yet.")
    if any(isinstance(value, Measure) and value.flag for value in everything):
        notes.append(
            f"{CUT} A limit ended a phase, not its own patience: the figure could be higher yet. It is neither "
            "best nor second, and nothing is compared with it."
        )
    return mark_best(Table(title, columns, (*rows, *gains), notes=tuple(notes), number=2))


def _of(outcomes: Iterable[Outcome], row: Row, data: str) -> list[Outcome]:
    return [one for one in outcomes if (one["label"], one["data"]) == (row.label, data)]


def _aside(grid: Grid, outcomes: Sequence[Outcome]) -> list[str]:
    """The rivals of which a claim says nothing."""
    found = []
    for data in grid.domains:
        runs = {row: _of(outcomes, row, data) for row in grid.rows if row.model != grid.method}
        missing = [row.label for row, own in runs.items() if len(own) < len(row.seeds)]
        cut = [row.label for row, own in runs.items() if any(run["cut"] for run in own)]
        both = (("not there", missing), ("ended by a limit", cut))
        parts = [f"{what}: {', '.join(them)}" for what, them in both if them]
        found += [f"{data}, rivals of which no claim speaks: {'; '.join(parts)}."] if parts else []
    return found


def _tests(
    names: Mapping[str, str], protocol: str, claims: Sequence[Claim], among: int, aside: Sequence[str]
) -> Table:
    def figure(value: float | None, kind: type[Measure] = Measure) -> Cell:
        return MISSING if value is None else kind(value)

    heads = ("N@10", "Best rival", "Its N@10", "Difference", "95% from", "to", "p", "p (Holm)", "Verdict")
    several = len({claim["method"] for claim in claims}) > 1
    rows = tuple(
        TableRow(
            f"{claim['domain']}, {claim['method']}" if several else claim["domain"],
            (
                figure(claim["method_ndcg"]),
                claim["rival"] or MISSING,
                *(figure(claim[key]) for key in ("rival_ndcg", "difference", "low", "high")),
                *(figure(claim[key], PValue) for key in ("p", "p_holm")),
                claim["verdict"],
            ),
            names.get(claim["data"], claim["data"]),
        )
        for claim in claims
    )
    method = claims[0]["method"]
    title = f"{'The method' if several else method} against the best rival of each domain: {protocol}"
    notes = (
        "NDCG@10 of each user, paired; p of the one-sided t-test, and by Holm corrected for the "
        f"{among} comparisons of the plan, those not tested among them; the interval by the bootstrap over users.",
        *aside,
    )
    return Table(title, tuple(Column(head) for head in heads), rows, ("Data", "Domain"), notes)


def _costs(grid: Grid, names: Mapping[str, str], outcomes: Sequence[Outcome]) -> Table:
    """A row for each phase of each system: what is of the whole run stands in its first."""
    once = list({(one["run"], one["label"]): one for one in outcomes}.values())
    heads = ("Parameters", "s/epoch", "Epochs", "Best", "Ended by", "Rank (s)")
    rows = []
    for row in grid.rows:
        runs = {data: _of(once, row, data) for data in grid.domains}
        phases = list(dict.fromkeys(name for own in runs.values() for run in own for name in run["phases"]))
        for number, phase in enumerate(phases or [""]):
            cells: list[Cell] = []
            for own in runs.values():
                cells += _cost(own, phase, first=number == 0)
            rows.append(TableRow(row.label if number == 0 else f"{row.label}, {phase}", tuple(cells)))
    groups = [names.get(data, data) if len(grid.domains) > 1 else "" for data in grid.domains]
    columns = tuple(Column(head, group) for group in groups for head in heads)
    notes = (
        "s/epoch: the median, a validation among it. Rank: from the weights on disk to the rank of every user, "
        "under all protocols. Seconds as they were on the machine, beside whatever else it did.",
    )
    return Table("What each system took", columns, tuple(rows), notes=notes)


def _cost(runs: Sequence[Outcome], phase: str, *, first: bool) -> list[Cell]:
    def over(value: Callable[[Outcome], float | None], digits: int) -> Cell:
        values = [found for run in runs if (found := value(run)) is not None]
        return Measure.over(values, digits) or (MISSING if not runs else None)

    def of_phase(key: str, digits: int) -> Cell:
        return over(lambda run: run["phases"][phase][key] if phase in run["phases"] else None, digits)  # type: ignore[literal-required]

    ended = dict.fromkeys(run["phases"][phase]["ended"] for run in runs if phase in run["phases"])
    return [
        over(lambda run: run["parameters"], 0) if first else None,
        of_phase("epoch_seconds", 2),
        of_phase("epochs", 0),
        of_phase("best_epoch", 0),
        ", ".join(ended) or (None if runs else MISSING),
        over(lambda run: run.get("rank_seconds"), 2) if first else None,
    ]
