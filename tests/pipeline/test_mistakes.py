"""What a user's mistake, a damaged file or a place that cannot be written leads to: one line, and nothing lost."""

import json
import os
from pathlib import Path

import pytest
from test_road import document, edt
from toy import random_dataset

from edt_cli.config import UsageError
from edt_cli.experiments.search import SearchSettings, search
from edt_cli.workspace.layout import Workspace
from edt_cli.workspace.runs import all_runs

pytestmark = pytest.mark.e2e

SMALL = ("--epochs", "2", "--set", "model.hidden=8", "--set", "model.blocks=1")


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """`tiny`: 40 users, three items of `a` that everybody has had, ten of `b`."""
    root = tmp_path_factory.mktemp("mistakes")
    items = {"a": [f"a{i % 3}" for i in range(160)], "b": [f"b{(i * 7) % 10}" for i in range(200)]}
    for domain, names in items.items():
        each = len(names) // 40
        lines = [f"u{i // each},{name},{1000 + 10 * (i % each)}" for i, name in enumerate(names)]
        (root / f"{domain}.csv").write_text("user,item,time\n" + "\n".join(lines) + "\n")
    files = ("--domain-file", str(root / "a.csv"), "--domain-file", str(root / "b.csv"))
    edt(root, "data", "prepare", "tiny", *files, "--window", "none", "--k-core", "none")
    edt(root, "train", "--data", "tiny", "--model", "popularity")
    return root


def last_line(done) -> str:
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) <= 2 and lines[-1].startswith("error: ")
    return lines[-1]


def test_a_domain_in_which_a_user_has_had_everything_is_empty(place):
    asked = ("recommend", "--data", "tiny", "--user", "u1", "-k", "2")
    found = document(place, *asked, "--no-keep-seen")["users"]["u1"]
    assert "a" not in found and len(found["b"]) == 2
    # Everybody's fourth item of `a` is the first again: of this data, what was had is worth recommending.
    assert len(document(place, *asked)["users"]["u1"]["a"]) == 2


def test_a_seed_and_a_model_count_wherever_they_are_given(place, tmp_path, monkeypatch):
    (run,) = document(place, "train", "--data", "tiny", "--set", "model.name=item-knn", "--set", "training.seed=7")[
        "runs"
    ]
    assert (run["model"], run["seed"]) == ("item-knn", 7)
    path = tmp_path / "own.toml"
    path.write_text("[model]\nname = 'popularity'\n[training]\nseed = 9\n")
    (run,) = document(place, "train", "--data", "tiny", "--config", str(path))["runs"]
    assert (run["model"], run["seed"]) == ("popularity", 9)
    monkeypatch.setenv("EDT_TRAINING_SEED", "11")
    (run,) = document(place, "train", "--data", "tiny", "--model", "popularity")["runs"]
    assert run["seed"] == 11
    clash = ("train", "--data", "tiny", "--model", "sasrec", "--config", str(path))
    assert "leave one of them out" in last_line(edt(place, *clash, code=2))


def test_refits_of_several_seeds_are_one_row_and_leave_validation_to_the_others(place):
    train = ("train", "--data", "tiny", "--model", "gru4rec", *SMALL, "--seeds", "1,2")
    edt(place, *train)
    runs = document(place, *train, "--refit")["runs"]
    assert {run["label"] for run in runs} == {"GRU4Rec"} and {run["variant"] for run in runs} == {"refit"}
    valid = document(place, "eval", "--data", "tiny", "--split", "valid")["runs"]
    assert {run["variant"] for run in valid if run["model"] == "gru4rec"} == {""}
    assert document(place, "report", "--data", "tiny", "--split", "valid")
    together = document(place, "eval", "--data", "tiny", "--together")["runs"]
    assert "together" in together[-1]["label"]


def test_a_loss_that_is_no_number_ends_in_one_line(place):
    wild = ("train", "--data", "tiny", "--model", "gru4rec", *SMALL, "--lr", "1e30")
    assert "lower the learning rate" in edt(place, *wild, code=1).stderr.splitlines()[-1]


def test_a_run_of_another_version_is_passed_over(place):
    before = document(place, "eval", "--data", "tiny")["runs"]
    (popularity,) = {run["run"] for run in before if run["model"] == "popularity" and run["seed"] == 42}
    plan = place / "runs" / popularity / "run.json"
    kept = plan.read_text()
    for damaged in (kept.replace('"epochs":', '"epochz":'), "{}", "[]"):
        plan.write_text(damaged)
        found = document(place, "eval", "--data", "tiny")["runs"]
        assert {run["run"] for run in found} == {run["run"] for run in before} - {popularity}
    plan.write_text(kept)
    assert popularity in {run.name for run in all_runs(Workspace(place))}


def test_settings_that_do_not_go_together_are_told_in_one_line_without_what_else_was_set(place):
    address = ("--set", "llm.api_base=http://me:s3cret@host/v1?key=s3cret")
    single = ("--set", "model.sequence=single", "--set", "training.inserted_targets=false")
    done = edt(place, "train", "--data", "tiny", "--model", "sasrec", *address, *single, code=2)
    assert last_line(done) == "error: training.inserted_targets = false needs model.sequence = mixed"
    assert "s3cret" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("train", "--data", "tiny", "--seeds", "99999999999999999999"), 2, "training.seed"),
        (("recommend", "--all", "--out", "recs.xlsx"), 2, "ending"),
        (("inspect", "nobody", "--data", "tiny"), 1, "no user 'nobody'"),
        (
            ("train", "--data", "tiny", "--provider", "ollama", "--llm-model", "m", "--price", "abc"),
            2,
            "a price is",
        ),
        (
            ("data", "prepare", "../evil", "--domain-file", "{}/a.csv", "--domain-file", "{}/b.csv"),
            2,
            "not a valid name for a dataset",
        ),
        (
            (
                "data",
                "prepare",
                "q",
                "--domain-file",
                "{}/a.csv",
                "--domain-file",
                "{}/b.csv",
                "--items",
                "zzz={}/b.csv",
            ),
            2,
            "'zzz'",
        ),
        (("recommend", "--data", "tiny", "--export-items", "{}/a.csv", "--run", "tiny-gru"), 1, "tiny-gru"),
    ],
)
def test_a_mistake_ends_in_one_line(place, arguments, code, said):
    done = edt(place, *(one.format(place) for one in arguments), code=code)
    assert said in last_line(done)


def test_a_place_that_cannot_be_written_is_named(place):
    done = edt(place / "a.csv", "cache", "stats", code=1)
    assert "a.csv" in last_line(done)


def test_no_code_for_the_terminal_comes_through_an_error(place, tmp_path):
    path = tmp_path / "esc.toml"
    path.write_text('[training]\n"l\\u001b[31mr" = 1\n', "utf-8")
    done = edt(place, "train", "--data", "tiny", "--config", str(path), code=2)
    assert "training.l[31mr" in last_line(done) and "\x1b" not in done.stderr


def test_help_keeps_its_brackets():
    assert "[env: EDT_WORKSPACE]" in " ".join(edt(Path(os.devnull), "models", "--help").stdout.split())
    assert "[settings], [space]" in " ".join(edt(Path(os.devnull), "search", "--help").stdout.split())


def test_a_search_needs_something_that_learns_and_something_to_choose_from(tmp_path):
    s = SearchSettings(preset="popularity", trials=1, space={"model.knn_window": [1, 2]})
    with pytest.raises(UsageError, match="is not trained"):
        search(Workspace(tmp_path), random_dataset(), s)
    path = tmp_path / "search.toml"
    path.write_text("[space]\n'model.hidden' = []\n")
    with pytest.raises(UsageError, match="hidden"):
        SearchSettings.read(path)


def test_a_file_without_plan_is_told_without_its_content(place, tmp_path):
    path = tmp_path / "plan.toml"
    path.write_text("trials = 9\n")
    said = last_line(edt(place, "compare", str(path), code=2))
    assert "Field required" in said and "got" not in said


def test_the_json_of_a_stage_and_of_a_file_of_recommendations(place, tmp_path):
    out = tmp_path / "recs.csv"
    told = document(place, "recommend", "--data", "tiny", "--all", "--out", str(out))
    assert told["file"] == str(out) and told["rows"] == len(out.read_text().splitlines()) - 1
    assert json.loads(json.dumps(told))["users"] == 40
