"""Which items of one domain go with those of another: who is in both domains has both.

Read from training prefixes alone, so nothing held out takes part. A user's own pairs are no evidence for that user:
whoever asks for companions excludes what the user has of the target domain, and to that alone they point.
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

    Item b of the target domain goes with item a of another as far as n(a, b) / (n(a)^0.5 n(b)^0.35) says: n(a, b)
    users have both, n(a) have a and anything of the target domain, n(b) have b. With 0 for 0.35 what is popular
    goes with everything, with 1 what one user had by chance does. An item a that nobody has who is in the target
    domain too is stood in for by the nearest in text, of its own domain, that somebody has. Only items with a
    title are companions.
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
        """Item numbers [total, width]: the best of domain `target` for the items of each row, 0 where no more go
        with them. Of equal ones the lower number comes first.

        rows, items [n]: row rows[i] has item items[i], of another domain.
        """
        evidence = self._evidence(target)
        start = int(self._domains.starts[target])
        stand_ins = self._standing(target, items)
        known = stand_ins > 0
        asked = sparse.csr_matrix(
            (np.ones(int(known.sum())), (rows[known], stand_ins[known])), (total, evidence.shape[0])
        )
        found = np.zeros((total, width), np.int64)
        for begin in range(0, total, BLOCK):
            scores = (asked[begin : begin + BLOCK] @ evidence).tocoo()
            order = np.lexsort((scores.col, -scores.data, scores.row))
            row, column = scores.row[order].astype(np.int64), scores.col[order]
            place = np.arange(len(row)) - np.searchsorted(row, row, side="left")
            near = place < width
            found[begin + row[near], place[near]] = start + column[near]
        return found

    def _evidence(self, target: int) -> sparse.csr_matrix:
        """[N + 1, items of the domain]; rows of items of other domains."""
        if target not in self._known:
            own = self._domains.range(target)
            of_target = self._bought[:, own.start : own.stop]
            both = np.diff(of_target.indptr) > 0
            of_others = sparse.diags_array(both.astype(float)) @ self._bought
            weights = np.asarray(of_others.sum(0)).ravel()
            weights[own.start : own.stop] = 0
            damped = np.maximum(np.asarray(of_target.sum(0)).ravel(), 1) ** -DAMPING
            damped *= self._titled[own.start : own.stop]
            left = np.divide(1, np.sqrt(weights), out=np.zeros_like(weights), where=weights > 0)
            counts = of_others.T.tocsr() @ of_target
            evidence = sparse.diags_array(left) @ counts @ sparse.diags_array(damped)
            evidence = sparse.csr_matrix(evidence)
            evidence.eliminate_zeros()
            self._known[target] = evidence
        return self._known[target]

    def _standing(self, target: int, items: Numbers) -> Numbers:
        """For each item one that has evidence: itself, the nearest of its domain, or 0 where there is none.

        Looked for in a block of items when one of them is first asked for, and kept.
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
                asked = part[(of_domain == domain) & self._embeddings.has_text[part]]
                if len(pool):
                    known[asked] = pool[(vectors[asked] @ vectors[pool].T).argmax(1)]
        return known[items]
