"""Files of a dataset: a RecBole folder, or other files of the user."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from edt_cli.config import UsageError, UserError
from edt_cli.data.columns import Columns
from edt_cli.data.formats import SUFFIXES, bare_name, has_suffix

MAX_DOMAINS = 16
PARTS = {"train": 0, "training": 0, "valid": 1, "validation": 1, "val": 1, "dev": 1, "test": 2, "testing": 2}
"""Parts of a split by the names that files of them have."""


@dataclass(frozen=True)
class File:
    """A file of interactions or items."""

    path: Path
    domain: str | None = None
    """Name of its domain; None if a column or the files of items determine the domains."""
    part: int | None = None
    """0 train, 1 validation or 2 test, for data that is already split; else None."""


@dataclass(frozen=True)
class Sources:
    """All files of a dataset, its domains, and the roles of the columns."""

    interactions: tuple[File, ...]
    items: tuple[File, ...] = ()
    domains: tuple[str, ...] | None = None
    """Names of the domains in order; None if they are to be taken from the domain column."""
    columns: Columns = field(default_factory=Columns)
    item_columns: Columns = field(default_factory=Columns)
    vectors: tuple[File, ...] = ()
    """Files of item vectors."""
    id_map: Path | None = None
    """Ids behind the numbers in files of the released code's layout, which are to be converted first; else None."""
    release: int | None = None
    """Year of the Amazon release; None for other files."""


def recbole_folder(folder: Path) -> Sources:
    """Make sources of a folder's .inter files, one per domain or, as RecBole's benchmark files, one per part.

    The .item file of the same name is included if there is one.

    Raises:
        UsageError: If parts of a split are missing, or stand beside files that are none.
    """
    paths = inter_files(folder)
    parts = [(path, *part_of(path)) for path in paths]
    if not is_split(folder):
        if part := next((path.name for path, _, part in parts if part is not None), None):
            raise UsageError(
                f"{folder} holds {part}, a part of a split, and other .inter files: leave out the ones or the other"
            )
        return files_per_domain({bare_name(path): [path] for path in paths}, ())
    stems = tuple(dict.fromkeys(stem for _, stem, _ in parts))
    for stem in stems:
        if not {0, 2} <= {part for _, other, part in parts if other == stem}:
            raise UsageError(f"{folder} lacks the training or the test part of {stem or 'its split'}")
    names = dict.fromkeys(stems) if len(stems) == 1 else dict(zip(stems, checked_domains(stems), strict=True))
    items = [(stem, path) for stem in stems if (path := folder / f"{stem}.item").is_file()]
    return Sources(
        interactions=tuple(File(path, names[stem], part) for path, stem, part in parts),
        items=tuple(File(path, names[stem]) for stem, path in items),
        domains=checked_domains(stems) if len(stems) > 1 else None,
    )


def inter_files(folder: Path) -> list[Path]:
    """Return RecBole's files of interactions in a folder."""
    return sorted(path for path in folder.glob("*") if has_suffix(path, (".inter",)))


def is_split(folder: Path) -> bool:
    """Check whether the .inter files of a folder are the parts of a split."""
    paths = inter_files(folder)
    return bool(paths) and all(part_of(path)[1] is not None for path in paths)


def part_of(path: Path) -> tuple[str, int | None]:
    """Tell a part of a split by a file's name: `toys.valid.csv` is part 1 of toys.

    Returns:
        The name without its part, and 0 for training, 1 for validation, 2 for test or None.
    """
    name = bare_name(path)
    match = re.fullmatch(r"(?:(.*)[._-])?([a-z]+)", name, re.IGNORECASE)
    part = PARTS.get(match[2].lower()) if match else None
    return (name, None) if match is None or part is None else (match[1] or "", part)


def refuse_parts(name: str, paths: Sequence[Path]) -> None:
    """Refuse files as domains that are called as parts of a split.

    Args:
        name: The dataset, for the command that is right.
        paths: Files whose names are to be names of domains.

    Raises:
        UsageError: If there are any; the message shows the command.
    """
    parts = sorted((part, stem, path) for path in paths for stem, part in [part_of(path)] if part is not None)
    if not parts:
        return
    if len({stem for _, stem, _ in parts}) > 1:
        how = "joined and split anew"
        files = [f"--domain-file {stem or 'NAME'}={path}" for _, stem, path in parts]
    else:
        how = "as one dataset with a column `domain`"
        files = [f"{('--train', '--valid', '--test')[part]} {path}" for part, _, path in parts]
    raise UsageError(
        f"{', '.join(path.name for _, _, path in parts)}: by their names parts of a split, not domains; {how}: "
        f"edt data prepare {name} {' '.join(files)}; else name each domain: --domain-file DOMAIN=FILE"
    )


def data_files(path: Path) -> list[Path]:
    """Return the files of a folder, in the order of their names, or the file itself.

    Raises:
        UserError: If a folder has no file that can be read.
    """
    if not path.is_dir():
        return [path]
    files = [file for file in sorted(path.iterdir()) if has_suffix(file) and file.name[0] not in "._"]
    if not files:
        raise UserError(f"{path} holds no file that can be read ({', '.join(SUFFIXES)}, with or without .gz)")
    return files


def files_per_domain(
    interactions: Mapping[str, Sequence[Path]], items: Sequence[tuple[str | None, Path]]
) -> Sources:
    """Make sources of the files of each domain.

    The .item file beside a RecBole .inter file is included.

    Args:
        interactions: Files by domain.
        items: Files of items, as `with_items` takes them.

    Raises:
        UsageError: If the name of a domain is invalid or, in `items`, unknown.
    """
    domains = checked_domains(interactions)
    files = [File(path, domain) for domain, paths in interactions.items() for path in paths]
    beside = [
        File(path, file.domain)
        for file in files
        if file.path.suffix == ".inter" and (path := file.path.with_suffix(".item")).is_file()
    ]
    return with_items(Sources(interactions=tuple(files), items=tuple(beside), domains=domains), items)


def with_items(sources: Sources, items: Sequence[tuple[str | None, Path]]) -> Sources:
    """Add files of items: (domain, file) pairs, the domain None if a column determines it.

    Raises:
        UsageError: If one is of an unknown domain.
    """
    domains = sources.domains or ()
    if unknown := [domain for domain, _ in items if domain is not None and domain not in domains]:
        raise UsageError(
            f"items of {unknown[0]!r}, which is not a domain of the interactions: {', '.join(domains)}"
        )
    return replace(sources, items=(*sources.items, *(File(path, domain) for domain, path in items)))


def checked_domains(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names of domains after checking them.

    Raises:
        UsageError: If there are fewer than two or too many, a name is repeated, or one has characters other than
            letters, digits, spaces and `_.&-`.
    """
    domains = tuple(names)
    for name in domains:
        if not re.fullmatch(r"\w[\w .&-]{0,39}", name):
            raise UsageError(
                f"{name!r} is not a valid name for a domain: use letters, digits and dashes (--domains)"
            )
    if len({name.casefold() for name in domains}) < len(domains):
        raise UsageError(
            f"two domains have the same name, but perhaps for capitals: {', '.join(domains)}; name them with "
            "--domains food,kitchen, or mend the column"
        )
    if len(domains) < 2:
        raise UsageError("cross-domain data needs two domains or more")
    if len(domains) > MAX_DOMAINS:
        raise UsageError(f"{len(domains)} domains are too many ({MAX_DOMAINS} at most); choose with --domains")
    return domains


def renamed(sources: Sources, names: Sequence[str]) -> Sources:
    """Apply `--domains`: rename the domains of files by position, or select those of a domain column.

    Raises:
        UsageError: If a name is invalid, or their number is not that of the files' domains.
    """
    new = checked_domains(names)
    if sources.domains is None:
        return replace(sources, domains=new)
    if len(new) != len(sources.domains):
        raise UsageError(f"--domains names {len(new)} domains, but the files have {len(sources.domains)}")
    name: Mapping[str | None, str | None] = {None: None, **dict(zip(sources.domains, new, strict=True))}
    interactions, items, vectors = (
        tuple(File(file.path, name[file.domain], file.part) for file in files)
        for files in (sources.interactions, sources.items, sources.vectors)
    )
    return replace(sources, interactions=interactions, items=items, vectors=vectors, domains=new)


def require_folder(folder: Path) -> None:
    """Raise UserError if there is no such folder."""
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}")
