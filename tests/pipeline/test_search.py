"""A search judges by validation alone, goes on where it was cut off, and keeps its trials to itself."""

import tomllib
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from toy import random_dataset

from edt_cli.config import UsageError, UserError, load_settings
from edt_cli.experiments.search import SearchSettings, _value, search
from edt_cli.workspace.events import Events, Stopped
from edt_cli.workspace.layout import Workspace
from edt_cli.workspace.runs import all_runs

pytestmark = pytest.mark.e2e

QUICK = {
    "model": {"hidden": 8, "blocks": 1, "max_length": 12},
    "training": {"epochs": 2, "batch": 16, "loss": "ce", "negatives": 4},
}


def searched(trials: int = 3, **space) -> SearchSettings:
    given = space or {"training.lr": {"low": 1e-4, "high": 1e-2, "log": True}, "model.dropout": [0.1, 0.3]}
    return SearchSettings(preset="sasrec", trials=trials, settings=QUICK, space=given)


def test_a_search_ends_in_settings_that_train_takes(tmp_path):
    place = Workspace(tmp_path)
    found = search(place, random_dataset(), searched())
    assert len(found.trials) == 3
    assert found.value == max(trial["ndcg@10"] for trial in found.trials)
    written = tomllib.loads(found.settings.read_text())
    assert written["training"]["lr"] == found.best["training.lr"]
    settings = load_settings("sasrec", config=found.settings, environment={})
    assert (settings.model.dropout, settings.training.negatives) == (found.best["model.dropout"], 4)
    assert "name" not in written["model"] and written["training"].keys() <= {"lr", *QUICK["training"]}
    assert not all_runs(place)
    assert len(all_runs(replace(place, folder=f"searches/{found.name}"))) == 3


def test_a_search_that_was_cut_off_goes_on_and_one_that_is_done_does_nothing(tmp_path):
    made, trained = random_dataset(), []

    def watch(record):
        if record["event"] == "finished":
            trained.append(record["run"])

    def cut(record):
        watch(record)
        if record["event"] == "epoch" and record["epoch"] == 1 and len(trained) == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search(Workspace(tmp_path), made, searched(), listeners=(cut,))
    resumed = []
    whole = search(Workspace(tmp_path), made, searched(), listeners=(watch, resumed.append))
    assert len(set(trained)) == len(trained) == 3
    assert any(record["event"] == "resumed" for record in resumed)
    assert search(Workspace(tmp_path), made, searched(), listeners=(watch,)) == whole
    assert len(trained) == 3
    assert len(search(Workspace(tmp_path), made, searched(trials=4), listeners=(watch,)).trials) == 4
    assert len(trained) == 4


def test_a_trial_whose_loss_is_no_number_is_given_up_and_the_search_goes_on(tmp_path):
    s = searched(trials=3, **{"training.lr": [1e-3, 1e30]})
    found = search(Workspace(tmp_path), random_dataset(), s)
    assert found.given_up and len(found.trials) + found.given_up == 3
    assert found.best["training.lr"] == 1e-3
    assert search(Workspace(tmp_path), random_dataset(), s) == found


def test_a_trial_is_worth_what_the_model_itself_reached():
    class Trained:
        def manifest(self):
            return {"phases": {"preparation": {"best": 0.9}, "pre-training": {"best": 0.1}}}

    assert _value(SimpleNamespace(run=lambda listeners: Trained()), None, ()) == 0.1


def test_a_preset_that_has_changed_is_another_study(tmp_path, monkeypatch):
    import edt_cli.experiments.search as module

    made = random_dataset()
    before = search(Workspace(tmp_path), made, searched(trials=1))

    def other(preset, flags=None, environment=None):
        training = {**(flags or {}).get("training", {}), "patience": 3}
        return load_settings(preset, flags={**(flags or {}), "training": training}, environment=environment)

    monkeypatch.setattr(module, "load_settings", other)
    assert search(Workspace(tmp_path), made, searched(trials=1)).name != before.name


def test_a_search_that_is_stopped_says_in_one_line_how_to_go_on(tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from edt_cli.cli.app import app

    monkeypatch.setattr("edt_cli.data.open.open_dataset", lambda place, name: random_dataset())
    path = tmp_path / "search.toml"
    path.write_text("""
        trials = 2
        preset = "sasrec"
        settings = { model = { hidden = 8, blocks = 1 }, training = { epochs = 20, batch = 16 } }
        space = { "model.dropout" = [0.1, 0.3] }
    """)

    def interrupted(self, **_):
        raise Stopped("stop-after-epoch")

    monkeypatch.setattr(Events, "obey", interrupted)
    done = CliRunner().invoke(app, ["search", str(path), "--workspace", str(tmp_path)])
    assert done.exit_code == 130
    assert done.stderr.splitlines()[-1] == "stopped; what was done is kept. The same command goes on from there."


def test_the_test_set_is_not_looked_at(tmp_path, monkeypatch):
    import edt_cli.training.data as module

    asked = []
    honest = module.eval_queries

    def watched(made, split, *of, **how):
        asked.append(split)
        return honest(made, split, *of, **how)

    monkeypatch.setattr(module, "eval_queries", watched)
    search(Workspace(tmp_path), random_dataset(), searched(trials=1))
    assert set(asked) == {"valid"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("trials = 3", "space"),
        ("[space]\n'training.lr' = {low = 2, high = 1}", "low"),
        ("[space]\n'training.lr' = {low = 0, high = 1, log = true}", "low"),
        ("[space", "TOML"),
    ],
)
def test_a_file_that_makes_no_search_is_one_clear_line(tmp_path, text, says):
    path = tmp_path / "search.toml"
    path.write_text(text)
    with pytest.raises(UserError, match=says):
        SearchSettings.read(path)


def test_an_unknown_setting_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"training\.speed"):
        search(Workspace(tmp_path), random_dataset(), searched(**{"training.speed": [1.0, 2.0]}))


@pytest.mark.parametrize(
    "space",
    [{"options.unsound": ["none", "split-after-augmentation"]}, {"options.profiles_see_validation": [True]}],
)
def test_validation_items_that_were_seen_judge_nothing(space):
    s = SearchSettings(preset="llm-edt-ce", space=space)
    with pytest.raises(UsageError, match="a search judges by validation items"):
        s.with_choices({name: values[-1] for name, values in space.items()})


def test_the_example_is_a_search_whose_every_corner_is_valid():
    s = SearchSettings.read(Path("best"))
    for end in (0, -1):
        settings = s.with_choices(
            {n: v[end] if isinstance(v, list) else (v.low, v.high)[end] for n, v in s.space.items()}
        )
        assert settings.options["memory"] and not settings.options["finetune"]
