"""Roles of the columns of a file, and their usual names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from edt_cli.config import UsageError, UserError

TEXT_ROLES = ("title", "brand", "category", "description")
ROLES = ("user", "item", "time", "domain", "rating", *TEXT_ROLES)
STAND_INS = {"category": "main_category", "description": "features"}
"""Columns of text that are read where another says nothing, as in Amazon's release of 2023."""

# In order of preference; case, spaces, `_`, `-` and the type suffix of RecBole (`user_id:token`) are ignored.
NAMES: dict[str, tuple[str, ...]] = {
    "user": ("user", "user_id", "userid", "reviewerID", "customer_id", "uid"),
    "item": ("item", "item_id", "itemid", "parent_asin", "asin", "sku", "product_id"),
    "time": ("time", "timestamp", "unixReviewTime", "datetime", "date"),
    "domain": ("domain",),
    "rating": ("rating", "overall", "stars", "star_rating", "score"),
    "title": ("title", "name", "item_name", "product_name"),
    "brand": ("brand", "store"),
    "category": ("category", "categories"),
    "description": ("description",),
    **{name: (name,) for name in STAND_INS.values()},
}


@dataclass(frozen=True)
class Columns:
    """Roles of columns as given by the user; without them, columns are matched by their usual names."""

    names: Mapping[str, str] = field(default_factory=dict)
    """{role: column}, for files with a header."""
    positions: tuple[str, ...] = ()
    """Roles by position, for files without a header."""
    header: bool = True
    passed_over: tuple[str, ...] = ()
    """Usual names that are not matched; `names` may still name these columns."""
    encoding: str = ""
    """Of a delimited file; "" for UTF-8, or UTF-16 where a file begins with its mark."""
    time_format: str = ""
    """How times are written, as `times.check_format` returns it."""


def parse_columns(text: str | None, *, header: bool) -> Columns:
    """Parse `--columns`: `user=customer,item=sku` with a header, `user,item,time` without one.

    Without a header, `-` skips a column.

    Raises:
        UsageError: If a role is unknown or named twice, or the form is wrong.
    """
    parts = [part.strip() for part in text.split(",")] if text else []
    if not header:
        if any("=" in part for part in parts):
            raise UsageError("without a header, --columns lists the roles by position: user,item,time")
        _check_roles([part for part in parts if part != "-"])
        return Columns(positions=tuple(parts), header=False)
    pairs = [part.partition("=") for part in parts]
    if any(not equals or not name for _, equals, name in pairs):
        raise UsageError("--columns takes role=column pairs, such as user=customer,item=sku,time=bought_at")
    _check_roles([role for role, _, _ in pairs])
    return Columns(names={role: name for role, _, name in pairs})


def _check_roles(roles: Sequence[str]) -> None:
    for role in roles:
        if role not in ROLES:
            raise UsageError(f"{role!r} is not a role of a column; the roles are: {', '.join(ROLES)}")
        if roles.count(role) > 1:
            raise UsageError(f"the role {role!r} is named twice")


def item_columns(available: Sequence[str]) -> dict[str, str]:
    """Return the columns that are known as ids of items, best first: {usual name: column}."""
    known = _by_plain_name(available)
    return {name: known[_plain(name)] for name in NAMES["item"] if _plain(name) in known}


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]", "", name.split(":")[0]).lower()


def _by_plain_name(available: Sequence[str]) -> dict[str, str]:
    """Return the columns by their plain names, the first of those that are alike."""
    return {_plain(name): name for name in reversed(available)}


def match(available: Sequence[str], columns: Columns, *, needed: Sequence[str], file: str) -> dict[str, str]:
    """Match roles to the columns of a file.

    Args:
        available: The columns of the file.
        columns: The roles given by the user.
        needed: Roles that must have a column.
        file: Name of the file for messages.

    Returns:
        {role: column} for all roles that the file has.

    Raises:
        UserError: If a needed role has no column.
    """
    if not columns.header:
        matches = {role: name for role, name in zip(columns.positions, available, strict=False) if role != "-"}
    else:
        plain = _by_plain_name(available)
        matches = {}
        for role, names in NAMES.items():
            wanted = columns.names.get(role)
            if wanted is not None and wanted in available:
                matches[role] = wanted
            elif wanted is None:
                usual = (_plain(name) for name in names if name not in columns.passed_over)
                known = [plain[name] for name in usual if name in plain]
                matches |= {role: known[0]} if known else {}
    for role in needed:
        if role not in matches:
            shown = ", ".join(available[:12]) + (", ..." if len(available) > 12 else "")
            wanted = columns.names.get(role)
            problem = f"has no column {wanted!r}" if wanted else f"has no column known as {role}"
            how = f"--columns {role}=NAME" if columns.header else "--columns user,item,time"
            raise UserError(f"{file} {problem} (it has: {shown or 'none'}); name it with {how}")
    return matches
