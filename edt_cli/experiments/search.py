"""A search over settings by Optuna: every trial is a run, judged by its best validation NDCG@10 and nothing else.

The study lies in SQLite beside its trials: what was cut off goes on where it was, a trial in mid-epoch included.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState
from pydantic import Field, model_validator

from edt_cli.config import (
    Section,
    Settings,
    UsageError,
    UserError,
    load_settings,
    parse_assignments,
    read_toml,
    validated,
)
from edt_cli.data.dataset import Dataset
from edt_cli.evaluation.ranking import Diverged
from edt_cli.models.phases import PREPARATION, PRETRAINING
from edt_cli.models.systems import OURS, checked, system
from edt_cli.pipeline import Pipeline
from edt_cli.workspace.events import Events
from edt_cli.workspace.layout import Workspace, digest, write_atomic

if TYPE_CHECKING:
    from typing import Self

Listener = Callable[[dict[str, Any]], None]


class Range(Section):
    low: float
    high: float
    log: bool = False
    whole: bool = Field(False, description="whole numbers only")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low > self.high or (self.log and self.low <= 0):
            raise ValueError("low must not be above high, and above 0 with log")
        return self


class SearchSettings(Section):
    """A search file: what every trial has, and what it varies, as `"training.lr" = {low = 1e-4, high = 1e-2}`
    or `"model.encoder" = ["id", "both"]`."""

    trials: int = Field(20, ge=1)
    seed: int = 42
    preset: str = Field(system(OURS).preset_name, description="of every trial, under these settings")
    settings: dict[str, dict[str, Any]] = Field(default_factory=dict)
    space: dict[str, Range | Annotated[list[str | float | int | bool], Field(min_length=1)]] = Field(min_length=1)

    @classmethod
    def read(cls, path: Path) -> SearchSettings:
        """Errors: UserError for an unreadable file; UsageError for one that makes no search."""
        return validated(cls, read_toml(path))

    def with_choices(self, choices: dict[str, Any]) -> Settings:
        """The settings of a trial. Errors: UsageError for a field that does not exist or a value out of range."""
        values = {section: dict(fields) for section, fields in self.settings.items()}
        for section, fields in parse_assignments([f"{name}=" for name in choices]).items():
            for field in fields:
                values.setdefault(section, {})[field] = choices[f"{section}.{field}"]
        return checked(load_settings(self.preset, flags=values, environment={}))


@dataclass(frozen=True)
class Searched:
    """`best`: {field: value} of the best trial; `trials`: each finished one, best first; `given_up`: how many fell
    behind; `settings`: the best trial's file, which goes over the search's preset."""

    name: str
    model: str
    best: dict[str, Any]
    value: float
    trials: list[dict[str, Any]]
    given_up: int
    settings: Path


def search(
    workspace: Workspace,
    dataset: Dataset,
    s: SearchSettings,
    device: str = "cpu",
    listeners: tuple[Listener, ...] = (),
) -> Searched:
    """Run what is left of the search, and write the best settings as a file for `edt train --config`.

    Errors: UserError if no trial could be finished.
    """
    # By what the preset says, not by its name: trials of another version of it are of another study.
    fixed = s.with_choices({})
    if not system(fixed.model.name).trained:
        raise UsageError(f"{fixed.model.name} learns nothing: there is no validation to search by")
    name = f"{dataset.name}-{digest(dataset.key, fixed.document(), s.model_dump(include={'seed', 'space'}))[:8]}"
    place = replace(workspace, folder=f"searches/{name}")
    place.runs.mkdir(parents=True, exist_ok=True)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = _study(place.runs / "study.db", name, s.seed)
    events = Events(listeners=listeners)
    while (left := s.trials - len(_of(study, TrialState.COMPLETE, TrialState.PRUNED))) > 0:
        events.emit("trial", message=f"search {name}: {left} of {s.trials} trials are left")
        trial = study.ask()
        settings = s.with_choices(_choices(trial, s))
        pipeline = Pipeline(
            workspace=place, dataset=dataset, settings=settings, events=events, device=device, preset=s.preset
        )
        try:
            study.tell(trial, _value(pipeline, trial, listeners))
        except (optuna.TrialPruned, Diverged):
            study.tell(trial, state=TrialState.PRUNED)
    return _report(place, name, study, s)


def _study(path: Path, name: str, seed: int) -> optuna.Study:
    """The study, with what a process that is gone was at asked for again, first."""
    done = optuna.create_study(
        study_name=name, storage=f"sqlite:///{path}", load_if_exists=True, direction="maximize"
    )
    # With the seed alone a continued search would draw its first trials again.
    sampler = optuna.samplers.TPESampler(seed=seed + len(done.trials), n_startup_trials=6)
    pruner = optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=4)
    study = optuna.load_study(study_name=name, storage=f"sqlite:///{path}", sampler=sampler, pruner=pruner)
    for trial in _of(study, TrialState.RUNNING):
        study.tell(trial.number, state=TrialState.FAIL)
        study.enqueue_trial(trial.params)
    return study


def _of(study: optuna.Study, *states: TrialState) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=states)


def _choices(trial: Trial, s: SearchSettings) -> dict[str, Any]:
    chosen: dict[str, Any] = {}
    for name, values in s.space.items():
        if isinstance(values, list):
            chosen[name] = trial.suggest_categorical(name, values)
        elif values.whole:
            chosen[name] = trial.suggest_int(name, int(values.low), int(values.high), log=values.log)
        else:
            chosen[name] = trial.suggest_float(name, values.low, values.high, log=values.log)
    return chosen


def _value(pipeline: Pipeline, trial: Trial, listeners: tuple[Listener, ...]) -> float:
    """The best validation NDCG@10 of the trial's run, the mean over domains. Raises TrialPruned for a lost one."""

    def watch(record: dict[str, Any]) -> None:
        if record["event"] == "epoch" and record["phase"] == PRETRAINING and record["epoch"]:
            trial.report(record["ndcg"]["mean"], record["epoch"])
            if trial.should_prune():
                raise optuna.TrialPruned

    phases = pipeline.run((*listeners, watch)).manifest().get("phases", {})
    best: float = max(phase["best"] for name, phase in phases.items() if name != PREPARATION)
    return best


def _report(place: Workspace, name: str, study: optuna.Study, s: SearchSettings) -> Searched:
    done = _of(study, TrialState.COMPLETE)
    if not done:
        raise UserError(f"no trial of search {name} was finished")
    found = sorted(done, key=lambda trial: -(trial.value or 0.0))
    best = s.with_choices(found[0].params)
    path = place.runs / "best.toml"
    title = f"Best of {len(done)} trials by validation NDCG@10: {found[0].value:.4f}; goes over --preset {s.preset}"
    write_atomic(path, _toml(best, load_settings(s.preset, environment={}), title))
    trials = [{"trial": trial.number, "ndcg@10": trial.value, **trial.params} for trial in found]
    given_up = len(_of(study, TrialState.PRUNED))
    return Searched(
        name=name,
        model=best.model.name,
        best=found[0].params,
        value=found[0].value or 0.0,
        trials=trials,
        given_up=given_up,
        settings=path,
    )


def _toml(settings: Settings, preset: Settings, title: str) -> str:
    """What differs from the preset."""
    lines = [f"# {title}"]
    for section, fields in settings.document().items():
        there = preset.document()[section]
        changed = {field: value for field, value in fields.items() if field not in there or value != there[field]}
        if changed:
            lines += ["", f"[{section}]", *(f"{field} = {_literal(value)}" for field, value in changed.items())]
    return "\n".join(lines) + "\n"


def _literal(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, (int, float)):
        return repr(value)
    raise UsageError(f"a setting of the form {value!r} cannot be written as TOML")
