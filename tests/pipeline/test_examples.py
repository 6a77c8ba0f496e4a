"""The examples run as they stand."""

import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

pytestmark = pytest.mark.e2e

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_own_data(tmp_path):
    here = tmp_path / "bin"
    here.mkdir()
    for name, code in (("edt", "from edt_cli.cli.app import main; main()"), ("python", None)):
        line = f'exec "{sys.executable}" "$@"' if code is None else f'exec "{sys.executable}" -c "{code}" "$@"'
        (here / name).write_text(f"#!/bin/sh\n{line}\n")
        (here / name).chmod(0o755)
    environment = {**os.environ, "PATH": f"{here}:{os.environ['PATH']}"}
    command = ["bash", str(EXAMPLES / "own_data.sh"), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "A-camping-0S" not in done.stdout
    recommended = pl.read_parquet(tmp_path / "out" / "recommendations.parquet")
    assert recommended["user"].n_unique() == 300
    assert (tmp_path / "out" / "index" / "items.safetensors").is_file()
