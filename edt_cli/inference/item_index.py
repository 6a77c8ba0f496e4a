"""Item vectors for a search: an index of each domain and its recall, or Parquet for any other search engine."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from edt_cli.config import IndexKind, UserError
from edt_cli.evaluation.candidates import chunks
from edt_cli.inference.recommend import known_users
from edt_cli.inference.search_engines import ENGINES, Index, Items
from edt_cli.models.scorers import InnerProduct, SideScored
from edt_cli.models.sequential import SequentialModel
from edt_cli.training.data import TrainingData
from edt_cli.workspace.files import explained, replacing
from edt_cli.workspace.layout import write_json
from edt_cli.workspace.runs import Run
from edt_cli.workspace.version import __version__

SEARCH = (16, 64, 256)
"""Items that are looked at for each query (ef of HNSW), at the efforts that are measured."""
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
    training_data: TrainingData,
    run: Run,
    model: SequentialModel,
    kind: IndexKind,
    folder: Path,
    url: str | None = None,
) -> dict[str, Any]:
    """Write the item vectors of each domain for a search by inner product.

    A search engine gets an index whose ids are the items' numbers, and its recall is measured; `parquet` writes
    number, id, title and vector. index.json beside them says which file is of which domain.

    Args:
        training_data: Data and artefacts of the run.
        run: The run.
        model: Its trained model.
        kind: The search engine, or `parquet`.
        folder: Where to write.
        url: A server of the search engine, which takes the vectors in place of files.

    Returns:
        The manifest, which is index.json.
    """
    dataset, vectors = training_data.dataset, model.item_vectors().cpu().numpy().astype(np.float32)
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
    files, recalls = {}, []
    for domain, name in enumerate(dataset.domains.names):
        numbers = np.array(dataset.domains.range(domain))
        rows = dataset.catalogue.select("id", "title")[numbers - 1].with_columns(number=pl.Series(numbers))
        items = Items(rows, vectors[numbers])
        files[name] = f"{run.name}-{domain}" if url is not None else f"items-{domain}.{kind}"
        if kind == "parquet":
            as_lists = pl.Series(list(items.vectors), dtype=pl.List(pl.Float32))
            with replacing(folder / files[name]) as path:
                rows.with_columns(vector=as_lists).write_parquet(path)
            continue
        index = _built(items, kind, folder / files[name], url)
        recalls += measured(index, items, user_vectors(training_data, model, domain), name)
    manifest = {
        "run": run.name,
        "data": run.plan["data"],
        "data_key": run.dataset_key,
        "kind": kind,
        **({} if url is None else {"url": url}),
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


def _built(items: Items, kind: IndexKind, path: Path, url: str | None) -> Index:
    """Return an index of items, in a file or folder, or on a server under the path's name."""
    engine = ENGINES[kind]
    if url is None:
        with explained(path.parent):
            return engine.build(items, path)
    assert engine.on_server is not None
    return engine.on_server(items, url, path.name)


def measured(index: Index, items: Items, queries: np.ndarray, domain: str) -> list[Recall]:
    """Measure how many of the exact ten best an index finds, and its time, at each effort of `SEARCH`.

    Args:
        index: The index.
        items: The items in it.
        queries: Float32 [m, D].
        domain: Name of the domain.
    """
    count = min(TOP, len(items.vectors))
    best = np.concatenate(
        [
            np.argpartition(-(queries[rows] @ items.vectors.T), count - 1, axis=1)[:, :count]
            for rows in chunks(np.arange(len(queries)), 64)
        ]
    )
    exact, recalls = items.numbers[best], []
    for effort in SEARCH:
        began = time.perf_counter()
        found = index.search(queries, count, effort)
        milliseconds = 1000 * (time.perf_counter() - began) / len(queries)
        hits = (found[:, :, None] == exact[:, None, :]).any(1).mean()
        recalls.append(Recall(domain, effort, len(queries), float(hits), milliseconds))
    return recalls


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
