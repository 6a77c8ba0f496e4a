"""Results of finished runs: ranked once, kept in the run's folder, and read back for tables.

What is there already is read without anything heavy; what is missing is made by `measure`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edt_cli.config import EvaluationSettings, Protocol, Split, UserError
from edt_cli.models.phase_names import PREPARATION
from edt_cli.workspace.documents import LISTS, RANKS, RunResult, result_name
from edt_cli.workspace.events import Events
from edt_cli.workspace.layout import Workspace, read_json
from edt_cli.workspace.runs import RESULTS, Run

if TYPE_CHECKING:
    import polars as pl


TOGETHER: tuple[Protocol, ...] = ("full", "sampled")
"""Protocols that every ranking serves."""


def evaluate(
    workspace: Workspace,
    run: Run,
    split: Split,
    s: EvaluationSettings,
    events: Events,
    device: str = "cpu",
    *,
    lists: bool = False,
) -> list[RunResult]:
    """Return the result documents of a run under `s.protocol`.

    A run with two phases also has a document for the model after the first phase. Targets are ranked once, then all
    is read from the run's folder; metrics at further cutoffs come from the ranks that are there.

    Args:
        workspace: The workspace of the run.
        run: A finished run.
        split: The split whose targets are ranked.
        s: Candidates and cutoffs.
        events: Where progress is reported.
        device: Name of the device to rank on.
        lists: Complete the metrics of the recommended lists, which older results lack; those of text need vectors.

    Raises:
        UserError: If the run was trained on the items to be evaluated.
    """
    phases = _phases(run)
    protocols: tuple[Protocol, ...] = tuple(dict.fromkeys((*TOGETHER, s.protocol)))
    missing = {
        first_phase: [one for one in protocols if not _kept(workspace, run, split, s, one, first_phase=first_phase)]
        for first_phase in phases
    }
    asked = any(s.protocol in names for names in missing.values())
    if asked or (lists and not all(_lists_file(run, split, s, first_phase).is_file() for first_phase in phases)):
        from edt_cli.inference.measure import measure

        measure(workspace, run, split, s, missing, events, device)
    documents: list[RunResult] = [read_json(_path(run, split, s, s.protocol, one)) for one in phases]
    documents = [_with_cutoffs(workspace, run, document, s) for document in documents]
    if lists and any(document["overall"].get("ild@10") is None for document in documents):
        from edt_cli.inference.derived import with_list_metrics

        documents = [
            with_list_metrics(workspace, run, document, _lists_file(run, split, s, document["first_phase"]), events)
            for document in documents
        ]
    return documents


def evaluated(workspace: Workspace, run: Run, split: Split, s: EvaluationSettings) -> bool:
    """Return whether the results of a run are already in its folder."""
    return all(_kept(workspace, run, split, s, s.protocol, first_phase=one) for one in _phases(run))


def ranks_of(run: Run, document: RunResult) -> pl.DataFrame:
    """Return the ranks behind a result document, with columns user, item, domain and rank.

    Raises:
        UserError: If the file is missing or damaged.
    """
    import polars as pl

    path = run.folder / RESULTS / f"{document['file']}{RANKS}"
    try:
        frame = pl.read_parquet(path, glob=False)
        return frame.select("user", "item", "domain", pl.col(f"rank_{document['protocol']}").alias("rank"))
    except (OSError, pl.exceptions.PolarsError) as error:
        raise UserError(f"cannot read {path} ({type(error).__name__}); remove it and evaluate again") from None


def _phases(run: Run) -> list[bool]:
    """Return [False], and [False, True] for a run with two phases; True stands for the model after the first."""
    phases = [name for name in run.manifest().get("phases", {}) if name != PREPARATION]
    return [False] + [True] * (len(phases) > 1)


def _path(
    run: Run, split: Split, s: EvaluationSettings, protocol: Protocol, first_phase: bool, end: str = ".json"
) -> Path:
    return run.folder / RESULTS / f"{result_name(split, s, protocol, first_phase=first_phase)}{end}"


def _lists_file(run: Run, split: Split, s: EvaluationSettings, first_phase: bool) -> Path:
    return _path(run, split, s, "full", first_phase, LISTS)


def _kept(
    workspace: Workspace, run: Run, split: Split, s: EvaluationSettings, protocol: Protocol, *, first_phase: bool
) -> bool:
    """Return whether a result document and its ranks are there, and made as they would be today."""
    document, ranks = (_path(run, split, s, protocol, first_phase, end) for end in (".json", RANKS))
    if not (document.is_file() and ranks.is_file()):
        return False
    if s.keep_seen != "auto" or "repeats" in read_json(document):
        return True
    # This result was made before repeats were counted, when no seen item was a candidate.
    from edt_cli.data.open import open_dataset

    return not open_dataset(workspace, run.plan["data"]).keeps_seen()


def _with_cutoffs(workspace: Workspace, run: Run, document: RunResult, s: EvaluationSettings) -> RunResult:
    """Return a document with HR@k and NDCG@k at all cutoffs that are asked for."""
    cutoffs = [k for k in s.cutoffs if f"hr@{k}" not in document["overall"]]
    if not cutoffs:
        return document
    from edt_cli.inference.derived import with_cutoffs

    return with_cutoffs(workspace, run, document, ranks_of(run, document)["rank"].to_numpy(), cutoffs)
