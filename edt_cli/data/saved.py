"""Datasets on disk: three Parquet tables, and the key that their content has."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from edt_cli.config import DataSettings, UserError, similar
from edt_cli.data.dataset import Dataset, Domains, Sequences
from edt_cli.data.item_vectors import ItemVectors
from edt_cli.workspace.layout import Artefact, digest

FILES = ("interactions.parquet", "users.parquet", "items.parquet")


def save(dataset: Dataset, folder: Path) -> dict[str, Any]:
    """Write the tables of a dataset, and return entries for its manifest."""
    frames = (
        pl.DataFrame(
            {
                # `sequences.users` would stay cached, with eight bytes per element.
                "user": np.repeat(np.arange(len(dataset.sequences), dtype=np.int32), dataset.sequences.lengths),
                "item": dataset.sequences.items.astype(np.int32),
                "time": dataset.times,
            }
        ),
        pl.DataFrame(
            {
                "id": dataset.user_ids,
                "train_length": dataset.train_lengths,
                "valid_position": dataset.target_positions["valid"],
                "test_position": dataset.target_positions["test"],
            }
        ),
        dataset.catalogue,
    )
    for name, frame in zip(FILES, frames, strict=True):
        frame.write_parquet(folder / name)
    return {
        "domains": list(dataset.domains.names),
        "domain_starts": dataset.domains.starts.tolist(),
        "settings": dataset.settings.model_dump(mode="json"),
        "content": {name: _content(frame) for name, frame in zip(FILES, frames, strict=True)},
    }


def data_key(saved: Mapping[str, Any], settings: DataSettings) -> str:
    """Return the key of a dataset from what `save` returned.

    Some settings are left out, since the content shows their effect.
    """
    keyed = settings.model_dump(mode="json", exclude={"repeats", "min_rating"})
    return digest({**saved, "settings": keyed})


def contents(folder: Path) -> dict[str, str]:
    """Return the digests of the tables of a saved dataset, as `save` returned them.

    Raises:
        OSError: If a table cannot be read.
        polars.exceptions.PolarsError: If it is damaged.
    """
    return {name: _content(pl.read_parquet(folder / name, glob=False)) for name in FILES}


def _content(frame: pl.DataFrame) -> str:
    """Return 16 hex digits over the values, independent of the version of the Parquet writer."""
    hashed = hashlib.sha256()
    for column in frame:
        text = column.dtype == pl.String
        plain: Any = json.dumps(column.to_list()).encode() if text else column.to_numpy()
        values = memoryview(plain)
        hashed.update(f"{column.name}:{values.nbytes}:".encode())
        hashed.update(values)
    return hashed.hexdigest()[:16]


def load(artefact: Artefact) -> Dataset:
    """Load a prepared dataset.

    Raises:
        UserError: If it was never prepared, or is damaged.
    """
    if not artefact.complete:
        close = similar(artefact.key, (path.name for path in artefact.path.parent.glob("[!.]*")))
        hint = f"did you mean {' or '.join(close)}? Else " if close else ""
        raise UserError(
            f"there is no dataset {artefact.key!r} in this workspace; {hint}"
            f"make it with: edt data prepare {artefact.key} --raw DIR (or --download)"
        )
    manifest = artefact.manifest()
    try:
        interactions, users, catalogue = (pl.read_parquet(artefact.path / name, glob=False) for name in FILES)
        counts = np.bincount(interactions["user"].to_numpy(), minlength=len(users))
        # Datasets without this setting are older and contain duplicates.
        settings = DataSettings.model_validate({"repeats": "keep", **manifest["settings"]})
        starts = np.array(manifest["domain_starts"])
        return Dataset(
            name=artefact.key,
            key=manifest["data_key"],
            settings=settings,
            domains=Domains(tuple(manifest["domains"]), starts, settings.descriptions),
            user_ids=users["id"].to_list(),
            sequences=Sequences(
                np.concatenate([[0], np.cumsum(counts)]),
                interactions["item"].to_numpy().astype(np.int64),
                interactions["time"].to_numpy(),
            ),
            train_lengths=users["train_length"].to_numpy(),
            target_positions={
                "valid": users["valid_position"].to_numpy(),
                "test": users["test_position"].to_numpy(),
            },
            catalogue=catalogue,
            vectors=ItemVectors.of_manifest(artefact.path, manifest),
            sample_of=manifest.get("sample_of"),
        )
    except (OSError, KeyError, ValueError, pl.exceptions.PolarsError) as error:
        raise UserError(
            f"dataset {artefact.key!r} is damaged ({type(error).__name__}); "
            f"remove it with: edt data remove {artefact.key}, and prepare it again"
        ) from None
