"""Result of the augmenter: augmented sequences, pseudo-items, and the verdict on each generated item."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from edt_cli.config import UserError
from edt_cli.data.dataset import TEXT_FIELDS, Domains, Sequences, TrainingView
from edt_cli.llm.embeddings import ItemEmbeddings
from edt_cli.workspace.layout import read_json, write_json

ARRAYS = "sequences.safetensors"
SUMMARY = "summary.json"

PSEUDO = {"number": pl.Int64, "domain": pl.Int64, **dict.fromkeys(TEXT_FIELDS, pl.String)}
GENERATED = {
    "user": pl.Int64,
    "source": pl.Int64,
    "target": pl.Int64,
    "item": pl.Int64,
    "title": pl.String,
    "anchor": pl.Int64,
    "score_source": pl.Float64,
    "score_target": pl.Float64,
    "rank": pl.Int64,
    "tau": pl.Float64,
    "kept": pl.Boolean,
    "reason": pl.String,
}
SOURCES = {"user": pl.Int64, "position": pl.Int64, "item": pl.Int64}
FAILURES = {"user": pl.Int64, "source": pl.Int64, "target": pl.Int64, "reason": pl.String, "detail": pl.String}
FRAMES: dict[str, dict[str, Any]] = {
    "pseudo": PSEUDO,
    "generated": GENERATED,
    "sources": SOURCES,
    "failures": FAILURES,
}


def empty_frames(schemas: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """Return an empty table for each schema."""
    return {name: pl.DataFrame(schema=schema) for name, schema in schemas.items()}


def read_frames(folder: Path, names: Iterable[str]) -> dict[str, Any]:
    """Read the Parquet tables of those names from a folder."""
    return {name: pl.read_parquet(folder / f"{name}.parquet", glob=False) for name in names}


@contextmanager
def undamaged(folder: Path) -> Iterator[None]:
    """Turn errors of reading an artefact's files into a UserError."""
    try:
        yield
    except (OSError, SafetensorError, KeyError, pl.exceptions.PolarsError) as error:
        raise UserError(
            f"{folder} is damaged ({type(error).__name__}); remove this folder and run the command again"
        ) from None


@dataclass(frozen=True)
class Augmentation:
    """Augmented sequences, and the record of how they were made.

    Attributes:
        sequences: S_aug, the training prefixes with the inserted items.
        inserted: Bool mask over the items of `sequences`, true for the inserted ones.
        pseudo: One row per pseudo-item, numbered N + 1 .. N + P: number, domain, title, brand, category,
            description.
        pseudo_vectors: Unit rows of the pseudo-items, float32 [P, d_L].
        generated: One row per generated item: user, source and target domain, item (its number; null for a
            generated text that was not kept), title, anchor (position in the training prefix), score_source,
            score_target, rank and the tau that applied (null if it was rejected before the filter), kept, and
            reason: "kept", or why
            not: "rank", "tau", "rank and tau", "repeated", "had already", "no title", "more than asked", "no
                match", "other domain".
        sources: User, position and item of every training interaction that is in a prompt.
        failures: User, source, target, reason and detail of each question without a usable answer.
        summary: Counts, tau and cost, as JSON values.
    """

    sequences: Sequences
    inserted: np.ndarray
    pseudo: pl.DataFrame
    pseudo_vectors: np.ndarray
    generated: pl.DataFrame
    sources: pl.DataFrame
    failures: pl.DataFrame
    summary: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def none(cls, view: TrainingView) -> Augmentation:
        """Return the training prefixes as they are (`w/o Aug.`)."""
        return cls(
            sequences=view.prefixes,
            inserted=np.zeros(len(view.prefixes.items), bool),
            pseudo_vectors=np.zeros((0, 0), np.float32),
            **empty_frames(FRAMES),
        )

    def timed(self, prefixes: Sequences) -> Sequences:
        """Return `sequences` with times.

        An inserted item has the time of the original item before it, or else of its row's first item.

        Args:
            prefixes: The training prefixes that were augmented.
        """
        if prefixes.times is None:
            return self.sequences
        before = np.cumsum(~self.inserted) - 1
        indices = np.maximum(before, prefixes.offsets[self.sequences.users])
        return replace(self.sequences, times=prefixes.times[indices])

    def vectors(self, embeddings: ItemEmbeddings) -> np.ndarray:
        """Return the vectors of catalogue items and pseudo-items by number, float32 [N + 1 + P, d_L]."""
        if not len(self.pseudo_vectors):
            return embeddings.vectors
        return np.concatenate([embeddings.vectors, self.pseudo_vectors])

    def domain_of(self, domains: Domains) -> np.ndarray:
        """Return the domain of each item and pseudo-item by number, int64 [N + 1 + P]; -1 for padding."""
        catalogue = domains.of(np.arange(1, domains.items + 1))
        return np.concatenate([[-1], catalogue, self.pseudo["domain"].to_numpy()])

    def save(self, folder: Path) -> None:
        """Write the files of the artefact into a folder."""
        save_file(
            {
                "offsets": self.sequences.offsets,
                "items": self.sequences.items,
                "inserted": self.inserted,
                "pseudo_vectors": self.pseudo_vectors,
            },
            folder / ARRAYS,
        )
        for name in FRAMES:
            getattr(self, name).write_parquet(folder / f"{name}.parquet")
        write_json(folder / SUMMARY, self.summary)

    @classmethod
    def load(cls, folder: Path) -> Augmentation:
        """Load the artefact of a folder.

        Raises:
            UserError: If it is damaged.
        """
        with undamaged(folder):
            arrays = load_file(folder / ARRAYS)
            frames, summary = read_frames(folder, FRAMES), read_json(folder / SUMMARY)
            if "tau" not in frames["generated"].columns:  # made by an older version, with one tau for all users
                tau = pl.lit(summary.get("tau"), pl.Float64).alias("tau")
                frames["generated"] = frames["generated"].with_columns(tau).select(GENERATED.keys())
            return cls(
                sequences=Sequences(arrays["offsets"], arrays["items"]),
                inserted=arrays["inserted"],
                pseudo_vectors=arrays["pseudo_vectors"],
                **frames,
                summary=summary,
            )
