"""Runs as lists show them."""

from edt_cli.inference.listing import read_runs
from edt_cli.ui.filters import parse
from edt_cli.workspace.annotations import Annotations, annotate
from edt_cli.workspace.layout import Workspace, write_json


def test_runs_are_filtered_by_what_is_written_on_them(tmp_path):
    for name in ("one", "two", "damaged"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        write_json(tmp_path / "runs" / name / "run.json", {"data": "d", "settings": {"model": {"name": "sasrec"}}})
    annotate(tmp_path / "runs" / "two", Annotations("best-one", ("paper", "draft"), "of last week"))
    (tmp_path / "runs" / "damaged" / "run.json").write_text("{")
    rows = read_runs(Workspace(tmp_path))

    def found(text: str) -> set[str]:
        test = parse(text)
        return {row.name for row in rows if test(row.fields)}

    assert found("tag:paper") == found("name:best") == found("note:week") == {"two"}
    assert found("name:sasrec") == {"one"}, "without a name of its own, `name` is the model's as before"
    assert {row.name: str(row.status) for row in rows}["damaged"] == "damaged"
