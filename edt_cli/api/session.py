"""What a notebook does: open data, train a system, evaluate it, score, recommend, read results as a frame."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
import torch

from edt_cli.config import EvaluationSettings, KeepSeen, Settings, UserError, load_settings, validated
from edt_cli.data.dataset import Dataset, Split
from edt_cli.data.open import open_dataset
from edt_cli.inference.labels import labelled
from edt_cli.inference.recommend import Asked, known_users, new_users, recommend
from edt_cli.inference.results import evaluate, ranks_of, training_data_of
from edt_cli.inference.trained import load_trained
from edt_cli.models.scorers import Recommender
from edt_cli.models.systems import checked, system
from edt_cli.pipeline import Pipeline
from edt_cli.training.data import TrainingData
from edt_cli.training.device import open_device
from edt_cli.workspace.events import Events
from edt_cli.workspace.layout import Workspace
from edt_cli.workspace.runs import Run, find_runs

Protocol = Literal["full", "sampled"]
Listener = Callable[[dict[str, Any]], None]


def load_data(name: str = "demo", workspace: str | Path | None = None) -> Dataset:
    """A prepared dataset; `demo` is made where it is not there.

    Args:
        name: As `edt data prepare` was told.
        workspace: The folder that everything lies in. Default: EDT_WORKSPACE, else `./edt-workspace`.

    Raises:
        UserError: If there is no such dataset; it says how to make one.
    """
    return open_dataset(_workspace(workspace), name)


def settings(name: str = "llm-edt", preset: str | None = None, /, **sections: Mapping[str, Any]) -> Settings:
    """All settings of a run.

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
        device: `cpu`, `cuda`, `cuda:N`, or `auto`: a GPU where there is one.
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
    return TrainedRun(place, made.run(listeners), chosen)


def runs(data: str | None = None, workspace: str | Path | None = None, device: str = "auto") -> list[TrainedRun]:
    """The finished runs of a dataset, or of the newest run's; the oldest first.

    Raises:
        UserError: If there is none.
    """
    place, chosen = _workspace(workspace), str(open_device(device))
    return [TrainedRun(place, run, chosen) for run in find_runs(place, data)]


@dataclass(frozen=True)
class TrainedRun:
    """A finished run, to be evaluated and asked. Its data and its model are read once, when they are needed."""

    workspace: Workspace
    run: Run
    device: str = "cpu"

    @property
    def name(self) -> str:
        return self.run.name

    @property
    def settings(self) -> Settings:
        return self.run.settings

    @cached_property
    def data(self) -> TrainingData:
        """What it was trained on."""
        return training_data_of(self.workspace, self.run, Events(), self.device)

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
    ) -> pl.DataFrame:
        """HR, NDCG, MRR and more of every domain; see `results`."""
        return results([self], split, protocol, negatives, keep_seen=keep_seen)

    def ranks(self, split: Split = "test", protocol: Protocol = "full", negatives: int = 100) -> pl.DataFrame:
        """Of every held-out item: user, item and domain by number, and its rank (1 is best, half steps at ties)."""
        s = _evaluation(protocol, negatives, "auto")
        return ranks_of(self.run, evaluate(self.workspace, self.run, split, s, Events(), self.device)[0])

    def recommend(
        self,
        users: Sequence[str] | None = None,
        histories: Mapping[str, Sequence[str]] | None = None,
        *,
        count: int = 10,
        domain: str | None = None,
        exclude: Sequence[str] = (),
        keep_seen: KeepSeen = "auto",
    ) -> pl.DataFrame:
        """The best items for users, in each domain.

        Args:
            users: Of the dataset. Default: all of them, unless there are `histories`.
            histories: Of users that the model never saw: item ids, oldest first, by name.
            count: Items a user and domain.
            domain: Only of this one.
            exclude: Ids of items that are not to be recommended.
            keep_seen: Whether what a user has had stays a candidate.

        Returns:
            user, domain, rank, item, title, score.

        Raises:
            UserError: For an unknown user or domain, or a history without a known item.
        """
        domains = self.data.dataset.domains
        return recommend(
            self.data,
            self.recommender,
            self._asked(users, histories),
            count=count,
            domains=range(len(domains)) if domain is None else [domains.number(domain)],
            exclude=exclude,
            keep_seen=keep_seen,
        )

    def scores(
        self,
        domain: str,
        users: Sequence[str] | None = None,
        histories: Mapping[str, Sequence[str]] | None = None,
    ) -> np.ndarray:
        """Of every item of a domain, for each of `users` or `histories`: float32 [n, N_d], columns in the order of
        `data.dataset.catalogue`."""
        number, asked = self.data.dataset.domains.number(domain), self._asked(users, histories)
        scorer = self.recommender.scorer(asked.inputs, np.full(len(asked.names), number))
        return scorer.scores(torch.arange(len(asked.names)), number).cpu().numpy()

    def _asked(self, users: Sequence[str] | None, histories: Mapping[str, Sequence[str]] | None) -> Asked:
        if histories is None:
            return known_users(self.data, users)
        if users is not None:
            raise UserError("say users or histories, not both")
        return new_users(self.data.dataset, {name: list(items) for name, items in histories.items()})[0]


def results(
    runs: Sequence[TrainedRun],
    split: Split = "test",
    protocol: Protocol = "full",
    negatives: int = 100,
    *,
    keep_seen: KeepSeen = "auto",
) -> pl.DataFrame:
    """What runs are worth: a row for each run and domain, and for the first phase of those that have a second.

    Args:
        runs: By `train` or `runs`.
        split: `test`, or `valid`.
        protocol: `full` ranks a target among its domain's items, `sampled` among `negatives` of them.
        negatives: Of `sampled`.
        keep_seen: Whether what a user has had stays a candidate.

    Returns:
        label, variant, model, preset, seed, run, data, domain, users, and metrics: `hr@10`, `ndcg@10`, `mrr`, ...

    Raises:
        UserError: If nothing is held out of a run.
    """
    s = _evaluation(protocol, negatives, keep_seen)
    documents = [
        document for one in runs for document in evaluate(one.workspace, one.run, split, s, Events(), one.device)
    ]
    about = ("label", "variant", "model", "preset", "seed", "run", "data")
    rows = [
        {name: document[name] for name in about} | {"domain": domain} | metrics
        for document in labelled(documents, [one.run for one in runs])
        for domain, metrics in document["domains"].items()
    ]
    return pl.DataFrame(rows)


def _workspace(given: str | Path | None) -> Workspace:
    return Workspace.find(None if given is None else Path(given))


def _evaluation(protocol: Protocol, negatives: int, keep_seen: KeepSeen) -> EvaluationSettings:
    return validated(EvaluationSettings, {"protocol": protocol, "negatives": negatives, "keep_seen": keep_seen})
