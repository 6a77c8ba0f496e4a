"""What `edt export --index` hands over: an index of every engine that is installed finds the exact ten best."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from edt_cli.config import UserError
from edt_cli.inference.item_index import SEARCH, measured
from edt_cli.inference.search_engines import COLLECTION, ENGINES, HNSWLib, Items

DRAW = np.random.default_rng(0)
NUMBERS = np.arange(41, 441)
ITEMS = Items(
    pl.DataFrame(
        {"id": [f"i{number}" for number in NUMBERS], "title": [None, *["a thing"] * 399], "number": NUMBERS}
    ),
    DRAW.standard_normal((400, 12), dtype=np.float32) * DRAW.uniform(0.5, 2, (400, 1)).astype(np.float32),
)
QUERIES = DRAW.standard_normal((20, 12), dtype=np.float32)
EXACT = NUMBERS[np.argsort(-(QUERIES @ ITEMS.vectors.T), axis=1)[:, :10]]


@pytest.mark.parametrize("name", ENGINES)
def test_an_index_finds_what_is_best_and_is_told_by_number(name, tmp_path):
    pytest.importorskip(ENGINES[name].library)
    path = tmp_path / f"items-0.{name}"
    for _ in range(2):  # The second one replaces the first.
        index = ENGINES[name].build(ITEMS, path)
        found = index.search(QUERIES, 10, SEARCH[-1])
        assert found.shape == EXACT.shape and path.exists()
        same = [len(set(one) & set(other)) for one, other in zip(found, EXACT, strict=True)]
        assert np.mean(same) >= 9.5, f"{name} does not search by inner product, or not well"
        if name == "qdrant":
            index.client.close()
    recalls = measured(ENGINES["faiss"].build(ITEMS, tmp_path / "other"), ITEMS, QUERIES, "food")
    assert [(row.domain, row.effort, row.queries) for row in recalls] == [("food", effort, 20) for effort in SEARCH]


def test_recall_is_the_share_of_the_exact_ten_that_an_index_finds():
    class Half:
        """Finds five of the ten best, and five that are none."""

        def search(self, queries, count, effort):
            return np.concatenate([EXACT[:, :5], np.full((len(queries), 5), 7)], 1)

    assert [row.recall for row in measured(Half(), ITEMS, QUERIES, "food")] == [0.5] * 3


def test_what_hnswlib_wrote_is_read_by_it(tmp_path):
    hnswlib = pytest.importorskip("hnswlib")
    HNSWLib(ITEMS, tmp_path / "items")
    index = hnswlib.Index(space="ip", dim=12)
    index.load_index(str(tmp_path / "items"))
    index.set_ef(256)
    assert np.mean(index.knn_query(QUERIES, 10)[0] == EXACT) > 0.95


def test_what_lancedb_wrote_has_ids_and_titles(tmp_path):
    lancedb = pytest.importorskip("lancedb")
    ENGINES["lancedb"].build(ITEMS, tmp_path / "items")
    table = lancedb.connect(str(tmp_path / "items")).open_table(COLLECTION)
    first = table.search(QUERIES[0]).distance_type("dot").limit(1).to_list()[0]
    assert (first["number"], first["id"]) == (EXACT[0, 0], f"i{EXACT[0, 0]}")


def test_what_qdrant_wrote_has_ids_and_titles(tmp_path):
    pytest.importorskip("qdrant_client")
    index = ENGINES["qdrant"].build(ITEMS, tmp_path / "items")
    (point,) = index.client.query_points(COLLECTION, query=QUERIES[0].tolist(), limit=1).points
    assert point.payload == {"id": f"i{EXACT[0, 0]}", "title": "a thing"}
    assert point.score == pytest.approx(float((QUERIES @ ITEMS.vectors.T).max(1)[0]), rel=1e-5)
    index.client.close()


def test_a_server_that_is_not_there_is_one_line(monkeypatch):
    pytest.importorskip("qdrant_client")
    monkeypatch.setenv("QDRANT_API_KEY", "secret-of-mine")
    with pytest.raises(UserError) as refused:
        ENGINES["qdrant"].on_server(ITEMS, "http://127.0.0.1:9", "a-run-0")
    assert str(refused.value).startswith("Qdrant at http://127.0.0.1:9 did not take a-run-0: ")
    assert "\n" not in str(refused.value) and "secret" not in str(refused.value)
