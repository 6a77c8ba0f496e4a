"""Which column of a file plays which part, and how the files of the field call it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from edt_cli.config import UsageError, UserError

TEXT_ROLES = ("title", "brand", "category", "description")
ROLES = ("user", "item", "time", "domain", *TEXT_ROLES)

# In order of preference, compared without case. RecBole's type suffix (`user_id:token`) does not count.
NAMES: dict[str, tuple[str, ...]] = {
    "user": ("user", "user_id", "userid", "reviewerID", "customer_id", "uid"),
    "item": ("item", "item_id", "itemid", "asin", "parent_asin", "sku", "product_id"),
    "time": ("time", "timestamp", "unixReviewTime", "datetime", "date"),
    "domain": ("domain",),
    "title": ("title", "name", "item_name", "product_name"),
    "brand": ("brand", "store"),
    "category": ("category", "categories"),
    "description": ("description",),
}


@dataclass(frozen=True)
class Columns:
    """What the user said: `names` {role: column}, or for files without a header the roles by position.

    Columns in `passed_over` (lower case) are taken only where `names` says so.
    """

    names: Mapping[str, str] = field(default_factory=dict)
    positions: tuple[str, ...] = ()
    header: bool = True
    passed_over: tuple[str, ...] = ()


def parse_columns(text: str | None, *, header: bool) -> Columns:
    """`user=customer,item=sku` with a header; `user,item,time` (`-` passes one over) without.

    Errors: UsageError for an unknown role, a role named twice, or the wrong form.
    """
    parts = [part.strip() for part in text.split(",")] if text else []
    if not header:
        if any("=" in part for part in parts):
            raise UsageError("without a header, --columns lists what stands where: user,item,time")
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
            raise UsageError(f"{role!r} is no role of a column; there are: {', '.join(ROLES)}")
        if roles.count(role) > 1:
            raise UsageError(f"the role {role!r} is named twice")


def match(available: Sequence[str], columns: Columns, *, needed: Sequence[str], file: str) -> dict[str, str]:
    """{role: column of the file} for every role that the file has.

    Errors: UserError naming the file, its columns and the option, where a needed role has no column.
    """
    if not columns.header:
        found = {role: name for role, name in zip(columns.positions, available, strict=False) if role != "-"}
    else:
        plain = {name.split(":")[0].strip().lower(): name for name in reversed(available)}
        found = {}
        for role, names in NAMES.items():
            asked = columns.names.get(role)
            if asked is not None and asked in available:
                found[role] = asked
            elif asked is None:
                usual = (name.lower() for name in names if name.lower() not in columns.passed_over)
                known = [plain[name] for name in usual if name in plain]
                found |= {role: known[0]} if known else {}
    for role in needed:
        if role not in found:
            shown = ", ".join(available[:12]) + (", ..." if len(available) > 12 else "")
            asked = columns.names.get(role)
            problem = f"has no column {asked!r}" if asked else f"has no column known as {role}"
            how = f"--columns {role}=NAME" if columns.header else "--columns user,item,time"
            raise UserError(f"{file} {problem} (it has: {shown or 'none'}); name it with {how}")
    return found
