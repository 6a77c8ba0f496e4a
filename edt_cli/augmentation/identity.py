"""Numbering of generated items: as a catalogue item, or as a pseudo-item from N + 1."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl

from edt_backends.base import EmbeddingBackend
from edt_cli.augmentation.artefact import PSEUDO
from edt_cli.augmentation.catalogue import TrainingCatalogue
from edt_cli.augmentation.generation import Generated, Questions
from edt_cli.config import AugmentationSettings
from edt_cli.data.dataset import TrainingView
from edt_cli.llm.embeddings import ItemEmbeddings, embed_texts
from edt_cli.workspace.events import Events


def identify(
    view: TrainingView,
    embeddings: ItemEmbeddings,
    generated: Generated,
    questions: Questions,
    settings: AugmentationSettings,
    embedder: EmbeddingBackend,
    events: Events,
) -> tuple[Generated, pl.DataFrame, np.ndarray]:
    """Give each generated item a number: a catalogue item's, or one from N + 1 for each text of a domain.

    Under `match` a text takes the number of its nearest training item that the user has not seen. A user's second
    item with the same number is "repeated".

    Returns:
        The generated items with numbers, the numbered texts as a table like `Augmentation.pseudo`, and float32
        vectors by number.
    """
    after = view.domains.items + 1
    items, reasons = generated.items.copy(), list(generated.reasons)
    users, targets = questions.users[generated.questions], questions.targets[generated.questions]
    textual = np.flatnonzero((items == 0) & np.array([reason is None for reason in reasons], bool))
    numbers: dict[tuple[int, str], int] = {}
    first: list[int] = []
    for row in textual.tolist():
        key = (int(targets[row]), generated.texts[row])
        if key not in numbers:
            numbers[key] = after + len(first)
            first.append(row)
        items[row] = numbers[key]
    vectors = embeddings.vectors
    if first:
        texts = [generated.texts[row] for row in first]
        vectors = np.concatenate([vectors, embed_texts(texts, embedder, events, "embed generated items")])
    if settings.ground == "match" and first:
        catalogue = TrainingCatalogue(view, embeddings)
        history = np.unique(view.prefixes.users * after + view.prefixes.items)
        for domain in range(len(view.domains)):
            rows = textual[targets[textual] == domain]
            items[rows] = catalogue.match(domain, vectors[items[rows]], users[rows], history)
        for row in textual[items[textual] == 0].tolist():
            reasons[row] = "no match"
        first = []
    seen: set[tuple[int, int]] = set()
    for row, pair in enumerate(zip(users.tolist(), items.tolist(), strict=True)):
        if reasons[row] is None:
            reasons[row] = "repeated" if pair in seen else None
            seen.add(pair)
    pseudo = generated.fields[first].with_columns(
        number=pl.int_range(after, after + pl.len(), dtype=pl.Int64),
        domain=pl.Series(targets[first], dtype=pl.Int64),
    )
    return replace(generated, items=items, reasons=reasons), pseudo.select(PSEUDO.keys()), vectors


def renumber(
    pseudo: pl.DataFrame, vectors: np.ndarray, items: np.ndarray
) -> tuple[pl.DataFrame, np.ndarray, np.ndarray]:
    """Keep only the pseudo-items that occur in `items`, and number them N + 1 .. N + P.

    Returns:
        The pseudo-items, all vectors up to N + P, and the new number by the old one (0 for a pseudo-item that does
        not occur in `items`).
    """
    after = len(vectors) - len(pseudo)
    used = np.unique(items[items >= after])
    new = np.concatenate([np.arange(after), np.zeros(len(pseudo), np.int64)])
    new[used] = after + np.arange(len(used))
    rows = pseudo[used - after].with_columns(number=pl.Series(new[used], dtype=pl.Int64))
    return rows, vectors[used], new
