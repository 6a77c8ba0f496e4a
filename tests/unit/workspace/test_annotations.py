"""Names, tags and notes of runs, and how a run is found by one of its names."""

import pytest

from edt_cli.config import UsageError, UserError
from edt_cli.workspace.annotations import ANNOTATIONS, Annotations, annotate, annotations_of
from edt_cli.workspace.layout import Workspace, write_json
from edt_cli.workspace.runs import find_folder, find_runs


@pytest.fixture
def workspace(tmp_path):
    for name, key in (("demo-sasrec-s42-aaaa1111", "aaaa1111ffff"), ("demo-abxi-s42-bbbb2222", "bbbb2222ffff")):
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        write_json(folder / "run.json", {"key": key})
    return Workspace(tmp_path)


def test_what_is_written_is_read(tmp_path):
    written = Annotations("best-so-far", ("paper", "table-2"), "[bold]as it is[/bold] \x1b[31m")
    annotate(tmp_path, written)
    assert annotations_of(tmp_path) == written
    assert annotations_of(tmp_path / "nothing") == Annotations()


@pytest.mark.parametrize(
    "wrong",
    [
        Annotations(name="[red]x"),
        Annotations(name="a b"),
        Annotations(name="x" * 61),
        Annotations(name="../up"),
        Annotations(tags=("a,b",)),
        Annotations(tags=tuple(map(str, range(21)))),
        Annotations(note="x" * 1001),
    ],
)
def test_what_is_not_of_the_form_is_refused(tmp_path, wrong):
    with pytest.raises(UsageError):
        annotate(tmp_path, wrong)
    assert not (tmp_path / ANNOTATIONS).exists()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"name": 3, "tags": "x", "note": []}', '{"name": "\\u001b[31m"}'])
def test_a_damaged_file_is_none(tmp_path, text):
    (tmp_path / ANNOTATIONS).write_text(text)
    assert annotations_of(tmp_path) == Annotations()


@pytest.mark.parametrize("name", ["demo-sasrec-s42-aaaa1111", "demo-s", "aaaa", "mine"])
def test_a_run_is_found_by_id_name_and_beginning(workspace, name):
    annotate(workspace.runs / "demo-sasrec-s42-aaaa1111", Annotations("mine"))
    assert find_folder(workspace, name).name == "demo-sasrec-s42-aaaa1111"


def test_a_name_counts_over_a_beginning(workspace):
    annotate(workspace.runs / "demo-abxi-s42-bbbb2222", Annotations("demo"))
    assert find_folder(workspace, "demo").name == "demo-abxi-s42-bbbb2222"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("demo", "2 runs begin with 'demo': demo-abxi-s42-bbbb2222, demo-sasrec"),
        ("demo-sasrek", "did you mean demo-sasrec"),
        ("mien", "did you mean mine"),
        ("zzz", "edt runs list shows them"),
    ],
)
def test_a_name_that_is_none_is_told_what_is_meant(workspace, name, message):
    annotate(workspace.runs / "demo-abxi-s42-bbbb2222", Annotations("mine"))
    with pytest.raises(UserError, match=message):
        find_folder(workspace, name)


def test_a_damaged_run_that_is_named_is_told(workspace):
    with pytest.raises(UserError, match="settings that this version of edt cannot read"):
        find_runs(workspace, None, ["demo-abxi"])
