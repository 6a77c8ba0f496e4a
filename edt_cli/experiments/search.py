"""Search over settings with Optuna: every trial is a run, judged by its best validation NDCG@10 alone.

The study is an SQLite file beside its trials, or wherever Optuna can keep it for several machines. An interrupted
search continues where it stopped, even in mid-epoch; of a process that died, another one takes up the trial.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
from edt_cli.experiments.files import SEARCHES, find
from edt_cli.experiments.study import Study
from edt_cli.models.llm_edt_options import llm_edt_options
from edt_cli.models.phase_names import PREPARATION
from edt_cli.models.systems import OURS, checked, system
from edt_cli.pipeline import Pipeline
from edt_cli.workspace.events import Events
from edt_cli.workspace.files import write_atomic
from edt_cli.workspace.layout import Workspace, digest

try:
    import optuna
    from optuna.trial import Trial, TrialState
except ModuleNotFoundError as missing:
    raise UserError("a search needs Optuna: pip install 'edt-cli[search]'") from missing

if TYPE_CHECKING:
    from typing import Self

Listener = Callable[[dict[str, Any]], None]


class Range(Section):
    """Range of values that a search draws from."""

    low: float
    high: float
    log: bool = False
    whole: bool = Field(False, description="draw whole numbers only")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low > self.high or (self.log and self.low <= 0):
            raise ValueError("low must not be above high, and must be above 0 with log")
        return self


class SearchSettings(Section):
    """A search file: the settings that all trials share, and those that vary between them.

    `space` has entries such as `"training.lr" = {low = 1e-4, high = 1e-2}` or `"model.encoder" = ["id", "both"]`.
    """

    trials: int = Field(20, ge=1)
    seed: int = 42
    preset: str = Field(system(OURS).preset_name, description="preset of every trial, under these settings")
    settings: dict[str, dict[str, Any]] = Field(default_factory=dict)
    space: dict[str, Range | Annotated[list[str | float | int | bool], Field(min_length=1)]] = Field(min_length=1)

    @classmethod
    def read(cls, given: Path) -> SearchSettings:
        """Read a search: a file, or by its name one that comes with edt.

        Raises:
            UserError: If the file cannot be read.
            UsageError: If there is no such search, or it is not valid.
        """
        return validated(cls, read_toml(find(given, SEARCHES)))

    def with_choices(self, choices: dict[str, Any]) -> Settings:
        """Return the settings of a trial with the given choices.

        Raises:
            UsageError: If a setting does not exist or a value is out of range, or the validation items, by which
                a search judges, are not unseen.
        """
        values = {section: dict(fields) for section, fields in self.settings.items()}
        for section, fields in parse_assignments([f"{name}=" for name in choices]).items():
            for field in fields:
                values.setdefault(section, {})[field] = choices[f"{section}.{field}"]
        settings = checked(load_settings(self.preset, flags=values, environment={}))
        options = llm_edt_options(settings)
        if options.unsound != "none" or options.profiles_see_validation:
            raise UsageError(
                "a search judges by validation items: options.unsound and options.profiles_see_validation cannot "
                "be part of it"
            )
        return settings

    def check(self) -> None:
        """Check the space by one of its corners, before anything is started.

        Raises:
            UsageError: If a setting does not exist, or a value is out of range.
        """
        corners = {
            name: v[0] if isinstance(v, list) else int(v.low) if v.whole else v.low
            for name, v in self.space.items()
        }
        self.with_choices(corners)


@dataclass(frozen=True)
class SearchResult:
    """Result of a search."""

    name: str
    model: str
    best: dict[str, Any]
    """Choices of the best trial, by setting."""
    value: float
    """Validation NDCG@10 of the best trial."""
    trials: list[dict[str, Any]]
    """The finished trials, best first."""
    given_up: int
    """Number of trials that were pruned."""
    settings: Path
    """File with the best trial's settings, to be used with the search's preset."""


def search(
    workspace: Workspace,
    dataset: Dataset,
    s: SearchSettings,
    device: str = "cpu",
    listeners: tuple[Listener, ...] = (),
    storage: str | None = None,
) -> SearchResult:
    """Run the trials that are left, and write the best settings to a file for `edt train --config`.

    Args:
        workspace: The workspace, whose folder all processes share.
        dataset: The dataset.
        s: The search.
        device: Device of each trial.
        listeners: Functions that are called with what happens.
        storage: Where Optuna keeps a study that several processes share: the URL of a database, or a file.

    Raises:
        UsageError: If the model is not trained, or the workspace is in object storage.
        UserError: If no trial was finished, or the storage cannot be used.
    """
    trials_workspace = trials_of(workspace, dataset, s)
    events = Events(listeners=listeners)

    def pipeline_of(chosen: dict[str, Any]) -> Pipeline:
        return Pipeline(
            workspace=trials_workspace,
            dataset=dataset,
            settings=s.with_choices(chosen),
            events=events,
            device=device,
            preset=s.preset,
        )

    study = Study.open(trials_workspace.runs, s.seed, storage, pipeline_of)
    while (trial := study.next(s.trials, events)) is not None:
        pipeline = pipeline_of(_choices(trial, s))
        try:
            study.optuna.tell(trial, _value(pipeline, trial, listeners))
        except (optuna.TrialPruned, Diverged):
            study.optuna.tell(trial, state=TrialState.PRUNED)
    return _report(trials_workspace, study, s)


def result_of(workspace: Workspace, dataset: Dataset, s: SearchSettings, storage: str) -> SearchResult:
    """Return the result of a search that other processes have run, and write the best settings to a file.

    Raises:
        UserError: If no trial was finished, or the storage cannot be used.
    """
    trials = trials_of(workspace, dataset, s)
    return _report(trials, Study.open(trials.runs, s.seed, storage), s)


def trials_of(workspace: Workspace, dataset: Dataset, s: SearchSettings) -> Workspace:
    """Return the workspace of a search's trials, whose folder of runs has the search's name.

    Raises:
        UsageError: If the model is not trained, or the workspace is in object storage.
    """
    if workspace.url is not None:
        raise UsageError(
            "a search keeps its trials in a folder that its machines share: take a workspace on a disk"
        )
    # The study is named by the preset's settings, not its name: another version of the preset is another study.
    shared = s.with_choices({})
    if not system(shared.model.name).trained:
        raise UsageError(f"{shared.model.name} is not trained: there is no validation to search by")
    name = f"{dataset.name}-{digest(dataset.key, shared.document(), s.model_dump(include={'seed', 'space'}))[:8]}"
    trials = replace(workspace, folder=f"searches/{name}")
    trials.runs.mkdir(parents=True, exist_ok=True)
    return trials


def _choices(trial: Trial, s: SearchSettings) -> dict[str, Any]:
    """Draw a value for each setting of the search space."""
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
    """Return the best validation NDCG@10 of the trial's run, averaged over domains.

    Raises:
        optuna.TrialPruned: If the pruner stops the trial.
    """
    seen: list[str] = []

    def watch(record: dict[str, Any]) -> None:
        if record["event"] != "epoch" or record["phase"] == PREPARATION:
            return
        seen.append(record["phase"])
        if record["phase"] == seen[0] and record["epoch"]:
            trial.report(record["ndcg"]["mean"], record["epoch"])
            if trial.should_prune():
                raise optuna.TrialPruned

    phases = pipeline.run((*listeners, watch)).manifest().get("phases", {})
    best: float = max(phase["best"] for name, phase in phases.items() if name != PREPARATION)
    return best


def _report(trials_workspace: Workspace, study: Study, s: SearchSettings) -> SearchResult:
    """Write the best settings to a file, and return the result of the search."""
    name = trials_workspace.runs.name
    done = study.trials(TrialState.COMPLETE)
    if not done:
        others = len(study.trials(TrialState.RUNNING))
        elsewhere = f": {others} are at work in other processes" if others else ""
        raise UserError(f"no trial of search {name} was finished{elsewhere}")
    trials = sorted(done, key=lambda trial: -(trial.value or 0.0))
    best = s.with_choices(trials[0].params)
    path = trials_workspace.runs / "best.toml"
    title = (
        f"Best of {len(done)} trials by validation NDCG@10: {trials[0].value:.4f}; goes over --preset {s.preset}"
    )
    write_atomic(path, _toml(best, load_settings(s.preset, environment={}), title))
    trial_records = [{"trial": trial.number, "ndcg@10": trial.value, **trial.params} for trial in trials]
    given_up = len(study.trials(TrialState.PRUNED))
    return SearchResult(
        name=name,
        model=best.model.name,
        best=trials[0].params,
        value=trials[0].value or 0.0,
        trials=trial_records,
        given_up=given_up,
        settings=path,
    )


def _toml(settings: Settings, preset: Settings, title: str) -> str:
    """Return the settings that differ from the preset as TOML."""
    lines = [f"# {title}"]
    for section, fields in settings.document().items():
        preset_fields = preset.document()[section]
        changed = {
            field: value
            for field, value in fields.items()
            if field not in preset_fields or value != preset_fields[field]
        }
        if changed:
            lines += ["", f"[{section}]", *(f"{field} = {_literal(value)}" for field, value in changed.items())]
    return "\n".join(lines) + "\n"


def _literal(value: Any) -> str:
    """Write a value as TOML."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, (int, float)):
        return repr(value)
    raise UsageError(f"a setting of the form {value!r} cannot be written as TOML")
