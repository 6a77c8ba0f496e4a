"""Items for a user, known or new, and the vectors for an index elsewhere."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from edt_cli.config import KeepSeen, UsageError, UserError
from edt_cli.data.dataset import Dataset, Sequences, Targets
from edt_cli.evaluation.candidates import chunks
from edt_cli.evaluation.queries import EvalQueries, complete_histories
from edt_cli.inference.trained import load_trained
from edt_cli.models.scorers import Recommender
from edt_cli.models.sequential import SequentialModel
from edt_cli.training.data import TrainingData
from edt_cli.workspace.runs import Run

CHUNK = 512
USERS = 20_000
"""Users at a time in an export: what is held of them stays small however many there are."""


@dataclass(frozen=True)
class Asked:
    """Whose next items are wanted. `inputs`: what the model looks at; `history`: what they have had."""

    names: Sequence[str]
    inputs: Sequences
    history: Sequences


def known_users(material: TrainingData, names: Sequence[str] | None = None) -> Asked:
    """Users of the dataset with all their interactions, None: everybody. Errors: UserError for an unknown one."""
    dataset = material.dataset
    users = np.arange(len(dataset.user_ids)) if names is None else np.array([dataset.user(name) for name in names])
    inputs, history = complete_histories(dataset, users, material.sequences, material.view.prefixes.lengths)
    return Asked([dataset.user_ids[user] for user in users], inputs, history)


def new_users(dataset: Dataset, histories: dict[str, list[str]]) -> tuple[Asked, int]:
    """Users that the model never saw, by their item ids, oldest first; and how many ids the catalogue lacks.

    Errors: UserError for a user of whom no item is known.
    """
    rows, unknown = [], 0
    for name, ids in histories.items():
        numbers = [number for item in ids if (number := dataset.item_number(item)) is not None]
        unknown += len(ids) - len(numbers)
        if not numbers:
            raise UserError(f"none of the items of user {name!r} is in the catalogue of {dataset.name}")
        rows.append(numbers)
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
    sequences = Sequences(offsets, np.array([number for row in rows for number in row], dtype=np.int64))
    return Asked(list(histories), sequences, sequences), unknown


def read_histories(path: Path) -> dict[str, list[str]]:
    """A CSV or Parquet file with columns `user` and `item`, oldest first, or `item` alone for one user."""
    frame = _table(path)
    if "item" not in frame.columns:
        raise UserError(f"{path} needs a column `item` (and `user`, if it holds several); it has {frame.columns}")
    if "user" not in frame.columns:
        frame = frame.with_columns(user=pl.lit("new user"))
    frame = frame.select(pl.col("user").cast(pl.String), pl.col("item").cast(pl.String)).drop_nulls()
    if frame.is_empty():
        raise UserError(f"{path} holds no history")
    grouped = frame.group_by("user", maintain_order=True).agg("item")
    return dict(zip(grouped["user"].to_list(), grouped["item"].to_list(), strict=True))


def read_items(path: Path) -> set[str]:
    """Item ids, one a line, or a CSV or Parquet file with a column `item`: what is out of stock, say."""
    if path.suffix in (".csv", ".parquet"):
        frame = _table(path)
        if "item" not in frame.columns:
            raise UserError(f"{path} needs a column `item`; it has {frame.columns}")
        return set(frame["item"].cast(pl.String).drop_nulls())
    try:
        return {line.strip() for line in path.read_text("utf-8").splitlines() if line.strip()}
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}") from None


def recommend(
    material: TrainingData,
    trained: Recommender,
    asked: Asked,
    *,
    count: int,
    domains: Sequence[int],
    exclude: Collection[str] = (),
    keep_seen: KeepSeen = "auto",
) -> pl.DataFrame:
    """The `count` best items for each user in each of `domains`: user, domain, rank, item, title, score.

    Catalogue items only, none of `exclude`, and none that the user has had, unless these stay candidates.
    """
    dataset = material.dataset
    keep = dataset.keeps_seen(keep_seen)
    hidden = np.array(sorted(n for name in exclude if (n := dataset.item_number(name)) is not None), dtype=np.int64)
    found = []
    for users in chunks(np.arange(len(asked.names)), USERS):
        for domain in domains:
            found.append(_of_domain(material, trained, asked, users, domain, count, hidden, keep))
    frame = pl.concat(found)
    catalogue = dataset.catalogue.select("id", "title").with_row_index("number", offset=1)
    return (
        frame.join(catalogue.with_columns(pl.col("number").cast(pl.Int64)), on="number", how="left")
        .with_columns(user=pl.Series(list(asked.names), dtype=pl.String)[frame["row"]])
        .sort("row", "place", "rank")
        .select("user", "domain", "rank", pl.col("id").alias("item"), "title", "score")
    )


def _of_domain(
    material: TrainingData,
    trained: Recommender,
    asked: Asked,
    users: np.ndarray,
    domain: int,
    count: int,
    hidden: np.ndarray,
    keep_seen: bool,
) -> pl.DataFrame:
    inputs, history = (sequences.rows(users) for sequences in (asked.inputs, asked.history))
    every = np.full(len(users), domain)
    scorer = trained.scorer(inputs, every)
    items = material.dataset.domains.range(domain)
    out_of_stock = hidden[(hidden >= items.start) & (hidden < items.stop)] - items.start
    targets = Targets(
        users=users, positions=inputs.lengths, items=np.zeros(len(users), dtype=np.int64), domains=every
    )
    queries = EvalQueries(
        domains=material.dataset.domains, targets=targets, inputs=inputs, history=history, keep_seen=keep_seen
    )
    parts = []
    for rows in chunks(np.arange(len(users)), CHUNK):
        scores = scorer.scores(torch.from_numpy(rows), domain).cpu()
        scores[:, torch.from_numpy(out_of_stock)] = float("-inf")
        scores[tuple(torch.from_numpy(part) for part in queries.excluded(rows, domain))] = float("-inf")
        best, columns = scores.topk(min(count, scores.shape[1]), dim=1)
        real = torch.isfinite(best).numpy()
        row, rank = np.nonzero(real)
        parts.append(
            pl.DataFrame(
                {
                    "row": users[rows[row]],
                    "place": np.full(len(row), domain),
                    "domain": pl.Series([material.dataset.domains.names[domain]] * len(row), dtype=pl.String),
                    "rank": rank + 1,
                    "number": columns.numpy()[real] + items.start,
                    "score": best.numpy()[real].astype(np.float64),
                }
            )
        )
    return pl.concat(parts)


def export_items(material: TrainingData, run: Run, folder: Path) -> dict[str, Any]:
    """Item vectors for any index: `items.safetensors` (`vectors` [N, D]), `items.parquet` (row, id, domain, title).

    A score is the inner product of a user's state with a row. Errors: UserError for a system without vectors, or
    whose memory adds to the score what no vector holds.
    """
    from safetensors.torch import save_file

    model = load_trained(material, run.settings, run.folder)
    if not isinstance(model, SequentialModel):
        raise UserError(f"{run.settings.model.name} learns no item vectors; export from a trained model")
    if model.side_score is not None:
        raise UserError(f"scores of {run.name} are not inner products alone: use edt recommend --all")
    vectors = model.item_vectors()[1:].cpu().contiguous()
    folder.mkdir(parents=True, exist_ok=True)
    save_file({"vectors": vectors}, folder / "items.safetensors")
    domains = material.dataset.domains
    names = [domains.names[number] for number in domains.of(np.arange(1, domains.items + 1))]
    material.dataset.catalogue.select("id", pl.Series("domain", names), "title").with_row_index(
        "row"
    ).write_parquet(folder / "items.parquet")
    return {"items": len(vectors), "dimension": vectors.shape[1], "folder": str(folder)}


def checked_ending(path: Path) -> None:
    """Errors: UsageError for a file that `write_table` has no form for."""
    if path.suffix not in (".parquet", ".csv", ".jsonl"):
        raise UsageError(f"{path}: the file's ending says the form; use .parquet, .csv or .jsonl")


def write_table(frame: pl.DataFrame, path: Path) -> None:
    """Parquet, CSV or JSON lines, by the file's ending."""
    checked_ending(path)
    try:
        if path.suffix == ".parquet":
            frame.write_parquet(path)
        elif path.suffix == ".csv":
            frame.write_csv(path)
        else:
            frame.write_ndjson(path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error}") from None


def _table(path: Path) -> pl.DataFrame:
    try:
        return pl.read_parquet(path) if path.suffix == ".parquet" else pl.read_csv(path, infer_schema=False)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise UserError(f"cannot read {path}: {str(error).splitlines()[0]}") from None
