"""A model that comes with another package: found by entry point, trained, ranked; a broken one harms nobody."""

from __future__ import annotations

import json
import shutil
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from toy import domains_of_size, random_dataset, random_sequences, text_table
from typer.testing import CliRunner

from edt_cli.cli.app import app
from edt_cli.config import TrainingSettings, UsageError, UserError, load_settings
from edt_cli.data.dataset import Dataset
from edt_cli.data.open import open_dataset
from edt_cli.data.saved import save
from edt_cli.inference.labels import labelled
from edt_cli.inference.results import evaluate
from edt_cli.inference.trained import load_trained
from edt_cli.models import systems as module
from edt_cli.models.batch import DeviceSequences
from edt_cli.models.inputs import ModelInputs
from edt_cli.models.systems import broken, make_model, model_class, options_of, system, systems, title_of
from edt_cli.pipeline import Pipeline
from edt_cli.reporting.tables import table_3
from edt_cli.training.sizes import parameters
from edt_cli.workspace.events import Events, read_events
from edt_cli.workspace.layout import Workspace, digest

pytestmark = pytest.mark.e2e

EXAMPLE = Path(__file__).parents[2] / "examples" / "edt-last-item"


def installed(site: Path, name: str, entries: dict[str, str]) -> None:
    """What pip leaves of a package's entry points."""
    about = site / f"{name}-0.1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1.0\n")
    lines = [f"{entry} = {target}" for entry, target in entries.items()]
    (about / "entry_points.txt").write_text("\n".join(["[edt.models]", *lines]) + "\n")


@pytest.fixture
def site(tmp_path, monkeypatch) -> Path:
    """A folder of installed packages, the example among them."""
    place = tmp_path / "site"
    shutil.copytree(EXAMPLE / "edt_last_item", place / "edt_last_item")
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    installed(place, "edt_last_item", project["entry-points"]["edt.models"])
    monkeypatch.syspath_prepend(str(place))
    module._installed.cache_clear()
    yield place
    monkeypatch.undo()
    module._installed.cache_clear()


def shown(*arguments: str) -> dict:
    done = CliRunner().invoke(app, [*arguments, "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def prepared(place: Path) -> tuple[Workspace, Dataset]:
    """A workspace with a small dataset in it."""
    workspace = Workspace(place)
    if not workspace.dataset("tiny").complete:
        with workspace.dataset("tiny").create() as (folder, manifest):
            saved = save(random_dataset(), folder)
            manifest |= saved | {"data_key": digest(saved)}
    return workspace, open_dataset(workspace, "tiny")


def trained(place: Path, **options: float):
    settings = load_settings(
        system("last-item").preset, flags={"model": {"hidden": 8}, "training": {"epochs": 2}, "options": options}
    )
    pipeline = Pipeline(*prepared(place), settings)
    return pipeline, pipeline.run()


def test_it_is_found_shown_trained_and_ranked(site, tmp_path, monkeypatch):
    pipeline, run = trained(tmp_path)
    assert {name: phase["epoch"] for name, phase in run.manifest()["phases"].items()} == {
        "pre-training": 2,
        "domains": 2,
    }
    weights = [load_file(run.folder / f"{name}.safetensors") for name in ("pre-training", "domains")]
    changed = {name for name, weight in weights[0].items() if not torch.equal(weight, weights[1][name])}
    assert {name.split(".")[0] for name in changed} <= {"toward"}
    learned = {e.phase: e.parameters for e in read_events(run.folder) if e.event == "phase"}
    assert learned["domains"] == 2 * (8 * 8 + 8) == run.manifest()["parameters"] - learned["pre-training"]
    assert run.manifest()["parameters"] == parameters(pipeline.dataset, pipeline.settings)
    assert trained(tmp_path, decay=0.8)[1].name != run.name
    about = shown("models", "last-item")
    assert [(one["option"], one["default"]) for one in about["options"]] == [("decay", 0.5)]
    assert about["options"][0]["about"] and about["needs"] == ["ids"]
    with pytest.raises(UsageError, match="decay"):
        trained(tmp_path, speed=2.0)

    # A run stays in the tables when the package is gone.
    documents = evaluate(pipeline.workspace, run, "test", pipeline.settings.evaluation, Events())
    shown_as = [(one["label"], one["variant"]) for one in labelled(documents, [run])]
    assert shown_as == [("LastItem", ""), ("LastItem", "first phase")]
    (table,) = table_3(labelled(documents, [run]))
    assert [row.label for row in table.rows] == ["LastItem", "first phase"] and table.number is None
    monkeypatch.setattr(module, "_installed", lambda: ({}, {}))
    assert [one["label"] for one in labelled(documents, [run])] == ["last-item", "last-item"]
    monkeypatch.undo()


def test_it_sees_no_future_and_no_padding(site):
    domains = domains_of_size(5, 4, 3)
    rows = random_sequences(domains)
    table = text_table(domains, rows)
    settings = load_settings(system("last-item").preset, flags={"model": {"hidden": 8}}).model
    model = make_model(ModelInputs(table, settings, TrainingSettings(), options_of("last-item", {}), rows)).eval()
    whole = DeviceSequences(rows, table, 12).batch(torch.arange(len(rows)))
    states = model.encode_positions(whole)
    cut = DeviceSequences(rows.prefixes(rows.lengths - 3), table, 12).batch(torch.arange(len(rows)))
    there = cut.items.shape[1] - 1
    assert torch.allclose(model.encode_positions(cut)[:, :there], states[:, :there], atol=1e-6)


def test_one_without_training_is_ranked_and_recommends(site, tmp_path):
    workspace, dataset = prepared(tmp_path)
    settings = load_settings(system("newest").preset)
    pipeline = Pipeline(workspace, dataset, settings)
    run = pipeline.run()
    assert not run.manifest().get("phases")
    (document,) = evaluate(pipeline.workspace, run, "test", settings.evaluation, Events())
    assert document["parameters"] is None and parameters(dataset, settings) == 0
    prefixes = dataset.training_view().prefixes
    last = {item: int(prefixes.times[prefixes.items == item].max()) for item in set(prefixes.items.tolist())}
    scorer = load_trained(pipeline.material(), settings, run.folder).scorer(prefixes, np.zeros(len(prefixes)))
    for domain in range(2):
        items = dataset.domains.range(domain)
        assert scorer.scores(torch.arange(1), domain)[0].tolist() == [last.get(item, 0) for item in items]


def test_a_broken_one_is_named_and_takes_nothing_else_away(site):
    (site / "bad.py").write_text(
        "from edt_cli.models.systems import System\n"
        "one = System(name='no-class', title='N', preset='sasrec', model='bad:Missing')\n"
        "other = System(name='no-model', title='N', preset='sasrec', model='bad:System')\n"
        "third = System(name='no-preset', title='N', preset=__import__('pathlib').Path('/nowhere.toml'))\n"
        "number = 7\n"
    )
    (site / "raises.py").write_text("raise RuntimeError('on\\nimport')\n")
    names = {"no-class": "bad:one", "no-model": "bad:other", "no-preset": "bad:third"}
    names |= {"number": "bad:number", "wrong-name": "bad:one", "raises": "raises:x", "sasrec": "raises:x"}
    installed(site, "bad", names)
    module._installed.cache_clear()

    assert set(broken()) == {"number", "wrong-name", "raises"}
    assert broken()["raises"] == "RuntimeError: on"
    assert system("sasrec").title == "SASRec" and title_of("raises") == "raises"
    listed = shown("models")
    assert {"llm-edt", "sasrec", "last-item", "newest"} <= {one["model"] for one in listed["models"]}
    assert {one["model"] for one in listed["broken"]} == {*broken(), "no-class", "no-model", "no-preset"}
    with pytest.raises(UserError, match=r"'raises' cannot be loaded \(RuntimeError: on\)"):
        system("raises")
    with pytest.raises(UserError, match="Missing"):
        model_class("no-class")
    with pytest.raises(UserError, match="is no SequentialModel"):
        model_class("no-model")
    with pytest.raises(UserError, match=r"nowhere\.toml"):
        load_settings(systems()["no-preset"].preset)


def test_parameters_are_counted_without_training(tmp_path):
    dataset = random_dataset()
    small = {"model": {"hidden": 8, "blocks": 1, "heads": 2}, "training": {"epochs": 1}}
    for name in ("sasrec", "gru4rec", "bert4rec"):
        settings = load_settings(name, flags=small)
        run = Pipeline(Workspace(tmp_path), dataset, settings).run()
        assert run.manifest()["parameters"] == parameters(dataset, settings)
    given = load_settings("llmcdsr", flags={"model": {"hidden": 8, "blocks": 1}, "training": {"epochs": 1}})
    run = Pipeline(Workspace(tmp_path), dataset, given).run()
    assert run.manifest()["parameters"] == parameters(dataset, given)
    assert parameters(dataset, load_settings("popularity")) == 0
    without = load_settings("paper", flags={**small, "profiling": {"enabled": False}})
    adapter = (1024 + 1) * 512 + (512 + 1) * 8
    assert parameters(dataset, load_settings("paper", flags=small)) == parameters(dataset, without) + adapter
