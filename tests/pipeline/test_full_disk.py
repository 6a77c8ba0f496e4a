"""A full disk ends a command in one line, loses nothing, and the same command goes on when there is room."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from test_road import edt

from edt_backends.base import BackendError
from edt_backends.store import ReplyCache

pytestmark = pytest.mark.e2e

TRAIN = ("train", "--data", "demo", "--model", "sasrec", "--epochs", "2", "--set", "model.hidden=64", "--no-ui")


def without_room(root: Path, size: int, *arguments: str, stdout: int | None = None) -> list[str]:
    """Run a command of which no file may grow beyond `size` bytes; return the lines of its error."""
    command = [sys.executable, "-c", "from edt_cli.cli.app import main; main()", *arguments]
    done = subprocess.run(
        command,
        env={**os.environ, "EDT_WORKSPACE": str(root), "COLUMNS": "100"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY)),
        stdout=stdout or subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    return done.stderr.splitlines()


def test_preparing_training_and_writing_a_list(tmp_path):
    (last,) = without_room(tmp_path, 20_000, "data", "prepare", "demo")
    assert last.startswith(f"error: cannot write {tmp_path / 'data' / 'demo'}: ")
    edt(tmp_path, "data", "prepare", "demo")

    *_, last = without_room(tmp_path, 300_000, *TRAIN)
    assert last.startswith("error: cannot write ") and ".safetensors: " in last and "MB are free there" in last
    (run,) = (tmp_path / "runs").iterdir()
    assert not [*run.glob(".*.tmp")]
    assert "training" in edt(tmp_path, *TRAIN).stderr

    out = tmp_path / "recs.csv"
    edt(tmp_path, "recommend", "--all", "-k", "1", "--domain", "garden", "--out", str(out))
    yesterday = out.read_text()
    (last,) = without_room(tmp_path, 50_000, "recommend", "--all", "--out", str(out))
    assert last.startswith(f"error: cannot write {out}: ") and out.read_text() == yesterday


def test_a_file_that_was_read_well_is_not_to_blame(tmp_path):
    for domain in "ab":
        rows = [f"u{n % 500},{domain}{n * 7919 % 9973},{1_500_000_000 + n}" for n in range(20_000)]
        (tmp_path / f"{domain}.csv").write_text("\n".join(["user,item,time", *rows]))
    files = ("--domain-file", str(tmp_path / "a.csv"), "--domain-file", str(tmp_path / "b.csv"))
    last = without_room(tmp_path / "ws", 20_000, "data", "prepare", "shop", *files)[-1]
    assert last.startswith("error: cannot write ") and "a.csv" not in last
    assert not [*(tmp_path / "ws").glob(".scratch-*")]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="of Linux")
def test_standard_output_on_a_full_disk(tmp_path):
    with Path("/dev/full").open("wb") as full:
        assert without_room(tmp_path, 10**9, "models", stdout=full.fileno())[-1].endswith("No space left on device")


def test_the_reply_cache(tmp_path):
    cache, entry = ReplyCache(tmp_path), {"backend": "b", "time": 1.0, "usage": {}}
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(BackendError, match="is the disk full"):
            for number in range(99):
                cache.put({str(number): {**entry, "reply": os.urandom(9000).hex()}})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    kept = len(list(cache.entries()))
    cache.put({"more": {**entry, "reply": "!"}})
    assert len(list(cache.entries())) == kept + 1 > 1
