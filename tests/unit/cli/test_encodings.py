"""A console that is not UTF-8 gets what it can show, and JSON that is JSON."""

import json
import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.e2e

SHOW = """
import sys
from edt_cli.cli import app, common
TITLE = "caf\u00e9 \u2615"
app.app.command("show")(lambda: (common.note(TITLE), common.emit_json({"title": TITLE}))[0])
sys.argv = ["edt", "show"]
app.main()
"""


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252", "latin-1", "ascii"])
def test_nothing_ends_in_a_traceback(encoding):
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    done = subprocess.run(
        [sys.executable, "-c", SHOW], capture_output=True, env=environment, timeout=60, check=True
    )
    assert json.loads(done.stdout.decode(encoding)) == {"title": "caf\u00e9 \u2615"}
    assert done.stderr.decode(encoding).startswith("caf")
