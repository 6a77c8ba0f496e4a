"""Recommendations for known and new users, and the export of item vectors."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

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
from edt_cli.workspace.files import replacing
from edt_cli.workspace.runs import Run

CHUNK = 512
"""Users scored at once."""
USERS = 20_000
"""Users per chunk, so that memory stays small however many users there are."""


@dataclass(frozen=True)
class UserHistories:
    """Users to recommend items to, with one row in `inputs` and in `history` for each."""

    names: Sequence[str]
    inputs: Sequences
    """Sequences that the model reads; they may hold pseudo-items."""
    history: Sequences
    """Items that the users have interacted with."""


def known_users(training_data: TrainingData, names: Sequence[str] | None = None) -> UserHistories:
    """Return users of the dataset with all their interactions; all users if `names` is None.

    Raises:
        UserError: If the dataset has no such user.
    """
    dataset = training_data.dataset
    if names is None:
        users = np.arange(len(dataset.user_ids))
    else:
        users = np.array([dataset.user(name) for name in dict.fromkeys(names)])
    inputs, history = complete_histories(
        dataset, users, training_data.sequences, training_data.view.prefixes.lengths
    )
    return UserHistories([dataset.user_ids[user] for user in users.tolist()], inputs, history)


class NewUsers(NamedTuple):
    """Users that the model was not trained on, and what of their histories is not in the catalogue."""

    users: UserHistories
    unknown_items: int
    left_out: list[str]
    """Users without a known item."""


def new_users(dataset: Dataset, histories: Mapping[str, Sequence[str]]) -> NewUsers:
    """Return users that the model was not trained on.

    Args:
        dataset: The dataset whose catalogue holds the items.
        histories: Item ids of each user, oldest first.

    Raises:
        UserError: If no item of any user is in the catalogue.
    """
    names, rows, unknown, left_out = [], [], 0, []
    for name, ids in histories.items():
        numbers = [number for item in ids if (number := dataset.item_number(item)) is not None]
        unknown += len(ids) - len(numbers)
        if numbers:
            names.append(name)
            rows.append(numbers)
        else:
            left_out.append(name)
    if not names:
        raise UserError(f"no item of these histories is in the catalogue of {dataset.name}")
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
    sequences = Sequences(offsets, np.array([number for row in rows for number in row], dtype=np.int64))
    return NewUsers(UserHistories(names, sequences, sequences), unknown, left_out)


def recommend(
    training_data: TrainingData,
    trained: Recommender,
    users: UserHistories,
    *,
    count: int,
    domains: Sequence[int],
    exclude: Collection[str] = (),
    keep_seen: KeepSeen = "auto",
) -> pl.DataFrame:
    """Return the `count` best catalogue items of each user in each of `domains`.

    Args:
        training_data: Data and artefacts of the run.
        trained: The trained model.
        users: The users to recommend items to.
        count: Number of items per user and domain.
        domains: Numbers of the domains to recommend from.
        exclude: Ids of items never to recommend.
        keep_seen: Whether items that a user has interacted with may be recommended.

    Returns:
        A frame with columns user, domain, rank, item, title and score.
    """
    dataset = training_data.dataset
    keeps_seen = dataset.keeps_seen(keep_seen)
    hidden = np.array(sorted(n for name in exclude if (n := dataset.item_number(name)) is not None), dtype=np.int64)
    tables = []
    for rows in chunks(np.arange(len(users.names)), USERS):
        for domain in domains:
            tables.append(
                _recommend_in_domain(training_data, trained, users, rows, domain, count, hidden, keeps_seen)
            )
    frame = pl.concat(tables)
    catalogue = dataset.catalogue.select("id", "title").with_row_index("number", offset=1)
    return (
        frame.join(catalogue.with_columns(pl.col("number").cast(pl.Int64)), on="number", how="left")
        .with_columns(user=pl.Series(list(users.names), dtype=pl.String)[frame["row"]])
        .sort("row", "domain_number", "rank")
        .select("user", "domain", "rank", pl.col("id").alias("item"), "title", "score")
    )


def _recommend_in_domain(
    training_data: TrainingData,
    trained: Recommender,
    users: UserHistories,
    rows: np.ndarray,
    domain: int,
    count: int,
    hidden: np.ndarray,
    keep_seen: bool,
) -> pl.DataFrame:
    """Return the best items of one domain for the users in `rows`."""
    inputs, history = (sequences.rows(rows) for sequences in (users.inputs, users.history))
    target_domains = np.full(len(rows), domain)
    scorer = trained.scorer(inputs, target_domains)
    items = training_data.dataset.domains.range(domain)
    out_of_stock = hidden[(hidden >= items.start) & (hidden < items.stop)] - items.start
    targets = Targets(
        users=rows, positions=inputs.lengths, items=np.zeros(len(rows), dtype=np.int64), domains=target_domains
    )
    queries = EvalQueries(
        domains=training_data.dataset.domains, targets=targets, inputs=inputs, history=history, keep_seen=keep_seen
    )
    parts = []
    for batch in chunks(np.arange(len(rows)), CHUNK):
        scores = scorer.scores(torch.from_numpy(batch), domain).cpu()
        scores[:, torch.from_numpy(out_of_stock)] = float("-inf")
        scores[tuple(torch.from_numpy(part) for part in queries.excluded(batch, domain))] = float("-inf")
        best, columns = scores.topk(min(count, scores.shape[1]), dim=1)
        real = torch.isfinite(best).numpy()
        row, rank = np.nonzero(real)
        parts.append(
            pl.DataFrame(
                {
                    "row": rows[batch[row]],
                    "domain_number": np.full(len(row), domain),
                    "domain": pl.Series([training_data.dataset.domains.names[domain]] * len(row), dtype=pl.String),
                    "rank": rank + 1,
                    "number": columns.numpy()[real] + items.start,
                    "score": best.numpy()[real].astype(np.float64),
                }
            )
        )
    return pl.concat(parts)


def export_items(training_data: TrainingData, run: Run, folder: Path) -> dict[str, Any]:
    """Write the item vectors of a run for use in any vector index.

    Writes `items.safetensors` (`vectors` [N, D]) and `items.parquet` (row, id, domain, title). A score is the inner
    product of a user's state with a row.

    Returns:
        The number of items, their dimension and the folder.

    Raises:
        UserError: If the system has no item vectors, or if its scores are not inner products alone.
    """
    from safetensors.torch import save_file

    model = load_trained(training_data, run.settings, run.folder)
    if not isinstance(model, SequentialModel):
        raise UserError(f"{run.settings.model.name} learns no item vectors; export from a trained model")
    if model.side_score is not None:
        raise UserError(f"scores of {run.name} are not inner products alone: use edt recommend --all")
    vectors = model.item_vectors()[1:].cpu().contiguous()
    folder.mkdir(parents=True, exist_ok=True)
    save_file({"vectors": vectors}, folder / "items.safetensors")
    domains = training_data.dataset.domains
    names = [domains.names[number] for number in domains.of(np.arange(1, domains.items + 1))]
    training_data.dataset.catalogue.select("id", pl.Series("domain", names), "title").with_row_index(
        "row"
    ).write_parquet(folder / "items.parquet")
    return {"items": len(vectors), "dimension": vectors.shape[1], "folder": str(folder)}


def checked_ending(path: Path) -> None:
    """Check that `write_table` supports the file's ending.

    Raises:
        UsageError: If it does not.
    """
    if path.suffix not in (".parquet", ".csv", ".jsonl"):
        raise UsageError(f"{path}: the file's ending says the form; use .parquet, .csv or .jsonl")


def write_table(frame: pl.DataFrame, path: Path) -> None:
    """Write a table as Parquet, CSV or JSON lines, by the file's ending.

    Raises:
        UsageError: If the ending is not supported.
        UserError: If the file cannot be written.
    """
    checked_ending(path)
    with replacing(path) as temporary:
        if path.suffix == ".parquet":
            frame.write_parquet(temporary)
        elif path.suffix == ".csv":
            frame.write_csv(temporary)
        else:
            frame.write_ndjson(temporary)
