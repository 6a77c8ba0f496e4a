"""An error under --json is one document on stdout, and the line on stderr stays."""

import json
import sys

import pytest
import typer

from edt_cli.cli import app as cli
from edt_cli.cli.common import SAID, emit_json, note
from edt_cli.cli.errors import errors_as_json


@pytest.fixture(autouse=True)
def fresh(monkeypatch, tmp_path):
    monkeypatch.setattr(SAID, "document", False)
    monkeypatch.setattr(SAID, "note", "")
    monkeypatch.setenv("EDT_WORKSPACE", str(tmp_path))


def ended(monkeypatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["edt", *arguments])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return int(end.value.code or 0)


@pytest.mark.parametrize(
    ("arguments", "code", "kind", "message"),
    [
        (("runs", "list", "--nonesuch"), 2, "usage", "No such option: --nonesuch"),
        (("runs", "list", "--status", "finishd"), 2, "usage", "did you mean finished?"),
        (("eval", "--split", "train"), 2, "usage", "'train' is none of them; there are: valid, test"),
        (("train", "--ablate", "profilng"), 2, "usage", "did you mean profiling?"),
        (("data", "prepare", "mine", "--ties", "id"), 2, "usage", "'id' is none of them"),
        (("settings", "training.lrr"), 2, "usage", "did you mean training.lr?"),
        (("runs", "show", "nonesuch"), 1, "failed", "no run named 'nonesuch'"),
        (("runs", "show"), 2, "usage", "Missing argument 'RUN'"),
        (("nonesuch",), 2, "usage", "No such command 'nonesuch'"),
    ],
)
def test_an_error_is_one_document(arguments, code, kind, message, monkeypatch, capsys):
    assert ended(monkeypatch, *arguments, "--json") == code
    said = capsys.readouterr()
    error = json.loads(said.out)["error"]
    assert (error["kind"], error["exit_code"]) == (kind, code)
    assert message in error["message"] and "\n" not in error["message"]
    assert said.err


def test_without_json_stdout_stays_empty(monkeypatch, capsys):
    assert ended(monkeypatch, "runs", "show", "nonesuch") == 1
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("code", "kind"), [(130, "interrupted"), (143, "interrupted"), (1, "failed")])
def test_the_last_line_is_the_message(code, kind, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["edt", "--json"])
    with pytest.raises(SystemExit), errors_as_json():
        note("stopped; what was done is kept.")
        sys.exit(code)
    error = json.loads(capsys.readouterr().out)["error"]
    assert error == {"kind": kind, "message": "stopped; what was done is kept.", "exit_code": code}


def test_a_document_that_is_out_stays_the_only_one(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["edt", "--json"])
    with pytest.raises(SystemExit), errors_as_json():
        emit_json({"runs": []})
        sys.exit(1)
    assert json.loads(capsys.readouterr().out) == {"runs": []}


def test_a_defect_and_a_no_are_told_too(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["edt", "--json"])
    with pytest.raises(ZeroDivisionError), errors_as_json():
        raise ZeroDivisionError("by 0")
    assert json.loads(capsys.readouterr().out)["error"]["message"] == "ZeroDivisionError: by 0"
    SAID.document = False
    with pytest.raises(SystemExit), errors_as_json():
        try:
            raise typer.Abort
        except typer.Abort:
            sys.exit(1)
    assert "the answer was no" in json.loads(capsys.readouterr().out)["error"]["message"]
