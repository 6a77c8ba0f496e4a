"""User profiles: texts, vectors, and the record of how they were made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from safetensors.numpy import load_file, save_file

from edt_cli.augmentation.artefact import SOURCES, empty_frames, read_frames, undamaged
from edt_cli.workspace.layout import read_json, write_json

TEXTS = "profiles.parquet"
VECTORS = "profiles.safetensors"
SUMMARY = "summary.json"

SUMMARIES = {"user": pl.Int64, "domain": pl.Int64, "cluster": pl.Int64, "summary": pl.String}
INSTRUCTIONS = {"degree": pl.Int64, "dominant": pl.Int64, "instruction": pl.String}
FAILURES = {"user": pl.Int64, "step": pl.String, "reason": pl.String, "detail": pl.String}
FRAMES: dict[str, dict[str, Any]] = {
    "summaries": SUMMARIES,
    "instructions": INSTRUCTIONS,
    "sources": SOURCES,
    "failures": FAILURES,
}


@dataclass(frozen=True)
class Profiles:
    """User profiles and the record of how they were made.

    Attributes:
        texts: Profile of each user [U]; None if there is none.
        vectors: Unit rows float32 [U, d_L]; zero if there is no profile.
        summaries: User, domain, cluster, summary.
        instructions: Degree, dominant domain (null where the instruction names none), reformed instruction.
        sources: User, position and item of every training interaction that is in a prompt.
        failures: User (null for a reform, which users share), step, reason, detail.
        summary: Counts and cost, as JSON values.
    """

    texts: Sequence[str | None]
    vectors: np.ndarray
    summaries: pl.DataFrame
    instructions: pl.DataFrame
    sources: pl.DataFrame
    failures: pl.DataFrame
    summary: dict[str, Any] = field(default_factory=dict)

    @property
    def has_profile(self) -> np.ndarray:
        """Whether each user has a profile, bool [U]."""
        return np.array([text is not None for text in self.texts], bool)

    @classmethod
    def none(cls, users: int, dimension: int) -> Profiles:
        """Return empty profiles (`w/o Profiling`)."""
        return cls([None] * users, np.zeros((users, dimension), np.float32), **empty_frames(FRAMES))

    def save(self, folder: Path) -> None:
        """Write the files of the artefact into a folder."""
        pl.DataFrame({"text": self.texts}, schema={"text": pl.String}).write_parquet(folder / TEXTS)
        save_file({"vectors": self.vectors}, folder / VECTORS)
        for name in FRAMES:
            getattr(self, name).write_parquet(folder / f"{name}.parquet")
        write_json(folder / SUMMARY, self.summary)

    @classmethod
    def load(cls, folder: Path) -> Profiles:
        """Load the artefact of a folder.

        Raises:
            UserError: If it is damaged.
        """
        with undamaged(folder):
            return cls(
                texts=pl.read_parquet(folder / TEXTS, glob=False)["text"].to_list(),
                vectors=load_file(folder / VECTORS)["vectors"],
                **read_frames(folder, FRAMES),
                summary=read_json(folder / SUMMARY),
            )
