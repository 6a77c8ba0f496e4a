"""`edt runs` and `edt doctor` on runs that the command line made."""

import json
import shlex
from pathlib import Path

import pytest
from filelock import FileLock
from test_road import document, edt, edt_process

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    lines = [f"u{n % 20},i{(n * 7) % 9},{n}" for n in range(200)]
    (root / "a.csv").write_text("user,item,time\n" + "\n".join(lines) + "\n")
    (root / "b.csv").write_text("user,item,time\n" + "\n".join(line.replace("i", "j") for line in lines) + "\n")
    edt(root, "data", "prepare", "tiny", "--domain-file", str(root / "a.csv"), "--domain-file", str(root / "b.csv"))
    edt(root, "train", "--data", "tiny", "--model", "popularity", "--set", "model.knn_window=5")
    edt(root, "train", "--data", "tiny", "--model", "item-knn")
    return root


def test_a_run_says_what_made_it_and_is_made_again_by_the_command_it_tells(place):
    found = document(place, "runs", "show", "tiny-popularity")
    (process,) = found["made_by"]
    assert process["argv"][1:4] == ["train", "--data", "tiny"] and process["begin"] <= process["end"]
    assert found["changed"] == {"model.knn_window": 5}
    assert {result["file"] for result in found["results"]} >= {"test-full"}
    again = edt(place, *shlex.split(found["command"])[1:])
    assert "nothing to do" in again.stderr
    assert len(document(place, "runs", "show", "tiny-popularity")["made_by"]) == 1


def test_runs_are_named_listed_and_found_by_their_names(place):
    edt(place, "runs", "rename", "tiny-popularity", "base")
    edt(place, "runs", "tag", "base", "paper", "draft")
    edt(place, "runs", "tag", "base", "draft", "--remove")
    edt(place, "runs", "note", "base", "[red]a note[/red]")
    (run,) = document(place, "runs", "list", "--tag", "paper")["runs"]
    assert (run["name"], run["tags"], run["note"]) == ("base", ["paper"], "[red]a note[/red]")
    assert set(run["figures"]) == {"hr_a", "ndcg_a", "hr_b", "ndcg_b"}
    assert [row["model"] for row in document(place, "runs", "list")["runs"]] == ["item-knn", "popularity"]
    assert [row["name"] for row in document(place, "runs", "list", "--model", "item-knn")["runs"]] == [""]
    assert document(place, "runs", "list", "--status", "failed")["runs"] == []
    (evaluated,) = document(place, "eval", "--run", "base")["runs"]
    assert evaluated["model"] == "popularity"
    assert "[red]a note[/red]" in edt(place, "runs", "show", "base").stdout
    assert "called 'base' already" in edt(place, "runs", "rename", "tiny-item", "base", code=1).stderr


def test_a_run_of_the_past_and_a_damaged_one(place):
    (folder,) = (place / "runs").glob("tiny-item-knn*")
    (folder / "provenance.json").unlink()
    shown = edt(place, "runs", "show", "tiny-item")
    assert "not recorded" in shown.stdout
    kept = (folder / "run.json").read_text()
    (folder / "run.json").write_text("{")
    assert "damaged" in edt(place, "runs", "list").stdout
    assert "edt runs remove" in edt(place, "runs", "show", "tiny-item", code=1).stderr
    (folder / "run.json").write_text(kept)


def test_removing_asks_frees_the_run_alone_and_refuses_one_at_work(place):
    edt_process(place, "train", "--data", "tiny", "--model", "content-knn")
    (folder,) = (place / "runs").glob("tiny-content-knn*")
    before = {path for path in (place / "artefacts").rglob("*") if path.is_file()}
    assert "--yes" in edt(place, "runs", "remove", "tiny-content", code=2).stderr
    with FileLock(folder / ".lock"):
        assert "stop it first" in edt(place, "runs", "remove", "tiny-content", "--yes", code=1).stderr
    removed = document(place, "runs", "remove", "tiny-content", "--yes")["removed"]
    assert [run["run"] for run in removed] == [folder.name] and removed[0]["bytes"] > 0
    assert not folder.exists()
    assert {path for path in (place / "artefacts").rglob("*") if path.is_file()} == before != set()


def test_the_doctor_tells_the_machine_and_no_key(place, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "not-to-be-seen")
    done = edt(place, "doctor", "--json")
    found = json.loads(done.stdout)
    assert found["workspace"]["path"] == str(place) and found["keys"]["OPENAI_API_KEY"] is True
    assert found["torch"] and found["cpu"] and found["cores"] >= 1
    assert "not-to-be-seen" not in done.stdout + done.stderr + edt(place, "doctor").stdout
    assert "is no folder" in edt(place / "a.csv", "doctor", code=1).stdout
