"""How a run stands, from its folder alone."""

from __future__ import annotations

import json
import os
import socket
import time

import pytest

from edt_cli.workspace.status import RunStatus, last_event, status_of


def beat(folder, pid: int) -> None:
    found = {"time": time.time(), "pid": pid, "host": socket.gethostname()}
    (folder / "heartbeat.json").write_text(json.dumps(found))


@pytest.mark.parametrize(
    ("events", "alive", "manifest", "expected"),
    [
        ([], None, None, RunStatus.STARTING),
        (["run"], True, None, RunStatus.WORKING),
        (["run", "epoch"], True, None, RunStatus.TRAINING),
        (["epoch", "paused"], True, None, RunStatus.PAUSED),
        (["epoch"], False, None, RunStatus.SILENT),
        (["epoch", "stopped"], False, None, RunStatus.STOPPED),
        (["epoch", "failed"], None, None, RunStatus.FAILED),
        (["epoch"], False, "{}", RunStatus.FINISHED),
        (["epoch"], False, "{", RunStatus.DAMAGED),
        (["epoch"], False, "[]", RunStatus.DAMAGED),
    ],
)
def test_a_folder_says_how_its_run_stands(events, alive, manifest, expected, tmp_path):
    lines = [json.dumps({"n": n, "event": kind}) for n, kind in enumerate(events, 1)]
    if lines:
        (tmp_path / "events.jsonl").write_text("\n".join([*lines, '{"half']))
    if alive is not None:
        beat(tmp_path, os.getpid() if alive else 2**22 + 1)
    if manifest is not None:
        (tmp_path / "manifest.json").write_text(manifest)
    assert status_of(tmp_path) is expected
    assert last_event(tmp_path) == (events[-1] if events else "")


def test_a_status_is_its_word_and_knows_whether_it_is_the_last():
    assert [str(one) for one in RunStatus if one.ended] == ["stopped", "failed", "finished"]
    assert {one for one in RunStatus if one.live} == {"working", "training", "paused"}
