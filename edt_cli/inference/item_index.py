"""Item vectors for a search engine: an index of faiss for each domain, or Parquet for any other; and its recall."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from edt_cli.config import IndexKind, UserError
from edt_cli.inference.recommend import known_users
from edt_cli.models.scorers import InnerProduct, SideScored
from edt_cli.models.sequential import SequentialModel
from edt_cli.training.data import TrainingData
from edt_cli.workspace.files import explained, replacing
from edt_cli.workspace.layout import write_json
from edt_cli.workspace.runs import Run
from edt_cli.workspace.version import __version__

LINKS = 32
"""Links of an item in the graph (M of HNSW)."""
BUILD, SEARCH = 200, (16, 64, 256)
"""Items that are looked at (ef of HNSW) for each new item, and for each query at the efforts that are measured."""
QUERIES = 1000
"""Most users whose vectors are searched with."""
TOP = 10


class Recall(NamedTuple):
    """How much of the exact ten best an index finds.

    Attributes:
        domain: Name of the domain.
        effort: Items that the index looks at for a query (ef of HNSW).
        queries: How many users' vectors were searched with.
        recall: Share of the exact ten best that are among the ten found.
        milliseconds: Time of a query, with one thread.
    """

    domain: str
    effort: int
    queries: int
    recall: float
    milliseconds: float


def export_index(
    training_data: TrainingData, run: Run, model: SequentialModel, kind: IndexKind, folder: Path
) -> dict[str, Any]:
    """Write the item vectors of each domain for a search by inner product.

    `faiss` writes items-DOMAIN.faiss, whose ids are the items' numbers, and measures its recall; `parquet` writes
    items-DOMAIN.parquet with number, id, title and vector. index.json beside them says which is which.

    Returns:
        The manifest, which is index.json.
    """
    dataset, vectors = training_data.dataset, model.item_vectors().cpu().numpy().astype(np.float32)
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
    files, recalls = {}, []
    for domain, name in enumerate(dataset.domains.names):
        numbers = np.arange(*_bounds(training_data, domain))
        files[name] = f"items-{domain}.{kind}"
        if kind == "parquet":
            rows = dataset.catalogue.select("id", "title")[numbers - 1].with_columns(number=pl.Series(numbers))
            with replacing(folder / files[name]) as path:
                rows.with_columns(
                    vector=pl.Series(list(vectors[numbers]), dtype=pl.List(pl.Float32))
                ).write_parquet(path)
        else:
            recalls += _faiss(training_data, model, vectors, domain, folder / files[name])
    manifest = {
        "run": run.name,
        "data": run.plan["data"],
        "data_key": run.dataset_key,
        "kind": kind,
        "files": files,
        "dimension": vectors.shape[1],
        "measure": "inner product",
        "ids": "number: row of items.parquet plus 1",
        "whole_score": model.side_score is None,
        "recall": [recall._asdict() for recall in recalls],
        "made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "edt": __version__,
    }
    write_json(folder / "index.json", manifest)
    return {**manifest, "folder": str(folder)}


def _bounds(training_data: TrainingData, domain: int) -> tuple[int, int]:
    items = training_data.dataset.domains.range(domain)
    return items.start, items.stop


def _faiss(
    training_data: TrainingData, model: SequentialModel, vectors: np.ndarray, domain: int, path: Path
) -> list[Recall]:
    """Write the graph of a domain's items, and measure what it finds of the exact ten best."""
    import faiss

    start, stop = _bounds(training_data, domain)
    graph = faiss.IndexHNSWFlat(vectors.shape[1], LINKS, faiss.METRIC_INNER_PRODUCT)
    graph.hnsw.efConstruction = BUILD
    graph.hnsw.efSearch = SEARCH[1]
    index = faiss.IndexIDMap(graph)
    index.add_with_ids(np.ascontiguousarray(vectors[start:stop]), np.arange(start, stop))
    with replacing(path) as temporary:
        faiss.write_index(index, str(temporary))
    queries = user_vectors(training_data, model, domain)
    exact = faiss.IndexFlatIP(vectors.shape[1])
    exact.add(np.ascontiguousarray(vectors[start:stop]))
    count = min(TOP, stop - start)
    best = exact.search(queries, count)[1] + start
    name, out = training_data.dataset.domains.names[domain], []
    for effort in SEARCH:
        graph.hnsw.efSearch = effort
        began = time.perf_counter()
        found = index.search(queries, count)[1]
        milliseconds = 1000 * (time.perf_counter() - began) / len(queries)
        hits = (found[:, :, None] == best[:, None, :]).any(1).mean()
        out.append(Recall(name, effort, len(queries), float(hits), milliseconds))
    return out


def user_vectors(training_data: TrainingData, model: SequentialModel, domain: int) -> np.ndarray:
    """Return the vectors of users with a history in a domain, at most `QUERIES` of them, float32 [n, D].

    Raises:
        UserError: If there are none.
    """
    users = known_users(training_data)
    rows = np.flatnonzero(users.inputs.lengths)
    if not len(rows):
        raise UserError("no user of the data has a history, so there is nothing to search with")
    rows = rows[:: max(1, len(rows) // QUERIES)][:QUERIES]
    scorer = model.scorer(users.inputs.rows(rows), np.full(len(rows), domain))
    inner = scorer.vectors if isinstance(scorer, SideScored) else scorer
    assert isinstance(inner, InnerProduct)
    return np.ascontiguousarray(inner.states.cpu().numpy().astype(np.float32))
