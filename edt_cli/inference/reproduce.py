"""The command that makes a run again."""

from __future__ import annotations

from typing import Any

from edt_cli.config import Settings
from edt_cli.inference.labels import preset_of
from edt_cli.models.settings import written
from edt_cli.models.systems import preset_settings, systems
from edt_cli.workspace.runs import Run

OF_FLAGS = ("model.name", "training.seed", "training.train_on", "training.schedules", "training.side_weights")
"""Settings that other options of the command give, or that it takes from an earlier run."""
TRAIN_ON = {"train": [], "train+valid": ["--refit"], "all": ["--final"]}


def changed_settings(run: Run) -> dict[str, Any]:
    """Return the settings of a run, by dotted name, that its preset does not have."""
    preset = _preset(run).flat()
    return {
        name: value
        for name, value in run.settings.flat().items()
        if name not in OF_FLAGS and preset.get(name, ...) != value
    }


def command_of(run: Run) -> list[str]:
    """Return the arguments of `edt` that make this run in a workspace with the same dataset."""
    s, preset = run.settings, _preset_name(run)
    default = systems()[s.model.name].preset_name if s.model.name in systems() else ""
    return [
        *("train", "--data", run.plan["data"], "--model", s.model.name),
        *(["--preset", preset] if preset != default else []),
        *("--seeds", str(s.training.seed)),
        *TRAIN_ON[s.training.train_on],
        *("--device", run.plan.get("device", "cpu")),
        *(part for name, value in changed_settings(run).items() for part in ("--set", f"{name}={written(value)}")),
    ]


def _preset_name(run: Run) -> str:
    known = systems().get(run.settings.model.name)
    return preset_of(run) or (known.preset_name if known else "")


def _preset(run: Run) -> Settings:
    return preset_settings(run.settings.model.name, _preset_name(run)) or Settings()
