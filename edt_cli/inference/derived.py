"""Metrics of a result that need no ranking: from the ranks and the lists of recommended items that were kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from edt_cli.config import Split, UserError
from edt_cli.data.dataset import Dataset
from edt_cli.data.open import open_dataset
from edt_cli.evaluation.evaluate import list_figures, rank_figures
from edt_cli.evaluation.queries import EvalQueries, eval_queries
from edt_cli.llm.embeddings import ItemEmbeddings
from edt_cli.pipeline import Pipeline
from edt_cli.workspace.documents import Figures, RunResult
from edt_cli.workspace.events import Events
from edt_cli.workspace.layout import Workspace
from edt_cli.workspace.runs import Run, data_change


def dataset_of(workspace: Workspace, run: Run) -> Dataset:
    """Return the dataset that a run was trained on.

    Raises:
        UserError: If the dataset has changed since.
    """
    dataset = open_dataset(workspace, run.plan["data"])
    if data_change(workspace, run):
        raise UserError(
            f"dataset {dataset.name!r} has changed since run {run.name} was made: train again on the new data"
        )
    return dataset


def _sound_dataset_of(workspace: Workspace, run: Run) -> Dataset:
    """Return the dataset of a run whose targets and candidates are those of it.

    Raises:
        UserError: If they are others, as of an unsound run, or the dataset has changed since.
    """
    if run.unsound:
        raise UserError(f"run {run.name} is unsound ({run.unsound}): it has no figures but those that are there")
    return dataset_of(workspace, run)


def with_cutoffs(
    workspace: Workspace, run: Run, document: RunResult, ranks: np.ndarray, cutoffs: Sequence[int]
) -> RunResult:
    """Return a result with HR@k and NDCG@k at further cutoffs."""
    dataset = _sound_dataset_of(workspace, run)
    measured = rank_figures(dataset, _queries(dataset, document), ranks, cutoffs)
    groups = {
        group: {label: _merged(measured["groups"][group][label], domains) for label, domains in labels.items()}
        for group, labels in document["groups"].items()
    }
    return {
        **document,
        "domains": _merged(measured["domains"], document["domains"]),
        "overall": _joined(measured["overall"], document["overall"]),
        "groups": groups,
    }


def with_list_metrics(
    workspace: Workspace, run: Run, document: RunResult, lists: Path, events: Events
) -> RunResult:
    """Return a result with all metrics of recommended lists.

    Text vectors are made if that costs nothing and there are none.

    Args:
        workspace: The workspace of the run.
        run: The run.
        document: Its result.
        lists: File of the lists.
        events: Where progress is reported.

    Raises:
        UserError: If the lists cannot be read.
    """
    dataset = _sound_dataset_of(workspace, run)
    try:
        top = pl.read_parquet(lists, glob=False)["top"].to_numpy()
    except (OSError, pl.exceptions.PolarsError) as error:
        raise UserError(f"cannot read {lists} ({type(error).__name__}); remove it and evaluate again") from None
    vectors = text_vectors(workspace, run, dataset)
    if vectors is None:
        pipeline = Pipeline(workspace=workspace, dataset=dataset, settings=run.settings, events=events)
        vectors = None if pipeline.embedder.paid else pipeline.embeddings().vectors
    found = list_figures(dataset, _queries(dataset, document), top, vectors)
    return {
        **document,
        "domains": _merged(found["domains"], document["domains"]),
        "overall": _joined(found["overall"], document["overall"]),
    }


def text_vectors(workspace: Workspace, run: Run, dataset: Dataset) -> np.ndarray | None:
    """Return vectors of the items' texts, [1 + N, d_L], if there are any.

    They are those that came with the dataset, else those of the run, else the newest that were made.
    """
    if dataset.vectors is not None:
        return ItemEmbeddings.load(dataset.vectors.folder).vectors
    made = [artefact for artefact in workspace.all_artefacts() if artefact.kind == "embeddings"]
    of_data = [artefact for artefact in made if artefact.manifest().get("dataset") == dataset.key]
    own = [artefact for artefact in of_data if artefact.key == run.plan["artefacts"].get("embeddings")]
    newest = sorted(of_data, key=lambda artefact: str(artefact.manifest()["made"]))
    chosen = [*newest, *own]
    return ItemEmbeddings.load(chosen[-1].path).vectors if chosen else None


def _queries(dataset: Dataset, document: RunResult) -> EvalQueries:
    """Return the queries of a result, without what an augmentation inserted."""
    split: Split = "valid" if document["split"] == "valid" else "test"
    return eval_queries(dataset, split, dataset.training_view().prefixes)


def _merged(new: dict[str, Figures], old: dict[str, Figures]) -> dict[str, Figures]:
    """Return figures by domain, for the domains of `old`."""
    return {name: _joined(new[name], figures) for name, figures in old.items()}


def _joined(new: Figures, old: Figures) -> Figures:
    """Return all figures; those that were known before stay."""
    return {**old, **new, **{name: value for name, value in old.items() if value is not None}}
