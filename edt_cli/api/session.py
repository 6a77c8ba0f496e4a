"""The Python API: open data, train a system, evaluate it, score, recommend, read results as a frame."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from edt_cli.config import (
    CUTOFFS,
    EvaluationSettings,
    KeepSeen,
    Protocol,
    Settings,
    Split,
    UserError,
    load_settings,
    validated,
)
from edt_cli.data.dataset import Dataset
from edt_cli.data.formats import normal_id
from edt_cli.data.open import open_dataset
from edt_cli.inference.labels import labelled
from edt_cli.inference.measure import training_data_of
from edt_cli.inference.recommend import UserHistories, known_users, new_users, recommend, users_as_tested
from edt_cli.inference.results import evaluate, ranks_of
from edt_cli.inference.trained import load_trained
from edt_cli.models.scorers import Recommender
from edt_cli.models.systems import checked, system
from edt_cli.pipeline import Pipeline
from edt_cli.training.data import TrainingData
from edt_cli.training.device import open_device
from edt_cli.workspace.documents import Result
from edt_cli.workspace.event_types import Remark
from edt_cli.workspace.events import Events
from edt_cli.workspace.layout import Workspace
from edt_cli.workspace.remote import pull, push
from edt_cli.workspace.runs import Run, find_runs

Listener = Callable[[dict[str, Any]], None]


def load_data(name: str = "demo", workspace: str | Path | None = None) -> Dataset:
    """Open a prepared dataset; `demo` makes itself.

    Args:
        name: As in `edt data prepare`.
        workspace: The folder that everything lies in, or its address in storage. Default: EDT_WORKSPACE, else
            `./edt-workspace`.

    Raises:
        UserError: If there is no such dataset; it says how to make one.
    """
    return open_dataset(_workspace(workspace), name)


def settings(name: str = "llm-edt", preset: str | None = None, /, **sections: Mapping[str, Any]) -> Settings:
    """Return all settings of a run.

    Args:
        name: The system's, as `edt models` lists it.
        preset: Where they come from. Default: the system's own.
        **sections: What is set otherwise: `training={"lr": 1e-3}, model={"hidden": 64}`.

    Raises:
        UsageError: If a system, a preset, a section or a field does not exist, or a value is out of range.
    """
    chosen = preset or system(name).preset
    flags = {**sections, "model": {"name": name, **sections.get("model", {})}}
    return checked(load_settings(chosen, flags=flags))


def train(
    data: str = "demo",
    settings: Settings | None = None,
    *,
    device: str = "auto",
    workspace: str | Path | None = None,
    listener: Listener | None = None,
) -> TrainedRun:
    """Train a system, after making whatever it needs; what is there already is not made again.

    Args:
        data: A prepared dataset by name.
        settings: By `settings()`. Default: LLM-EDT's preset `best`.
        device: `cpu`, `cuda`, `cuda:N`, `mps`, or `auto`: a GPU where there is one.
        workspace: As in `load_data`.
        listener: Is called with every event, a dict: epochs, losses, validation.

    Raises:
        UserError: If something is missing or wrong that a user can mend.
    """
    place, chosen = _workspace(workspace), str(open_device(device))
    listeners = () if listener is None else (listener,)
    events = Events(listeners=listeners)
    made = Pipeline(
        workspace=place,
        dataset=open_dataset(place, data),
        settings=settings or load_settings("best"),
        events=events,
        device=chosen,
    )
    run = made.run(listeners)
    push(place)
    return TrainedRun(place, run, chosen, events)


def runs(data: str | None = None, workspace: str | Path | None = None, device: str = "auto") -> list[TrainedRun]:
    """Return the finished runs of a dataset (default: the newest run's), the oldest first.

    Raises:
        UserError: If there is none.
    """
    place, chosen = _workspace(workspace), str(open_device(device))
    return [TrainedRun(place, run, chosen) for run in find_runs(place, data)]


@dataclass(frozen=True)
class TrainedRun:
    """A finished run, to evaluate and to recommend from. Data and model are read once, when first needed."""

    workspace: Workspace
    run: Run
    device: str = "cpu"
    events: Events = field(default_factory=Events, repr=False, compare=False)
    new_items: pl.DataFrame | None = field(default=None, repr=False, compare=False)
    """Items that came after training, to recommend them too: item, domain, title, brand, category, description."""

    @property
    def name(self) -> str:
        return self.run.name

    @property
    def settings(self) -> Settings:
        return self.run.settings

    @cached_property
    def data(self) -> TrainingData:
        """Data and artefacts that it was trained on, and new items."""
        return training_data_of(self.workspace, self.run, self.events, self.device, self.new_items)

    @cached_property
    def recommender(self) -> Recommender:
        """The trained model; its `scorer` takes histories by item number."""
        return load_trained(self.data, self.settings, self.run.folder)

    def evaluate(
        self,
        split: Split = "test",
        protocol: Protocol = "full",
        negatives: int = 100,
        *,
        keep_seen: KeepSeen = "auto",
        cutoffs: Sequence[int] = CUTOFFS,
    ) -> pl.DataFrame:
        """HR, NDCG, MRR and more of every domain; see `results`."""
        return results([self], split, protocol, negatives, keep_seen=keep_seen, cutoffs=cutoffs)

    def ranks(self, split: Split = "test", protocol: Protocol = "full", negatives: int = 100) -> pl.DataFrame:
        """Return the rank of each held-out item (1 is best), with its user, item and domain by number."""
        s = _evaluation(protocol, negatives)
        return ranks_of(self.run, evaluate(self.workspace, self.run, split, s, self.events, self.device)[0])

    def recommend(
        self,
        users: Sequence[str] | None = None,
        histories: Mapping[str, Sequence[str]] | None = None,
        *,
        count: int = 10,
        domain: str | None = None,
        exclude: Collection[str] = (),
        keep_seen: KeepSeen = "auto",
        allow_new: bool = False,
        held_out: bool = False,
    ) -> pl.DataFrame:
        """Return the best items for users, in each domain; the popular ones for a user of whom nothing is known.

        Args:
            users: Of the dataset. Default: all of them, unless there are `histories`.
            histories: Of users that the model never saw: item ids, oldest first, by name. A list may be empty.
            count: Items a user and domain.
            domain: Only of this one.
            exclude: Ids of items that are not to be recommended.
            keep_seen: Whether what a user has had stays a candidate.
            allow_new: Whether a name among `users` that the dataset does not have is a new user, and no error.
            held_out: Whether users are asked for as the test does, with what came before their held-out item.

        Returns:
            user, domain, rank, item, title, score, and source: "model" or "popular".

        Raises:
            UserError: For an unknown user or domain, or histories of several users without a known item.
        """
        domains = self.data.dataset.domains
        return recommend(
            self.data,
            self.recommender,
            self._tested(users) if held_out else self.queries(users, histories, allow_new=allow_new),
            count=count,
            domains=range(len(domains)) if domain is None else [domains.number(domain)],
            exclude=self._excluded(exclude),
            keep_seen=keep_seen,
        )

    def scores(
        self,
        domain: str,
        users: Sequence[str] | None = None,
        histories: Mapping[str, Sequence[str]] | None = None,
    ) -> np.ndarray:
        """Return the scores of all items of a domain for each user.

        Returns:
            float32 [n, N_d]; columns in the order of `data.dataset.catalogue`.
        """
        number, queries = self.data.dataset.domains.number(domain), self.queries(users, histories)
        scorer = self.recommender.scorer(queries.inputs, np.full(len(queries.names), number))
        return scorer.scores(torch.arange(len(queries.names)), number).cpu().numpy()

    def queries(
        self,
        users: Sequence[str] | None = None,
        histories: Mapping[str, Sequence[str]] | None = None,
        *,
        allow_new: bool = False,
    ) -> UserHistories:
        """Return users as `recommend` takes them, after saying what is not known of them."""
        if histories is None:
            queries = known_users(self.data, users, allow_new=allow_new)
            self._tell_unknown([name for name in queries.names if not self.data.dataset.has_user(name)])
            return queries
        if users is not None:
            raise UserError("say users or histories, not both")
        items_of_users = {name: [normal_id(item) for item in items] for name, items in histories.items()}
        queries, unknown, unknown_users = new_users(self.data.dataset, items_of_users)
        if unknown:
            message = f"{unknown} items of the histories are not in the catalogue and were passed over"
            self.events.emit(Remark(message=message))
        self._tell_unknown(unknown_users)
        return queries

    def _tested(self, users: Sequence[str] | None) -> UserHistories:
        """Return users as the test asks for them."""
        if self.settings.training.train_on == "all":
            raise UserError(f"{self.name} is trained on everything: nothing is held out of it")
        return users_as_tested(self.data, self.data.dataset.user_ids if users is None else users)

    def _tell_unknown(self, names: Sequence[str]) -> None:
        if names:
            some = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
            users = "1 user" if len(names) == 1 else f"{len(names):,} users"
            message = f"the popular items for {users} of whom no item is known: {some}"
            self.events.emit(Remark(message=message))

    def _excluded(self, ids: Collection[str]) -> list[str]:
        """Return the ids as the catalogue has them, after saying how many it has."""
        ids = [normal_id(name) for name in ids]
        known = sum(self.data.dataset.item_number(name) is not None for name in ids)
        if ids and not known:
            raise UserError(
                f"none of the {len(ids)} ids to exclude is in the catalogue of {self.data.dataset.name}"
            )
        if ids:
            self.events.emit(Remark(message=f"{known} of {len(ids)} ids to exclude are in the catalogue"))
        return ids


def results(
    runs: Sequence[TrainedRun],
    split: Split = "test",
    protocol: Protocol = "full",
    negatives: int = 100,
    *,
    keep_seen: KeepSeen = "auto",
    cutoffs: Sequence[int] = CUTOFFS,
) -> pl.DataFrame:
    """Return HR, NDCG, MRR and more: a row for each run and domain, and for each first phase of two.

    Args:
        runs: By `train` or `runs`.
        split: `test`, or `valid`.
        protocol: `full` ranks a target among its domain's items, `sampled` among `negatives` of them, `popular`
            among as many that are drawn by popularity.
        negatives: Of `sampled` and `popular`.
        keep_seen: Whether what a user has had stays a candidate.
        cutoffs: Values of k; 5, 10 and 20 are always there.

    Returns:
        label, variant, model, preset, seed, run, data, domain, users, and metrics: `hr@10`, `ndcg@10`, `mrr`, ...

    Raises:
        UserError: If nothing is held out of a run.
    """
    about = ("label", "variant", "model", "preset", "seed", "run", "data")
    rows = [
        {name: value for name, value in document.items() if name in about} | {"domain": domain} | metrics
        for document in _result_documents(runs, split, _evaluation(protocol, negatives, keep_seen, cutoffs))
        for domain, metrics in document["domains"].items()
    ]
    return pl.DataFrame(rows)


def _result_documents(runs: Sequence[TrainedRun], split: Split, settings: EvaluationSettings) -> list[Result]:
    """Evaluate runs; return their labelled documents, and those of first phases where there is a second."""
    documents = [
        document
        for run in runs
        for document in evaluate(run.workspace, run.run, split, settings, run.events, run.device)
    ]
    return labelled(documents, [run.run for run in runs])


def _workspace(given: str | Path | None) -> Workspace:
    place = Workspace.find(None if given is None else Path(given))
    pull(place)
    return place


def _evaluation(
    protocol: Protocol, negatives: int, keep_seen: KeepSeen = "auto", cutoffs: Sequence[int] = CUTOFFS
) -> EvaluationSettings:
    values = {"protocol": protocol, "negatives": negatives, "keep_seen": keep_seen, "cutoffs": cutoffs}
    return validated(EvaluationSettings, values)
