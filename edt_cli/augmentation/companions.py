"""Companions: items of one domain that go with items of another, because the same users have both.

They are counted over training prefixes only, so nothing held out takes part. A user's pairs are not evidence for
that same user: they point only to items that the user has in the target domain, and callers exclude those.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

from edt_cli.data.dataset import Numbers, TrainingView
from edt_cli.llm.embeddings import ItemEmbeddings

BLOCK = 512
DAMPING = 0.35


class Companions:
    """Co-occurrence of items across domains, over users.

    The score of item b of the target domain for item a of another domain is n(a, b) / (n(a)^0.5 n(b)^0.35): n(a, b)
    users have both, n(a) have a and any item of the target domain, n(b) have b. With an exponent of 0 in place of
    0.35 popular items would go with everything, with 1 items that a single user has by chance. If no user of the
    target domain has item a, the item of the same domain with the nearest text that such a user has stands in for
    it. Only items with a title are companions.
    """

    def __init__(self, view: TrainingView, embeddings: ItemEmbeddings) -> None:
        self._domains, self._embeddings = view.domains, embeddings
        pairs = np.unique(np.stack([view.prefixes.users, view.prefixes.items]), axis=1)
        shape = (len(view.prefixes), view.domains.items + 1)
        self._bought = sparse.csr_matrix((np.ones(pairs.shape[1]), pairs), shape)
        self._titled = np.append(False, view.catalogue["title"].is_not_null().to_numpy())
        self._known: dict[int, sparse.csr_matrix] = {}
        self._stand_ins: dict[int, Numbers] = {}

    def best(self, target: int, rows: np.ndarray, items: np.ndarray, total: int, width: int) -> np.ndarray:
        """Return the best companions of each row's items, best first.

        Args:
            target: Domain of the companions.
            rows: Row of each item [n].
            items: Items of other domains [n].
            total: Number of rows.
            width: Most companions per row.

        Returns:
            Item numbers [total, width], 0 where there are no more. Of equal scores the lower number comes first.
        """
        evidence = self._evidence(target)
        start = int(self._domains.starts[target])
        stand_ins = self._find_stand_ins(target, items)
        known = stand_ins > 0
        queries = sparse.csr_matrix(
            (np.ones(int(known.sum())), (rows[known], stand_ins[known])), (total, evidence.shape[0])
        )
        companions = np.zeros((total, width), np.int64)
        for begin in range(0, total, BLOCK):
            scores = (queries[begin : begin + BLOCK] @ evidence).tocoo()
            order = np.lexsort((scores.col, -scores.data, scores.row))
            row, column = scores.row[order].astype(np.int64), scores.col[order]
            position = np.arange(len(row)) - np.searchsorted(row, row, side="left")
            near = position < width
            companions[begin + row[near], position[near]] = start + column[near]
        return companions

    def _evidence(self, target: int) -> sparse.csr_matrix:
        """Return the scores [N + 1, items of the domain]; only rows of items of other domains are filled."""
        if target not in self._known:
            target_items = self._domains.range(target)
            of_target = self._bought[:, target_items.start : target_items.stop]
            both = np.diff(of_target.indptr) > 0
            of_others = sparse.diags_array(both.astype(float)) @ self._bought
            weights = np.asarray(of_others.sum(0)).ravel()
            weights[target_items.start : target_items.stop] = 0
            damped = np.maximum(np.asarray(of_target.sum(0)).ravel(), 1) ** -DAMPING
            damped *= self._titled[target_items.start : target_items.stop]
            left = np.divide(1, np.sqrt(weights), out=np.zeros_like(weights), where=weights > 0)
            counts = of_others.T.tocsr() @ of_target
            evidence = sparse.diags_array(left) @ counts @ sparse.diags_array(damped)
            evidence = sparse.csr_matrix(evidence)
            evidence.eliminate_zeros()
            self._known[target] = evidence
        return self._known[target]

    def _find_stand_ins(self, target: int, items: Numbers) -> Numbers:
        """Return an item with scores for each item: itself, the nearest of its domain, or 0 if there is none.

        They are searched for a whole block of items when one of them is first needed, and kept.
        """
        if target not in self._stand_ins:
            some = np.diff(self._evidence(target).indptr) > 0
            self._stand_ins[target] = np.where(some, np.arange(len(some)), -1)
        known, vectors = self._stand_ins[target], self._embeddings.vectors
        for block in np.unique(items[known[items] < 0] // BLOCK).tolist():
            part = np.arange(max(1, block * BLOCK), min(len(known), (block + 1) * BLOCK))
            part = part[known[part] < 0]
            of_domain = self._domains.of(part)
            known[part] = 0
            for domain in np.unique(of_domain[of_domain != target]).tolist():
                pool = np.array(self._domains.range(domain))
                pool = pool[(known[pool] == pool) & self._embeddings.has_text[pool]]
                queries = part[(of_domain == domain) & self._embeddings.has_text[part]]
                if len(pool):
                    known[queries] = pool[(vectors[queries] @ vectors[pool].T).argmax(1)]
        return known[items]
