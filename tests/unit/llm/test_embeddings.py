from __future__ import annotations

import signal
import subprocess
import sys
import time

import numpy as np
import polars as pl
import pytest
from llm_fakes import DIMENSION, WordEmbedder, text_vector

from edt_backends.base import BackendError, EmbeddingReply, Usage
from edt_backends.lexical import COMPONENTS, WEIGHT_FILE, LexicalMap
from edt_cli.config import UserError
from edt_cli.llm.embeddings import (
    ItemEmbeddings,
    embed_items,
    embed_texts,
    fit_embedder,
    item_text,
    item_texts,
    load_embedder,
)
from edt_cli.workspace.events import Events


def test_item_text_has_whichever_fields_exist():
    full = {"title": "Green tea", "brand": "Acme", "category": "Tea, Drinks", "description": "From the hills."}
    assert item_text(full) == "Green tea. Brand: Acme. Category: Tea, Drinks. From the hills."
    assert item_text({"title": "Green tea"}) == "Green tea"
    assert item_text({"title": None, "brand": "Acme", "category": "", "description": None}) == "Brand: Acme"
    assert item_text({"title": None, "brand": None, "category": None, "description": None}) is None
    assert len(item_text({"title": "T", "description": "x" * 5000})) < 1100


@pytest.fixture
def catalogue() -> pl.DataFrame:
    return pl.DataFrame(
        {
            "id": ["a", "b", "c", "d"],
            "title": ["Green tea", None, "Kettle", "Green tea"],
            "brand": pl.Series([None] * 4, dtype=pl.String),
            "category": pl.Series([None] * 4, dtype=pl.String),
            "description": pl.Series([None] * 4, dtype=pl.String),
        }
    )


def test_items_without_text_are_zero_rows_and_equal_texts_are_asked_once(catalogue, tmp_path):
    embedder, seen = WordEmbedder(), []
    found = embed_items(catalogue, embedder, Events(listeners=(seen.append,)))
    assert item_texts(catalogue) == ["Green tea", None, "Kettle", "Green tea"]
    assert found.vectors.dtype == np.float32 and found.vectors.shape == (5, DIMENSION)
    assert found.has_text.tolist() == [False, True, False, True, True]
    assert not found.vectors[[0, 2]].any()
    for row, text in ((1, "Green tea"), (3, "Kettle"), (4, "Green tea")):
        np.testing.assert_array_equal(found.vectors[row], text_vector(text))
    assert sorted(embedder.asked) == ["Green tea", "Kettle"]
    assert seen[-1]["stage"] == "embed" and seen[-1]["done"] == seen[-1]["total"] == 2
    assert seen[-1]["seconds_left"] == 0
    found.save(tmp_path)
    again = ItemEmbeddings.load(tmp_path)
    np.testing.assert_array_equal(again.vectors, found.vectors)
    np.testing.assert_array_equal(again.has_text, found.has_text)


def test_many_texts_come_back_in_their_order():
    texts = [f"word{number % 2300} number {'long ' * (number % 5)}" for number in range(2500)]
    embedder = WordEmbedder()
    vectors = embed_texts(texts, embedder, Events())
    assert len(embedder.asked) == len(set(texts))
    for row in (0, 1, 1023, 1024, 1500, 2300, 2499):
        np.testing.assert_array_equal(vectors[row], text_vector(texts[row]))


def test_a_catalogue_without_any_text(catalogue):
    empty = catalogue.with_columns(title=pl.lit(None, pl.String))
    found = embed_items(empty, WordEmbedder(), Events())
    assert found.vectors.shape == (5, DIMENSION) and not found.vectors.any() and not found.has_text.any()


@pytest.mark.parametrize("vectors", [np.full((2, 3), np.nan), np.ones((1, 3)), np.ones(2)])
def test_an_embedder_that_gives_no_usable_vectors(vectors):
    class Broken(WordEmbedder):
        async def embed(self, texts):
            return EmbeddingReply(vectors.astype(np.float32), Usage())

    with pytest.raises(BackendError, match="no usable vectors"):
        embed_texts(["a", "b"], Broken(), Events())


def test_damaged_files_are_one_line(tmp_path):
    with pytest.raises(UserError, match="damaged"):
        ItemEmbeddings.load(tmp_path)
    (tmp_path / "embeddings.safetensors").write_bytes(b"nonsense")
    with pytest.raises(UserError, match="damaged"):
        ItemEmbeddings.load(tmp_path)


class Mapped(WordEmbedder):
    text_map = LexicalMap


def test_a_map_is_fitted_to_the_items_and_loaded_for_what_comes_later(catalogue, tmp_path):
    titles = ["Green tea", None, "Kettle", "Green teapot"]
    catalogue = catalogue.with_columns(title=pl.Series(titles))
    fitted = fit_embedder(Mapped(), catalogue, tmp_path, Events())
    items = embed_items(catalogue, fitted, Events()).vectors
    assert items.shape == (5, DIMENSION + COMPONENTS) and not items[2].any()
    later = embed_texts(["Green teapot", "Kettle", "something new"], load_embedder(Mapped(), tmp_path), Events())
    np.testing.assert_allclose(later[:2], items[[4, 3]], atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(later, axis=1), 1, atol=1e-6)
    assert items[1, DIMENSION:] @ items[4, DIMENSION:] > 0.2

    (tmp_path / WEIGHT_FILE).unlink()
    with pytest.raises(UserError, match=r"lexical map in .* is damaged"):
        load_embedder(Mapped(), tmp_path)


def test_without_any_text_a_map_is_empty_and_the_width_is_the_same(catalogue, tmp_path):
    empty = catalogue.with_columns(title=pl.lit(None, pl.String))
    found = embed_items(empty, fit_embedder(Mapped(), empty, tmp_path, Events()), Events())
    assert found.vectors.shape == (5, DIMENSION + COMPONENTS) and not found.vectors.any()
    later = embed_texts(["Green tea"], load_embedder(Mapped(), tmp_path), Events())
    np.testing.assert_allclose(later[0, :DIMENSION], text_vector("Green tea"), atol=1e-6)


def test_an_embedder_without_a_map_is_left_as_it_is(catalogue, tmp_path):
    embedder = WordEmbedder()
    assert fit_embedder(embedder, catalogue, tmp_path, Events()) is load_embedder(embedder, tmp_path) is embedder
    assert not [*tmp_path.iterdir()]


def test_time_left_is_by_the_characters_of_the_last_seconds(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("edt_cli.llm.embeddings.time.monotonic", lambda: now[0])
    seen = []

    class Slow(WordEmbedder):
        batch_size = 1

        async def embed(self, texts):
            now[0] += sum(map(len, texts)) / 2
            return await super().embed(texts)

    texts = ["x" * size for size in (40, 30, 20, 10)]
    embed_texts(texts, Slow(), Events(listeners=(seen.append,)), "embed profiles")
    assert [(record["done"], record["seconds_left"]) for record in seen] == [(1, 30), (2, 15), (3, 5), (4, 0)]
    assert {record["stage"] for record in seen} == {"embed profiles"}


SLOW = """
import sys, time
from edt_backends.base import EmbeddingBackend
from edt_cli.llm.embeddings import embed_texts
from edt_cli.workspace.events import Events
class Loading(EmbeddingBackend):
    def prepare(self, texts):
        print("loading", flush=True)
        time.sleep(60)
embed_texts(["tea"], Loading(), Events())
"""


def test_ctrl_c_ends_the_loading_of_a_model():
    process = subprocess.Popen([sys.executable, "-c", SLOW], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None and process.stdout.readline() == b"loading\n"
    since = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert process.wait(30) != 0 and time.monotonic() - since < 10
