"""Files of item vectors that a user hands in: Parquet, .npy and safetensors. Nothing in them is unpickled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from safetensors import SafetensorError, safe_open

from edt_cli.config import UserError
from edt_cli.data.columns import Columns, match
from edt_cli.data.formats import decoded, normal_id, unreadable

NUMBERS = "fiu"
"""Kinds of numpy types that are numbers."""


@dataclass(frozen=True)
class VectorTable:
    """Vectors as a file has them.

    Attributes:
        ids: Id of each row, each once.
        vectors: Numbers of any type [n, d], on disk where the format allows it.
    """

    ids: pl.Series
    vectors: np.ndarray


def vector_files(path: Path) -> list[Path]:
    """Return the file of vectors, and the file of their ids if its format has none."""
    beside = [path.with_suffix(".ids.txt")] if path.suffix.lower() in (".npy", ".safetensors") else []
    return [path, *beside]


def read_vectors(path: Path, columns: Columns) -> VectorTable:
    """Read a file of item vectors.

    Parquet has a column of ids, and one of lists or several of floats. An array of .npy or .safetensors has its ids
    in NAME.ids.txt beside it, one a line.

    Args:
        path: The file.
        columns: Which column of Parquet has the ids; without, by its usual name.

    Raises:
        UserError: If the file cannot be read, or is no vector for each of distinct ids.
    """
    readers: dict[str, Callable[[Path], np.ndarray]] = {".npy": _npy, ".safetensors": _safetensors}
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        names, vectors = _parquet(path, columns)
    elif suffix in readers:
        vectors = readers[suffix](path)
        names = _ids(path.with_suffix(".ids.txt"), path.name)
    else:
        raise UserError(f"{path.name}: item vectors are read from .parquet, .npy or .safetensors")
    if vectors.ndim != 2 or vectors.dtype.kind not in NUMBERS:
        what = f"an array of {vectors.dtype} of shape {vectors.shape}"
        raise UserError(f"{path.name} holds {what}: item vectors are numbers, one row an item")
    if not vectors.size:
        raise UserError(f"{path.name} has no vectors: its array is {vectors.shape[0]} by {vectors.shape[1]}")
    if len(names) != len(vectors):
        raise UserError(f"{path.name} has {len(vectors):,} vectors, but {len(names):,} ids")
    ids = pl.Series("item", [normal_id(name) for name in names], pl.String)
    if unnamed := int((ids == "").sum()):
        raise UserError(f"{path.name}: {unnamed:,} vectors have an empty id")
    if repeated := ids.filter(ids.is_duplicated()).unique(maintain_order=True).to_list():
        raise UserError(f"{path.name} has several vectors for {len(repeated):,} ids, such as {_some(repeated)}")
    return VectorTable(ids, vectors)


def _parquet(path: Path, columns: Columns) -> tuple[list[str], np.ndarray]:
    try:
        scanned = pl.scan_parquet(path, glob=False)
        schema = scanned.collect_schema()
        item = match(list(schema), columns, needed=("item",), file=path.name)["item"]
        lists = [name for name, kind in schema.items() if isinstance(kind, pl.List | pl.Array)]
        floats = [name for name, kind in schema.items() if kind.is_float() and name != item]
        if len(lists) > 1:
            raise UserError(f"{path.name} has several columns of lists ({', '.join(lists)}): leave one")
        if not lists and not floats:
            raise UserError(f"{path.name} has no vectors: neither a column of lists nor columns of floats")
        # A row without a vector is an item without one.
        vectors = pl.col(lists or floats)
        frame = scanned.select(item, vectors).filter(pl.any_horizontal(vectors.is_not_null())).collect()
        names = frame[item].cast(pl.String).fill_null("").to_list()
        return names, _stacked(frame[lists[0]], path.name) if lists else frame.select(floats).to_numpy()
    except OSError as error:
        raise unreadable(path, error) from None
    except pl.exceptions.PolarsError as error:
        raise UserError(f"cannot read {path.name}: {str(error).splitlines()[0]}") from None


def _stacked(lists: pl.Series, name: str) -> np.ndarray:
    """Return a column of lists of one length as rows."""
    lists = lists.cast(pl.List(pl.Float32))
    lengths = lists.list.len().unique().sort().to_list()
    if len(lengths) > 1:
        raise UserError(f"{name} has vectors of different lengths, such as {lengths[0]} and {lengths[-1]} numbers")
    return lists.explode().to_numpy().reshape(len(lists), -1) if lengths != [0] else np.zeros((len(lists), 0))


def _npy(path: Path) -> np.ndarray:
    try:
        # Mapped, not loaded: only rows of the data's items are read, and a false shape claims no memory.
        return np.lib.format.open_memmap(path, mode="r")
    except OSError as error:
        raise unreadable(path, error) from None
    except (ValueError, TypeError, EOFError, OverflowError, MemoryError, RecursionError) as error:
        if "Python objects" in str(error):
            raise UserError(
                f"{path.name} holds Python objects, which are not read: save an array of numbers"
            ) from None
        raise UserError(f"{path.name} is no .npy file, or is damaged: save it again with numpy.save") from None


def _safetensors(path: Path) -> np.ndarray:
    try:
        with safe_open(path, framework="numpy") as file:
            shapes = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            names = [name for name, part in shapes.items() if len(part.get_shape()) == 2]
            if len(names) != 1:
                has = ", ".join(shapes) or "none"
                raise UserError(f"{path.name}: item vectors are the only tensor of two dimensions (it has: {has})")
            kind = shapes[names[0]].get_dtype()
            if kind not in ("F16", "F32", "F64"):
                raise UserError(f"{path.name} has numbers of type {kind}: save them as float32 or float16")
            vectors: np.ndarray = file.get_tensor(names[0])
            return vectors
    except OSError as error:
        raise unreadable(path, error) from None
    except SafetensorError:
        raise UserError(f"{path.name} is no safetensors file, or is damaged: save it again") from None


def _ids(path: Path, of: str) -> list[str]:
    try:
        return decoded(path).rstrip().splitlines()
    except FileNotFoundError:
        raise UserError(f"{of} has no ids: put them into {path.name} beside it, one a line, in its order") from None
    except OSError as error:
        raise unreadable(path, error) from None


def _some(ids: list[str]) -> str:
    return ", ".join(ids[:3])
