"""Recommendations for known and new users."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
import torch

from edt_cli.config import KeepSeen, UsageError, UserError
from edt_cli.data.dataset import Dataset, Domains, Sequences, Targets
from edt_cli.evaluation.candidates import chunks
from edt_cli.evaluation.queries import EvalQueries, complete_histories
from edt_cli.models.popularity import Popularity
from edt_cli.models.scorers import Recommender
from edt_cli.training.data import TrainingData
from edt_cli.workspace.files import replacing

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


def known_users(
    training_data: TrainingData, names: Sequence[str] | None = None, *, allow_new: bool = False
) -> UserHistories:
    """Return users of the dataset with all their interactions; all users if `names` is None.

    Args:
        training_data: Data and artefacts of the run.
        names: Ids of users.
        allow_new: Take a user whom the dataset does not have for a new one, with an empty history.

    Raises:
        UserError: If the dataset has no such user.
    """
    dataset = training_data.dataset
    new: list[str] = []
    if names is None:
        users = np.arange(len(dataset.user_ids))
    else:
        if allow_new:
            new = [name for name in dict.fromkeys(names) if not dataset.has_user(name)]
        users = np.array([dataset.user(name) for name in dict.fromkeys(names) if name not in new], dtype=np.int64)
    inputs, history = complete_histories(
        dataset, users, training_data.sequences, training_data.view.prefixes.lengths
    )
    ids = [dataset.user_ids[user] for user in users.tolist()]
    return UserHistories([*ids, *new], _and_empty(inputs, len(new)), _and_empty(history, len(new)))


def users_as_tested(training_data: TrainingData, names: Sequence[str]) -> UserHistories:
    """Return users of the dataset as the test asks for them: with what came before their held-out item.

    Raises:
        UserError: If the dataset has no such user, or nothing is held out of one.
    """
    dataset, queries = training_data.dataset, training_data.queries("test")
    row_of = {user: row for row, user in enumerate(queries.targets.users.tolist())}
    users = [dataset.user(name) for name in dict.fromkeys(names)]
    if without := [dataset.user_ids[user] for user in users if user not in row_of]:
        raise UserError(f"no item of {without[0]} is held out for the test")
    rows = np.array([row_of[user] for user in users], dtype=np.int64)
    return UserHistories(
        [dataset.user_ids[user] for user in users], queries.inputs.rows(rows), queries.history.rows(rows)
    )


def _and_empty(sequences: Sequences, count: int) -> Sequences:
    """Add `count` empty sequences."""
    offsets = np.append(sequences.offsets, np.full(count, sequences.offsets[-1]))
    return Sequences(offsets, sequences.items, sequences.times)


class NewUsers(NamedTuple):
    """Users that the model was not trained on, and what of their histories is not in the catalogue."""

    users: UserHistories
    unknown_items: int
    unknown_users: list[str]
    """Users without a known item, whose history is empty."""


def new_users(dataset: Dataset, histories: Mapping[str, Sequence[str]]) -> NewUsers:
    """Return users that the model was not trained on.

    Args:
        dataset: The dataset whose catalogue holds the items.
        histories: Item ids of each user, oldest first.

    Raises:
        UserError: If several users have items, and none of these is in the catalogue: then the ids are other ones.
    """
    rows = [
        [number for item in ids if (number := dataset.item_number(item)) is not None] for ids in histories.values()
    ]
    if not any(rows) and sum(map(bool, histories.values())) > 1:
        raise UserError(
            f"no item of these histories is in the catalogue of {dataset.name}: do both use the same ids?"
        )
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    sequences = Sequences(offsets, np.array([number for row in rows for number in row], dtype=np.int64))
    return NewUsers(
        users=UserHistories(list(histories), sequences, sequences),
        unknown_items=sum(map(len, histories.values())) - len(sequences.items),
        unknown_users=[name for name, row in zip(histories, rows, strict=True) if not row],
    )


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

    A user without a history gets the items that are most popular in training.

    Args:
        training_data: Data and artefacts of the run.
        trained: The trained model.
        users: The users to recommend items to.
        count: Number of items per user and domain.
        domains: Numbers of the domains to recommend from.
        exclude: Ids of items never to recommend.
        keep_seen: Whether items that a user has interacted with may be recommended.

    Returns:
        A frame with columns user, domain, rank, item, title, score, and source: "model" or "popular".
    """
    dataset = training_data.dataset
    hidden = np.array(sorted(n for name in exclude if (n := dataset.item_number(name)) is not None), dtype=np.int64)
    frame = best_items(
        trained,
        Popularity(training_data),
        dataset.domains,
        users,
        count=count,
        domains=domains,
        hidden=hidden,
        keep_seen=dataset.keeps_seen(keep_seen),
    )
    catalogue = dataset.catalogue.select("id", "title").with_row_index("number", offset=1)
    return (
        frame.join(catalogue.with_columns(pl.col("number").cast(pl.Int64)), on="number", how="left")
        .with_columns(user=pl.Series(list(users.names), dtype=pl.String)[frame["row"]])
        .sort("row", "domain_number", "rank")
        .select("user", "domain", "rank", pl.col("id").alias("item"), "title", "score", "source")
    )


def best_items(
    trained: Recommender,
    popular: Popularity,
    all_domains: Domains,
    users: UserHistories,
    *,
    count: int,
    domains: Sequence[int],
    hidden: np.ndarray,
    keep_seen: bool,
) -> pl.DataFrame:
    """Return the `count` best items of each user in each of `domains`, by number.

    Args:
        trained: The trained model.
        popular: What ranks the items of users without a history.
        all_domains: The domains of the catalogue.
        users: The users to recommend items to.
        count: Number of items per user and domain.
        domains: Numbers of the domains to recommend from.
        hidden: Numbers of items never to recommend.
        keep_seen: Whether items of a user's `history` may be recommended.

    Returns:
        A frame with columns row (of `users`), domain_number, domain, rank, number, score, and source: "model" or
        "popular".
    """
    with_history = users.inputs.lengths > 0
    sources: list[tuple[str, Recommender, np.ndarray]] = [
        ("model", trained, np.flatnonzero(with_history)),
        ("popular", popular, np.flatnonzero(~with_history)),
    ]
    return pl.concat(
        [
            _best_of_domain(recommender, all_domains, users, rows, domain, count, hidden, keep_seen).with_columns(
                source=pl.lit(name)
            )
            for name, recommender, rows_of_source in sources
            for rows in chunks(rows_of_source, USERS)
            for domain in domains
        ]
    )


def _best_of_domain(
    trained: Recommender,
    all_domains: Domains,
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
    items = all_domains.range(domain)
    out_of_stock = hidden[(hidden >= items.start) & (hidden < items.stop)] - items.start
    targets = Targets(
        users=rows, positions=inputs.lengths, items=np.zeros(len(rows), dtype=np.int64), domains=target_domains
    )
    queries = EvalQueries(domains=all_domains, targets=targets, inputs=inputs, history=history, keep_seen=keep_seen)
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
                    "domain": pl.Series([all_domains.names[domain]] * len(row), dtype=pl.String),
                    "rank": rank + 1,
                    "number": columns.numpy()[real] + items.start,
                    "score": best.numpy()[real].astype(np.float64),
                }
            )
        )
    return pl.concat(parts)


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
