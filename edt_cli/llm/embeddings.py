"""Item texts by one template, and embeddings of texts as unit vectors (sections 3.2.2 and 3.3.1)."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from edt_backends.base import BackendError, EmbeddingBackend
from edt_backends.wrappers import MappedEmbeddings
from edt_cli.config import UserError
from edt_cli.data.dataset import TEXT_FIELDS
from edt_cli.data.item_vectors import FILE
from edt_cli.workspace.events import Events

DESCRIPTION_CHARACTERS = 1000
PACE_SECONDS = 10.0


def item_text(row: Mapping[str, Any]) -> str | None:
    """Return the text of an item, or None if it has no title, brand, category or description.

    Real and generated items use this same template, so that their vectors can be compared. Only the first 1,000
    characters of a description count.
    """
    title, brand, category, description = (row.get(field) for field in TEXT_FIELDS)
    parts = [
        title,
        f"Brand: {brand}" if brand else None,
        f"Category: {category}" if category else None,
        description[:DESCRIPTION_CHARACTERS] if description else None,
    ]
    return ". ".join(part for part in parts if part) or None


def item_texts(catalogue: pl.DataFrame) -> list[str | None]:
    """Return the `item_text` of each row, in order."""
    return [item_text(row) for row in catalogue.select(TEXT_FIELDS).iter_rows(named=True)]


@dataclass(frozen=True)
class ItemEmbeddings:
    """Embeddings of the catalogue items; row i is item i, row 0 is padding.

    Attributes:
        vectors: Unit rows, float32 [N + 1, d_L]; zero for padding and items without text.
        has_text: Whether an item has a text, bool [N + 1].
    """

    vectors: np.ndarray
    has_text: np.ndarray

    def save(self, folder: Path) -> None:
        """Write the embeddings into a folder."""
        save_file({"vectors": self.vectors, "has_text": self.has_text}, folder / FILE)

    @classmethod
    def load(cls, folder: Path) -> ItemEmbeddings:
        """Load the embeddings of a folder.

        Raises:
            UserError: If the file is missing or damaged.
        """
        try:
            tensors = load_file(folder / FILE)
            return cls(tensors["vectors"], tensors["has_text"])
        except (OSError, SafetensorError, KeyError) as error:
            raise UserError(
                f"{folder / FILE} is damaged ({type(error).__name__}); remove its folder and run the command again"
            ) from None


def fit_embedder(
    embedder: EmbeddingBackend, catalogue: pl.DataFrame, folder: Path, events: Events
) -> EmbeddingBackend:
    """Return the embedder for the items of a catalogue.

    If it has a text map, the map is fitted to the texts of the items and saved in `folder`.
    """
    if embedder.text_map is None:
        return embedder
    events.progress("fit text map", 0, 1)
    fitted = embedder.text_map.fit([text for text in item_texts(catalogue) if text is not None])
    fitted.save(folder)
    return MappedEmbeddings(embedder, fitted)


def load_embedder(embedder: EmbeddingBackend, folder: Path) -> EmbeddingBackend:
    """Load the embedder that `fit_embedder` made, so that other texts can be compared with the items.

    Raises:
        UserError: If the map is missing or damaged.
    """
    if embedder.text_map is None:
        return embedder
    try:
        return MappedEmbeddings(embedder, embedder.text_map.load(folder))
    except BackendError as error:
        raise UserError(str(error)) from None


def embed_items(catalogue: pl.DataFrame, backend: EmbeddingBackend, events: Events) -> ItemEmbeddings:
    """Embed the items of a catalogue (row i is item i + 1).

    Raises:
        BackendError: If the embedder fails.
    """
    texts = item_texts(catalogue)
    has_text = np.array([False, *(text is not None for text in texts)])
    embedded = embed_texts([text for text in texts if text is not None], backend, events)
    vectors = np.zeros((len(has_text), embedded.shape[1]), np.float32)
    vectors[has_text] = embedded
    return ItemEmbeddings(vectors, has_text)


def embed_texts(
    texts: Sequence[str], backend: EmbeddingBackend, events: Events, stage: str = "embed"
) -> np.ndarray:
    """Embed texts as unit vectors, float32 [n, d_L], in their order; equal texts are embedded once.

    Without texts the result is [0, d_L], with d_L = 0 if the backend does not know it before the first call.

    Raises:
        BackendError: If the embedder fails.
    """
    # Long texts first: a batch is padded to its longest text, so texts of similar length cost least.
    unique = sorted(dict.fromkeys(texts), key=len, reverse=True)
    if not unique:
        return np.zeros((0, backend.dimension or 0), np.float32)

    async def embed() -> list[np.ndarray]:
        parts = []
        left = _TimeLeft(sum(map(len, unique)))
        for start in range(0, len(unique), backend.batch_size):
            part = unique[start : start + backend.batch_size]
            parts.append(_checked((await backend.embed(part)).vectors, len(part), backend.name))
            seconds = left.after(sum(map(len, part)))
            events.progress(stage, start + len(part), len(unique), seconds_left=seconds)
        return parts

    backend.prepare(unique)
    vectors = np.concatenate(asyncio.run(embed()))
    rows = {text: row for row, text in enumerate(unique)}
    return vectors[[rows[text] for text in texts]]


class _TimeLeft:
    """Estimate of the seconds left, at the pace of the last ten seconds.

    The pace changes: texts are ordered by length, and those of an earlier attempt come from the cache.
    """

    def __init__(self, characters: int) -> None:
        self._left = characters
        self._window = deque([(time.monotonic(), characters)])

    def after(self, characters: int) -> float:
        now = time.monotonic()
        self._left -= characters
        self._window.append((now, self._left))
        while len(self._window) > 2 and now - self._window[1][0] > PACE_SECONDS:
            self._window.popleft()
        begun, left = self._window[0]
        return round((now - begun) * self._left / max(1, left - self._left), 1)


def _checked(vectors: np.ndarray, count: int, name: str) -> np.ndarray:
    if vectors.ndim != 2 or len(vectors) != count or not np.isfinite(vectors).all():
        raise BackendError(f"embedder {name} returned no usable vectors for {count} texts: choose another embedder")
    return vectors.astype(np.float32, copy=False)
