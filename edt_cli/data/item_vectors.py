"""Vectors that stand in for an embedder's, kept in the folder of their dataset."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save_file

from edt_cli.config import UsageError, UserError
from edt_cli.data.sources import File
from edt_cli.data.vector_files import VectorTable

FILE = "embeddings.safetensors"
"""File of `vectors`, float32 [N + 1, d], and `has_text`, bool [N + 1]; row i is item i, row 0 is padding."""


@dataclass(frozen=True)
class ItemVectors:
    """Vectors that a dataset was given.

    Attributes:
        folder: Folder with FILE.
        label: The files that they came from, and the beginning of their digest.
        dimension: Numbers of a vector.
    """

    folder: Path
    label: str
    dimension: int

    @classmethod
    def of_manifest(cls, folder: Path, manifest: Mapping[str, Any]) -> ItemVectors | None:
        """Return the vectors of a dataset, None if an embedder is to make them."""
        kept = manifest.get("item_vectors")
        return None if kept is None else cls(folder, kept["label"], kept["dimension"])

    @cached_property
    def known(self) -> np.ndarray:
        """Whether each item has a vector, bool [N + 1].

        Raises:
            UserError: If the file is missing or damaged.
        """
        try:
            with safe_open(self.folder / FILE, framework="numpy") as file:
                known: np.ndarray = file.get_tensor("has_text")
                return known
        except (OSError, SafetensorError) as error:
            raise UserError(
                f"{self.folder / FILE} is damaged ({type(error).__name__}); prepare the dataset again"
            ) from None

    def save_part(self, items: np.ndarray, domains: Mapping[str, range], folder: Path) -> dict[str, Any]:
        """Write the vectors of a sample's items, and return what its manifest says of them.

        Args:
            items: Numbers of the items in this dataset, ascending.
            domains: Their numbers in the sample, by domain.
            folder: Folder of the sample.
        """
        part = {name: values[np.append(0, items)] for name, values in load_file(self.folder / FILE).items()}
        save_file(part, folder / FILE)
        counts = {name: int(part["has_text"][span.start : span.stop].sum()) for name, span in domains.items()}
        return {"label": self.label, "dimension": self.dimension, "items": counts}


def matched_vectors(
    tables: Sequence[tuple[File, VectorTable]], ids: pl.Series, domains: Mapping[str, range], tally: dict[str, Any]
) -> np.ndarray:
    """Return unit vectors by item number, float32 [N + 1, d]; zero for padding and items without a vector.

    A vector from a file of the item's domain takes precedence.

    Args:
        tables: Each file with its vectors.
        ids: Ids of all items, in the order of their numbers.
        domains: Numbers of the items of each domain.
        tally: Where what has no counterpart is counted.

    Raises:
        UsageError: If a file is of an unknown domain.
        UserError: If vectors have different lengths, or numbers that are none.
    """
    (first, table), *others = tables
    dimension = table.vectors.shape[1]
    for file, other in others:
        if other.vectors.shape[1] != dimension:
            raise UserError(
                f"{first.path.name} has vectors of {dimension} numbers, {file.path.name} of "
                f"{other.vectors.shape[1]}: all are to be of one embedder"
            )
    vectors = np.zeros((len(ids) + 1, dimension), np.float32)
    unused, zero = 0, 0
    for file, table in sorted(tables, key=lambda one: one[0].domain is not None):
        if file.domain is not None and file.domain not in domains:
            raise UsageError(f"vectors of {file.domain!r}, which is not a domain: {', '.join(domains)}")
        span = range(1, len(ids) + 1) if file.domain is None else domains[file.domain]
        items = pl.DataFrame({"item": ids[span.start - 1 : span.stop - 1], "number": np.array(span, np.int64)})
        found = table.ids.to_frame("item").with_row_index("row").join(items, on="item").sort("row")
        rows = table.vectors[found["row"].to_numpy()].astype(np.float32)
        unused += len(table.ids) - len(found)
        if len(wrong := found["item"].filter(pl.Series(~np.isfinite(rows).all(1)))):
            some = ", ".join(wrong.head(3))
            raise UserError(
                f"{file.path.name}: {len(wrong):,} vectors have numbers that are NaN or infinite, such as of {some}"
            )
        lengths = np.sqrt(np.einsum("nd,nd->n", rows, rows, dtype=np.float64)).astype(np.float32)[:, None]
        zero += int((lengths == 0).sum())
        vectors[found["number"].to_numpy()] = np.divide(rows, lengths, out=rows, where=lengths > 0)
    counts = {
        "vectors of items that are not in the data": unused,
        "vectors of zeros, which count as none": zero,
        "items without a vector": int((~vectors[1:].any(1)).sum()),
    }
    tally |= {what: count for what, count in counts.items() if count}
    return vectors


def save_vectors(
    vectors: np.ndarray, files: Sequence[File], domains: Mapping[str, range], folder: Path
) -> dict[str, Any]:
    """Write the vectors of a dataset, and return what its manifest says of them."""
    known: np.ndarray = (vectors != 0).any(1)
    save_file({"vectors": vectors, "has_text": known}, folder / FILE)
    key = vectors_key(vectors)
    return {
        "label": f"{' and '.join(dict.fromkeys(file.path.name for file in files))}, {key[:8]}",
        "key": key,
        "dimension": vectors.shape[1],
        "items": {name: int(known[span.start : span.stop].sum()) for name, span in domains.items()},
    }


def vectors_key(vectors: np.ndarray) -> str:
    """Return 16 hex digits over the vectors of a dataset."""
    return hashlib.sha256(vectors.data).hexdigest()[:16]
