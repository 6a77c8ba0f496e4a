"""What comes with a request: histories of new users, items to leave out, new items. Read as datasets are."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from edt_cli.config import UserError
from edt_cli.data.columns import Columns
from edt_cli.data.dataset import TEXT_FIELDS
from edt_cli.data.formats import decoded, has_suffix, normal_id
from edt_cli.data.options import maybe_named
from edt_cli.data.readers import Reader
from edt_cli.workspace.events import Events

NEW_USER = "new user"
"""Name of the user of a file of items alone."""


def read_histories(path: Path, columns: Columns | None = None) -> dict[str, list[str]]:
    """Read the item ids of each user, oldest first: by time if the file has one, else in the order of its rows.

    A user with a row, but without an item, has none.

    Args:
        path: A file as `edt data prepare` reads it; without a column of users, all items are one user's.
        columns: The roles of its columns. Default: by their usual names.

    Raises:
        UserError: If the file cannot be read, has no column of items, or no row with one.
    """
    rows = _rows(path, columns or Columns(), ("user", "item", "time"))
    rows = rows.with_columns(pl.col("user").replace("", None)).filter(
        pl.any_horizontal(pl.col("user", "item").is_not_null())
    )
    if rows.is_empty():
        raise UserError(f"{path} has no item")
    rows = rows.with_columns(pl.col("user").fill_null(NEW_USER))
    if rows["time"].null_count() < len(rows):
        rows = rows.sort("time", maintain_order=True)
    by_user = rows.group_by("user", maintain_order=True).agg(pl.col("item").drop_nulls())
    return dict(zip(by_user["user"].to_list(), by_user["item"].to_list(), strict=True))


def read_items(path: Path) -> list[str]:
    """Read item ids, such as those out of stock.

    The file has a column of items, as `edt data prepare` reads it, or ids alone, on lines or between separators.

    Raises:
        UserError: If the file cannot be read or has no id.
    """
    if has_suffix(path) and not path.name.lower().endswith(".txt"):
        ids = _rows(path, Columns(), ("item",))["item"].drop_nulls().to_list()
    else:
        try:
            text = decoded(path)
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror or error}") from None
        lines = text.splitlines()
        ids = [normal_id(cell.strip("\"' ")) for line in lines for cell in re.split(r"[,;|\t]", line)]
    ids = list(dict.fromkeys(name for name in ids if name))
    if not ids:
        raise UserError(f"{path} has no id of an item")
    return ids


def read_new_items(files: Sequence[str]) -> pl.DataFrame:
    """Read the texts of items that a dataset does not have.

    Args:
        files: FILE or DOMAIN=FILE each, as `edt data prepare --items` takes them; FILE has a column of domains.

    Returns:
        item, domain (a name) and TEXT_FIELDS, one row per item.

    Raises:
        UserError: If a file cannot be read, or the domain of an item is not said.
    """
    parts = []
    for domain, path in map(maybe_named, files):
        with tempfile.TemporaryDirectory(prefix=".edt-") as scratch:
            rows = Reader(Path(scratch), Events()).items(path, Columns())[0]
        if domain is not None:
            rows = rows.with_columns(domain=pl.lit(domain))
        if rows["domain"].null_count():
            raise UserError(f"{path.name} does not say of which domain its items are: name it as DOMAIN={path}")
        parts.append(rows.select("item", "domain", *TEXT_FIELDS))
    return pl.concat(parts).unique("item", keep="first", maintain_order=True)


def _rows(path: Path, columns: Columns, roles: tuple[str, ...]) -> pl.DataFrame:
    with tempfile.TemporaryDirectory(prefix=".edt-") as scratch:
        return Reader(Path(scratch), Events()).records(path, columns, roles)
