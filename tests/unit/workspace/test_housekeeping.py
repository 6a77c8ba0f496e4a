"""What may go from a workspace, and what must stay."""

import os
import time

import pytest

from edt_cli.config import UserError
from edt_cli.workspace.files import replacing, scratch_folder
from edt_cli.workspace.housekeeping import holdings, removable, remove_folder
from edt_cli.workspace.layout import Workspace, write_json


@pytest.fixture
def workspace(tmp_path):
    """Data d1 with an embedding and an augmentation made from it; a run that reads an augmentation of data that is
    gone; and artefacts of gone data that nothing reads."""
    place = Workspace(tmp_path)
    with place.dataset("mine").create(data_key="d1") as (folder, _):
        (folder / "items.parquet").write_bytes(b"x" * 100)
    make(place, "embeddings", "e1", dataset="d1")
    make(place, "augmentation", "a1", inputs={"embeddings": "e1"})
    make(place, "embeddings", "e2", dataset="gone")
    make(place, "augmentation", "a2", inputs={"embeddings": "e2"})
    make(place, "embeddings", "e3", dataset="gone")
    make(place, "augmentation", "a3", inputs={"embeddings": "e3"})
    run = place.runs / "r"
    run.mkdir(parents=True)
    write_json(run / "run.json", {"artefacts": {"augmentation": "a2"}, "data_key": "gone"})
    for folder, name in ((place.cache, "cache.db"), (place.root / "raw", "Reviews.json.gz")):
        folder.mkdir()
        (folder / name).write_bytes(b"y" * 50)
    return place


def make(place, kind, key, **manifest):
    with place.artefact(kind, key).create(**manifest) as (folder, _):
        (folder / "data").write_bytes(b"z" * 10)


def keys(found):
    return sorted(thing.path.name for thing in found)


def test_only_what_nothing_leads_to_may_go(workspace):
    assert keys(removable(workspace)) == ["a3", "e3"]


def test_with_the_dataset_its_artefacts_lose_their_ground(workspace):
    remove_folder(workspace.dataset("mine").path)
    assert workspace.datasets() == []
    assert keys(removable(workspace)) == ["a1", "a3", "e1", "e3"]


def test_without_its_run_an_artefact_loses_its_ground(workspace):
    remove_folder(workspace.runs / "r")
    assert keys(removable(workspace)) == ["a2", "a3", "e2", "e3"]


def test_old_artefacts_of_data_only(workspace):
    old = time.time() - 10 * 86_400
    for kind, key in (("augmentation", "a1"), ("augmentation", "a2")):
        os.utime(workspace.artefact(kind, key).path, (old, old))
    assert keys(removable(workspace, older_than_days=5)) == ["a1", "a3", "e3"], "what a run reads stays"
    assert keys(removable(workspace, older_than_days=20)) == ["a3", "e3"]


def test_the_cache_and_raw_files_go_by_their_own_word_only(workspace):
    assert keys(removable(workspace, raw=True)) == ["a3", "e3", "raw"]
    assert keys(removable(workspace, cache=True)) == ["a3", "cache", "e3"]


def test_what_was_left_half_made(workspace):
    (workspace.root / "artefacts" / "profiles" / ".p1.making").mkdir(parents=True)
    (workspace.data / ".mine.making").mkdir()
    for name in (".scratch-old", ".scratch-new"):
        (workspace.root / name).mkdir()
    old = time.time() - 2 * 86_400
    os.utime(workspace.root / ".scratch-old", (old, old))
    left = [workspace.data / ".mine.making" / ".1.tmp", workspace.runs / "r" / ".run.json.1.tmp"]
    for path in left:
        path.write_bytes(b"x" * 7)
    found = removable(workspace)
    assert keys(found) == [".mine.making", ".p1.making", ".run.json.1.tmp", ".scratch-old", "a3", "e3"]
    assert {thing.size for thing in found if thing.what == "left half made"} == {0, 7}


def test_what_is_being_made_stays(workspace):
    with (
        workspace.artefact("profiles", "p1").create(),
        workspace.dataset("other").create(),
        scratch_folder(workspace.root),
        replacing(workspace.runs / "r" / "run.json"),
    ):
        assert keys(removable(workspace)) == ["a3", "e3"]


def test_a_run_with_a_damaged_plan_stops_nothing(workspace):
    (workspace.runs / "r" / "other.json").write_text("{")
    assert keys(removable(workspace)) == ["a3", "e3"]


def test_holdings(workspace):
    found = {holding.kind: (holding.count, holding.size > 0) for holding in holdings(workspace)}
    assert found == {
        "data": (1, True), "raw": (1, True), "artefacts": (6, True), "runs": (1, True), "searches": (0, False),
        "jobs": (0, False), "cache": (1, True),
    }  # fmt: skip
    assert all(holding.count == 0 for holding in holdings(Workspace(workspace.root / "nowhere")))
    assert removable(Workspace(workspace.root / "nowhere"), cache=True, raw=True) == []


def test_removing_what_is_not_there_is_one_clear_line(tmp_path):
    with pytest.raises(UserError, match="cannot remove"):
        remove_folder(tmp_path / "gone")
