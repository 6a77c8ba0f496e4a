"""Grouping of result documents into tables, rows and cells."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from edt_cli.config import MANY_REPEATS, UserError
from edt_cli.reporting.table import Measure
from edt_cli.workspace.documents import Figures, Result


class Protocol(NamedTuple):
    """Properties that runs must share to be compared."""

    split: str
    protocol: str
    negatives: int | None
    keep_seen: bool | None
    """The setting; None if each dataset's share of repeats decides."""

    def __str__(self) -> str:
        candidates = {
            "full": "full ranking",
            "sampled": f"{self.negatives} sampled negatives",
            "popular": f"{self.negatives} negatives by popularity",
        }[self.protocol]
        seen = {None: "", True: ", seen items among the candidates", False: ", seen items left out"}
        return f"{self.split}, {candidates}{seen[self.keep_seen]}"


class Kind(NamedTuple):
    """Properties that the runs of one row share: everything except seed and data."""

    model: str
    variant: str
    label: str
    llm: str

    def __str__(self) -> str:
        return shown_system(self.label, self.variant, self.llm)


def by_protocol(results: Iterable[Result]) -> dict[Protocol, list[Result]]:
    """Group results by protocol; a table never mixes results of two protocols.

    Raises:
        UserError: If runs on the same dataset name used different data (another key, or other numbers of users).
    """
    groups: dict[Protocol, list[Result]] = {}
    for result in results:
        negatives = result["negatives"] if result["protocol"] != "full" else None
        protocol = Protocol(result["split"], result["protocol"], negatives, _keep_seen_setting(result))
        groups.setdefault(protocol, []).append(result)
    for protocol_results in groups.values():
        _check_same_data(protocol_results)
    return groups


def _keep_seen_setting(result: Result) -> bool | None:
    """Return the setting of `keep_seen`, or None if the dataset's share of repeats decides.

    Results made before repeats were counted kept no seen items, and count as None.
    """
    kept = result.get("keep_seen", False)
    return kept if result.get("keep_seen_by", "setting" if kept else "repeats") == "setting" else None


def _check_same_data(results: Sequence[Result]) -> None:
    """Raise a UserError if runs on the same dataset name used different data."""
    versions: dict[str, tuple[Any, Result]] = {}
    for result in results:
        users = {domain: figures.get("users") for domain, figures in result["domains"].items()}
        first_version, first = versions.setdefault(result["data"], ((result.get("data_key"), users), result))
        if first_version != (result.get("data_key"), users):
            raise UserError(
                f"runs {first['run']} and {result['run']} were made on different versions of "
                f"{result['data']!r}; name the runs to report with --run"
            )


def by_kind(results: Iterable[Result]) -> dict[Kind, list[Result]]:
    """Group results by row, in order of appearance.

    Raises:
        UserError: If two runs of a row have the same data and seed, as a mean would count that seed twice.
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
    """Return mean and deviation of `metric` over pairs of (run, its metrics); None if no run has it."""
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
    """Return the displayed name of each dataset, in order of appearance."""
    return {
        result["data"]: shown_data(
            result["data"],
            result["synthetic"],
            quick=result.get("quick", False),
            unsound="unsound" in result,
        )
        for result in results
    }


def shown_data(name: str, synthetic: bool, *, quick: bool = False, unsound: bool = False) -> str:
    """Return the displayed name of a dataset, with a remark if it is synthetic, a sample, or of an unsound run."""
    remarks = [*["synthetic"] * synthetic, *["quick: a sample, no result"] * quick]
    remarks += ["unsound: not a result"] * unsound
    return f"{name} ({', '.join(remarks)})" if remarks else name


def shown_system(label: str, variant: str, llm: str) -> str:
    """Return a system's label with its ablation and its LLM (which may be `local (no LLM)`), each once."""
    for part, joint in ((variant, " "), (llm, ", ")):
        if part not in label:
            label += joint + part
    return label


def seeds_note(rows: Iterable[tuple[str, Sequence[Result]]]) -> str:
    """Return a note on the seeds of each row, in short form if all rows have the same."""
    labels_by_seeds: dict[tuple[int, ...], list[str]] = {}
    for label, runs in rows:
        labels_by_seeds.setdefault(tuple(sorted({run["seed"] for run in runs})), []).append(label)
    parts = [("Seeds " if len(seeds) > 1 else "Seed ") + ", ".join(map(str, seeds)) for seeds in labels_by_seeds]
    if len(labels_by_seeds) > 1:
        parts = [
            f"{part}: {'; '.join(labels)}" for part, labels in zip(parts, labels_by_seeds.values(), strict=True)
        ]
    if any(len(seeds) > 1 for seeds in labels_by_seeds):
        parts.insert(0, "Mean ± sample deviation over seeds")
    return "".join(f"{part}. " for part in parts).strip()


def users_note(results: Sequence[Result]) -> str:
    """Return a note on the number of users (targets) behind the figures of each domain."""
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


def data_notes(results: Sequence[Result]) -> list[str]:
    """Return notes on the data behind the figures: failed questions, item vectors, and seen items."""
    return [*_failed_notes(results), *_vector_notes(results), *_seen_notes(results)]


def _failed_notes(results: Sequence[Result]) -> list[str]:
    """Return a note for each row that rests on artefacts to which the LLM gave fewer answers than it was asked."""
    shares: dict[tuple[str, str], float] = {}
    for result in results:
        for kind, share in result.get("failed_shares", {}).items():
            row = (f"{result['label']} by {result['llm']}", kind)
            shares[row] = max(share, shares.get(row, 0.0))
    return [f"{row}: {share:.1%} of the LLM's questions failed ({kind})." for (row, kind), share in shares.items()]


def _vector_notes(results: Sequence[Result]) -> list[str]:
    """Return a note for each dataset whose items came with vectors."""
    of = {result["data"]: result["item_vectors"] for result in results if "item_vectors" in result}
    shown = data_names(results)
    several = len(shown) > 1
    return [
        f"Item vectors{f' of {shown[data]}' if several else ''}: given ({of[data]})."
        for data in shown
        if data in of
    ]


def _seen_notes(results: Sequence[Result]) -> list[str]:
    """Return a note on seen items for each dataset that keeps them as candidates or has many repeats."""
    names = data_names(results)
    notes = []
    for data, shown in names.items():
        first = next(result for result in results if result["data"] == data)
        kept, repeats = first.get("keep_seen", False), first.get("repeats", 0.0)
        if kept or repeats > MANY_REPEATS:
            where = f"On {shown} seen" if len(names) > 1 else "Seen"
            as_set = "" if _keep_seen_setting(first) is None else ", as asked"
            state = "stay candidates" if kept else "are no candidates"
            notes.append(f"{where} items {state}{as_set}: {repeats:.1%} of the targets are repeats.")
    return notes
