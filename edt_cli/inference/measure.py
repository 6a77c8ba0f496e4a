"""Ranking of held-out items by finished runs: the files behind `results`."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from edt_cli.config import CUTOFFS, EvaluationSettings, Protocol, Split, UserError
from edt_cli.data.open import is_synthetic
from edt_cli.evaluation.candidates import candidates
from edt_cli.evaluation.evaluate import list_figures, rank_figures, with_lists
from edt_cli.evaluation.lists import TOP
from edt_cli.evaluation.queries import EvalQueries
from edt_cli.evaluation.ranking import Ranks, rank
from edt_cli.inference.derived import dataset_of, text_vectors
from edt_cli.inference.labels import identity, name_of
from edt_cli.inference.new_items import with_new_items
from edt_cli.inference.trained import load_trained
from edt_cli.models.scorers import Ensemble
from edt_cli.models.systems import asks_llm
from edt_cli.pipeline import Pipeline
from edt_cli.training.data import TrainingData
from edt_cli.training.device import open_device
from edt_cli.workspace.documents import LISTS, RANKS, Header, Measured, Result, RunResult, Seen, result_name
from edt_cli.workspace.events import Events
from edt_cli.workspace.files import replacing
from edt_cli.workspace.layout import Workspace
from edt_cli.workspace.runs import RESULTS, Run

if TYPE_CHECKING:
    from edt_cli.data.dataset import Dataset


def training_data_of(
    workspace: Workspace, run: Run, events: Events, device: str = "cpu", new_items: pl.DataFrame | None = None
) -> TrainingData:
    """Return the data and artefacts that a run was trained on.

    Args:
        workspace: The workspace of the run.
        run: The run.
        events: Where progress is reported.
        device: Name of the device to compute on.
        new_items: Items to add to the catalogue, as `with_new_items` takes them.

    Raises:
        UserError: If the dataset has changed since, or new items cannot be added.
    """
    dataset = dataset_of(workspace, run)
    pipeline = Pipeline(workspace=workspace, dataset=dataset, settings=run.settings, events=events, device=device)
    data = pipeline.material()
    return data if new_items is None else with_new_items(data, new_items, pipeline)


def measure(
    workspace: Workspace,
    run: Run,
    split: Split,
    s: EvaluationSettings,
    missing: Mapping[bool, Sequence[Protocol]],
    events: Events,
    device: str,
) -> None:
    """Rank the targets in one pass, and write documents, ranks and lists.

    Args:
        workspace: The workspace of the run.
        run: A finished run.
        split: The split whose targets are ranked.
        s: Candidates of the ranking.
        missing: For the model after the first phase (True), and for the whole one (False), if it is to be ranked,
            the protocols whose files are written.
        events: Where progress is reported.
        device: Name of the device to compute on.

    Raises:
        UserError: If the run was trained on the items to be evaluated.
    """
    train_on = run.settings.training.train_on
    if train_on == "all" or (train_on == "train+valid" and split == "valid"):
        how = "on every interaction (--final)" if train_on == "all" else "with the validation items (--refit)"
        raise UserError(f"run {run.name} was trained {how}: there is nothing held out to evaluate")
    training_data = training_data_of(workspace, run, events, str(open_device(device)))
    dataset = training_data.dataset
    queries = training_data.queries(split, s.keep_seen)
    if not len(queries):
        raise UserError(f"{dataset.name} has no {split} target: its users have fewer than three interactions")
    drawn = _drawn(workspace, dataset, split, s, queries, {name for names in missing.values() for name in names})
    vectors = text_vectors(workspace, run, dataset)
    for number, (first_phase, protocols) in enumerate(missing.items(), start=1):
        started = time.perf_counter()
        trained = load_trained(training_data, run.settings, run.folder, first_phase=first_phase)
        scorer = trained.scorer(queries.inputs, queries.targets.domains)
        ranks = rank(scorer, queries, candidates=drawn, top=TOP)
        seconds = time.perf_counter() - started
        for protocol in protocols:
            name = result_name(split, s, protocol, first_phase=first_phase)
            document: RunResult = {
                "file": name,
                **_header(workspace, run, dataset, first_phase=first_phase),
                **_about(dataset, split, s, protocol),
                "rank_seconds": round(seconds, 3),
                **_figures(dataset, queries, ranks, s, protocol, vectors),
            }
            run.write_result(name, document)
            _save(run, queries, f"{name}{RANKS}", **{f"rank_{protocol}": ranks.by_protocol[protocol]})
        lists = f"{result_name(split, s, 'full', first_phase=first_phase)}{LISTS}"
        _save(run, queries, lists, top=ranks.top.astype(np.int32))
        events.progress(f"evaluate {run.name}", number, len(missing))


def evaluate_together(
    workspace: Workspace,
    runs: Sequence[Run],
    split: Split,
    s: EvaluationSettings,
    events: Events,
    device: str = "cpu",
) -> Result:
    """Return the result document of an ensemble of runs on the same data.

    Parameters and seconds are sums over the runs.

    Raises:
        UserError: If the runs were trained on different data.
    """
    chosen = str(open_device(device))
    training_data = [training_data_of(workspace, run, events, chosen) for run in runs]
    dataset = training_data[0].dataset
    if len({run.plan["data_key"] for run in runs}) != 1:
        raise UserError("runs that are to be evaluated together must be trained on the same part of the same data")
    queries = [data.queries(split, s.keep_seen) for data in training_data]
    scorers = [
        load_trained(data, run.settings, run.folder).scorer(run_queries.inputs, run_queries.targets.domains)
        for data, run, run_queries in zip(training_data, runs, queries, strict=True)
    ]
    drawn = _drawn(workspace, dataset, split, s, queries[0], {s.protocol})
    ranks = rank(Ensemble(scorers), queries[0], candidates=drawn, top=TOP)
    headers = [_header(workspace, run, dataset, first_phase=False) for run in runs]
    names = dict.fromkeys(map(name_of, runs))
    vectors = text_vectors(workspace, runs[0], dataset)
    return {
        **headers[0],
        "run": " + ".join(run.name for run in runs),
        "label": f"{' + '.join(names)}, {len(runs)} together",
        "preset": " + ".join(dict.fromkeys(header["preset"] for header in headers)),
        "parameters": sum(header["parameters"] or 0 for header in headers),
        "seconds": sum(header["seconds"] or 0.0 for header in headers),
        **_about(dataset, split, s, s.protocol),
        **_figures(dataset, queries[0], ranks, s, s.protocol, vectors),  # type: ignore[typeddict-item]
    }


def _drawn(
    workspace: Workspace,
    dataset: Dataset,
    split: Split,
    s: EvaluationSettings,
    queries: EvalQueries,
    protocols: set[Protocol],
) -> dict[str, np.ndarray]:
    """Return the candidates of each protocol that samples."""
    return {
        protocol: candidates(workspace, dataset, split, s.negatives, keep_seen=queries.keep_seen, protocol=protocol)
        for protocol in sorted(protocols - {"full"})
    }


def _figures(
    dataset: Dataset,
    queries: EvalQueries,
    ranks: Ranks,
    s: EvaluationSettings,
    protocol: Protocol,
    vectors: np.ndarray | None,
) -> Measured:
    """Return the metrics of ranks under a protocol, and those of the lists."""
    cutoffs = sorted({*CUTOFFS, *s.cutoffs})
    measured = rank_figures(dataset, queries, ranks.by_protocol[protocol], cutoffs)
    return with_lists(measured, list_figures(dataset, queries, ranks.top, vectors))


class _About(Seen):
    """How a result was measured."""

    split: str
    protocol: str
    negatives: int | None


def _about(dataset: Dataset, split: Split, s: EvaluationSettings, protocol: Protocol) -> _About:
    """Return how a result is measured: the candidates, why seen items are among them, and the share of repeats."""
    return {
        "split": split,
        "protocol": protocol,
        "negatives": None if protocol == "full" else s.negatives,
        "keep_seen": dataset.keeps_seen(s.keep_seen),
        "keep_seen_by": "repeats" if s.keep_seen == "auto" else "setting",
        "repeats": dataset.repeat_share,
    }


def _header(workspace: Workspace, run: Run, dataset: Dataset, *, first_phase: bool) -> Header:
    """Return the fields of a result document that say which run it is of."""
    manifest, names = run.manifest(), identity(run, first_phase=first_phase)
    phases = manifest.get("phases", {}).values()
    header: Header = {
        "run": run.name,
        "data": dataset.name,
        "data_key": dataset.key,
        "synthetic": is_synthetic(workspace, dataset.name),
        "quick": run.quick,
        "model": run.settings.model.name,
        "preset": names["preset"],
        "variant": names["variant"],
        "first_phase": first_phase,
        "llm": run.plan["llm"] if asks_llm(run.settings.model) else "",
        "seed": run.settings.training.seed,
        "parameters": manifest.get("parameters"),
        "seconds": sum(phase["seconds"] for phase in phases) if phases else None,
    }
    if run.unsound:
        header["unsound"] = run.unsound
    if "failed_shares" in manifest:
        header["failed_shares"] = manifest["failed_shares"]
    if "item_vectors" in run.plan:
        header["item_vectors"] = run.plan["item_vectors"]
    return header


def _save(run: Run, queries: EvalQueries, name: str, **columns: np.ndarray) -> None:
    """Write a table with a row for each target, so that differences between runs can be paired."""
    frame = pl.DataFrame(
        {
            "user": queries.targets.users.astype(np.int32),
            "item": queries.targets.items.astype(np.int32),
            "domain": queries.targets.domains.astype(np.int8),
            **columns,
        }
    )
    with replacing(run.folder / RESULTS / name) as path:
        frame.write_parquet(path)
