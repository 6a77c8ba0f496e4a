"""`edt data` and `edt clean` as a user runs them: output, exit codes, one line for a mistake."""

import csv
import gzip
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
import pytest

from edt_cli.cli.app import main
from edt_cli.data.saved import load
from edt_cli.workspace.layout import Workspace

pytestmark = pytest.mark.e2e

REAL = os.environ.get("EDT_TEST_FOOD_KITCHEN")
OPEN = os.environ.get("EDT_TEST_FOOD_KITCHEN_OPEN")


class Done(NamedTuple):
    stdout: str
    stderr: str


@pytest.fixture
def edt(tmp_path, monkeypatch, capsys):
    """The command in this process, in a folder and a workspace of its own."""
    monkeypatch.chdir(tmp_path)
    for name, value in {"EDT_WORKSPACE": str(tmp_path / "ws"), "COLUMNS": "100", "NO_COLOR": "1"}.items():
        monkeypatch.setenv(name, value)

    def run(*arguments, code=0):
        monkeypatch.setattr("sys.argv", ["edt", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        done = Done(*capsys.readouterr())
        assert (ended.value.code or 0) == code, done.stderr
        return done

    return run


@pytest.fixture
def shops(tmp_path):
    for name, prefix in (("shop", "s"), ("outlet", "o")):
        with (tmp_path / f"{name}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["user", "item", "time"])
            writer.writerows(
                (f"u{user}", f"{prefix}{user * step % 5}", 10 + step) for user in range(6) for step in range(4)
            )
            writer.writerow(["u1", "", "5"])
    (tmp_path / "goods.csv").write_text("item,title\ns1,\x1b[31m[bold]Red[/bold] &amp; hot\ns2,Plain\n")
    return tmp_path


def error(done):
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: ")
    return lines[0]


def test_own_data_prepared_listed_shown_and_removed(edt, shops):
    done = edt(
        "data",
        "prepare",
        "mine",
        "--domain-file",
        "shop.csv",
        "--domain-file",
        "outlet.csv",
        "--items",
        "shop=goods.csv",
    )
    assert "1 missing field" in done.stdout
    assert "mine: 6 users" in done.stdout and "Amazon" not in done.stdout
    again = edt(
        "data",
        "prepare",
        "mine",
        "--domain-file",
        "shop.csv",
        "--domain-file",
        "outlet.csv",
        "--items",
        "shop=goods.csv",
        "--json",
    )
    document = json.loads(again.stdout)
    assert document["prepared_now"] is False
    assert document["domains"] == ["shop", "outlet"]
    assert "nothing to do" in again.stderr
    # The short forms of scripts of the past, which no help shows.
    short = edt(
        "data", "prepare", "mine", "--b", "outlet.csv", "--a", "shop.csv", "--a-items", "goods.csv", "--json"
    )
    assert json.loads(short.stdout)["data_key"] == document["data_key"]

    listed = json.loads(edt("data", "list", "--json").stdout)["datasets"]
    assert [(entry["data"], entry["users"], entry["synthetic"]) for entry in listed] == [("mine", 6, False)]
    assert "mine" in edt("data", "list").stdout

    shown = edt("data", "stats", "mine")
    assert "Table 1: mine" in shown.stdout
    assert "Figure 1" in shown.stdout
    assert "\x1b" not in shown.stdout
    assert json.loads(edt("data", "stats", "mine", "--json").stdout)["users"] == 6

    assert "--yes" in error(edt("data", "remove", "mine", code=2))
    edt("data", "remove", "mine", "--yes")
    assert json.loads(edt("data", "list", "--json").stdout) == {"datasets": []}
    assert "no dataset" in error(edt("data", "remove", "mine", "--yes", code=1))


def test_titles_come_out_clean(edt, shops):
    edt(
        "data",
        "prepare",
        "mine",
        "--domain-file",
        "shop.csv",
        "--domain-file",
        "outlet.csv",
        "--items",
        "shop=goods.csv",
    )
    items = pl.read_parquet(shops / "ws" / "data" / "mine" / "items.parquet")
    assert items.filter(id="s1")["title"].item() == "[31m[bold]Red[/bold] & hot"


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["prepare", "cloth-sport"], 1, "--download fetches them"),
        (["prepare", "mine"], 2, "--domain-file FILE --domain-file FILE"),
        (["prepare", "mine", "--domain-file", "gone.csv", "--domain-file", "shop.csv"], 1, "cannot read gone.csv"),
        (
            ["prepare", "mine", "--domain-file", "shop.csv", "--domain-file", "outlet.csv", "--window", "soon"],
            2,
            "--window",
        ),
        (
            ["prepare", "mine", "--domain-file", "shop.csv", "--domain-file", "outlet.csv", "--k-core", "99"],
            1,
            "k-core",
        ),
        (
            ["prepare", "mine", "--domain-file", "shop.csv", "--domain-file", "goods.csv"],
            1,
            "no column known as user",
        ),
        (
            ["prepare", "mine", "--domain-file", "shop.csv", "--domain-file", "outlet.csv", "--name", "a/b"],
            2,
            "not a valid name for a dataset",
        ),
        (["prepare", "demo", "--domain-file", "shop.csv"], 2, "demo is built in"),
        (["prepare", "cloth-sport", "--release", "2014"], 2, "--release is 2018 or 2023"),
        (["prepare", "cloth-sport", "--release", "2023"], 1, "--release 2023 --download fetches them"),
        (
            ["prepare", "x", "--domain-file", "shop.csv", "--domain-file", "outlet.csv", "--name", "demo"],
            2,
            "choose another",
        ),
        (["stats", "nothing"], 1, "edt data prepare nothing"),
    ],
)
def test_mistakes_are_one_line(edt, shops, arguments, code, says):
    assert says in error(edt("data", *arguments, code=code))


def test_ratings_descriptions_and_duplicates_are_told(edt, shops):
    for name in ("shop", "outlet"):
        lines = (shops / f"{name}.csv").read_text().splitlines()
        rated = [f"{line},{n % 5 + 1}" for n, line in enumerate(lines[1:-1])]
        (shops / f"{name}.csv").write_text("\n".join([f"{lines[0]},rating", *rated, rated[-1]]) + "\n")
    files = ("--domain-file", "shop.csv", "--domain-file", "outlet.csv")
    described = ("--describe", "shop=Things [red] to wear")
    done = edt("data", "prepare", "mine", *files, "--min-rating", "3", *described)
    assert "20 interactions left out: rated below 3" in done.stdout
    assert "2 interactions left out: duplicates" in done.stdout
    stats = " ".join(edt("data", "stats", "mine").stdout.split())
    document = json.loads(edt("data", "stats", "mine", "--json").stdout)
    assert (document["settings"]["min_rating"], document["tally"]["steps"][0]["left_out"]) == (3.0, 20)
    assert "20 interactions left out: rated below 3" in stats
    assert "shop: Things [red] to wear" in stats
    assert f"{document['repeats']['test_share']:.1%} of the test targets" in stats
    assert "mine, shop: Things [red] to wear" in edt("data", "list").stdout
    assert "too long" in error(edt("data", "prepare", "mine", *files, "--describe", "shop=" + 300 * "x", code=2))


def test_damaged_files(edt, shops):
    good = "".join(
        f'{{"reviewerID": "u{n % 5}", "asin": "f{n % 3}", "unixReviewTime": {n + 1}}}\n' for n in range(60)
    )
    food, kitchen = (shops / f"{name}.json.gz" for name in ("Grocery_and_Gourmet_Food", "Home_and_Kitchen"))
    food.write_bytes(
        gzip.compress(
            (good + '{"reviewerID": "u1", "as\n{"reviewerID": 5, "asin": "f1", "unixReviewTime": 4}').encode()
        )
    )
    kitchen.write_bytes(gzip.compress(good.replace('"f', '"k').encode()))
    options = ("--raw", ".", "--window", "none", "--k-core", "none")
    done = edt("data", "prepare", "food-kitchen", *options)
    assert "1 cut off or no record, 1 wrong type" in done.stdout
    assert "Amazon's 2018 release" in done.stdout
    kitchen.write_bytes(kitchen.read_bytes()[:-30])
    assert "breaks off in the middle" in error(
        edt("data", "prepare", "food-kitchen", *options, "--name", "b", code=1)
    )


def test_the_demo_makes_itself(edt):
    assert "demo (synthetic)" in edt("data", "stats").stdout
    assert json.loads(edt("data", "list", "--json").stdout)["datasets"][0]["synthetic"] is True
    assert "nothing to do" in edt("data", "prepare", "demo").stderr


def test_as_a_process_of_its_own(edt, shops):
    """What a shell sees: a mistake's exit code, and one JSON document alone on stdout."""
    command = [
        sys.executable,
        "-c",
        "from edt_cli.cli.app import main; main()",
        "data",
        "prepare",
        "mine",
        "--json",
    ]
    wrong = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (wrong.returncode, json.loads(wrong.stdout)["error"]["kind"]) == (2, "usage")
    assert len(wrong.stderr.strip().splitlines()) == 1
    command += ["--domain-file", "shop.csv", "--domain-file", "outlet.csv"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert json.loads(done.stdout)["prepared_now"] is True


@pytest.mark.food_kitchen
@pytest.mark.skipif(not REAL, reason="EDT_TEST_FOOD_KITCHEN names no folder")
def test_the_real_food_kitchen(edt):
    assert "--window none --k-core none" in error(edt("data", "prepare", "food-kitchen", "--raw", REAL, code=1))
    options = ("--raw", REAL, "--window", "none", "--k-core", "none", "--ties", "file")
    document = json.loads(edt("data", "prepare", "food-kitchen", *options, "--json").stdout)
    assert document["users"] == 7144
    assert document["items"] == {"food": 11837, "kitchen": 16258}
    assert document["interactions"] == 173548
    found = json.loads(edt("data", "stats", "food-kitchen", "--json").stdout)
    assert found["ties"]["steps"] == pytest.approx(0.31, abs=0.005)
    assert found["ties"]["test_targets"] == pytest.approx(0.32, abs=0.005)
    assert found["ties"]["file_ascending"] == 1.0
    assert sum(found["r"]["users"][9:]) == 0
    texts = {domain["domain"]: domain["items_with_text"] for domain in found["domains"]}
    assert texts == {"food": pytest.approx(1 - 4236 / 11837), "kitchen": pytest.approx(1 - 502 / 16258)}


@pytest.mark.food_kitchen
@pytest.mark.skipif(not REAL, reason="EDT_TEST_FOOD_KITCHEN names no folder")
def test_the_order_of_ties_is_that_of_the_files(edt, tmp_path):
    """Food before kitchen, then the line: rebuilt here line by line."""
    options = ("--raw", REAL, "--window", "none", "--k-core", "none", "--ties", "file")
    edt("data", "prepare", "food-kitchen", *options)
    expected: dict[str, list[tuple[int, int, int, str]]] = {}
    for number, name in enumerate(("Grocery_and_Gourmet_Food", "Home_and_Kitchen")):
        with gzip.open(Path(REAL) / f"{name}.json.gz", "rt") as file:
            for line, text in enumerate(file):
                record = json.loads(text)
                row = (record["unixReviewTime"], number, line, record["asin"])
                expected.setdefault(record["reviewerID"], []).append(row)
    dataset = load(Workspace(tmp_path / "ws").dataset("food-kitchen"))
    ids = dataset.catalogue["id"].to_list()
    assert len(expected) == len(dataset.sequences)
    for user, name in enumerate(dataset.user_ids):
        assert [ids[item - 1] for item in dataset.sequences.of(user)] == [row[3] for row in sorted(expected[name])]


@pytest.mark.food_kitchen_open
@pytest.mark.skipif(not OPEN, reason="EDT_TEST_FOOD_KITCHEN_OPEN names no folder")
def test_users_of_one_domain_or_both_and_what_the_floors_reach_on_them(edt):
    """Half of the users of xhran2010/LLMCDSR's food-kitchen: in order, without dates, each item with a title."""
    options = []
    for domain in ("food", "kitchen"):
        options += ["--domain-file", f"{domain}={OPEN}/{domain}.csv.gz"]
        options += ["--items", f"{domain}={OPEN}/{domain}-items.csv.gz"]
    document = json.loads(edt("data", "prepare", "open", *options, "--json").stdout)
    assert document["users"] == 26_334
    assert document["items"] == {"food": 8_178, "kitchen": 25_972}
    assert document["interactions"] == 217_404
    found = json.loads(edt("data", "stats", "open", "--json").stdout)
    assert {domain["domain"]: domain["items_with_text"] for domain in found["domains"]} == {"food": 1, "kitchen": 1}
    assert {domain["domain"]: domain["users"] for domain in found["domains"]} == {"food": 7_477, "kitchen": 23_596}
    assert found["ties"]["steps"] == 0
    for model, expected in (("popularity", (0.0130, 0.0031)), ("item-knn", (0.0495, 0.0117))):
        (run,) = json.loads(edt("train", "--data", "open", "--model", model, "--json").stdout)["runs"]
        gains = [run["domains"][domain]["ndcg@10"] for domain in ("food", "kitchen")]
        assert tuple(round(gain, 4) for gain in gains) == expected


def test_vectors_of_one_s_own_and_what_tables_say_of_them(edt, shops):
    ids = [f"{prefix}{item}" for prefix in "so" for item in range(5)]
    np.save("v.npy", np.random.default_rng(0).normal(size=(10, 4)))
    Path("v.ids.txt").write_text("\n".join(ids))
    files = ["--domain-file", "shop.csv", "--domain-file", "outlet.csv"]
    shown = edt("data", "prepare", "mine", *files, "--item-vectors", "v.npy").stdout
    label = f"v.npy, {Workspace(shops / 'ws').dataset('mine').manifest()['item_vectors']['key'][:8]}"
    assert f"item vectors: given ({label}), 4 numbers each, of 5 shop + 5 outlet items" in " ".join(shown.split())
    assert label in " ".join(edt("data", "stats", "mine").stdout.split())
    assert f"Item vectors: given ({label})." in edt("train", "--data", "mine", "--model", "content-knn").stdout
    assert "Item vectors" not in edt("train", "--data", "mine", "--model", "item-knn").stdout
    Path("v.ids.txt").unlink()
    message = error(edt("data", "prepare", "mine", *files, "--item-vectors", "v.npy", code=1))
    assert "v.ids.txt" in message
    assert (shops / "ws" / "data" / "mine" / "manifest.json").exists()


def test_the_released_folder(edt, tmp_path):
    folder = tmp_path / "[x] handled"
    folder.mkdir()
    mapped = {"id2str": {1: "a", 2: "b", 3: "c"}}
    (folder / "id_map.json").write_text(json.dumps({"user_dict": mapped, "item_dict": {"0": mapped, "1": mapped}}))
    (folder / "cloth_sport.pkl").write_bytes(pickle.dumps(({1: [1, 2, 3, 1]}, {1: [0, 1, 0, 1]})))
    document = json.loads(edt("data", "prepare", "cloth-sport", "--handled", folder, "--json").stdout)
    assert document["interactions"] == 4 and document["domains"] == ["cloth", "sport"]
    proof = tmp_path / "ran"
    (folder / "cloth_sport.pkl").write_bytes(b"cbuiltins\nopen\n(X\x01\0\0\0" + b"rX\x01\0\0\0wtR.")
    message = error(edt("data", "prepare", "other", "--handled", folder, code=1))
    assert "names 'builtins.open'" in message and not proof.exists()


def test_clean(edt, shops):
    edt("data", "prepare", "mine", "--domain-file", "shop.csv", "--domain-file", "outlet.csv")
    lost = shops / "ws" / "artefacts" / "embeddings" / "0123456789abcdef"
    lost.mkdir(parents=True)
    (lost / "manifest.json").write_text(json.dumps({"dataset": "gone"}))
    shown = edt("clean", "--dry-run")
    assert "of no dataset and no run" in shown.stdout
    assert lost.exists()
    assert "--yes" in error(edt("clean", code=2))
    document = json.loads(edt("clean", "--yes", "--json").stdout)
    assert [thing["what"] for thing in document["removed"]] == ["embeddings"]
    assert not lost.exists()
    assert "nothing to free" in edt("clean").stdout
    assert (shops / "ws" / "data" / "mine" / "manifest.json").exists()
