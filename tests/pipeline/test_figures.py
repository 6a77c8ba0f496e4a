"""The paper's figures of a few small runs, in every form, by the command."""

from __future__ import annotations

import json

import pytest
from test_data_cli import edt as edt  # the command in this process
from toy import random_dataset

from edt_cli.config import load_settings
from edt_cli.data.open import open_dataset
from edt_cli.data.saved import save
from edt_cli.inference import latency
from edt_cli.models.systems import system
from edt_cli.pipeline import Pipeline
from edt_cli.workspace.layout import Workspace, digest

pytestmark = pytest.mark.e2e

SMALL = {
    "model": {"hidden": 8, "blocks": 1, "heads": 1, "max_length": 12},
    "training": {"epochs": 1, "patience": 1, "min_steps": 0, "batch": 32},
}
SHORT = {"finetune_epochs": 1, "finetune_min_steps": 1, "adapter": 4}
RUNS = (
    ("llm-edt", "llm-edt-ce", {"options": {**SHORT, "alpha": 0.1}}),
    ("llm-edt", "llm-edt-ce", {"options": {**SHORT, "alpha": 0.3}}),
    ("llmcdsr", None, {}),
    ("popularity", None, {}),
)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    workspace = Workspace(tmp_path_factory.mktemp("figures"))
    with workspace.dataset("tiny").create() as (folder, manifest):
        saved = save(random_dataset(40), folder)
        manifest |= saved | {"data_key": digest(saved)}
    dataset = open_dataset(workspace, "tiny")
    for model, preset, changes in RUNS:
        settings = load_settings(preset or system(model).preset, environment={}).changed(model={"name": model})
        for section, values in [*SMALL.items(), *changes.items()]:
            settings = settings.changed(**{section: values})
        name = preset or system(model).preset_name
        Pipeline(workspace=workspace, dataset=dataset, settings=settings, preset=name).run()
    return workspace.root


@pytest.fixture
def report(edt, place, monkeypatch):
    monkeypatch.setattr(latency, "SECONDS", 0.0)
    monkeypatch.setattr(latency, "PASSES", 1)
    return lambda *arguments, code=0: edt("report", "--workspace", place, *arguments, code=code)


def test_every_figure_has_its_series(report):
    done = report("--figure", "1,4", "--figure", "3,5", "--json")
    figures = {figure["number"]: figure for figure in json.loads(done.stdout)["figures"]}
    assert list(figures) == [1, 4, 3, 5]
    labels = {n: [s["label"] for s in figure["panels"][0]["series"]] for n, figure in figures.items()}
    assert labels[1] == ["before", "LLM-EDT, local (no LLM)", "LLMCDSR, local (no LLM)"]
    assert [sum(y["mean"] for y in s["y"]) for s in figures[1]["panels"][0]["series"]] == [40, 40, 40]
    assert len(labels[4]) == 3 and labels[4][0].startswith("LLMCDSR")
    users = [sum(panel["users"]) for panel in figures[4]["panels"]]
    assert sum(users) == 40, "each has a test target"
    (series,) = figures[5]["panels"][0]["series"]
    assert series["x"] == [0.1, 0.3] and "alpha" not in series["label"]
    before, after = figures[3]["panels"]
    assert before["series"] == after["series"][: len(before["series"])] and labels[3] == ["a", "b"]


def test_what_was_measured_is_kept(report, monkeypatch):
    runs = ("--run", "tiny-llmcdsr", "--run", "tiny-popularity")
    first = report("--figure", "6", *runs, "--json").stdout
    (figure,) = json.loads(first)["figures"]
    (series,) = figure["panels"][0]["series"]
    assert series["x"][0] > 1000 and series["y"][0]["mean"] > 0
    assert any("Popularity" in note for note in figure["notes"])
    monkeypatch.setattr(latency, "training_data_of", None)
    assert report("--figure", "6", *runs, "--json").stdout == first


def test_figures_are_drawn_into_files(report, tmp_path):
    pytest.importorskip("matplotlib")
    said = report("--figure", "1,5", "--out", tmp_path / "f.png").stderr
    assert "f-1.png: Figure 1." in said and (tmp_path / "f-2.png").read_bytes().startswith(b"\x89PNG")
    report("--figure", "1", "--with-paper", "--out", tmp_path / "f.html")
    page = (tmp_path / "f.html").read_text("utf-8")
    assert "<svg" in page and "Paper: Users by r" in page


def test_the_terminal_and_the_papers_numbers_beside_ours(report):
    shown = report("--figure", "4").stdout
    assert "█" in shown and "Interactions" in shown and "Not there yet: w/o Aug." in shown
    table = report("--table", "2", "--with-paper", "--format", "markdown").stdout
    assert "0.8104" in table and "Paper / Cloth H@10" in table and "nothing is compared with it" in table


def test_a_plan_of_a_figure_shows_it_below_its_tables(report, tmp_path):
    systems = "".join(
        f'[[systems]]\nmodel = "llm-edt"\nlabel = "α = {alpha}"\n'
        f"options = {{ alpha = {alpha}, finetune_epochs = 1, finetune_min_steps = 1, adapter = 4 }}\n"
        for alpha in (0.1, 0.3)
    )
    common = "".join(
        f"[settings.{section}]\n"
        + "".join(f"{name} = {value}\n" for name, value in values.items() if name != "epochs")
        for section, values in SMALL.items()
    )
    plan = 'data = ["tiny"]\nfigure = 5\npreset = "llm-edt-ce"\nagainst = "each"\n[budget]\nepochs = 1\n'
    (tmp_path / "plan.toml").write_text(plan + common + systems, "utf-8")
    found = json.loads(report("--plan", tmp_path / "plan.toml", "--json").stdout)
    assert [figure["title"].rpartition(": ")[2] for figure in found["figures"]] == [
        "test, full ranking",
        "test, 100 sampled negatives",
    ]
    assert found["figures"][0]["panels"][0]["series"][0]["x"] == [0.1, 0.3]
    assert len(found["tables"]) > 2


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--figure", "2"), 2, "there is no figure 2; there are: 1, 3, 4, 5, 6"),
        (("--figure", "one"), 2, "--figure takes numbers"),
        (("--figure", "1", "--table", "2"), 2, "--figure shows figures alone"),
        (("--format", "png"), 2, "only figures are drawn as png"),
        (("--figure", "1", "--format", "svg"), 2, "svg needs a file: --out figure.svg"),
        (("--metric", "mrr", "--with-paper"), 2, "--with-paper needs"),
    ],
)
def test_a_mistake_is_one_line(report, arguments, code, said):
    lines = report(*arguments, code=code).stderr.splitlines()
    assert len(lines) == 1 and said in lines[0]
