"""A run that two processes train, and what `edt export` makes of it."""

from __future__ import annotations

import json
import sys
from importlib.util import find_spec

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import load_file
from test_data_cli import edt as edt  # the command in this process
from test_data_cli import error
from toy import prepared, random_dataset

from edt_cli.inference.search_engines import ENGINES
from edt_cli.workspace.layout import read_json
from edt_cli.workspace.runs import all_runs

pytestmark = pytest.mark.e2e

SMALL = ("--set", "model.hidden=8", "--set", "model.max_length=12", "--batch", "16", "--epochs", "2")
TRAIN = ("train", "--data", "tiny", "--model", "sasrec", "--device", "cpu", *SMALL)


def test_two_processes_train_a_run_which_other_programs_can_use(edt, tmp_path):
    import faiss
    import onnxruntime

    made = random_dataset()
    workspace = prepared(tmp_path / "ws", made)
    done = edt(*TRAIN, "--devices", "2", "--shard-items", "--json")
    assert json.loads(done.stdout)["runs"][0]["domains"]["a"]["users"]
    assert "in 2 processes" in done.stderr
    (run,) = all_runs(workspace)
    assert run.finished and read_json(run.folder / "provenance.json")["processes"][0]["processes"] == 2
    assert "finished already" in edt(*TRAIN).stderr, "how many processes there are is no part of a run's key"

    written = json.loads(edt("export", "--onnx", "out", "--index", "faiss", "--json").stdout)
    checked = written["onnx"]["checked"]
    assert (checked["users"], checked["same_top_10"]) == (40, 1.0) and checked["difference"] < 1e-5
    recalls = written["index"]["recall"]
    assert [row["recall"] for row in recalls] == [1.0] * 6, "of twelve items a graph misses none"

    # As another program would: the manifest, the files, and the numbers of a user's items.
    out = tmp_path / "out"
    manifest, items = read_json(out / "encoder.json"), load_file(out / "items.safetensors")["vectors"]
    rows = pl.read_parquet(out / "items.parquet")
    user, domain = made.user_ids[3], "b"
    history = made.sequences.of(3)[-manifest["longest"] :]
    session = onnxruntime.InferenceSession(out / manifest["encoder"])
    inputs = {"items": history[None], "domains": np.array([manifest["domains"][domain]])}
    (vector,) = session.run(None, inputs)[0]
    scores = np.where(rows["domain"].to_numpy() == domain, items @ vector, -np.inf)
    shown = json.loads(edt("recommend", "--user", user, "--keep-seen", "--json").stdout)["users"][user][domain]
    assert [rows["id"][int(row)] for row in np.argsort(-scores)[:10]] == [item["item"] for item in shown]
    assert np.sort(-scores)[:10] == pytest.approx([-item["score"] for item in shown], rel=1e-4)
    index = faiss.read_index(str(out / written["index"]["files"][domain]))
    found = index.search(vector[None].astype(np.float32), 10)[1][0]
    assert [rows["id"][int(number) - 1] for number in found] == [item["item"] for item in shown]

    for name, engine in ENGINES.items():
        if name != "faiss" and find_spec(engine.library):
            written = json.loads(edt("export", "--index", name, "--into", name, "--json").stdout)["index"]
            assert all((tmp_path / name / file).exists() for file in written["files"].values())
            assert [row["recall"] for row in written["recall"]] == pytest.approx([1.0] * 6, abs=0.05)

    done = edt("export", "--index", "parquet", "--into", "vectors")
    assert f"the item vectors of {run.name} are in vectors: items-0.parquet, items-1.parquet" in done.stderr
    table = pl.read_parquet(tmp_path / "vectors" / "items-1.parquet")
    assert table.columns == ["id", "title", "number", "vector"]
    assert np.array_equal(np.array(table["vector"].to_list(), np.float32), items[table["number"].to_numpy() - 1])


@pytest.mark.parametrize(
    ("library", "extra", "options"),
    [
        ("faiss", "export", ("--index", "faiss")),
        ("onnxscript", "export", ()),
        ("hnswlib", "hnswlib", ("--index", "hnswlib")),
        ("qdrant_client", "qdrant", ("--index", "qdrant")),
        ("lancedb", "lancedb", ("--index", "lancedb")),
    ],
)
def test_what_is_missing_is_said_first(edt, library, extra, options, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    done = edt("export", "--onnx", "out", *options, code=1)
    assert f"the export needs {library}: pip install 'edt-cli[{extra}]'" in error(done)


def test_what_cannot_be_said_together(edt, tmp_path):
    prepared(tmp_path / "ws", random_dataset())
    assert "say what to write" in error(edt("export", code=2))
    assert "--index needs a folder" in error(edt("export", "--index", "faiss", code=2))
    url = ("--url", "http://127.0.0.1:1", "--into", "in")
    assert "--url goes with --index qdrant" in error(edt("export", "--index", "faiss", *url, code=2))
    assert "it goes with --devices N" in error(edt(*TRAIN, "--shard-items", code=2))
    assert "--into is the folder of --index" in error(edt("export", "--onnx", "out", "--into", "in", code=2))
    assert "llmcdsr has a second optimiser" in error(
        edt("train", "--data", "tiny", "--model", "llmcdsr", "--devices", "2", code=2)
    )
    assert "--compile needs a CUDA GPU" in error(edt(*TRAIN, "--compile", code=2))
