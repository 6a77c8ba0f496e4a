"""Text in, unit vectors out: item texts by one template, and their embeddings (sections 3.2.2 and 3.3.1)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from edt_backends.base import BackendError, EmbeddingBackend
from edt_cli.config import UserError
from edt_cli.data.dataset import TEXT_FIELDS
from edt_cli.events import Events

DESCRIPTION_CHARACTERS = 1000
CHUNK = 1024
FILE = "embeddings.safetensors"


def item_text(row: Mapping[str, Any]) -> str | None:
    """The text of an item from title, brand, category and description, whichever exist; None where none does.

    Real and generated items go through this one template, so that their vectors can be compared. Of a long
    description the first 1,000 characters count.
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
    """`item_text` of each row, in order."""
    return [item_text(row) for row in catalogue.select(TEXT_FIELDS).iter_rows(named=True)]


@dataclass(frozen=True)
class ItemEmbeddings:
    """Item i is row i. `vectors` float32 [N + 1, d_L]: unit rows; row 0 (padding) and items without text are zero.

    `has_text` bool [N + 1].
    """

    vectors: np.ndarray
    has_text: np.ndarray

    def save(self, folder: Path) -> None:
        save_file({"vectors": self.vectors, "has_text": self.has_text}, folder / FILE)

    @classmethod
    def load(cls, folder: Path) -> ItemEmbeddings:
        """Errors: UserError where the file is missing or damaged."""
        try:
            tensors = load_file(folder / FILE)
            return cls(tensors["vectors"], tensors["has_text"])
        except (OSError, SafetensorError, KeyError) as error:
            raise UserError(
                f"{folder / FILE} is damaged ({type(error).__name__}); remove its folder and run the command again"
            ) from None


def embed_items(catalogue: pl.DataFrame, backend: EmbeddingBackend, events: Events) -> ItemEmbeddings:
    """The embeddings of a catalogue (row i is item i + 1). Errors: BackendError."""
    texts = item_texts(catalogue)
    has_text = np.array([False, *(text is not None for text in texts)])
    found = embed_texts(
        [text for text in texts if text is not None],
        backend,
        lambda done, total: events.progress("embed", done, total),
    )
    vectors = np.zeros((len(has_text), found.shape[1]), np.float32)
    vectors[has_text] = found
    return ItemEmbeddings(vectors, has_text)


def embed_texts(
    texts: Sequence[str], backend: EmbeddingBackend, on_progress: Callable[[int, int], None] | None = None
) -> np.ndarray:
    """Unit vectors float32 [n, d_L] in the order of the texts; equal texts are asked for once.

    Without texts the result is [0, d_L], with d_L = 0 where the backend cannot tell it before a first call.
    Errors: BackendError.
    """
    # Long texts first: a batch is padded to its longest, so neighbours in length cost least.
    unique = sorted(dict.fromkeys(texts), key=len, reverse=True)
    if not unique:
        return np.zeros((0, backend.dimension or 0), np.float32)

    async def embed() -> list[np.ndarray]:
        parts = []
        for start in range(0, len(unique), CHUNK):
            part = unique[start : start + CHUNK]
            parts.append(_checked((await backend.embed(part)).vectors, len(part), backend.name))
            if on_progress is not None:
                on_progress(start + len(part), len(unique))
        return parts

    vectors = np.concatenate(asyncio.run(embed()))
    rows = {text: row for row, text in enumerate(unique)}
    return vectors[[rows[text] for text in texts]]


def _checked(vectors: np.ndarray, count: int, name: str) -> np.ndarray:
    if vectors.ndim != 2 or len(vectors) != count or not np.isfinite(vectors).all():
        raise BackendError(f"embedder {name} gave no usable vectors for {count} texts: choose another embedder")
    return vectors.astype(np.float32, copy=False)
