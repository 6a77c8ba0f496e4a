"""What made a run is recorded without secrets, and reading it never fails."""

import json
import sys

import pytest

from edt_cli.workspace import machine
from edt_cli.workspace.provenance import PROVENANCE, made_by, recorded, without_secrets


def test_each_process_is_recorded_with_its_begin_and_end(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/home/me/bin/edt", "train", "--seeds", "42"])
    with recorded(tmp_path, device="cpu", threads=2):
        (first,) = made_by(tmp_path)
        assert first["end"] is None
    with pytest.raises(KeyboardInterrupt), recorded(tmp_path, device="cpu", threads=1):
        raise KeyboardInterrupt
    first, second = made_by(tmp_path)
    assert first["argv"] == ["edt", "train", "--seeds", "42"]
    assert (first["threads"], second["threads"]) == (2, 1)
    assert all(process["begin"] <= process["end"] for process in (first, second))
    assert {"edt", "commit", "torch", "numpy", "python", "cpu", "flags", "cores", "device"} <= first.keys()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"processes": 3}', '{"processes": [3]}'])
def test_a_damaged_record_is_none(tmp_path, text):
    (tmp_path / PROVENANCE).write_text(text)
    assert made_by(tmp_path) == []


@pytest.mark.parametrize(
    "argument",
    [
        ["--api-key", "s3cret"],
        ["--api-key=s3cret"],
        ["--set", "llm.api_key=s3cret"],
        ["--token", "s3cret"],
        ["--api-base", "http://me:s3cret@host/v1"],
        ["--set", "llm.api_base=https://host/v1?key=s3cret&x=1"],
        ["--note", "sk-s3cret"],
        ["--header", "Bearer s3cret"],
        ["--model", "a-s3cret-of-the-environment"],
    ],
)
def test_no_secret_is_recorded(argument):
    found = without_secrets(argument, {"OPENAI_API_KEY": "a-s3cret-of-the-environment"})
    assert "s3cret" not in json.dumps(found)
    assert len(found) == len(argument)


def test_what_is_no_secret_stays():
    argv = [
        "train",
        "--set",
        "llm.max_tokens=512",
        "--api-base",
        "http://localhost:11434/v1",
        "--data",
        "key-pairs",
    ]
    assert without_secrets(argv, {}) == argv


def test_an_installed_package_has_no_commit(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "ROOT", tmp_path)
    assert machine.versions()["commit"] is None
