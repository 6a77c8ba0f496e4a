"""Commands that only read what is on disk load none of what trains: told by the modules, not by a clock."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edt_cli.config import EvaluationSettings, Settings
from edt_cli.data.open import open_dataset
from edt_cli.inference.results import evaluate
from edt_cli.llm.embeddings import ItemEmbeddings
from edt_cli.pipeline import Pipeline
from edt_cli.workspace.events import Events
from edt_cli.workspace.layout import Workspace

TRAINS = {"torch", "sklearn", "scipy", "transformers", "sentence_transformers", "litellm", "textual"}
READS = {"numpy", "polars", "duckdb", "pyarrow", "safetensors", "diskcache"}
CODE = """
import atexit, json, sys
atexit.register(lambda: print(json.dumps(sorted({name.split(".")[0] for name in sys.modules})), file=sys.stderr))
from edt_cli.cli.app import main
main()
"""


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Workspace:
    """A run on the demo that is evaluated, and vectors of its items."""
    workspace = Workspace(tmp_path_factory.mktemp("light"))
    demo = open_dataset(workspace, "demo")
    with workspace.artefact("embeddings", "toy").create(dataset=demo.key) as (folder, _):
        ItemEmbeddings(np.ones((demo.domains.items + 1, 3), np.float32), demo.has_text).save(folder)
    run = Pipeline(workspace, demo, Settings().changed(model={"name": "popularity"})).run()
    evaluate(workspace, run, "test", EvaluationSettings(), Events())
    return workspace


def modules_of(workspace: Workspace, command: str) -> set[str]:
    """Return what a command has loaded at its end."""
    done = subprocess.run(
        [sys.executable, "-c", CODE, *command.split()],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "EDT_WORKSPACE": str(workspace.root)},
        cwd=Path(__file__).parents[3],
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout
    return set(json.loads(done.stderr.splitlines()[-1]))


@pytest.mark.parametrize(
    "command",
    [
        "report",
        "report --json",
        "report --data demo --table 2 --format latex",
        "report --metric mrr --by length",
        "report --paper",
        "eval --data demo --beyond --groups",
        "eval --json",
        "models",
        "data list",
        "clean --dry-run",
    ],
)
def test_what_reads_documents_loads_nothing_heavy(workspace, command):
    assert not modules_of(workspace, command) & (TRAINS | READS)


@pytest.mark.parametrize("command", ["report --table 1", "eval --cutoffs 1,50", "data stats demo", "cache stats"])
def test_what_reads_tables_loads_nothing_that_trains(workspace, command):
    assert not modules_of(workspace, command) & TRAINS


def test_what_trains_loads_torch(workspace):
    """Otherwise nothing here could fail."""
    assert "torch" in modules_of(workspace, "train --data demo --model popularity --no-ui")
