"""Run folders of before settings were renamed can be read, and say what they said."""

import json
from pathlib import Path

import pytest

from edt_cli.config import RENAMED, Settings, UsageError, load_settings, parse_assignments
from edt_cli.inference.labels import all_settings, identity, preset_of
from edt_cli.models.systems import checked
from edt_cli.workspace.layout import Workspace
from edt_cli.workspace.names import current_plan
from edt_cli.workspace.runs import Run, all_runs

OLD = json.loads((Path(__file__).parents[2] / "fixtures" / "old_plans.json").read_text())
"""By name, `run.json` of runs that were made before."""


def run(name: str) -> Run:
    return Run(Path(name), current_plan(OLD[name]))


@pytest.mark.parametrize(("name", "preset"), [("best", "best"), ("sasrec", "sasrec-ce"), ("abxi", "abxi")])
def test_a_preset_s_run_has_the_settings_of_the_preset(name, preset):
    expected = load_settings(preset, environment={})
    assert all_settings(run(name).settings) == all_settings(expected)
    assert checked(run(name).settings).model_dump(exclude={"options"}) == expected.model_dump(exclude={"options"})
    assert preset_of(Run(Path(name), {**run(name).plan, "preset": None})) == preset


def test_an_ablation_and_a_refit_are_still_seen():
    assert identity(run("w/o DFT")) == {"preset": "paper", "variant": "w/o DFT"}
    refit = run("refit")
    assert identity(refit) == {"preset": "best", "variant": "refit"}
    training = refit.settings.training
    assert training.train_on == "train+valid" and training.schedules["pre-training"].planned_epochs == 100
    assert training.side_weights == ((0.5, 0.3), (1.0, 0.2))


def test_a_folder_is_listed(tmp_path):
    workspace = Workspace(tmp_path)
    for name, plan in OLD.items():
        folder = workspace.runs / name.replace("/", "")
        folder.mkdir(parents=True)
        (folder / "run.json").write_text(json.dumps(plan))
    assert len(all_runs(workspace)) == len(OLD)


def test_what_is_no_plan_stays_as_it_is():
    for plan in ([], None, {}, {"settings": None}, {"settings": {"model": 3}}):
        assert current_plan(plan) == plan


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_an_old_name_is_told_the_new_one(old, new):
    with pytest.raises(UsageError, match=f"there is no setting {old}; it is {new} now"):
        load_settings("best", flags=parse_assignments([f"{old}=1"]), environment={})
    assert new in all_settings(Settings())
