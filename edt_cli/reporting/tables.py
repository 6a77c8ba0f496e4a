"""Tables 1 to 3 of the paper for our runs, and tables of any runs and metrics."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

from edt_cli.config import UserError
from edt_cli.reporting import paper_tables as paper
from edt_cli.reporting.grouping import (
    Kind,
    Protocol,
    by_kind,
    by_protocol,
    data_names,
    data_notes,
    measure,
    seeds_note,
    shown_data,
    shown_system,
    users_note,
)
from edt_cli.reporting.table import Cell, Column, Measure, Row, Table, improvement, mark_best
from edt_cli.workspace.documents import Figures, Result, Statistics

OURS = "llm-edt"
METRICS = ("hr@10", "ndcg@10")
LIST_METRICS = ("coverage@10", "popularity@10", "novelty@10", "gini@10", "ild@10")
"""Metrics of what is recommended, whatever the target."""
RUN_METRICS = ("seconds", "parameters")
RANKED = ("hr", "ndcg", "mrr")
SHOWN = {
    "hr": ("H", 4),
    "ndcg": ("N", 4),
    "mrr": ("MRR", 4),
    "coverage": ("Cov", 4),
    "popularity": ("Pop", 1),
    "novelty": ("Nov", 2),
    "gini": ("Gini", 4),
    "ild": ("ILD", 4),
    "users": ("Users", 0),
    "seconds": ("Seconds", 1),
    "parameters": ("Parameters", 0),
}
"""Short name of each metric in the paper, and digits shown after the point."""

SIMPLE, OTHER = "Simple", "Other"
_PAPER_GROUPS = {row.label.lower(): row.group for row in paper.TABLES[2].rows if row.compared}
GROUPS = dict.fromkeys(("popularity", "item-knn", "content-knn"), SIMPLE) | _PAPER_GROUPS
"""Group of each system, ordered as in table 2; systems that need no training come first."""
ORDER = [*(system for system in GROUPS if system != OURS), OTHER, OURS]
VARIANTS = ["", *(row.label.rstrip(".") for row in paper.TABLES[3].rows[1:])]
"""Rows of table 3, the full method first."""


class _Line(NamedTuple):
    """Row of a table, before its cells are computed."""

    label: str
    group: str
    runs: Sequence[Result]


class _Source(NamedTuple):
    """Source of a column's figures; `domain` is None for figures of all domains or of the run."""

    column: Column
    data: str
    domain: str | None
    metric: str
    digits: int


def table_1(datasets: Sequence[Statistics]) -> Table:
    """Return table 1: users, items and average sequence length, before and after augmentation.

    As in the paper, the average length of the mixed sequences is given once per dataset, in its first row.
    """
    rows = []
    names = {
        one["data"]: shown_data(one["data"], one["synthetic"], quick=one.get("quick", False)) for one in datasets
    }
    for dataset in datasets:
        after = dataset.get("after")
        for number, domain in enumerate(dataset["before"]["domains"]):
            cells: list[Cell] = []
            for statistics in (dataset["before"], after):
                counts = statistics["domains"].get(domain) if statistics else None
                cells += [Measure(counts[key], digits=0) if counts else None for key in ("users", "items")]
                first = statistics and number == 0
                cells.append(Measure(statistics["average_length"], digits=2) if statistics and first else None)
            rows.append(Row(domain, tuple(cells), names[dataset["data"]]))
    notes = ["Avg.len is of the mixed sequences."]
    notes += [
        f"{names[dataset['data']]} was augmented by {dataset['llm']}."
        for dataset in datasets
        if dataset.get("after") and dataset["llm"]
    ]
    stub = ("Data", "Domain")
    return Table(paper.TABLES[1].title, paper.STATISTICS, tuple(rows), stub, tuple(notes), number=1)


def table_2(results: Sequence[Result], metrics: Sequence[str] = METRICS) -> list[Table]:
    """Return table 2, the overall performance, for each protocol.

    Systems are in the paper's order, with the metrics of each domain of each dataset. The last rows are the
    improvements of each LLM-EDT over the best other system. Ablations are left out.

    Raises:
        UserError: If no run is left, or if runs cannot be compared.
    """
    tables = []
    for protocol, protocol_results in by_protocol(_require_results(r for r in results if not r["variant"])).items():
        kinds = sorted(by_kind(protocol_results).items(), key=lambda entry: _position(entry[0]))
        lines = [_Line(str(kind), GROUPS.get(kind.model, OTHER), runs) for kind, runs in kinds]
        table = _table(paper.TABLES[2].title, protocol, protocol_results, lines, metrics)
        ours = [row for (kind, _), row in zip(kinds, table.rows, strict=True) if kind.model == OURS]
        others = [row for (kind, _), row in zip(kinds, table.rows, strict=True) if kind.model != OURS]
        gains = [
            improvement(row, others, f"Improv. of {row.label} (%)" if len(ours) > 1 else "Improv. (%)")
            for row in ours
            if others
        ]
        tables.append(mark_best(replace(table, rows=(*table.rows, *gains), number=2)))
    return tables


def table_3(results: Sequence[Result], metrics: Sequence[str] = METRICS) -> list[Table]:
    """Return table 3, the ablations of LLM-EDT, for each protocol; named and ordered as in the paper.

    Another system with a second phase gets a table of its own, with what it was worth after its first.

    Raises:
        UserError: If there is no run of such a system, or if runs cannot be compared.
    """
    models = {r["model"] for r in results if r["model"] == OURS or r["first_phase"]}
    tables = []
    for model in sorted(models, key=lambda name: (name != OURS, name)):
        of_model = _require_results(r for r in results if r["model"] == model)
        for protocol, protocol_results in by_protocol(of_model).items():
            tables.append(_ablations(model, protocol, protocol_results, metrics))
    if not tables:
        raise UserError("table 3 has the ablations of LLM-EDT, and there is no run of it; make one with: edt train")
    return tables


def _ablations(model: str, protocol: Protocol, results: Sequence[Result], metrics: Sequence[str]) -> Table:
    kinds = sorted(by_kind(results).items(), key=lambda entry: _variant_position(entry[0]))
    llms = {kind.llm for kind, _ in kinds if kind.llm}
    lines, name = [], model
    for kind, runs in kinds:
        # The ablation replaces the system's name: `w/o Aug. (llm-edt-ce)`.
        name, bracket, rest = kind.label.partition(" (")
        llm = kind.llm if not kind.variant or len(llms) > 1 else ""
        lines.append(_Line(shown_system(f"{kind.variant or name}{bracket}{rest}", "", llm), "", runs))
    by_whom = f", {llms.pop()}," if len(llms) == 1 else ""
    title = f"{paper.TABLES[3].title} of {name}{by_whom}"
    table = _table(title, protocol, results, lines, metrics)
    return mark_best(replace(table, stub=("", "Variant"), number=3 if model == OURS else None))


def free_tables(
    results: Sequence[Result],
    metrics: Sequence[str] = METRICS,
    *,
    overall: bool = False,
    title: str = "Results",
) -> list[Table]:
    """Return a table of any runs and metrics for each protocol, with rows in the order of the results.

    Args:
        results: Results to show.
        metrics: Names such as `hr@5`, `mrr`, `coverage@10` and `users`; `seconds` and `parameters` are of the run.
        overall: Add columns for all domains together.
        title: What the tables show.

    Raises:
        UserError: If no run has one of the metrics.
    """
    results = _require_results(results)
    known = {name for result in results for figures in result["domains"].values() for name in figures}
    _check_metrics(metrics, known | set(RUN_METRICS))
    tables = []
    for protocol, protocol_results in by_protocol(results).items():
        lines = _lines(protocol_results)
        tables.append(mark_best(_table(title, protocol, protocol_results, lines, metrics, overall=overall)))
    return tables


def list_tables(results: Sequence[Result]) -> list[Table]:
    """Return tables of what is recommended, with whatever of LIST_METRICS some run has."""
    all_figures = [figures for result in results for figures in result["domains"].values()]
    metrics = [name for name in LIST_METRICS if any(figures.get(name) is not None for figures in all_figures)]
    return free_tables(results, metrics, title="Recommended lists")


def group_tables(results: Sequence[Result], by: str | None = None, metrics: Sequence[str] = METRICS) -> list[Table]:
    """Return tables of metrics for groups of users, one for each grouping, protocol and dataset.

    A table has a block of rows for each group, with the number of users behind each figure.

    Args:
        results: Results to show.
        by: A grouping, such as `length` (figure 4); None for every grouping.
        metrics: Names of metrics.

    Raises:
        UserError: If no run has the grouping or one of the metrics.
    """
    results = _require_results(results)
    kinds = list(dict.fromkeys(name for result in results for name in result["groups"]))
    if by is None:
        return [table for kind in kinds for table in group_tables(results, kind, metrics)]
    if by not in kinds:
        raise UserError(f"no run has figures by {by!r}; there are: {', '.join(kinds) or 'none'}")
    tables = []
    for protocol, protocol_results in by_protocol(results).items():
        for data in data_names(protocol_results):
            data_results = [result for result in protocol_results if result["data"] == data]
            groups = list(dict.fromkeys(label for result in data_results for label in result["groups"].get(by, {})))
            blocks = []
            for group in groups:
                group_results = [_of_group(result, by, group) for result in data_results]
                _check_metrics(metrics, {name for r in group_results for f in r["domains"].values() for name in f})
                blocks += [_Line(line.label, group, line.runs) for line in _lines(group_results)]
            title = f"Results by {by}"
            table = _table(title, protocol, data_results, blocks, ("users", *metrics))
            notes = (
                seeds_note([(line.label, line.runs) for line in _lines(data_results)]),
                *data_notes(data_results),
            )
            tables.append(mark_best(replace(table, stub=(by, "Model"), notes=notes), within_groups=True))
    return tables


def _require_results(results: Iterable[Result]) -> list[Result]:
    """Return the results as a list, or raise a UserError if there are none."""
    listed = list(results)
    if not listed:
        raise UserError("there is no run for this table; make one with edt train, and see edt report --help")
    return listed


def _position(kind: Kind) -> tuple[int, str]:
    return ORDER.index(kind.model if kind.model in GROUPS else OTHER), kind.label


def _variant_position(kind: Kind) -> tuple[int, str]:
    name = kind.variant.rstrip(".")
    return (VARIANTS.index(name) if name in VARIANTS else len(VARIANTS)), kind.label


def _lines(results: Sequence[Result]) -> list[_Line]:
    return [_Line(str(kind), "", runs) for kind, runs in by_kind(results).items()]


def _of_group(result: Result, by: str, group: str) -> Result:
    """Return a result with the metrics of one group of users."""
    group_result = result.copy()
    group_result["domains"] = result["groups"].get(by, {}).get(group, {})
    return group_result


def _check_metrics(metrics: Sequence[str], known: set[str]) -> None:
    for metric in metrics:
        if metric not in known:
            raise UserError(f"no run has the metric {metric!r}; there are: {', '.join(sorted(known))}")


def _table(
    title: str,
    protocol: Protocol,
    results: Sequence[Result],
    lines: Sequence[_Line],
    metrics: Sequence[str],
    *,
    overall: bool = False,
) -> Table:
    sources = _sources(results, metrics, overall=overall)
    rows = tuple(Row(line.label, tuple(_cell(line, source) for source in sources), line.group) for line in lines)
    data = ", ".join(data_names(results).values())
    seeds = seeds_note([(line.label, line.runs) for line in lines])
    notes = (seeds, users_note(results), *data_notes(results))
    columns = tuple(source.column for source in sources)
    return Table(f"{title} on {data}: {protocol}", columns, rows, notes=notes)


def _sources(results: Sequence[Result], metrics: Sequence[str], *, overall: bool) -> list[_Source]:
    """Return the columns of a table: each metric of each domain of each dataset."""
    names = data_names(results)
    sources = []
    for data, data_name in names.items():
        data_results = [result for result in results if result["data"] == data]
        domains = dict.fromkeys(domain for result in data_results for domain in result["domains"])
        for domain in (*domains, None):
            for metric in metrics:
                of_run = metric in RUN_METRICS
                if (domain and of_run) or (not domain and not of_run and not overall):
                    continue
                group = domain or ("" if of_run else "overall")
                if len(names) > 1:
                    group = f"{data_name} / {group}" if group else data_name
                name, digits = shown_metric(metric)
                column = Column(name, group, ranked=metric.partition("@")[0] in RANKED)
                sources.append(_Source(column, data, domain, metric, digits))
    return sources


def shown_metric(metric: str) -> tuple[str, int]:
    """Return the name of a metric in tables, such as H@10, and its digits after the point."""
    base, at, cut = metric.partition("@")
    name, digits = SHOWN.get(base, (base, 4))
    return f"{name}{at}{cut}", digits


def _cell(line: _Line, source: _Source) -> Measure | None:
    runs = [run for run in line.runs if run["data"] == source.data]
    return measure(((run["run"], _figures(run, source.domain)) for run in runs), source.metric, source.digits)


def _figures(run: Result, domain: str | None) -> Figures:
    if domain is not None:
        return run["domains"].get(domain, {})
    return {**run["overall"], "seconds": run["seconds"], "parameters": run["parameters"]}
