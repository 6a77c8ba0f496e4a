"""Export of the vectors of items and users, for any vector index: a score is their inner product."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from safetensors.numpy import save

from edt_cli.config import UserError
from edt_cli.evaluation.candidates import chunks
from edt_cli.inference.recommend import USERS, UserHistories
from edt_cli.inference.trained import load_trained
from edt_cli.models.scorers import InnerProduct
from edt_cli.models.sequential import SequentialModel
from edt_cli.training.data import TrainingData
from edt_cli.workspace.files import explained, replacing, write_atomic
from edt_cli.workspace.layout import write_json
from edt_cli.workspace.runs import Run
from edt_cli.workspace.version import __version__


def export_items(training_data: TrainingData, run: Run, folder: Path) -> dict[str, Any]:
    """Write the vectors of all items as `items.safetensors` and, by row, what they are of: `items.parquet`.

    Returns:
        The manifest, which is `items.json` beside them.

    Raises:
        UserError: If the system has no item vectors, or if its scores are not inner products alone.
    """
    return write_items(training_data, run, _model_of_whole_score(training_data, run), folder)


def write_items(training_data: TrainingData, run: Run, model: SequentialModel, folder: Path) -> dict[str, Any]:
    """Write the files of `export_items` for a loaded model, and return the manifest."""
    domains = training_data.dataset.domains
    names = [domains.names[number] for number in domains.of(np.arange(1, domains.items + 1))]
    rows = training_data.dataset.catalogue.select("id", pl.Series("domain", names), "title")
    return _write(folder, "items", run, model.item_vectors()[1:].cpu().numpy(), rows)


def export_users(
    training_data: TrainingData, run: Run, users: UserHistories, domains: Sequence[int], folder: Path
) -> dict[str, Any]:
    """Write the vectors of users as `users.safetensors` and, by row, what they are of: `users.parquet`.

    A user has a row for each of `domains`, to be multiplied with the items of that domain. There is none of a user
    without a history.

    Returns:
        The manifest, which is `users.json` beside them.

    Raises:
        UserError: If the system has no user vectors, or if its scores are not inner products alone.
    """
    model = _model_of_whole_score(training_data, run)
    vectors, rows = [], []
    for part in chunks(np.flatnonzero(users.inputs.lengths), USERS):
        ids = pl.Series("id", [users.names[user] for user in part], dtype=pl.String)
        for domain in domains:
            scorer = model.scorer(users.inputs.rows(part), np.full(len(part), domain))
            assert isinstance(scorer, InnerProduct)
            vectors.append(scorer.states.cpu().numpy())
            rows.append(pl.select(ids, domain=pl.lit(training_data.dataset.domains.names[domain])))
    if not rows:
        raise UserError("none of these users has a history, so there is no vector to write")
    return _write(folder, "users", run, np.concatenate(vectors), pl.concat(rows))


def model_of_vectors(training_data: TrainingData, run: Run) -> SequentialModel:
    """Return the trained model of a run.

    Raises:
        UserError: If it learns no vectors.
    """
    model = load_trained(training_data, run.settings, run.folder)
    if not isinstance(model, SequentialModel):
        raise UserError(f"{run.settings.model.name} learns no vectors; export from a trained model")
    return model


def _model_of_whole_score(training_data: TrainingData, run: Run) -> SequentialModel:
    model = model_of_vectors(training_data, run)
    if model.side_score is not None:
        raise UserError(f"scores of {run.name} are not inner products alone: use edt recommend --all")
    return model


def _write(folder: Path, kind: str, run: Run, vectors: np.ndarray, rows: pl.DataFrame) -> dict[str, Any]:
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / f"{kind}.safetensors", save({"vectors": np.ascontiguousarray(vectors)}))
    with replacing(folder / f"{kind}.parquet") as path:
        rows.with_row_index("row").write_parquet(path)
    manifest = {
        "run": run.name,
        "data": run.plan["data"],
        "data_key": run.dataset_key,
        kind: rows["id"].n_unique(),
        "rows": len(rows),
        "dimension": vectors.shape[1],
        "made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "edt": __version__,
    }
    write_json(folder / f"{kind}.json", manifest)
    return {**manifest, "folder": str(folder)}
