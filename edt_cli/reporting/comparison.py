"""Tables of a plan: metrics of each system on each domain, tests of the method, and training costs.

A cell without a run is a dash. A cell is marked † if a limit, not early stopping, ended a phase of its run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, NamedTuple, TypedDict

from edt_cli.reporting import paper_tables as paper
from edt_cli.reporting.grouping import by_protocol, data_names, data_notes, measure, seeds_note, users_note
from edt_cli.reporting.table import Cell, Column, Measure, PValue, Table, improvement, mark_best
from edt_cli.reporting.table import Row as TableRow
from edt_cli.reporting.tables import GROUPS, METRICS, ORDER, OTHER
from edt_cli.workspace.documents import Result

MISSING, CUT = "–", "†"
CUT_NOTE = (
    f"{CUT} A limit ended a phase, not its own patience: the figure could be higher yet. It is neither best nor "
    "second, and nothing is compared with it."
)
Against = Literal["best", "each"]
"""What is tested: each row of the method against the best other system, or the first row against each other row."""


class PhaseCost(TypedDict):
    """Cost of a training phase."""

    epochs: int
    best_epoch: int
    ended: str
    """Reason of the end: "patience", "epochs" or "minutes"."""
    epoch_seconds: float | None
    """Seconds per epoch, validation included."""


class Outcome(Result):
    """Result of a planned run."""

    phases: dict[str, PhaseCost]
    cut: bool
    """Whether the budget ended a phase."""


class Row(NamedTuple):
    """A system of the plan, with the seeds of its runs."""

    label: str
    model: str
    seeds: tuple[int, ...]
    group: str = ""
    """Group that the plan puts it in; by default that of its model in table 2."""
    unsound: str = ""
    """What makes its figures no result, "" if nothing does."""


@dataclass(frozen=True)
class Grid:
    """Rows and columns of the tables of a plan."""

    domains: Mapping[str, Sequence[str]]
    """Domains of each dataset."""
    rows: Sequence[Row]
    method: str
    """Model that is compared with the others."""
    table: int | None = None
    figure: int | None = None
    """Number of the table or figure in the paper."""
    against: Against = "best"
    departures: bool = False
    """Whether the rows are departures of the authors' released code."""
    notes: tuple[str, ...] = ()
    """Notes of the plan, below the tables of its figures."""

    @property
    def overall(self) -> bool:
        """Whether systems are compared, as in table 2, not variants of one."""
        return self.figure in (None, 6) and self.table in (None, 2) and not self.departures

    @property
    def title(self) -> str:
        """Title in the paper, if it is a table of it."""
        if self.figure is not None:
            return f"The systems of figure {self.figure}"
        if self.departures:
            return "What departures of the authors' released code are worth"
        return "Results" if self.table is None else paper.TABLES[self.table].title


class Claim(TypedDict):
    """Test of whether the method's mean NDCG@10 is above the best rival's.

    Figures are None if it was not tested; `verdict` then gives the reason.
    """

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
    """Ends of the 95% confidence interval of the difference."""
    p: float | None
    """One-sided p-value."""
    p_holm: float | None
    """P-value with Holm's correction."""
    users: int | None
    verdict: str


def comparison_tables(grid: Grid, outcomes: Sequence[Outcome], claims: Sequence[Claim]) -> list[Table]:
    """Return the tables of a plan: for each protocol metrics and tests, then the cost of each system.

    Rows that are unsound have tables of their own, which say so.
    """
    unsound = [outcome for outcome in outcomes if "unsound" in outcome]
    outcomes = [outcome for outcome in outcomes if "unsound" not in outcome]
    whole, grid = grid, replace(grid, rows=[row for row in grid.rows if not row.unsound])
    ordered = replace(grid, rows=sorted(grid.rows, key=_position)) if grid.overall else grid
    names = data_names(outcomes)
    tables = []
    for protocol, protocol_results in by_protocol(outcomes).items():
        of_protocol: list[Outcome] = [outcome for outcome in outcomes if outcome in protocol_results]
        tables.append(_figures(ordered, names, str(protocol), of_protocol))
        protocol_claims = [claim for claim in claims if claim["protocol"] == protocol.protocol]
        if protocol_claims:
            aside = _untested_notes(ordered, of_protocol) if grid.against == "best" else []
            tables.append(_tests(grid.against, names, str(protocol), protocol_claims, len(claims), aside))
        no_results = [outcome for outcome in unsound if outcome["protocol"] == protocol.protocol]
        tables += [_unsound(whole, names, str(protocol), [*of_protocol, *no_results])] if no_results else []
    return [*tables, _costs(ordered, names, outcomes)] if outcomes else []


def _position(row: Row) -> int:
    return ORDER.index(row.model if row.model in GROUPS else OTHER)


def _unsound(grid: Grid, names: Mapping[str, str], protocol: str, outcomes: Sequence[Outcome]) -> Table:
    """Return the table of the rows whose figures are no result, after the first row, which is sound.

    Nothing in it is marked, and nothing is tested: other targets, or other candidates, cannot be compared.
    """
    columns, cell = _columns(grid, names), partial(_cell, outcomes)
    rows = [row for number, row in enumerate(grid.rows) if number == 0 or row.unsound]
    shown = tuple(TableRow(row.label, tuple(cell(row, target) for target in _targets(grid))) for row in rows)
    notes = [f"{row.label}: {row.unsound}." for row in rows if row.unsound]
    for row in rows:
        of_row = [run for run in outcomes if run["label"] == row.label]
        notes += [f"{row.label}. {users_note(of_row)}"] if of_row else []
    notes += _cut_note(value for row in shown for value in row.cells)
    data = ", ".join(names.get(name, name) for name in grid.domains)
    title = f"Unsound: not a result. Departures that change what is ranked on {data}: {protocol}"
    return Table(title, tuple(replace(column, ranked=False) for column in columns), shown, notes=tuple(notes))


def _targets(grid: Grid) -> list[tuple[str, str, str]]:
    """Return dataset, domain and metric of each column."""
    return [
        (data, domain, metric) for data, domains in grid.domains.items() for domain in domains for metric in METRICS
    ]


def _columns(grid: Grid, names: Mapping[str, str]) -> tuple[Column, ...]:
    several = len(grid.domains) > 1
    return tuple(
        Column(
            "H@10" if metric == "hr@10" else "N@10",
            f"{names.get(data, data)} / {domain}" if several else domain,
            ranked=True,
        )
        for data, domain, metric in _targets(grid)
    )


def _cell(outcomes: Sequence[Outcome], row: Row, target: tuple[str, str, str]) -> Cell:
    data, domain, metric = target
    runs = _runs_of(outcomes, row, data)
    value = measure(((run["run"], run["domains"].get(domain, {})) for run in runs), metric, 4)
    if value is None:
        return MISSING
    return replace(value, flag=CUT if any(run["cut"] for run in runs) else "")


def _figures(grid: Grid, names: Mapping[str, str], protocol: str, outcomes: Sequence[Outcome]) -> Table:
    """Return table 2 of a plan; cells without a run and cells cut by a limit are marked."""
    targets, columns, cell = _targets(grid), _columns(grid, names), partial(_cell, outcomes)
    rows = [
        TableRow(row.label, tuple(cell(row, target) for target in targets), _group(grid, row)) for row in grid.rows
    ]
    pairs = list(zip(grid.rows, rows, strict=True))
    ours = [shown for row, shown in pairs if row.model == grid.method]
    others = [shown for row, shown in pairs if row.model != grid.method]
    gains = [
        improvement(row, others, f"Improv. of {row.label} (%)" if len(ours) > 1 else "Improv. (%)") for row in ours
    ]
    gains = [row for row in gains if any(row.cells) and grid.overall]
    runs_by_row = [(row.label, [run for run in outcomes if run["label"] == row.label]) for row in grid.rows]
    seeds = seeds_note([(label, runs) for label, runs in runs_by_row if runs])
    notes = [seeds, users_note(outcomes), *data_notes(outcomes), *grid.notes]
    data = ", ".join(names.get(name, name) for name in grid.domains)
    title = f"{grid.title} on {data}: {protocol}"
    everything = [cell_value for row in rows for cell_value in row.cells]
    if MISSING in everything:
        notes.append(f"{MISSING} not there yet.")
    notes += _cut_note(everything)
    table = Table(title, columns, (*rows, *gains), notes=tuple(notes), number=grid.table)
    return mark_best(table, within_groups=not grid.overall)


def _cut_note(cells: Iterable[Cell]) -> list[str]:
    """Return what the mark of a limit means, if one of the cells has it."""
    return [CUT_NOTE] * any(isinstance(cell, Measure) and bool(cell.flag) for cell in cells)


def _group(grid: Grid, row: Row) -> str:
    return row.group or (GROUPS.get(row.model, OTHER) if grid.overall else "")


def _runs_of(outcomes: Iterable[Outcome], row: Row, data: str) -> list[Outcome]:
    return [outcome for outcome in outcomes if (outcome["label"], outcome["data"]) == (row.label, data)]


def _untested_notes(grid: Grid, outcomes: Sequence[Outcome]) -> list[str]:
    """Return notes on the rivals that no claim covers."""
    notes = []
    for data in grid.domains:
        runs = {row: _runs_of(outcomes, row, data) for row in grid.rows if row.model != grid.method}
        missing = [row.label for row, system_runs in runs.items() if len(system_runs) < len(row.seeds)]
        cut = [row.label for row, system_runs in runs.items() if any(run["cut"] for run in system_runs)]
        both = (("not there", missing), ("ended by a limit", cut))
        parts = [f"{reason}: {', '.join(labels)}" for reason, labels in both if labels]
        notes += [f"{data}, rivals of which no claim speaks: {'; '.join(parts)}."] if parts else []
    return notes


def _tests(
    against: Against,
    names: Mapping[str, str],
    protocol: str,
    claims: Sequence[Claim],
    among: int,
    aside: Sequence[str],
) -> Table:
    """Return the table of the tests of the method against its rivals, or of its first row against the others."""

    def figure(value: float | None, kind: type[Measure] = Measure) -> Cell:
        return MISSING if value is None else kind(value)

    rival = "Best rival" if against == "best" else "Against"
    heads = ("N@10", rival, "Its N@10", "Difference", "95% from", "to", "p", "p (Holm)", "Verdict")
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
    others = "the best rival of each domain" if against == "best" else "each other row"
    title = f"{'The method' if several else method} against {others}: {protocol}"
    notes = (
        "NDCG@10 of each user, paired; p of the one-sided t-test, and by Holm corrected for the "
        f"{among} comparisons of the plan, those not tested among them; the interval by the bootstrap over users.",
        *aside,
    )
    return Table(title, tuple(Column(head) for head in heads), rows, ("Data", "Domain"), notes)


def _costs(grid: Grid, names: Mapping[str, str], outcomes: Sequence[Outcome]) -> Table:
    """Return the cost table: a row for each phase of each system, with figures of the whole run in the first."""
    once = list({(outcome["run"], outcome["label"]): outcome for outcome in outcomes}.values())
    heads = ("Parameters", "s/epoch", "Epochs", "Best", "Ended by", "Rank (s)")
    rows = []
    for row in grid.rows:
        runs = {data: _runs_of(once, row, data) for data in grid.domains}
        phases = list(
            dict.fromkeys(name for system_runs in runs.values() for run in system_runs for name in run["phases"])
        )
        for number, phase in enumerate(phases or [""]):
            cells: list[Cell] = []
            for system_runs in runs.values():
                cells += _cost(system_runs, phase, first=number == 0)
            rows.append(TableRow(row.label if number == 0 else f"{row.label}, {phase}", tuple(cells)))
    groups = [names.get(data, data) if len(grid.domains) > 1 else "" for data in grid.domains]
    columns = tuple(Column(head, group) for group in groups for head in heads)
    notes = (
        "s/epoch: the median, a validation among it. Rank: from the weights on disk to the rank of every user, "
        "under all protocols. Seconds as they were on the machine, beside whatever else it did.",
    )
    return Table("What each system took", columns, tuple(rows), notes=notes)


def _cost(runs: Sequence[Outcome], phase: str, *, first: bool) -> list[Cell]:
    """Return the cells of the cost table for one phase of a system on one dataset."""

    def over(value: Callable[[Outcome], float | None], digits: int) -> Cell:
        values = [figure for run in runs if (figure := value(run)) is not None]
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
