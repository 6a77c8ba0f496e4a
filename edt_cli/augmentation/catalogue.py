"""Search among the training items: companions and nearest neighbours.

`local` retrieves from them, and `ground = match` replaces generated texts by them.
"""

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
    """Training items with a title, searchable for companions and for nearest neighbours by cosine.

    Queries are catalogue items, whose vectors are known, so nothing is embedded here. Neighbours are computed for a
    whole block of items when one of them is first needed, and kept.
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
        """Return up to `count` items of a domain that best go with `items` of other domains.

        Items are given by id. The best come first; ids in `exclude` are left out.
        """
        item_numbers = np.array([self._numbers[name] for name in items], dtype=np.int64)
        width = count + len(exclude)
        (best,) = self.by_users.best(
            self.domains.number(domain), np.zeros_like(item_numbers), item_numbers, 1, width
        )
        rows = (self._rows[item - 1] for item in best.tolist() if item)
        return [row for row in rows if row["id"] not in exclude][:count]

    def similar(
        self, domain: str, texts: Sequence[str], count: int, exclude: Collection[str]
    ) -> list[list[Mapping[str, Any]]]:
        """Return up to `count` nearest items of a domain for each text.

        The nearest come first; ids in `exclude` are left out.

        Raises:
            BackendError: If a text is not that of a catalogue item.
        """
        number = self.domains.number(domain)
        hidden = {self._numbers[name] for name in exclude if name in self._numbers}
        return [self._similar(number, text, count, hidden) for text in texts]

    def _similar(self, domain: int, text: str, count: int, hidden: set[int]) -> list[Mapping[str, Any]]:
        if text not in self._texts:
            raise BackendError(
                f"only texts of catalogue items can be looked up, and this is not one: {text[:60]!r}"
            )
        block, row = divmod(self._texts[text], BLOCK)
        if (domain, block) not in self._known:
            self._known[domain, block] = self.nearest(
                domain, self._vectors[block * BLOCK : (block + 1) * BLOCK], WIDTH
            )
        items, scores = (part[row] for part in self._known[domain, block])
        kept = [index for index, item in enumerate(items.tolist()) if item not in hidden][:count]
        if len(kept) < count and len(items) < len(self._items[domain]):
            vector = self._vectors[self._texts[text]]
            (items,), (scores,) = self.nearest(domain, vector[None], count + len(hidden))
            kept = [index for index, item in enumerate(items.tolist()) if item not in hidden][:count]
        return [{**self._rows[items[index] - 1], "score": float(scores[index])} for index in kept]

    def nearest(self, domain: int, vectors: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
        """Return numbers and cosines [n, W] of the nearest items of a domain, best first.

        W is `width`, or the number of items if that is less. Of equal cosines the lower number comes first.
        """
        pool = self._items[domain]
        width = min(width, len(pool))
        items = np.zeros((len(vectors), width), np.int64)
        scores = np.zeros((len(vectors), width), np.float32)
        pool_vectors = self._vectors[pool]
        for start in range(0, len(vectors) if width else 0, BLOCK):
            cosines = vectors[start : start + BLOCK] @ pool_vectors.T
            columns = np.argpartition(cosines, -width, axis=1)[:, -width:]
            best = np.take_along_axis(cosines, columns, 1)
            order = np.lexsort((columns, -best), axis=1)
            items[start : start + BLOCK] = pool[np.take_along_axis(columns, order, 1)]
            scores[start : start + BLOCK] = np.take_along_axis(best, order, 1)
        return items, scores

    def match(self, domain: int, vectors: np.ndarray, users: np.ndarray, history: np.ndarray) -> np.ndarray:
        """Return the nearest item [n] of a domain that the row's user has not seen, 0 if there is none.

        Args:
            domain: Domain to search.
            vectors: Query vectors [n, d_L].
            users: User of each row [n].
            history: Sorted keys user * (N + 1) + item of every training interaction.
        """
        width = 1 + (np.bincount(history // (self.domains.items + 1)).max() if len(history) else 0)
        items, _ = self.nearest(domain, vectors, int(width))
        free = ~np.isin(users[:, None] * (self.domains.items + 1) + items, history)
        if not items.shape[1]:
            return np.zeros(len(vectors), np.int64)
        first = items[np.arange(len(items)), free.argmax(1)]
        return np.where(free.any(1), first, 0)
