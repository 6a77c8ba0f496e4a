"""What `local` retrieves from, and what `ground = match` replaces a generated text by: items of training only."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from edt_backends.base import BackendError
from edt_cli.augmentation.companions import Companions
from edt_cli.data.dataset import TEXT_FIELDS, TrainingView
from edt_cli.llm.embeddings import ItemEmbeddings, item_texts

BLOCK = 512
WIDTH = 64


class TrainingCatalogue:
    """Companions, and nearest neighbours by the cosine of item embeddings, among the training items with a title.

    A question is about catalogue items, whose vectors are known, so nothing is embedded here. Neighbours are found
    for a block of items at once when one of them is first asked for, and kept.
    """

    def __init__(self, view: TrainingView, embeddings: ItemEmbeddings) -> None:
        self.domains = view.domains
        self._vectors = embeddings.vectors
        rows = view.catalogue.select("id", *TEXT_FIELDS)
        self._rows = list(rows.iter_rows(named=True))
        self._numbers = {name: number for number, name in enumerate(rows["id"], start=1)}
        self._texts: dict[str, int] = {}
        for number, text in enumerate(item_texts(view.catalogue), start=1):
            if text is not None:
                self._texts.setdefault(text, number)
        titled = np.append(False, rows["title"].is_not_null().to_numpy())
        usable = view.training_items[titled[view.training_items]]
        of_domain = view.domains.of(usable)
        self._items = [usable[of_domain == domain] for domain in range(len(view.domains))]
        self.by_users = Companions(view, embeddings)
        self._known: dict[tuple[int, int], tuple[np.ndarray, np.ndarray]] = {}

    def companions(
        self, domain: str, items: Sequence[str], count: int, exclude: Collection[str]
    ) -> list[Mapping[str, Any]]:
        """Up to `count` items of the domain that go best with `items` (ids, of other domains), best first, none
        whose id is in `exclude`."""
        own = np.array([self._numbers[name] for name in items], dtype=np.int64)
        width = count + len(exclude)
        (found,) = self.by_users.best(self.domains.number(domain), np.zeros_like(own), own, 1, width)
        rows = (self._rows[item - 1] for item in found.tolist() if item)
        return [row for row in rows if row["id"] not in exclude][:count]

    def similar(
        self, domain: str, texts: Sequence[str], count: int, exclude: Collection[str]
    ) -> list[list[Mapping[str, Any]]]:
        """For each text up to `count` nearest items of the domain, best first, none whose id is in `exclude`.

        Errors: BackendError for a text that no catalogue item has.
        """
        number = self.domains.number(domain)
        hidden = {self._numbers[name] for name in exclude if name in self._numbers}
        return [self._similar(number, text, count, hidden) for text in texts]

    def _similar(self, domain: int, text: str, count: int, hidden: set[int]) -> list[Mapping[str, Any]]:
        if text not in self._texts:
            raise BackendError(f"only texts of catalogue items can be looked up, and this is none: {text[:60]!r}")
        block, row = divmod(self._texts[text], BLOCK)
        if (domain, block) not in self._known:
            self._known[domain, block] = self.nearest(
                domain, self._vectors[block * BLOCK : (block + 1) * BLOCK], WIDTH
            )
        items, scores = (part[row] for part in self._known[domain, block])
        kept = [place for place, item in enumerate(items.tolist()) if item not in hidden][:count]
        if len(kept) < count and len(items) < len(self._items[domain]):
            vector = self._vectors[self._texts[text]]
            (items,), (scores,) = self.nearest(domain, vector[None], count + len(hidden))
            kept = [place for place, item in enumerate(items.tolist()) if item not in hidden][:count]
        return [{**self._rows[items[place] - 1], "score": float(scores[place])} for place in kept]

    def nearest(self, domain: int, vectors: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
        """Item numbers and cosines [n, W] of the W = min(width, items) nearest of a domain, best first.

        Of equal ones the lower number comes first.
        """
        pool = self._items[domain]
        width = min(width, len(pool))
        items = np.zeros((len(vectors), width), np.int64)
        scores = np.zeros((len(vectors), width), np.float32)
        own = self._vectors[pool]
        for start in range(0, len(vectors) if width else 0, BLOCK):
            cosines = vectors[start : start + BLOCK] @ own.T
            places = np.argpartition(cosines, -width, axis=1)[:, -width:]
            best = np.take_along_axis(cosines, places, 1)
            order = np.lexsort((places, -best), axis=1)
            items[start : start + BLOCK] = pool[np.take_along_axis(places, order, 1)]
            scores[start : start + BLOCK] = np.take_along_axis(best, order, 1)
        return items, scores

    def match(self, domain: int, vectors: np.ndarray, users: np.ndarray, history: np.ndarray) -> np.ndarray:
        """The nearest item [n] of a domain that the row's user has not had, 0 where none is left.

        history: sorted keys user * (N + 1) + item of every training interaction.
        """
        width = 1 + (np.bincount(history // (self.domains.items + 1)).max() if len(history) else 0)
        items, _ = self.nearest(domain, vectors, int(width))
        free = ~np.isin(users[:, None] * (self.domains.items + 1) + items, history)
        if not items.shape[1]:
            return np.zeros(len(vectors), np.int64)
        first = items[np.arange(len(items)), free.argmax(1)]
        return np.where(free.any(1), first, 0)
