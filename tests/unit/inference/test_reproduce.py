"""The command that makes a run again has the run's settings."""

from itertools import pairwise
from pathlib import Path

import pytest

from edt_cli.config import Settings, load_settings, parse_assignments
from edt_cli.inference.reproduce import command_of
from edt_cli.models.systems import checked, system
from edt_cli.workspace.runs import Run


def run_of(settings: Settings, preset: str) -> Run:
    plan = {"data": "demo", "key": "k", "settings": settings.document(), "preset": preset, "device": "cpu"}
    return Run(Path("runs/demo-x"), plan)


def settings_again(command: list[str]) -> Settings:
    """Settings as `edt train` makes them of these arguments."""
    values = {"--set": [], "--preset": None}
    for name, value in pairwise(command):
        if name == "--set":
            values["--set"].append(value)
        elif name.startswith("--"):
            values[name] = value
    flags = parse_assignments(values["--set"])
    flags["model"] = {**flags.get("model", {}), "name": values["--model"]}
    flags["training"] = {**flags.get("training", {}), "seed": int(values["--seeds"])}
    if "--refit" in command:
        flags["training"]["train_on"] = "train+valid"
    preset = values["--preset"] or system(values["--model"]).preset
    return checked(load_settings(preset, flags=flags, environment={}))


@pytest.mark.parametrize(
    ("model", "preset", "assignments"),
    [
        ("sasrec", "sasrec", []),
        ("sasrec", "sasrec-ce", ["training.lr=0.0003", "training.minutes=2.5", "training.seed=7"]),
        ("llm-edt", "best", ["options.memory_period=7", "options.alpha=0.3", "training.decay_epochs=none"]),
        ("llm-edt", "paper", ["llm.provider=ollama", "llm.model=a b", "llm.api_base=http://h:1/v1"]),
        ("popularity", "popularity", ["evaluation.keep_seen=true"]),
        ("gru4rec", "sasrec-ce", ["training.train_on=train+valid"]),
    ],
)
def test_the_command_has_the_settings_of_the_run(model, preset, assignments):
    flags = parse_assignments(assignments)
    flags["model"] = {"name": model}
    settings = checked(load_settings(preset, flags=flags, environment={}))
    command = command_of(run_of(settings, preset))
    assert settings_again(command) == settings
    by_others = ("training.seed", "training.train_on")
    assert command.count("--set") == sum(not one.startswith(by_others) for one in assignments)
