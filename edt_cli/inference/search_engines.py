"""Search engines that item vectors are handed to, and how each builds, keeps and searches an index."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import polars as pl

from edt_cli.config import UserError
from edt_cli.workspace.files import replacing

LINKS = 32
"""Links of an item in the graph (M of HNSW)."""
BUILD = 200
"""Items that are looked at for each new item (efConstruction of HNSW)."""
COLLECTION = "items"
"""Name of the collection or table in a folder that holds no other."""
QDRANT_KEY = "QDRANT_API_KEY"
WAIT = 600.0
"""Most seconds that a server gets to index a collection."""


@dataclass(frozen=True)
class Items:
    """The n items of a domain.

    Attributes:
        rows: number, id and title of each.
        vectors: Float32 [n, D].
    """

    rows: pl.DataFrame
    vectors: np.ndarray

    @property
    def numbers(self) -> np.ndarray:
        return self.rows["number"].to_numpy()


class Index(Protocol):
    """An index that has been built."""

    def search(self, queries: np.ndarray, count: int, effort: int) -> np.ndarray:
        """Return the numbers [m, count] of the items with the largest inner products.

        Args:
            queries: Float32 [m, D].
            count: Items for each query.
            effort: Items that are looked at for each query (ef of HNSW).
        """
        ...


@dataclass(frozen=True)
class Engine:
    """How vectors become an index.

    Attributes:
        library: The module that is needed.
        extra: The extra of edt that brings it.
        build: Builds an index of items at a path, which is a file or a folder; an older one is replaced.
        on_server: Builds it on a server instead, at a URL under a name; None if the engine is no server.
    """

    library: str
    extra: str
    build: Callable[[Items, Path], Index]
    on_server: Callable[[Items, str, str], Index] | None = None


class Faiss:
    """A graph of faiss, whose ids are the items' numbers."""

    def __init__(self, items: Items, path: Path) -> None:
        import faiss

        self.graph = faiss.IndexHNSWFlat(items.vectors.shape[1], LINKS, faiss.METRIC_INNER_PRODUCT)
        self.graph.hnsw.efConstruction = BUILD
        self.graph.hnsw.efSearch = 64
        self.index = faiss.IndexIDMap(self.graph)
        self.index.add_with_ids(np.ascontiguousarray(items.vectors), items.numbers)
        with replacing(path) as temporary:
            faiss.write_index(self.index, str(temporary))

    def search(self, queries: np.ndarray, count: int, effort: int) -> np.ndarray:
        self.graph.hnsw.efSearch = effort
        found: np.ndarray = self.index.search(queries, count)[1]
        return found


class HNSWLib:
    """A graph of hnswlib, whose labels are the items' numbers."""

    def __init__(self, items: Items, path: Path) -> None:
        import hnswlib

        self.index = hnswlib.Index(space="ip", dim=items.vectors.shape[1])
        self.index.init_index(max_elements=len(items.vectors), ef_construction=BUILD, M=LINKS)
        self.index.add_items(items.vectors, items.numbers)
        with replacing(path) as temporary:
            self.index.save_index(str(temporary))

    def search(self, queries: np.ndarray, count: int, effort: int) -> np.ndarray:
        self.index.set_ef(max(effort, count))
        return np.asarray(self.index.knn_query(queries, count, num_threads=1)[0], dtype=np.int64)


class Qdrant:
    """A collection of Qdrant, with id and title as payload: in a folder, or on a server."""

    def __init__(self, items: Items, path: Path | None, url: str = "", name: str = COLLECTION) -> None:
        from qdrant_client import QdrantClient, models

        if path is not None:
            shutil.rmtree(path, ignore_errors=True)
            self.client = QdrantClient(path=str(path))
        else:
            self.client = QdrantClient(
                url=url, api_key=os.environ.get(QDRANT_KEY), timeout=60, check_compatibility=False
            )
        self.name, self.local = name, path is not None
        if self.client.collection_exists(name):
            self.client.delete_collection(name)
        self.client.create_collection(
            name,
            vectors_config=models.VectorParams(size=items.vectors.shape[1], distance=models.Distance.DOT),
            hnsw_config=models.HnswConfigDiff(m=LINKS, ef_construct=BUILD),
        )
        payload = items.rows.select("id", "title").to_dicts()
        self.client.upload_collection(name, items.vectors, payload, items.numbers.tolist(), wait=True)
        ends = time.monotonic() + WAIT
        while self.client.get_collection(name).status != models.CollectionStatus.GREEN:
            if time.monotonic() > ends:
                raise UserError(f"Qdrant has not indexed {name} after {WAIT:.0f} seconds")
            time.sleep(1)

    @classmethod
    def on_server(cls, items: Items, url: str, name: str) -> Qdrant:
        """Build the collection on a server.

        Raises:
            UserError: If it cannot be reached, or refuses.
        """
        from qdrant_client.http.exceptions import ApiException

        try:
            return cls(items, None, url, name)
        except (ApiException, OSError, ValueError) as error:
            what = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise UserError(f"Qdrant at {url} did not take {name}: {what}") from None

    def search(self, queries: np.ndarray, count: int, effort: int) -> np.ndarray:
        from qdrant_client import models

        how = None if self.local else models.SearchParams(hnsw_ef=effort)  # without a server there is no graph
        requests = [models.QueryRequest(query=query.tolist(), limit=count, params=how) for query in queries]
        answers = self.client.query_batch_points(self.name, requests)
        return np.array([[point.id for point in answer.points] for answer in answers], dtype=np.int64)


class LanceDB:
    """A table of LanceDB with number, id, title and vector, in one graph with vectors of a byte a number."""

    def __init__(self, items: Items, path: Path) -> None:
        import lancedb
        from lancedb.index import HnswSq

        shutil.rmtree(path, ignore_errors=True)
        size = items.vectors.shape[1]
        vectors = pl.Series(items.vectors, dtype=pl.Array(pl.Float32, size))
        self.table = lancedb.connect(str(path)).create_table(
            COLLECTION, data=items.rows.with_columns(vector=vectors).to_arrow()
        )
        graph = HnswSq(distance_type="dot", num_partitions=1, m=LINKS, ef_construction=BUILD)
        self.table.create_index("vector", config=graph)

    def search(self, queries: np.ndarray, count: int, effort: int) -> np.ndarray:
        found = [
            self.table.search(query).distance_type("dot").limit(count).ef(effort).select(["number"]).to_arrow()
            for query in queries
        ]
        return np.array([rows["number"].to_pylist() for rows in found], dtype=np.int64)


ENGINES = {
    "faiss": Engine("faiss", "export", Faiss),
    "hnswlib": Engine("hnswlib", "hnswlib", HNSWLib),
    "qdrant": Engine("qdrant_client", "qdrant", Qdrant, Qdrant.on_server),
    "lancedb": Engine("lancedb", "lancedb", LanceDB),
}
"""Search engines by the name that `--index` has for them."""
