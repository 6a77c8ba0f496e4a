"""Evaluation of finished runs: computed once, kept in the run's folder, and read back for tables."""

from __future__ import annotations

import time
from collections.abc import Sequence
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from edt_cli.augmentation.artefact import Augmentation
from edt_cli.config import EvaluationSettings, Split, UserError
from edt_cli.data.open import open_dataset
from edt_cli.evaluation.candidates import candidates
from edt_cli.evaluation.evaluate import figures
from edt_cli.evaluation.metrics import TOP
from edt_cli.evaluation.queries import EvalQueries
from edt_cli.evaluation.ranking import Ranks, rank
from edt_cli.inference.labels import identity, name_of
from edt_cli.inference.trained import load_trained
from edt_cli.models.phases import PREPARATION
from edt_cli.models.scorers import Ensemble
from edt_cli.models.systems import asks_llm
from edt_cli.pipeline import Pipeline
from edt_cli.training.data import TrainingData
from edt_cli.workspace.documents import (
    DomainStatistics,
    Header,
    PairStatistics,
    Result,
    RunResult,
    Seen,
    Statistics,
)
from edt_cli.workspace.events import Events
from edt_cli.workspace.layout import Workspace, read_json, write_atomic
from edt_cli.workspace.runs import RESULTS, Run

if TYPE_CHECKING:
    from edt_cli.data.dataset import Dataset

RANKS = "-ranks.parquet"
"""Ending of the files with the ranks behind a result document."""


def training_data_of(workspace: Workspace, run: Run, events: Events, device: str = "cpu") -> TrainingData:
    """Return the data and artefacts that a run was trained on.

    Raises:
        UserError: If the dataset has changed since.
    """
    dataset = open_dataset(workspace, run.plan["data"])
    pipeline = Pipeline(workspace=workspace, dataset=dataset, settings=run.settings, events=events, device=device)
    if pipeline.view.key != run.plan["data_key"]:
        raise UserError(
            f"dataset {dataset.name!r} has changed since run {run.name} was made: train again on the new data"
        )
    return pipeline.material()


def evaluate(
    workspace: Workspace, run: Run, split: Split, s: EvaluationSettings, events: Events, device: str = "cpu"
) -> list[RunResult]:
    """Return the result documents of a run under `s.protocol`.

    A run with two phases also has a document for the model after the first phase. The documents are computed once
    for both protocols, then read from the run's folder.

    Raises:
        UserError: If the run was trained on the items to be evaluated.
    """
    variants = _variants(run)
    if not evaluated(workspace, run, split, s):
        _compute(workspace, run, split, s, variants, events, device)
    documents = {document["file"]: document for document in run.results()}
    return [documents[_file(split, s, dft)] for dft in variants]


def evaluated(workspace: Workspace, run: Run, split: Split, s: EvaluationSettings) -> bool:
    """Return whether the results of a run are already in its folder."""
    names = [_file(split, s, dft) for dft in _variants(run)]
    paths = [run.folder / RESULTS / f"{name}{end}" for name in names for end in (".json", RANKS)]
    if not all(path.is_file() for path in paths):
        return False
    if s.keep_seen != "auto" or "repeats" in read_json(paths[0]):
        return True
    # This result was made before repeats were counted, when no seen item was a candidate.
    return not open_dataset(workspace, run.plan["data"]).keeps_seen()


def _variants(run: Run) -> list[bool]:
    """Return [True], and [True, False] for a run with two phases; False stands for the model after the first."""
    phases = [name for name in run.manifest().get("phases", {}) if name != PREPARATION]
    return [True] + [False] * (len(phases) > 1)


def _compute(
    workspace: Workspace,
    run: Run,
    split: Split,
    s: EvaluationSettings,
    variants: Sequence[bool],
    events: Events,
    device: str,
) -> None:
    """Rank the targets with each variant of a run, and write documents and ranks for both protocols."""
    train_on = run.settings.training.train_on
    if train_on == "all" or (train_on == "train+valid" and split == "valid"):
        how = "on every interaction (--final)" if train_on == "all" else "with the validation items (--refit)"
        raise UserError(f"run {run.name} was trained {how}: there is nothing held out to evaluate")
    training_data = training_data_of(workspace, run, events, device)
    dataset = training_data.dataset
    queries = training_data.queries(split, s.keep_seen)
    if not len(queries):
        raise UserError(f"{dataset.name} has no {split} target: its users have fewer than three interactions")
    sampled = candidates(workspace, dataset, split, s.negatives, keep_seen=queries.keep_seen)
    for dft in variants:
        started = time.perf_counter()
        trained = load_trained(training_data, run.settings, run.folder, first_phase=not dft)
        scorer = trained.scorer(queries.inputs, queries.targets.domains)
        ranks = rank(scorer, queries, candidates=sampled, top=TOP)
        seconds = time.perf_counter() - started
        for protocol in ("full", "sampled"):
            protocol_settings = s.model_copy(update={"protocol": protocol})
            name = _file(split, protocol_settings, dft)
            document: RunResult = {
                "file": name,
                **_header(workspace, run, dataset, dft),
                "split": split,
                "protocol": protocol,
                "negatives": s.negatives if protocol == "sampled" else None,
                **_seen(dataset, s),
                "rank_seconds": round(seconds, 3),
                **figures(dataset, queries, ranks, protocol, dataset.has_text),
            }
            run.write_result(name, document)
            _save_ranks(run, queries, ranks, protocol, f"{name}{RANKS}")
        events.progress(f"evaluate {run.name}", 1 + variants.index(dft), len(variants))


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
    training_data = [training_data_of(workspace, run, events, device) for run in runs]
    dataset = training_data[0].dataset
    if len({run.plan["data_key"] for run in runs}) != 1:
        raise UserError("runs that are to be evaluated together must be trained on the same part of the same data")
    queries = [data.queries(split, s.keep_seen) for data in training_data]
    scorers = [
        load_trained(data, run.settings, run.folder).scorer(run_queries.inputs, run_queries.targets.domains)
        for data, run, run_queries in zip(training_data, runs, queries, strict=True)
    ]
    sampled = candidates(workspace, dataset, split, s.negatives, keep_seen=queries[0].keep_seen)
    ranks = rank(Ensemble(scorers), queries[0], candidates=sampled, top=TOP)
    headers = [_header(workspace, run, dataset, True) for run in runs]
    names = dict.fromkeys(map(name_of, runs))
    return {
        **headers[0],
        "run": " + ".join(run.name for run in runs),
        "label": f"{' + '.join(names)}, {len(runs)} together",
        "preset": " + ".join(dict.fromkeys(header["preset"] for header in headers)),
        "parameters": sum(header["parameters"] or 0 for header in headers),
        "seconds": sum(header["seconds"] or 0.0 for header in headers),
        "split": split,
        "protocol": s.protocol,
        "negatives": s.negatives if s.protocol == "sampled" else None,
        **_seen(dataset, s),
        **figures(dataset, queries[0], ranks, s.protocol, dataset.has_text),  # type: ignore[typeddict-item]
    }


def _seen(dataset: Dataset, s: EvaluationSettings) -> Seen:
    """Return whether seen items are candidates, why, and the share of the dataset's targets that are repeats."""
    return {
        "keep_seen": dataset.keeps_seen(s.keep_seen),
        "keep_seen_by": "repeats" if s.keep_seen == "auto" else "setting",
        "repeats": dataset.repeat_share,
    }


def _header(workspace: Workspace, run: Run, dataset: Dataset, dft: bool) -> Header:
    """Return the fields of a result document that say which run it is of."""
    manifest, names = run.manifest(), identity(run, first_phase=not dft)
    phases = manifest.get("phases", {}).values()
    header: Header = {
        "run": run.name,
        "data": dataset.name,
        "data_key": dataset.key,
        "synthetic": _synthetic(workspace, dataset),
        "model": run.settings.model.name,
        "preset": names["preset"],
        "variant": names["variant"],
        "first_phase": not dft,
        "llm": run.plan["llm"] if asks_llm(run.settings.model) else "",
        "seed": run.settings.training.seed,
        "parameters": manifest.get("parameters"),
        "seconds": sum(phase["seconds"] for phase in phases) if phases else None,
    }
    if "item_vectors" in run.plan:
        header["item_vectors"] = run.plan["item_vectors"]
    return header


def _save_ranks(run: Run, queries: EvalQueries, ranks: Ranks, protocol: str, name: str) -> None:
    """Write each user's rank under one protocol, so that differences between runs can be paired."""
    frame = pl.DataFrame(
        {
            "user": queries.targets.users.astype(np.int32),
            "item": queries.targets.items.astype(np.int32),
            "domain": queries.targets.domains.astype(np.int8),
            f"rank_{protocol}": ranks.full if protocol == "full" else ranks.sampled,
        }
    )
    buffer = BytesIO()
    frame.write_parquet(buffer)
    write_atomic(run.folder / RESULTS / name, buffer.getvalue())


def ranks_of(run: Run, document: RunResult) -> pl.DataFrame:
    """Return the ranks behind a result document, with columns user, item, domain and rank.

    Raises:
        UserError: If the file is missing or damaged.
    """
    path = run.folder / RESULTS / f"{document['file']}{RANKS}"
    try:
        frame = pl.read_parquet(path, glob=False)
        return frame.select("user", "item", "domain", pl.col(f"rank_{document['protocol']}").alias("rank"))
    except (OSError, pl.exceptions.PolarsError) as error:
        raise UserError(f"cannot read {path} ({type(error).__name__}); remove it and evaluate again") from None


def _file(split: Split, s: EvaluationSettings, dft: bool) -> str:
    """Return the name of a result document's file, without its ending."""
    parts = [split, s.protocol if s.protocol == "full" else f"{s.protocol}-{s.negatives}"]
    seen = {"auto": [], True: ["with-seen"], False: ["without-seen"]}[s.keep_seen]
    return "-".join(parts + seen + ["without-dft"] * (not dft))


def statistics(workspace: Workspace, dataset: Dataset, run: Run | None) -> Statistics:
    """Return the figures of table 1 for a dataset: before augmentation and, with an LLM-EDT run, after it."""
    counts = dataset.sequences.domain_counts(dataset.domains)
    domains: dict[str, DomainStatistics] = {
        name: {"users": int((counts[:, number] > 0).sum()), "items": len(dataset.domains.range(number))}
        for number, name in enumerate(dataset.domains.names)
    }
    length = float(dataset.sequences.lengths.mean())
    before: PairStatistics = {"domains": domains, "average_length": length}
    synthetic = _synthetic(workspace, dataset)
    document: Statistics = {
        "data": dataset.name,
        "synthetic": synthetic,
        "llm": "",
        "before": before,
        "after": None,
    }
    if run is None or run.plan["data_key"] != dataset.key:
        return document
    augmentation = Augmentation.load(workspace.artefact("augmentation", run.plan["artefacts"]["augmentation"]).path)
    pseudo = np.bincount(augmentation.pseudo["domain"].to_numpy(), minlength=len(dataset.domains))
    after: PairStatistics = {
        "domains": {
            name: {"users": figures["users"], "items": figures["items"] + int(pseudo[number])}
            for number, (name, figures) in enumerate(domains.items())
        },
        "average_length": length + float(augmentation.inserted.sum()) / len(dataset.sequences),
    }
    return {**document, "llm": run.plan["llm"], "after": after}


def _synthetic(workspace: Workspace, dataset: Dataset) -> bool:
    return bool(workspace.dataset(dataset.name).manifest().get("synthetic"))
