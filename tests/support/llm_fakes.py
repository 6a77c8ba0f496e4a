"""Small datasets, and backends whose every answer a test decides."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import polars as pl

from edt_backends.base import (
    BackendError,
    ChatBackend,
    ChatReply,
    ChatRequest,
    EmbeddingBackend,
    EmbeddingReply,
    Usage,
)
from edt_cli.augmentation.clustering import Clusters
from edt_cli.data.dataset import TEXT_FIELDS, Domains, Sequences, TrainingView
from edt_cli.llm.embeddings import ItemEmbeddings, embed_items
from edt_cli.workspace.events import Events

DIMENSION = 16
NAMES = ("food", "kitchen", "garden")


def text_vector(text: str) -> np.ndarray:
    """A unit vector that depends on the words: texts that share words are near."""
    total = np.zeros(DIMENSION)
    for word in text.lower().split():
        seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "big")
        total += np.random.default_rng(seed).normal(size=DIMENSION)
    return (total / np.linalg.norm(total)).astype(np.float32)


class WordEmbedder(EmbeddingBackend):
    """Remembers in `asked` what it was asked to embed."""

    name = "words"

    def __init__(self) -> None:
        self.asked: list[str] = []

    @property
    def dimension(self) -> int:
        return DIMENSION

    def identity(self) -> dict[str, Any]:
        return {"name": self.name}

    async def embed(self, texts: Sequence[str]) -> EmbeddingReply:
        self.asked += texts
        return EmbeddingReply(np.stack([text_vector(text) for text in texts]), Usage())


class Scripted(ChatBackend):
    """Answers what `answer(request)` returns: text, a JSON value, a reply, or an error to raise.

    `requests` and `rejected` remember.
    """

    name = "scripted"

    def __init__(self, answer: Callable[[ChatRequest], Any]) -> None:
        self.answer = answer
        self.requests: list[ChatRequest] = []
        self.rejected: list[ChatRequest] = []

    def reject(self, request: ChatRequest) -> None:
        self.rejected.append(request)

    def identity(self) -> dict[str, Any]:
        return {"name": self.name}

    async def complete(self, request: ChatRequest) -> ChatReply:
        self.requests.append(request)
        answer = self.answer(request)
        if isinstance(answer, BackendError):
            raise answer
        if isinstance(answer, ChatReply):
            return answer
        text = answer if isinstance(answer, str) else json.dumps(answer)
        return ChatReply(text, Usage(10, 5, 0.001), "scripted-1")


def make_view(
    sequences: Sequence[Sequence[int]],
    sizes: Sequence[int],
    titles: Sequence[str | None] | None = None,
    key: str = "tiny",
) -> TrainingView:
    """A training view with `sizes[d]` items in domain d; `titles[i - 1]` is item i's."""
    total = sum(sizes)
    if titles is None:
        titles = [f"thing {number} of sort {number % 3}" for number in range(1, total + 1)]
    names = NAMES[: len(sizes)]
    catalogue = pl.DataFrame({"id": [f"I{number}" for number in range(1, total + 1)]}).with_columns(
        pl.Series("title", titles, dtype=pl.String),
        *(pl.lit(None, pl.String).alias(field) for field in TEXT_FIELDS[1:]),
    )
    lengths = [len(sequence) for sequence in sequences]
    return TrainingView(
        "tiny",
        key,
        Domains(names, np.concatenate([[1], 1 + np.cumsum(sizes)]).astype(np.int64)),
        [f"U{number}" for number in range(len(sequences))],
        Sequences(
            np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            np.array([item for sequence in sequences for item in sequence], dtype=np.int64),
        ),
        catalogue,
    )


def embed(view: TrainingView) -> ItemEmbeddings:
    return embed_items(view.catalogue, WordEmbedder(), Events())


def random_case(seed: int, domains: int = 2) -> tuple[TrainingView, ItemEmbeddings, Clusters]:
    """Random sequences, one-domain and empty users among them; vectors, some equal; clusters without K-means."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 9, domains)
    starts = np.concatenate([[1], 1 + np.cumsum(sizes)])
    total = int(sizes.sum())
    sequences = []
    for _ in range(rng.integers(1, 12)):
        own = rng.permutation(domains)[: rng.integers(1, domains + 1)]
        pool = np.concatenate([np.arange(starts[domain], starts[domain + 1]) for domain in own])
        sequences.append(rng.choice(pool, rng.integers(0, 12)).tolist())
    titles = [f"title {number}" if rng.random() < 0.8 else None for number in range(total)]
    vectors = rng.normal(size=(total + 1, 6))
    vectors = vectors[rng.integers(0, total + 1, total + 1)]  # some items are equal in text
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    has_text = np.array([False, *(title is not None for title in titles)])
    vectors[~has_text] = 0
    view = make_view(sequences, sizes.tolist(), titles)
    labels = np.where(has_text, rng.integers(0, 3, total + 1), -1)
    centroids, medoids = [], []
    for domain in range(domains):
        items = np.arange(starts[domain], starts[domain + 1])
        items = items[has_text[items] & np.isin(items, view.training_items)]
        centroids.append(rng.normal(size=(3, 6)).astype(np.float32))
        medoids.append(items[:2].astype(np.int64))
    embeddings = ItemEmbeddings(vectors.astype(np.float32), has_text)
    return view, embeddings, Clusters(labels, tuple(centroids), tuple(medoids))
