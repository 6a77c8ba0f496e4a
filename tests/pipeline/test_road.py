"""The road from files to items, by its commands: the training in a process of its own, the rest in this one."""

import io
import json
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from unittest.mock import patch

import polars as pl
import pytest
from safetensors.numpy import load_file

from edt_cli.cli.app import main
from edt_cli.data.demo import make_demo

pytestmark = pytest.mark.e2e

QUICK = (
    *("--preset", "paper", "--epochs", "3"),
    *("--set", "options.finetune_epochs=12", "--set", "options.finetune_min_steps=10"),
)


def edt(place: Path, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run a command as its process would, without the seconds that a process takes to begin."""
    out, err, returncode = io.StringIO(), io.StringIO(), 0
    environment = {"EDT_WORKSPACE": str(place), "COLUMNS": "100", "NO_COLOR": "1"}
    with (
        patch.dict(os.environ, environment),
        patch.object(sys, "argv", ["edt", *arguments]),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as end:
            returncode = int(end.code or 0)
    return checked(subprocess.CompletedProcess(arguments, returncode, out.getvalue(), err.getvalue()), code)


def edt_process(place: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "EDT_WORKSPACE": str(place), "COLUMNS": "100", "NO_COLOR": "1"}
    command = [sys.executable, "-c", "from edt_cli.cli.app import main; main()", *arguments]
    return checked(subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300), 0)


def checked(done: subprocess.CompletedProcess[str], code: int) -> subprocess.CompletedProcess[str]:
    assert done.returncode == code, f"{done.args}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    return done


def document(place: Path, *arguments: str):
    """The one JSON document on stdout."""
    return json.loads(edt(place, *arguments, "--json").stdout)


USERS = 280
"""Of the demo's 3,000: every profile is embedded, which is most of the time."""


def write_shops(folder: Path) -> list[str]:
    """Write part of the demo as the files of two shops; return the options that name them."""
    interactions, catalogue = make_demo()
    users = sorted(interactions["user"].unique())[:USERS]
    sold = interactions.join(pl.DataFrame({"user": users}), on="user").join(catalogue, on="item")
    options = []
    for domain, name in enumerate(("garden", "kitchen")):
        sold.filter(domain=domain).select("user", "item", "time").write_csv(folder / f"{name}.csv")
        catalogue.filter(domain=domain).drop("domain").write_csv(folder / f"{name}-items.csv")
        options += ["--domain-file", f"{name}={folder / name}.csv", "--items", f"{name}={folder / name}-items.csv"]
    return options


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A workspace in which LLM-EDT was trained on two shops, with the method whole but few epochs."""
    root = tmp_path_factory.mktemp("workspace")
    edt(root, "data", "prepare", "shops", *write_shops(tmp_path_factory.mktemp("files")))
    done = edt_process(root, "train", "--data", "shops", "--no-ui", *QUICK)
    assert "local (no LLM)" in done.stdout
    assert "H@10" in done.stdout and "N@10" in done.stdout
    return root


def test_the_demo_needs_no_files_and_says_what_it_is(place):
    assert "demo (synthetic)" in edt(place, "train", "--data", "demo", "--model", "popularity").stdout


def test_the_same_command_again_does_nothing_and_says_so(place):
    before = {path: path.stat().st_mtime_ns for path in (place / "runs").rglob("*.safetensors")}
    done = edt_process(place, "train", "--data", "shops", *QUICK)
    assert "nothing to do" in done.stderr
    assert before == {path: path.stat().st_mtime_ns for path in (place / "runs").rglob("*.safetensors")}


def test_a_learning_rate_asks_no_llm_again(place):
    done = edt(place, "train", "--data", "shops", *QUICK, "--lr", "0.002", "--ablate", "dft")
    for kind in ("embeddings", "augmentation", "profiles"):
        assert f"{kind} " in done.stderr and f"{kind}:" not in done.stderr
        (line,) = [line for line in done.stderr.splitlines() if line.startswith(kind)]
        assert line.endswith("nothing has changed, kept")


def test_eval_is_one_document_of_the_agreed_form(place):
    found = document(place, "eval", "--data", "shops", "--protocol", "sampled", "--negatives", "50")
    assert (found["data"], found["protocol"], found["negatives"]) == ("shops", "sampled", 50)
    for run in found["runs"]:
        assert {"run", "model", "seed", "domains"} <= run.keys()
        for figures in run["domains"].values():
            assert figures["users"] > 100
            assert 0 < figures["ndcg@10"] <= figures["hr@10"] <= 1
            assert 0 < figures["mrr"] <= 1


def test_sampled_ranks_are_never_worse_than_full_ones(place):
    """The same pass scores both: a sampled candidate is a candidate of the full protocol as well."""
    document(place, "eval", "--data", "shops")
    for path in (place / "runs").glob("*/results/test-full-*ranks.parquet"):
        full = pl.read_parquet(path)
        sampled = pl.read_parquet(path.with_name(path.name.replace("full", "sampled-100")))
        assert full.drop("rank_full").equals(sampled.drop("rank_sampled"))
        assert (sampled["rank_sampled"] <= full["rank_full"]).all()


def test_every_artefact_records_its_leak_check(place):
    for kind in ("augmentation", "profiles"):
        manifests = list((place / "artefacts" / kind).glob("*/manifest.json"))
        assert manifests
        for manifest in manifests:
            check = json.loads(manifest.read_text())["leak_check"]
            assert check["passed"] and check["interactions"] > 1000


def test_inspect_shows_a_one_domain_user_with_what_was_inserted(place):
    found = document(place, "inspect", "one-domain", "--data", "shops", "--preset", "paper")
    assert found["r"] == 1
    assert any(row["part"] == "inserted" for row in found["history"])
    assert [row["part"] for row in found["history"]][-2:] == ["valid", "test"]
    kept = [row for row in found["generated"] if row["kept"]]
    assert kept and all(row["score_target"] >= row["tau"] for row in kept)
    assert found["profile"]
    shown = edt(place, "inspect", found["user"], "--data", "shops", "--preset", "paper").stdout
    assert "local (no LLM)" in shown and "+" in shown


def test_report_in_every_form(place):
    for form, mark in (("markdown", "|"), ("latex", r"\toprule"), ("csv", ","), ("json", "{")):
        assert mark in edt(place, "report", "--data", "shops", "--format", form).stdout
    table_3 = edt(place, "report", "--data", "shops", "--table", "3", "--format", "csv").stdout
    assert "w/o DFT" in table_3
    assert "Avg.len" in edt(place, "report", "--data", "shops", "--table", "1").stdout
    assert "0.8104" in edt(place, "report", "--table", "2", "--paper").stdout


def test_recommend_for_known_and_new_users_and_without_what_is_out_of_stock(place, tmp_path):
    user = document(place, "inspect", "one-domain", "--data", "shops", "--preset", "paper")["user"]
    found = document(place, "recommend", "--data", "shops", "--user", user, "--count", "3")
    domains = found["users"][user]
    assert all([row["rank"] for row in rows] == [1, 2, 3] for rows in domains.values())
    first = [rows[0]["item"] for rows in domains.values()]
    (tmp_path / "gone.txt").write_text("\n".join(first))
    again = document(
        place,
        "recommend",
        "--data",
        "shops",
        "--user",
        user,
        "--count",
        "3",
        "--exclude",
        str(tmp_path / "gone.txt"),
    )
    assert not {row["item"] for rows in again["users"][user].values() for row in rows} & set(first)

    (tmp_path / "new.csv").write_text("user,item\n" + "".join(f"ann,{item}\n" for item in first) + "ann,unknown\n")
    new = document(place, "recommend", "--data", "shops", "--history", str(tmp_path / "new.csv"))
    assert set(new["users"]) == {"ann"}
    assert not {row["item"] for rows in new["users"]["ann"].values() for row in rows} & set(first)


def test_batch_export_and_item_vectors_agree_with_recommend(place, tmp_path):
    edt(place, "recommend", "--data", "shops", "--all", "--out", str(tmp_path / "recs.parquet"), "--count", "5")
    frame = pl.read_parquet(tmp_path / "recs.parquet")
    assert frame["user"].n_unique() == USERS
    assert (frame.group_by("user", "domain").len()["len"] == 5).all()
    assert frame.select("user", "domain", "item").is_unique().all()
    index = tmp_path / "index"
    edt(place, "recommend", "--data", "shops", "--export-items", str(index), "--export-users", str(index))
    vectors = {kind: load_file(index / f"{kind}.safetensors")["vectors"] for kind in ("items", "users")}
    rows = {kind: pl.read_parquet(index / f"{kind}.parquet") for kind in vectors}
    assert len(vectors["items"]) == len(rows["items"]) == rows["items"]["id"].n_unique()
    assert len(vectors["users"]) == len(rows["users"]) == 2 * USERS
    assert len({path.stat().st_mode for path in index.iterdir()}) == 1
    manifests = [json.loads((index / f"{kind}.json").read_text()) for kind in vectors]
    assert manifests[0]["run"] == manifests[1]["run"] and manifests[0]["dimension"] == manifests[1]["dimension"]
    # The first item of a list is the best of those that the user has not had.
    user, domain = rows["users"].row(7)[1:]
    of_domain = rows["items"].filter(domain=domain)
    scores = vectors["items"][of_domain["row"]] @ vectors["users"][7]
    first = frame.filter(user=user, domain=domain, rank=1).row(0, named=True)
    assert scores[of_domain["id"].to_list().index(first["item"])] == pytest.approx(first["score"], rel=1e-4)
    one = document(
        place,
        "recommend",
        "--data",
        "shops",
        "--user",
        user,
        "--domain",
        domain,
        "--export-users",
        str(tmp_path / "one"),
    )
    assert (one["users"], one["rows"]) == (1, 1)


def test_a_newcomer_gets_what_is_popular_and_a_slip_of_the_pen_does_not(place, tmp_path):
    assert "no user 'nobody'" in edt(place, "recommend", "--data", "shops", "--user", "nobody", code=1).stderr
    done = edt(place, "recommend", "--data", "shops", "--user", "nobody", "--allow-new")
    assert "popular in training" in done.stdout
    assert "the popular items for 1 user of whom no item is known: nobody" in done.stderr
    item = document(place, "recommend", "--data", "shops", "--user", "nobody", "--allow-new")["users"]["nobody"][
        "garden"
    ][0]
    assert item["source"] == "popular"
    (tmp_path / "tonight.csv").write_text(f"user,item\nann,{item['item']}\nbob,\ncy,unheard-of\n")
    edt(
        place,
        "recommend",
        "--data",
        "shops",
        "--history",
        str(tmp_path / "tonight.csv"),
        "--out",
        str(tmp_path / "recs.csv"),
    )
    sources = pl.read_csv(tmp_path / "recs.csv").select("user", "source").unique().sort("user").rows()
    assert sources == [("ann", "model"), ("bob", "popular"), ("cy", "popular")]


def test_final_trains_on_everything_and_is_used_by_recommend(place):
    sasrec = ("--model", "sasrec", "--preset", "sasrec-ce", "--epochs", "2")
    done = edt(place, "train", "--data", "shops", "--final", *sasrec)
    assert "trained on everything" in done.stderr
    user = document(place, "inspect", "one-domain", "--data", "shops", "--preset", "paper")["user"]
    run = document(place, "recommend", "--data", "shops", "--user", user)["run"]
    plan = json.loads((place / "runs" / run / "run.json").read_text())
    assert plan["settings"]["training"]["train_on"] == "all"
    refused = edt(place, "eval", "--run", run, code=1)
    assert refused.stderr.strip().splitlines()[-1].startswith("error: run ")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("train", "--data", "cloth-sport"), 1, "edt data prepare cloth-sport"),
        (("train", "--data", "shops", "--device", "cuda:7"), 1, "CUDA"),
        (("train", "--data", "shops", "--device", "tpu9"), 2, "device"),
        (("train", "--data", "shops", "--model", "nothing"), 2, "unknown model"),
        (("train", "--data", "shops", "--set", "training.lr=-1"), 2, "training.lr"),
        (("train", "--data", "shops", "--final", "--refit"), 2, "one of them"),
        (("train", "--data", "shops", "--set", "nonsense"), 2, "section.field=value"),
        (("train", "--data", "shops", "--provider", "nobody"), 1, "unknown provider"),
        (("recommend", "--user", "nobody"), 1, "no user 'nobody'"),
        (("recommend",), 2, "say for whom"),
        (("report", "--run", "nothing"), 1, "no run named"),
    ],
)
def test_a_mistake_ends_in_one_line(place, arguments, code, said):
    done = edt(place, *arguments, code=code)
    last = [line for line in done.stderr.splitlines() if line.strip()]
    assert last[-1].startswith("error: ") and said in done.stderr
    assert len(last) <= 2


def test_other_systems_stand_beside_it(place):
    for model in ("popularity", "item-knn", "content-knn", "sasrec"):
        edt(place, "train", "--data", "shops", "--model", model, "--epochs", "1", "--seeds", "42,44")
    rows = edt(place, "report", "--data", "shops", "--table", "2", "--format", "csv").stdout
    for name in ("Popularity", "Item-kNN", "Content-kNN", "SASRec", "LLM-EDT"):
        assert name in rows


def test_a_system_that_only_reads_texts(place):
    (run,) = document(place, "train", "--data", "shops", "--model", "content-knn")["runs"]
    assert (run["model"], run["label"], run["llm"], run["parameters"]) == ("content-knn", "Content-kNN", "", None)
    (of_counts,) = document(place, "train", "--data", "shops", "--model", "popularity")["runs"]
    for domain in ("garden", "kitchen"):
        assert run["domains"][domain]["ndcg@10"] > of_counts["domains"][domain]["ndcg@10"]
    found = document(place, "recommend", "--run", run["run"], "--user", "U0004", "--count", "3")
    assert [len(items) for items in found["users"]["U0004"].values()] == [3, 3]
    told = edt(place, "recommend", "--run", run["run"], "--export-items", str(place / "index"), code=1).stderr
    assert "learns no vectors" in told
    listed = {one["model"]: one for one in document(place, "models", "--data", "shops")["models"]}
    assert (listed["content-knn"]["needs"], listed["content-knn"]["parameters"]) == (["item text"], 0)
