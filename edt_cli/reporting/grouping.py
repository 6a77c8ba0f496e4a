"""Result documents as the tables read them: which may stand in one table, which make one row, one cell."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, NotRequired, TypedDict

from edt_cli.config import MANY_REPEATS, UserError
from edt_cli.reporting.table import Measure

Figures = dict[str, float | None]


class Result(TypedDict):
    """One run under one protocol. `domains`: figures by domain, each with `users`, the targets behind it.
    `preset`: what it was made with; "" where that has no name. `variant`: an ablation's name in table 3, or "".
    `llm`: who wrote, such as `local (no LLM)`; "" where no LLM has a part. `label`: the system's name, and in
    brackets its preset and what sets this run apart from others of it, the seed excepted. `keep_seen`: whether what
    users had before stayed among the candidates, by the share of `repeats` among the data's targets ("repeats") or
    as it was asked for ("setting")."""

    run: str
    data: str
    data_key: NotRequired[str]
    synthetic: bool
    model: str
    preset: str
    variant: str
    label: str
    llm: str
    seed: int
    split: str
    protocol: str
    negatives: int | None
    keep_seen: NotRequired[bool]
    keep_seen_by: NotRequired[str]
    repeats: NotRequired[float]
    domains: dict[str, Figures]
    overall: Figures
    groups: dict[str, dict[str, dict[str, Figures]]]
    seconds: float | None
    parameters: int | None


class Protocol(NamedTuple):
    """What runs must share to be compared. `keep_seen`: None where each dataset's repeats say it."""

    split: str
    protocol: str
    negatives: int | None
    keep_seen: bool | None

    def __str__(self) -> str:
        candidates = "full ranking" if self.protocol == "full" else f"{self.negatives} sampled negatives"
        seen = {None: "", True: ", seen items among the candidates", False: ", seen items left out"}
        return f"{self.split}, {candidates}{seen[self.keep_seen]}"


class Kind(NamedTuple):
    """What the runs of one row share: everything but the seed and the data."""

    model: str
    variant: str
    label: str
    llm: str

    def __str__(self) -> str:
        return shown_system(self.label, self.variant, self.llm)


def by_protocol(results: Iterable[Result]) -> dict[Protocol, list[Result]]:
    """Results apart by split and candidates: figures of two protocols are never in one table.

    Errors: UserError where runs of one data name saw different data (its key, or the users behind a figure).
    """
    apart: dict[Protocol, list[Result]] = {}
    for result in results:
        negatives = result["negatives"] if result["protocol"] != "full" else None
        protocol = Protocol(result["split"], result["protocol"], negatives, _seen_as_asked(result))
        apart.setdefault(protocol, []).append(result)
    for together in apart.values():
        _check_same_data(together)
    return apart


def _seen_as_asked(result: Result) -> bool | None:
    """None where the data's repeats say it, as "no" was said before they were counted."""
    kept = result.get("keep_seen", False)
    return kept if result.get("keep_seen_by", "setting" if kept else "repeats") == "setting" else None


def _check_same_data(results: Sequence[Result]) -> None:
    seen: dict[str, tuple[Any, Result]] = {}
    for result in results:
        users = {domain: figures.get("users") for domain, figures in result["domains"].items()}
        first_saw, first = seen.setdefault(result["data"], ((result.get("data_key"), users), result))
        if first_saw != (result.get("data_key"), users):
            raise UserError(
                f"runs {first['run']} and {result['run']} were made on different versions of "
                f"{result['data']!r}; name the runs to report with --run"
            )


def by_kind(results: Iterable[Result]) -> dict[Kind, list[Result]]:
    """The runs of each row, in order of appearance.

    Errors: UserError where two runs differ in nothing, seed included: a mean over both would count one twice.
    """
    rows: dict[Kind, list[Result]] = {}
    for result in results:
        kind = Kind(result["model"], result["variant"], result["label"], result["llm"])
        runs = rows.setdefault(kind, [])
        for other in runs:
            if (other["data"], other["seed"]) == (result["data"], result["seed"]):
                raise UserError(
                    f"runs {other['run']} and {result['run']} are both {kind} with "
                    f"seed {result['seed']} on {result['data']}; name one of them with --run"
                )
        runs.append(result)
    return rows


def measure(figures: Iterable[tuple[str, Figures]], metric: str, digits: int) -> Measure | None:
    """Mean and deviation of `metric` over (run, its figures); None where no run has it."""
    values = []
    for run, of_run in figures:
        value = of_run.get(metric)
        if value is None:
            continue
        if not math.isfinite(value):
            raise UserError(f"run {run} has {value} for {metric}; evaluate it again")
        values.append(value)
    return Measure.over(values, digits)


def data_names(results: Iterable[Result]) -> dict[str, str]:
    """{data: as shown}, in order of appearance; synthetic data says so."""
    return {result["data"]: shown_data(result["data"], result["synthetic"]) for result in results}


def shown_data(name: str, synthetic: bool) -> str:
    return f"{name} (synthetic)" if synthetic else name


def shown_system(label: str, variant: str, llm: str) -> str:
    """A system's name, its ablation and the LLM that had a part in it (`local (no LLM)` among them), each once."""
    for part, joint in ((variant, " "), (llm, ", ")):
        if part not in label:
            label += joint + part
    return label


def seeds_note(rows: Iterable[tuple[str, Sequence[Result]]]) -> str:
    """Which seeds stand behind which row, shortest where all have the same."""
    behind: dict[tuple[int, ...], list[str]] = {}
    for label, runs in rows:
        behind.setdefault(tuple(sorted({run["seed"] for run in runs})), []).append(label)
    said = [("Seeds " if len(seeds) > 1 else "Seed ") + ", ".join(map(str, seeds)) for seeds in behind]
    if len(behind) > 1:
        said = [f"{one}: {'; '.join(labels)}" for one, labels in zip(said, behind.values(), strict=True)]
    if any(len(seeds) > 1 for seeds in behind):
        said.insert(0, "Mean ± sample deviation over seeds")
    return "".join(f"{one}. " for one in said).strip()


def users_note(results: Sequence[Result]) -> str:
    """The users (targets) behind the figures of each domain."""
    names = data_names(results)
    parts = []
    for data, shown in names.items():
        first = next(result for result in results if result["data"] == data)
        counts = ", ".join(
            f"{domain} {figures['users']:,.0f}"
            for domain, figures in first["domains"].items()
            if figures.get("users") is not None
        )
        parts.append(f"{shown}: {counts}" if len(names) > 1 else counts)
    return f"Users: {'; '.join(parts)}."


def seen_notes(results: Sequence[Result]) -> list[str]:
    """Of each dataset where repeats, or a setting, make more of it than that seen items are no candidates."""
    names = data_names(results)
    found = []
    for data, shown in names.items():
        first = next(result for result in results if result["data"] == data)
        kept, repeats = first.get("keep_seen", False), first.get("repeats", 0.0)
        if kept or repeats > MANY_REPEATS:
            where = f"On {shown} seen" if len(names) > 1 else "Seen"
            asked = "" if _seen_as_asked(first) is None else ", as asked"
            told = "stay candidates" if kept else "are no candidates"
            found.append(f"{where} items {told}{asked}: {repeats:.1%} of the targets are repeats.")
    return found
