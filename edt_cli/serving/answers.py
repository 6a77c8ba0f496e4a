"""Answers to requests for recommendations and similar items, from one trained run, many requests at once."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

import numpy as np
import polars as pl
import torch
from torch.nn import functional as F

from edt_cli.config import UserError
from edt_cli.data.dataset import Sequences, grouped
from edt_cli.data.formats import normal_id
from edt_cli.evaluation.queries import complete_histories
from edt_cli.inference.measure import training_data_of
from edt_cli.inference.recommend import UserHistories, best_items
from edt_cli.inference.trained import load_trained
from edt_cli.models.popularity import Popularity
from edt_cli.models.scorers import Recommender
from edt_cli.models.sequential import SequentialModel
from edt_cli.training.data import TrainingData
from edt_cli.workspace.events import Events
from edt_cli.workspace.layout import Workspace
from edt_cli.workspace.runs import Run


class Query(NamedTuple):
    """A request for recommendations.

    Attributes:
        user: Number of a user of the dataset; None for a new user.
        items: Numbers of the items that follow the user's history, or of a new user's whole history, oldest first.
        exclude: Numbers of items not to recommend.
        domains: Numbers of the domains to recommend from.
        limit: Number of items per domain.
    """

    user: int | None
    items: tuple[int, ...]
    exclude: tuple[int, ...]
    domains: tuple[int, ...]
    limit: int


class Recommended(NamedTuple):
    """An item of a list, the best first."""

    item: str
    title: str | None
    score: float


class Answer(NamedTuple):
    """Lists by domain, and what made them: "model", or "popular" for a user without a history."""

    domains: dict[str, list[Recommended]]
    source: str


@dataclass(frozen=True)
class Known:
    """Items by number, and how many ids the catalogue does not have."""

    numbers: tuple[int, ...]
    unknown: int


class Answers:
    """A trained run in memory.

    Attributes:
        run: The run.
        loaded: Unix seconds at which it was loaded.
    """

    def __init__(self, run: Run, data: TrainingData, trained: Recommender) -> None:
        """Answer from a trained model.

        Args:
            run: The run that trained it.
            data: Data and artefacts of the run.
            trained: The model.
        """
        self.run = run
        self.loaded = time.time()
        self._data, self._trained = data, trained
        self._popular = Popularity(data)
        self._keep_seen = data.dataset.keeps_seen("auto")
        catalogue = data.dataset.catalogue
        self._ids, self._titles = catalogue["id"].to_list(), catalogue["title"].to_list()
        times = data.dataset.sequences.times
        self._now = 0 if times is None else int(times.max(initial=0))

    @classmethod
    def load(
        cls, workspace: Workspace, run: Run, device: str = "cpu", new_items: pl.DataFrame | None = None
    ) -> Answers:
        """Load data, artefacts and weights of a run.

        Args:
            workspace: The workspace of the run.
            run: The run.
            device: Name of the device to compute on.
            new_items: Items that came after its training, as `with_new_items` takes them.

        Raises:
            UserError: If the dataset has changed since, a file is missing, or new items cannot be added.
        """
        data = training_data_of(workspace, run, Events(), device, new_items)
        return cls(run, data, load_trained(data, run.settings, run.folder))

    @property
    def domains(self) -> Sequence[str]:
        """Names of the domains."""
        return self._data.dataset.domains.names

    @property
    def items(self) -> int:
        """Number of items in the catalogue."""
        return len(self._ids)

    @property
    def users(self) -> int:
        """Number of users of the dataset."""
        return len(self._data.dataset.user_ids)

    def user(self, name: str) -> int | None:
        """Return the number of a user, or None if the dataset has no such user."""
        dataset = self._data.dataset
        return dataset.user(name) if dataset.has_user(name) else None

    def numbers(self, ids: Sequence[str]) -> Known:
        """Return the numbers of item ids, in order, without those that the catalogue does not have."""
        found = [self._data.dataset.item_number(normal_id(name)) for name in ids]
        known = tuple(number for number in found if number is not None)
        return Known(known, len(found) - len(known))

    def domain_numbers(self, name: str | None) -> tuple[int, ...]:
        """Return the number of a domain, or of every domain for None.

        Raises:
            UserError: If there is no such domain.
        """
        return tuple(range(len(self.domains))) if name is None else (self._data.dataset.domains.number(name),)

    def recommend(self, queries: Sequence[Query]) -> list[Answer]:
        """Return the best items for each query; queries in the same domains are scored together."""
        answers: dict[int, Answer] = {}
        order = sorted(range(len(queries)), key=lambda row: queries[row].domains)
        for domains, rows in groupby(order, key=lambda row: queries[row].domains):
            alike = list(rows)
            answers.update(zip(alike, self._recommend([queries[row] for row in alike], domains), strict=True))
        return [answers[row] for row in range(len(queries))]

    def _recommend(self, queries: Sequence[Query], domains: tuple[int, ...]) -> list[Answer]:
        histories = self._histories(queries)
        frame = best_items(
            self._trained,
            self._popular,
            self._data.dataset.domains,
            histories,
            count=max(query.limit for query in queries),
            domains=domains,
            hidden=np.zeros(0, dtype=np.int64),
            keep_seen=False,
        )
        with_history = histories.inputs.lengths > 0
        names = [self.domains[domain] for domain in domains]
        answers = [Answer({name: [] for name in names}, "model" if known else "popular") for known in with_history]
        columns = (frame[name].to_list() for name in ("row", "domain", "rank", "number", "score"))
        for row, domain, rank, number, score in zip(*columns, strict=True):
            if rank <= queries[row].limit:
                answers[row].domains[domain].append(
                    Recommended(self._ids[number - 1], self._titles[number - 1], score)
                )
        return answers

    def _histories(self, queries: Sequence[Query]) -> UserHistories:
        """Return what the model reads of each query, and as `history` what is not to be recommended."""
        dataset, known = self._data.dataset, [row for row, query in enumerate(queries) if query.user is not None]
        users = np.array([queries[row].user for row in known], dtype=np.int64)
        lengths = self._data.view.prefixes.lengths
        inputs, history = complete_histories(dataset, users, self._data.sequences, lengths)
        rows = np.array(known, dtype=np.int64)
        new = _flat([query.items for query in queries], self._now)
        excluded = _flat([query.exclude for query in queries], self._now)
        seen = [] if self._keep_seen else [(rows, history), (None, new)]
        return UserHistories(
            names=[""] * len(queries),
            inputs=_joined([(rows, inputs), (None, new)], len(queries)),
            history=_joined([*seen, (None, excluded)], len(queries)),
        )

    def similar(self, item: str, domains: tuple[int, ...], count: int) -> dict[str, list[Recommended]]:
        """Return the items whose vectors have the largest cosine with that of `item`, by domain.

        Raises:
            UserError: If the catalogue does not have the item, or the system has no item vectors.
        """
        number = self._data.dataset.item_number(normal_id(item))
        if number is None:
            raise UserError(f"there is no item {item!r} in {self._data.dataset.name}")
        if not isinstance(self._trained, SequentialModel):
            raise UserError(f"{self.run.settings.model.name} learns no vectors of items")
        with torch.inference_mode():
            vectors = F.normalize(self._trained.item_vectors().float(), dim=1)
            cosines = vectors @ vectors[number]
            cosines[number] = float("-inf")
        lists = {}
        for domain in domains:
            items = self._data.dataset.domains.range(domain)
            best, columns = cosines[items.start : items.stop].topk(min(count, len(items)))
            lists[self.domains[domain]] = [
                Recommended(self._ids[column + items.start - 1], self._titles[column + items.start - 1], score)
                for column, score in zip(columns.tolist(), best.tolist(), strict=True)
                if score > float("-inf")
            ]
        return lists


def _flat(rows: Sequence[Sequence[int]], time: int) -> Sequences:
    """Return lists of items as sequences, all at `time`."""
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    items = np.array([number for row in rows for number in row], dtype=np.int64)
    return Sequences(offsets, items, np.full(len(items), time, dtype=np.int64))


def _joined(parts: Sequence[tuple[np.ndarray | None, Sequences]], count: int) -> Sequences:
    """Return `count` sequences, each of them the parts of its row one after the other.

    Args:
        parts: Sequences with the row of each of them; None for all rows in order.
        count: Number of rows.
    """
    rows = [part.users if at is None else at[part.users] for at, part in parts]
    items = np.concatenate([part.items for _, part in parts])
    known = [part.times for _, part in parts]
    times = None if any(part is None for part in known) else np.concatenate([t for t in known if t is not None])
    return grouped(np.concatenate(rows), items, times, count)
