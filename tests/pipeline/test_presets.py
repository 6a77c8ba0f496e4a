"""Which preset a command takes where none is named, and that its name goes with the run."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from toy import random_dataset
from typer.testing import CliRunner

from edt_cli.cli.app import app
from edt_cli.config import UserError, load_settings
from edt_cli.data.open import open_dataset
from edt_cli.data.saved import save
from edt_cli.models.systems import OURS, system
from edt_cli.paper.ablations import ABLATED
from edt_cli.pipeline import Pipeline
from edt_cli.workspace.layout import Workspace, digest, write_json
from edt_cli.workspace.runs import PLAN, all_runs

pytestmark = pytest.mark.e2e

SMALL = (
    *("--data", "tiny", "--epochs", "1"),
    *("--set", "model.hidden=8", "--set", "model.blocks=1", "--set", "options.finetune_epochs=1"),
)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    workspace = Workspace(tmp_path_factory.mktemp("presets"))
    with workspace.dataset("tiny").create() as (folder, manifest):
        saved = save(random_dataset(), folder)
        manifest |= saved | {"data_key": digest(saved)}
    return workspace.root


def edt(place: Path, *arguments: str, code: int = 0):
    done = CliRunner().invoke(app, [*arguments, "--workspace", str(place)])
    assert done.exit_code == code, f"{arguments}\n{done.output}\n{done.exception}"
    return done


def document(place: Path, *arguments: str):
    return json.loads(edt(place, *arguments, "--json").stdout)


def settings_of(place: Path, run: str):
    return next(one for one in all_runs(Workspace(place)) if one.name == run)


def test_train_takes_best_and_an_ablation_the_fair_row(place):
    (found,) = document(place, "train", *SMALL)["runs"]
    assert (found["preset"], found["variant"]) == ("best", "")
    assert found["label"].startswith("LLM-EDT (best, ") and "hidden=8" in found["label"]
    run = settings_of(place, found["run"])
    small = {"model": {"hidden": 8, "blocks": 1}, "training": {"epochs": 1}, "options": {"finetune_epochs": 1}}
    assert run.settings == load_settings(system(OURS).preset, flags=small, environment={})
    assert run.plan["preset"] == "best"

    (found,) = document(place, "train", *SMALL, "--ablate", "profiling")["runs"]
    assert (found["preset"], found["variant"]) == (ABLATED, "w/o Profiling") and f"({ABLATED}, " in found["label"]
    expected = load_settings(ABLATED, flags={**small, "profiling": {"enabled": False}}, environment={})
    assert settings_of(place, found["run"]).settings == expected

    (found,) = document(place, "train", *SMALL, "--ablate", "profiling", "--preset", "paper")["runs"]
    assert (found["preset"], found["variant"]) == ("paper", "w/o Profiling")

    shown = edt(place, "report", "--data", "tiny", "--format", "markdown").stdout
    assert (
        "LLM-EDT (best, " in shown and f"w/o Profiling ({ABLATED}, " in shown and "w/o Profiling (paper, " in shown
    )


def test_what_is_out_already_cannot_be_taken_out(place):
    off = ("--set", "augmentation.enabled=false")
    done = edt(place, "train", *SMALL, "--ablate", "aug", *off, code=1)
    assert str(done.exception) == f"--ablate aug changes nothing: the settings of {ABLATED} are w/o Aug. already"


def test_the_same_settings_by_another_name_are_the_same_run(place):
    workspace = Workspace(place)
    flags = {"model": {"hidden": 8, "blocks": 1}, "training": {"epochs": 1}}
    pipeline = Pipeline(workspace, open_dataset(workspace, "tiny"), load_settings("sasrec-ce", flags=flags))
    runs = [replace(pipeline, preset=name).run() for name in ("sasrec-ce", "sasrec")]
    assert runs[0].folder == runs[1].folder
    (found,) = document(place, "eval", "--run", runs[0].name)["runs"]
    assert found["preset"] == "sasrec-ce" and found["label"].startswith("SASRec (sasrec-ce, ")


def test_a_run_that_names_no_preset_is_read_and_named_by_its_settings(place):
    (found,) = document(place, "train", "--data", "tiny", "--model", "item-knn")["runs"]
    path = place / "runs" / found["run"] / PLAN
    plan = json.loads(path.read_text())
    assert plan.pop("preset") == "item-knn"
    write_json(path, plan)
    (again,) = document(place, "eval", "--run", found["run"])["runs"]
    assert (again["preset"], again["label"]) == ("item-knn", "Item-kNN")


@pytest.mark.parametrize("preset", ["", "paper", ABLATED])
def test_the_stages_by_themselves_are_those_that_a_run_of_the_preset_reads(place, preset):
    """Where the preset has them; else they are made all the same."""
    named = ("--preset", preset) if preset else ()
    workspace = Workspace(place)
    settings = load_settings(preset or system(OURS).preset, environment={})
    pipeline = Pipeline(workspace, open_dataset(workspace, "tiny"), settings)
    with_items = replace(pipeline, settings=settings.changed(augmentation={"enabled": True}))
    whole = replace(with_items, settings=with_items.settings.changed(profiling={"enabled": True}))
    assert document(place, "augment", "--data", "tiny", *named)["key"] == with_items.augmentation_key != "none"
    expected = pipeline if settings.profiling.enabled else whole
    assert document(place, "profile", "--data", "tiny", *named)["key"] == expected.profiles_key != "none"
    shown = document(place, "inspect", "u000", "--data", "tiny", *(named or ("--preset", system(OURS).preset)))
    assert shown["profile"] == expected.profiles().texts[0]


def test_what_a_user_switches_off_stays_off(place):
    off = ("--data", "tiny", "--preset", ABLATED, "--set", "augmentation.enabled=false")
    assert document(place, "augment", *off)["key"] == "none"
    keys = [document(place, "profile", "--data", "tiny", *more)["key"] for more in (off[2:4], off[2:])]
    assert keys[0] != keys[1]


def test_what_the_preset_of_train_does_not_read_is_said(place):
    told = edt(place, "augment", "--data", "tiny").stderr
    assert f"best trains without it; edt train --preset {ABLATED} reads it" in told
    assert "trains without it" not in edt(place, "augment", "--data", "tiny", "--preset", "paper").stderr


def test_models_lists_the_presets_of_a_system(place):
    found = document(place, "models", OURS)
    assert found["presets"] == ["best", ABLATED, "paper"]
    assert 'name = "llm-edt"' in document(place, "models", OURS, "--preset", "paper")["preset"]
    assert "has no preset 'sasrec'" in str(edt(place, "models", OURS, "--preset", "sasrec", code=1).exception)


@pytest.mark.parametrize(
    ("preset", "off", "named"),
    [
        ("paper", (), True),
        ("paper", ("augmentation",), True),
        ("paper", ("augmentation", "profiling"), False),
        ("llmcdsr", (), True),
        ("llmcdsr", ("augmentation",), False),
        ("llm-esr", ("profiling",), False),
    ],
)
def test_no_llm_is_named_that_was_asked_nothing(place, preset, off, named):
    flags = {"llm": {"provider": "openai/served", "api_base": "http://localhost:1/v1"}}
    settings = load_settings(preset, flags={**flags, **{stage: {"enabled": False} for stage in off}})
    pipeline = Pipeline(Workspace(place), open_dataset(Workspace(place), "tiny"), settings)
    assert pipeline.llm_name == ("openai/served" if named else "local (no LLM)")


def test_refit_learns_from_the_validation_items_and_is_tested_as_such(place):
    train = ("train", *SMALL, "--preset", "paper", "--epochs", "3", "--lr", "0.01")
    before = document(place, *train)["runs"][0]
    (found,) = document(place, *train, "--refit")["runs"]
    assert ("refit" in found["variant"], found["domains"].keys()) == (True, before["domains"].keys())
    plan, phases = (
        json.loads((place / "runs" / found["run"] / name).read_text()) for name in ("run.json", "phases.json")
    )
    known = json.loads((place / "runs" / before["run"] / "phases.json").read_text())
    assert plan["settings"]["training"]["train_on"] == "train+valid"
    assert phases["pre-training"]["epoch"] == known["pre-training"]["best_epoch"]
    refused = CliRunner().invoke(
        app, ["eval", "--run", found["run"], "--split", "valid", "--workspace", str(place)]
    )
    assert isinstance(refused.exception, UserError) and "validation items" in str(refused.exception)
    assert "refit" in edt(place, "report", "--data", "tiny", "--run", found["run"]).output


def test_profiles_without_generated_items_are_of_what_users_did(place):
    quick = ("train", "--data", "tiny", "--epochs", "1", "--set", "model.hidden=8", "--set", "model.blocks=1")
    assert "local (no LLM)" in edt(place, *quick, "--model", "llm4cdsr").output
    plans = [json.loads(path.read_text()) for path in (place / "runs").glob("*llm4cdsr*/run.json")]
    assert [sorted(plan["artefacts"]) for plan in plans] == [["embeddings", "profiles"]]
    done = CliRunner().invoke(
        app, [*quick, "--model", "llm-esr", "--set", "profiling.enabled=false", "--workspace", str(place)]
    )
    assert isinstance(done.exception, UserError) and "needs user profiles" in str(done.exception)
