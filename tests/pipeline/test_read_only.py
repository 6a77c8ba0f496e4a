"""Whatever only reads works in a workspace that cannot be written, such as another group's or a snapshot."""

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_road import edt

from edt_backends.base import BackendError
from edt_backends.ledger import Ledger
from edt_backends.store import ReplyCache

pytestmark = pytest.mark.e2e

AS_OTHERS = ("setpriv", "--bounding-set=-dac_override,-dac_read_search") if os.geteuid() == 0 else ()
"""Takes from root the right to write where a mode forbids it."""


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A workspace with data, a run, results and replies, of which every file and folder is read-only."""
    root = Path(tempfile.mkdtemp())
    edt(root, "train", "--data", "demo", "--model", "popularity")
    entry = {"backend": "b", "time": 1.0, "usage": {"prompt_tokens": 3}, "reply": "!"}
    cache = ReplyCache(root / "cache")
    cache.put({"key": entry})
    cache.close()
    Ledger(root / "ledger.db").close()
    for path in (root, *root.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    yield root
    for path in (root, *root.rglob("*")):
        path.chmod(0o755)
    shutil.rmtree(root)


@pytest.mark.skipif(bool(AS_OTHERS) and shutil.which("setpriv") is None, reason="root, whom no mode stops")
@pytest.mark.parametrize(
    "arguments",
    [
        ("eval", "--data", "demo"),
        ("report", "--data", "demo"),
        ("report", "--table", "1"),
        ("data", "list"),
        ("data", "stats", "demo"),
        ("models",),
        ("runs", "list"),
        ("settings",),
        ("cache", "stats"),
        ("inspect", "one-domain", "--prompts"),
        ("recommend", "--user", "U0001"),
        ("clean", "--dry-run"),
    ],
)
def test_readers_need_not_write(place, arguments):
    before = sorted(place.rglob("*"))
    environment = {**os.environ, "EDT_WORKSPACE": str(place)}
    command = [*AS_OTHERS, sys.executable, "-c", "from edt_cli.cli.app import main; main()", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    assert sorted(place.rglob("*")) == before


def test_a_cache_that_cannot_be_written_is_read_and_says_so_if_it_has_to_be_written(tmp_path, monkeypatch):
    entry = {"backend": "b", "time": 1.0, "usage": {}, "reply": "!"}
    ReplyCache(tmp_path / "cache").put({"key": entry})
    for module in ("store", "json_disk"):
        monkeypatch.setattr(f"edt_backends.{module}.writable", lambda path: False)
    cache = ReplyCache(tmp_path / "cache")
    assert "key" in cache and cache.get("key") == entry and list(cache.entries()) == [("key", entry)]
    assert cache.stats().entries == 1 and cache.stats().bytes > 0
    with pytest.raises(BackendError, match="read-only"):
        cache.put({"other": entry})
    with sqlite3.connect(tmp_path / "cache" / "cache.db") as connection:
        connection.execute("CREATE VIEW Others AS SELECT * FROM Cache")
    with pytest.raises(BackendError, match="did not write"):
        ReplyCache(tmp_path / "cache")
    assert ReplyCache(tmp_path / "no cache").stats().entries == 0
    assert not (tmp_path / "no cache").exists()


def test_a_ledger_that_cannot_be_written_is_read(tmp_path, monkeypatch):
    Ledger(tmp_path / "ledger.db").save_hits("b", 3, 10**12)
    monkeypatch.setattr("edt_backends.ledger_store.writable", lambda path: False)
    ledger = Ledger(tmp_path / "ledger.db")
    assert ledger.accounts()["b"].saved_usd == 1
    with pytest.raises(BackendError, match="read-only"):
        ledger.save_hits("b", 4, 1)
