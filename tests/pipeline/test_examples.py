"""The examples run as they stand."""

import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

pytestmark = pytest.mark.e2e

EXAMPLES = Path(__file__).parents[2] / "examples"


def run_script(name: str, folder: Path) -> str:
    """Run a script of the examples with the `edt` of this checkout; return what it printed."""
    here = folder / "bin"
    here.mkdir()
    for program, code in (("edt", "from edt_cli.cli.app import main; main()"), ("python", None)):
        line = f'exec "{sys.executable}" "$@"' if code is None else f'exec "{sys.executable}" -c "{code}" "$@"'
        (here / program).write_text(f"#!/bin/sh\n{line}\n")
        (here / program).chmod(0o755)
    environment = {**os.environ, "PATH": f"{here}:{os.environ['PATH']}"}
    command = ["bash", str(EXAMPLES / name), str(folder / "out")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_own_data(tmp_path):
    assert "A-camping-0S" not in run_script("own_data.sh", tmp_path)
    recommended = pl.read_parquet(tmp_path / "out" / "recommendations.parquet")
    assert recommended["user"].n_unique() == 300
    assert (tmp_path / "out" / "index" / "items.safetensors").is_file()


def test_amazon_2023(tmp_path):
    printed = run_script("amazon_2023.sh", tmp_path)
    assert "Amazon's 2023 release" in printed
    catalogue = pl.read_parquet(tmp_path / "out" / "workspace" / "data" / "food-kitchen" / "items.parquet")
    assert catalogue.height == 64 and catalogue["title"].null_count() == catalogue["brand"].null_count() == 0
    assert set(catalogue["brand"]) == {"Coffee House", "Tea House", "Pasta House", "Rice House"}
    table = printed.partition("Overall performance on food-kitchen")[2]
    assert all(label in table for label in ("Popularity", "Content-kNN", "SASRec", "H@5"))
