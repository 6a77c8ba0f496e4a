"""Lexical vectors of texts: TF-IDF of words and characters, reduced by an SVD fitted to the catalogue."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from edt_backends.base import BackendError, TextMap, Vectors

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix
    from sklearn.feature_extraction.text import TfidfVectorizer

COMPONENTS = 640
GRAMS: tuple[dict[str, Any], ...] = (
    {"analyzer": "word", "ngram_range": (1, 2), "max_features": 10_000},
    {"analyzer": "char_wb", "ngram_range": (3, 5), "max_features": 30_000},
)
COMMON = 2
"""Texts that must contain an n-gram: one that occurs in a single text says nothing about similarity."""
SAMPLE = 50_000
"""Most texts that the map is fitted to; more would change it little."""
SMALLEST = 0.01
"""Axes whose singular value is below this share of the largest are left out: rounding errors dominate them."""
GRAM_FILE, WEIGHT_FILE = "lexical.json", "lexical.safetensors"


@dataclass(frozen=True)
class LexicalMap(TextMap):
    """Map of a text to x V S^-1/2, scaled to length one.

    x is the text's TF-IDF, [words; characters], each part of length one; U S V^T is the truncated SVD of x over the
    texts that the map was fitted to. A text without a known n-gram gets a zero row.

    Attributes:
        grams: N-grams of words and of characters.
        idf: float32 [G], in the order of `grams`.
        components: V S^-1/2, float16 [G, K], whose rounding is part of the map. K is at most `COMPONENTS`, less if
            the texts have a smaller rank; vectors are then padded with zeros.
    """

    grams: tuple[list[str], ...]
    idf: np.ndarray
    components: np.ndarray

    dimension = COMPONENTS

    @classmethod
    def identity(cls) -> dict[str, Any]:
        return {"lexical": 1}

    @classmethod
    def fit(cls, texts: Sequence[str]) -> Self:
        import scipy.sparse as sparse
        from sklearn.utils.extmath import randomized_svd

        known = sorted(set(texts))
        if len(known) > SAMPLE:
            chosen = np.random.default_rng(0).choice(len(known), SAMPLE, replace=False)
            known = [known[row] for row in np.sort(chosen)]
        grams: list[list[str]] = []
        idf, blocks = [], []
        for kind in GRAMS:
            vectorizer = _vectorizer(kind, min_df=COMMON)
            try:
                blocks.append(vectorizer.fit_transform(known))
            except ValueError:  # No two texts share a gram.
                grams.append([])
                continue
            grams.append(vectorizer.get_feature_names_out().tolist())
            idf.append(vectorizer.idf_)
        if not blocks:
            return cls(tuple(grams), np.zeros(0, np.float32), np.zeros((0, 0), np.float16))
        x = sparse.hstack(blocks, format="csr")
        # The signs are fixed, and the largest entry is scaled to 1, as float16 has few digits for small numbers.
        _, values, axes = randomized_svd(
            x, min(COMPONENTS, *x.shape), n_iter=2, power_iteration_normalizer="LU", random_state=0
        )
        kept = values > SMALLEST * values[0]
        components = axes[kept].T / np.sqrt(values[kept])
        components /= np.abs(components).max()
        return cls(tuple(grams), np.concatenate(idf).astype(np.float32), components.astype(np.float16))

    @classmethod
    def load(cls, folder: Path) -> Self:
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            grams = tuple(json.loads((folder / GRAM_FILE).read_text("utf-8")))
            tensors = load_file(folder / WEIGHT_FILE)
            fitted = cls(grams, tensors["idf"], tensors["components"])
            count = sum(map(len, grams))
            if len(grams) != len(GRAMS) or fitted.idf.shape != (count,):
                raise ValueError
            if fitted.components.shape != (count, min(COMPONENTS, fitted.components.shape[-1])):
                raise ValueError
            if not (np.isfinite(fitted.idf).all() and np.isfinite(fitted.components).all()):
                raise ValueError
            if any(len(set(of_kind)) != len(of_kind) for of_kind in grams):
                raise ValueError
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise BackendError(
                f"the lexical map in {folder} is damaged ({type(error).__name__}); "
                "remove the folder and run the command again"
            ) from None
        return fitted

    def save(self, folder: Path) -> None:
        from safetensors.numpy import save_file

        (folder / GRAM_FILE).write_text(json.dumps(self.grams), "utf-8")
        save_file({"idf": self.idf, "components": np.ascontiguousarray(self.components)}, folder / WEIGHT_FILE)

    def vectors(self, texts: Sequence[str]) -> Vectors:
        out = np.zeros((len(texts), COMPONENTS), np.float32)
        if len(texts) and self._vectorizers:
            projected = self._tfidf(texts) @ self._weight
            length = np.linalg.norm(projected, axis=1, keepdims=True)
            out[:, : projected.shape[1]] = np.divide(
                projected, length, out=np.zeros_like(projected), where=length > 0
            )
        return out

    def _tfidf(self, texts: Sequence[str]) -> csr_matrix:
        """Return the TF-IDF [n, G], a block for each kind of n-gram."""
        import scipy.sparse as sparse

        return sparse.hstack([vectorizer.transform(texts) for vectorizer in self._vectorizers], format="csr")

    @cached_property
    def _weight(self) -> np.ndarray:
        return self.components.astype(np.float32)

    @cached_property
    def _vectorizers(self) -> list[TfidfVectorizer]:
        """Vectorizers, one for each kind that has n-grams."""
        made, start = [], 0
        for kind, grams in zip(GRAMS, self.grams, strict=True):
            if grams:
                vectorizer = _vectorizer(kind, vocabulary=grams)
                vectorizer.idf_ = self.idf[start : start + len(grams)]
                made.append(vectorizer)
            start += len(grams)
        return made


def _vectorizer(kind: dict[str, Any], **options: Any) -> TfidfVectorizer:
    # Not imported at the top: it takes half a second and 60 MB.
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(**kind, **options, sublinear_tf=True, dtype=np.float32)
