"""Repeat purchases from the log to the table: which rule is used, where it is said, and what was kept of before."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from test_data_cli import edt as edt  # the command in this process

from edt_cli.config import EvaluationSettings, Settings
from edt_cli.data.open import open_dataset
from edt_cli.inference.results import evaluate, evaluated
from edt_cli.pipeline import Pipeline
from edt_cli.workspace.layout import Workspace, digest
from edt_cli.workspace.runs import all_runs

pytestmark = pytest.mark.e2e


@pytest.fixture
def place(edt, tmp_path) -> Workspace:
    """`again`: two shops whose customers come back for what they had; `once`: the same without repeats."""
    draw, rows = np.random.default_rng(0), {"shop": [], "outlet": []}
    for user in range(80):
        for step in range(10):
            domain = ("shop", "outlet")[draw.integers(2)]
            rows[domain].append((f"u{user}", f"{domain[0]}{draw.integers(12)}", 100 + step))
    files = []
    for domain, lines in rows.items():
        lines.append(lines[0])
        pl.DataFrame(lines, schema=["user", "item", "time"], orient="row").write_csv(f"{domain}.csv")
        files += ["--domain-file", f"{domain}.csv"]
    edt("data", "prepare", "again", *files)
    edt("data", "prepare", "once", *files, "--repeats", "drop")
    return Workspace(tmp_path / "ws")


def run_of(place: Workspace, data: str, **evaluation: object):
    s = Settings().changed(model={"name": "popularity"}, evaluation=evaluation)
    return Pipeline(place, open_dataset(place, data), s)


def test_what_is_dropped_and_what_repeats_is_told(edt, place):
    found = json.loads(edt("data", "stats", "again", "--json").stdout)
    assert [step["left_out"] for step in found["tally"]["steps"]] == [2]
    assert found["settings"]["repeats"] == "drop-duplicates"
    made = open_dataset(place, "again")
    counts = {f"{split}_targets": int(made.repeats(split).sum()) for split in ("valid", "test")}
    shares = {"share": made.repeat_share, "test_share": counts["test_targets"] / 80}
    assert found["repeats"] == {**counts, **shares, "keep_seen": True}
    assert "seen items stay candidates" in " ".join(edt("data", "stats", "again").stdout.split())
    once = json.loads(edt("data", "stats", "once", "--json").stdout)
    none = {"valid_targets": 0, "test_targets": 0, "test_share": 0.0, "share": 0.0, "keep_seen": False}
    assert once["repeats"] == none
    assert "seen items are no candidates" in " ".join(edt("data", "stats", "once").stdout.split())


def test_evaluation_keeps_seen_items_where_repeats_are_many_and_says_so(edt, place):
    told = {}
    for data in ("again", "once"):
        shown = " ".join(edt("train", "--data", data, "--model", "popularity", "--no-ui").stdout.split())
        assert ("Seen items stay candidates: " in shown) is (data == "again")
        for flag in ((), ("--no-keep-seen",), ("--keep-seen",)):
            (run,) = json.loads(edt("eval", "--data", data, *flag, "--json").stdout)["runs"]
            told[data, flag] = (run["keep_seen"], run["keep_seen_by"])
            assert run["repeats"] == open_dataset(place, data).repeat_share
    assert told == {
        ("again", ()): (True, "repeats"),
        ("again", ("--no-keep-seen",)): (False, "setting"),
        ("again", ("--keep-seen",)): (True, "setting"),
        ("once", ()): (False, "repeats"),
        ("once", ("--no-keep-seen",)): (False, "setting"),
        ("once", ("--keep-seen",)): (True, "setting"),
    }
    assert "seen items left out" in edt("eval", "--data", "again", "--no-keep-seen").stdout
    kept = {
        read["keep_seen"]
        for path in place.artefacts.glob("candidates/*/manifest.json")
        if (read := json.loads(path.read_text()))["dataset"] == open_dataset(place, "again").key
    }
    assert kept == {True, False}


def test_seen_items_are_recommended_where_they_are_candidates(edt, place):
    for data in ("again", "once"):
        edt("train", "--data", data, "--model", "popularity", "--no-ui")
        made = open_dataset(place, data)
        had = {made.catalogue["id"][int(item) - 1] for item in made.sequences.of(made.user("u1"))}
        for flag, kept in (((), data == "again"), (("--keep-seen",), True), (("--no-keep-seen",), False)):
            asked = ("recommend", "--data", data, "--user", "u1", "-k", "12", *flag, "--json")
            found = json.loads(edt(*asked).stdout)["users"]["u1"]
            assert bool(had & {row["item"] for rows in found.values() for row in rows}) is kept


def test_a_run_has_another_key_where_seen_items_stay_candidates(place):
    """Its validation is another; what left them out has the key that it always had."""
    for data, evaluation, kept in (
        ("again", {}, True),
        ("again", {"keep_seen": False}, False),
        ("once", {}, False),
        ("once", {"keep_seen": True}, True),
    ):
        pipeline = run_of(place, data, **evaluation)
        s = pipeline.settings
        training = s.training.model_dump(mode="json", exclude={"clip_norm"})  # which came later, and is off
        always = digest("run", pipeline.view.key, s.model, training, pipeline.artefact_keys())
        assert (pipeline.run_key != always) is kept


def test_results_of_before_repeats_were_counted(place):
    """Right where repeats are few, and read; evaluated again where they are many."""
    for data, right in (("once", True), ("again", False)):
        run, s = run_of(place, data).run(), EvaluationSettings()
        (known,) = evaluate(place, run, "test", s, Pipeline(place, open_dataset(place, data), run.settings).events)
        path = Path(run.folder / "results" / "test-full.json")
        old = {key: value for key, value in known.items() if key not in ("keep_seen_by", "repeats")}
        path.write_text(json.dumps({**old, "keep_seen": False}))
        assert evaluated(place, run, "test", s) is right
        (again,) = evaluate(place, run, "test", s, Pipeline(place, open_dataset(place, data), run.settings).events)
        assert again["keep_seen"] is known["keep_seen"]
        assert ("repeats" in again) is not right
    assert len(all_runs(place)) == 2
