"""Systems on one dataset by their results: means over seeds, and differences to the best other system."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from edt_cli.inference.listing import RunRow
from edt_cli.workspace.status import RunStatus


@dataclass(frozen=True)
class Standing:
    """A system with its results.

    Attributes:
        title: Its name in tables.
        rows: Its runs, newest first.
        figures: Mean over the runs of each figure, such as `ndcg_food`.
        deviations: Sample deviation of each figure, where there are several runs.
        lead: Relative difference of its mean NDCG@10 to that of the best other system; None where it is alone.
    """

    title: str
    rows: list[RunRow]
    figures: dict[str, float]
    deviations: dict[str, float] = field(default_factory=dict)
    lead: float | None = None

    @property
    def level(self) -> float:
        """Mean NDCG@10 over domains."""
        values = [value for name, value in self.figures.items() if name.startswith("ndcg_")]
        return statistics.fmean(values) if values else 0.0

    @property
    def when(self) -> float:
        return max(row.when for row in self.rows)


@dataclass(frozen=True)
class Leaderboard:
    """Systems on a dataset, the best one first."""

    data: str
    domains: list[str]
    standings: list[Standing]

    def best(self, figure: str) -> float:
        """Return the best value of a figure."""
        return max((standing.figures.get(figure, 0.0) for standing in self.standings), default=0.0)


def datasets_with_runs(rows: Sequence[RunRow]) -> list[str]:
    """Return the datasets of readable runs: that of the newest result first."""
    finished = [row.data for row in rows if row.figures]
    return list(dict.fromkeys([*finished, *(row.data for row in rows if row.data)]))


def leaderboard(rows: Sequence[RunRow], data: str) -> Leaderboard:
    """Return the systems on a dataset, by the finished runs on its newest version."""
    done = [row for row in rows if row.data == data and row.figures and row.status == RunStatus.FINISHED]
    newest = _version(done[0]) if done else ""
    groups: dict[str, list[RunRow]] = {}
    for row in done:
        if _version(row) == newest:
            groups.setdefault(row.title, []).append(row)
    standings = sorted((_standing(title, runs) for title, runs in groups.items()), key=lambda s: -s.level)
    domains = list(dict.fromkeys(name.partition("_")[2] for row in done for name in row.figures))
    return Leaderboard(data, domains, [_with_lead(standing, standings) for standing in standings])


def _version(row: RunRow) -> str:
    """Return the key of the dataset, whichever part of it the run is trained on."""
    return str(row.plan.get("data_key", "")).partition("-")[0]


def _standing(title: str, rows: list[RunRow]) -> Standing:
    figures, deviations = {}, {}
    for name in dict.fromkeys(name for row in rows for name in row.figures):
        values = [row.figures[name] for row in rows if name in row.figures]
        figures[name] = statistics.fmean(values)
        if len(values) > 1:
            deviations[name] = statistics.stdev(values)
    return Standing(title, rows, figures, deviations)


def _with_lead(standing: Standing, standings: Sequence[Standing]) -> Standing:
    rival = max((other.level for other in standings if other is not standing), default=0.0)
    lead = (standing.level - rival) / rival if rival else None
    return Standing(standing.title, standing.rows, standing.figures, standing.deviations, lead)
