from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from llm_fakes import DIMENSION, WordEmbedder, text_vector

from edt_backends.base import BackendError, EmbeddingReply, Usage
from edt_cli.config import UserError
from edt_cli.embeddings import ItemEmbeddings, embed_items, embed_texts, item_text, item_texts
from edt_cli.events import Events


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
    found.save(tmp_path)
    again = ItemEmbeddings.load(tmp_path)
    np.testing.assert_array_equal(again.vectors, found.vectors)
    np.testing.assert_array_equal(again.has_text, found.has_text)


def test_many_texts_come_back_in_their_order():
    texts = [f"word{number % 2300} number {'long ' * (number % 5)}" for number in range(2500)]
    embedder = WordEmbedder()
    vectors = embed_texts(texts, embedder)
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
        embed_texts(["a", "b"], Broken())


def test_damaged_files_are_one_line(tmp_path):
    with pytest.raises(UserError, match="damaged"):
        ItemEmbeddings.load(tmp_path)
    (tmp_path / "embeddings.safetensors").write_bytes(b"nonsense")
    with pytest.raises(UserError, match="damaged"):
        ItemEmbeddings.load(tmp_path)
