"""Results of runs: ranked once, read for whatever is asked of them later, and old ones as they were."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from test_data_cli import edt as edt  # the command in this process
from test_data_cli import shops as shops

from edt_cli.config import EvaluationSettings, Settings
from edt_cli.data.open import open_dataset
from edt_cli.inference import measure
from edt_cli.inference.results import evaluate
from edt_cli.llm.embeddings import ItemEmbeddings
from edt_cli.pipeline import Pipeline
from edt_cli.workspace.events import Events
from edt_cli.workspace.layout import Workspace
from edt_cli.workspace.runs import Run

pytestmark = pytest.mark.e2e

BEYOND = ("coverage@10", "popularity@10", "novelty@10", "gini@10", "ild@10")


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Workspace, Run]:
    """Item-kNN on the demo, evaluated."""
    workspace = Workspace(tmp_path_factory.mktemp("results"))
    settings = Settings().changed(model={"name": "item-knn"})
    run = Pipeline(workspace, open_dataset(workspace, "demo"), settings).run()
    evaluate(workspace, run, "test", EvaluationSettings(), Events())
    return workspace, run


@pytest.fixture
def unranked(monkeypatch):
    """Whatever ranks fails."""

    def fail(*given: object, **named: object) -> None:
        raise AssertionError("ranked again")

    monkeypatch.setattr(measure, "measure", fail)


def files(run: Run) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((run.folder / "results").iterdir())}


def test_another_cutoff_is_read_from_the_ranks(made, unranked):
    workspace, run = made
    before = files(run)
    (plain,) = evaluate(workspace, run, "test", EvaluationSettings(), Events())
    (found,) = evaluate(workspace, run, "test", EvaluationSettings(cutoffs=(1, 10, 50)), Events())
    frame = pl.read_parquet(run.folder / "results" / "test-full-ranks.parquet")
    ranks, domains = frame["rank_full"].to_numpy(), frame["domain"].to_numpy()
    for number, name in enumerate(("garden", "kitchen")):
        of_domain = ranks[domains == number]
        figures = found["domains"][name]
        assert figures["hr@50"] == (of_domain <= 50).mean()
        assert figures["ndcg@1"] == figures["hr@1"] * 1.0 == (of_domain <= 1).mean()
        assert figures["ndcg@50"] == pytest.approx(np.where(of_domain <= 50, 1 / np.log2(1 + of_domain), 0).mean())
        assert figures.items() >= plain["domains"][name].items(), "what was known stays to the last digit"
    groups = found["groups"]["length"].values()
    users = sum(figures["users"] for domains in groups for figures in domains.values())
    hits = sum(figures["users"] * figures["hr@1"] for domains in groups for figures in domains.values())
    assert hits / users == pytest.approx(found["overall"]["hr@1"])
    assert files(run) == before


def test_lists_are_kept_and_told_of_where_there_are_no_texts_vectors_yet(made, unranked):
    workspace, run = made
    frame = pl.read_parquet(run.folder / "results" / "test-full-lists.parquet")
    assert frame.columns == ["user", "item", "domain", "top"]
    (found,) = evaluate(workspace, run, "test", EvaluationSettings(), Events())
    for figures in (*found["domains"].values(), found["overall"]):
        assert figures.keys() >= set(BEYOND) and figures["ild@10"] is None
        assert 0 < figures["gini@10"] < 1 < figures["novelty@10"]
    top, garden = frame["top"].to_numpy(), frame["domain"].to_numpy() == 0
    items = open_dataset(workspace, "demo").domains.range(0)
    assert found["domains"]["garden"]["coverage@10"] == len(np.unique(top[garden])) / len(items)


def test_text_vectors_that_come_later_complete_the_lists(made, unranked):
    workspace, run = made
    dataset = open_dataset(workspace, "demo")
    vectors = np.random.default_rng(0).normal(size=(dataset.domains.items + 1, 3)).astype(np.float32)
    with workspace.artefact("embeddings", "toy").create(dataset=dataset.key) as (folder, _):
        ItemEmbeddings(vectors, dataset.has_text).save(folder)
    (before,) = evaluate(workspace, run, "test", EvaluationSettings(), Events())
    (found,) = evaluate(workspace, run, "test", EvaluationSettings(), Events(), lists=True)
    assert found["domains"]["garden"].pop("ild@10") == pytest.approx(1, abs=0.2), "of random directions"
    del before["domains"]["garden"]["ild@10"]
    assert found["domains"]["garden"] == before["domains"]["garden"]


def test_by_popularity_is_a_protocol_of_its_own_and_leaves_the_others_as_they_are(made):
    workspace, run = made
    before = files(run)
    (found,) = evaluate(workspace, run, "test", EvaluationSettings(protocol="popular", negatives=100), Events())
    after = files(run)
    assert after.items() >= before.items()
    assert after.keys() - before.keys() == {"test-popular-100.json", "test-popular-100-ranks.parquet"}
    assert (found["protocol"], found["negatives"]) == ("popular", 100)
    (full,) = evaluate(workspace, run, "test", EvaluationSettings(), Events())
    assert full["overall"]["hr@10"] < found["overall"]["hr@10"]
    assert all(found["overall"][name] == full["overall"][name] for name in BEYOND[:4])


def test_a_result_of_before_there_were_lists_is_read_and_completed_when_asked(made):
    """Its documents and ranks stay byte for byte; what is asked beyond them is ranked once."""
    workspace, run = made
    folder = run.folder / "results"
    path = folder / "test-full.json"
    document = json.loads(path.read_text())
    for figures in (*document["domains"].values(), document["overall"]):
        for name in ("novelty@10", "gini@10", "ild@10"):
            del figures[name]
    path.write_text(json.dumps(document))
    (folder / "test-full-lists.parquet").unlink()
    before = files(run)
    (old,) = evaluate(workspace, run, "test", EvaluationSettings(), Events())
    assert old == document
    (found,) = evaluate(workspace, run, "test", EvaluationSettings(), Events(), lists=True)
    assert found["overall"].keys() - old["overall"].keys() == {"novelty@10", "gini@10", "ild@10"}
    assert found["overall"].items() >= old["overall"].items()
    assert {name: data for name, data in files(run).items() if name != "test-full-lists.parquet"} == before


def test_tables_at_cutoffs_and_of_lists(edt, shops):
    edt("data", "prepare", "shops", "--domain-file", "shop.csv", "--domain-file", "outlet.csv")
    shown = edt("train", "--data", "shops", "--model", "popularity", "--no-ui", "--cutoffs", "1,3").stdout
    assert "H@1 " in shown and "N@3" in shown and "H@10" not in shown
    shown = edt("report", "--cutoffs", "50,1", "--beyond").stdout
    assert "H@1 " in shown and "N@50" in shown and "H@10" not in shown
    assert "Recommended lists on shops" in shown and "Gini@10" in shown
    assert "ILD" not in shown, "no item has text"
    (run,) = json.loads(edt("eval", "--cutoffs", "1,5", "--json").stdout)["runs"]
    assert all({"hr@1", "hr@5", "hr@10", *BEYOND} <= figures.keys() for figures in run["domains"].values())
    assert "H@7" in edt("report", "--metric", "hr@7").stdout
    assert "3 negatives by popularity" in edt("eval", "--protocol", "popular", "--negatives", "3").stdout
    for wrong in ("0,5", "five", ""):
        assert "cutoffs" in edt("eval", "--cutoffs", wrong, code=2).stderr
    assert "no run has the metric 'hr@x'" in edt("report", "--metric", "hr@x", code=1).stderr


def test_a_dataset_that_has_changed_is_no_ground_for_further_figures(made):
    workspace, run = made
    changed = Run(Path(run.folder), {**run.plan, "data_key": "0" * 16})
    with pytest.raises(Exception, match="has changed"):
        evaluate(workspace, changed, "test", EvaluationSettings(cutoffs=(2,)), Events())
