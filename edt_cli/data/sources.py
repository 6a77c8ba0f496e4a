"""Files of a dataset: a pair of the paper, a RecBole folder, or other files of the user."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from edt_cli.config import UsageError, UserError
from edt_cli.data.columns import Columns

# Names of the domains and their categories in the Amazon release, in the order of section 4.1.1.
PAIRS: dict[str, tuple[tuple[str, str], tuple[str, str]]] = {
    "cloth-sport": (("cloth", "Clothing_Shoes_and_Jewelry"), ("sport", "Sports_and_Outdoors")),
    "elec-phone": (("elec", "Electronics"), ("phone", "Cell_Phones_and_Accessories")),
    "food-kitchen": (("food", "Grocery_and_Gourmet_Food"), ("kitchen", "Home_and_Kitchen")),
}
# Millions of reviews in the 2018 release, according to its page.
REVIEWS_M = {"cloth-sport": 45, "elec-phone": 31, "food-kitchen": 27}

MAX_DOMAINS = 16


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


def amazon_pair(name: str, folder: Path) -> Sources:
    """Find the files of a pair in `folder`, named as in the Amazon release of 2018 or 2014.

    Metadata may be missing.

    Raises:
        UserError: If a file of reviews is missing.
    """
    require_folder(folder)
    interactions, items = [], []
    for domain, category in PAIRS[name]:
        stems = (category, f"reviews_{category}", f"{category}_5", f"reviews_{category}_5")
        reviews = _first_existing(folder, stems)
        if reviews is None:
            raise UserError(f"{folder} holds no {category}.json.gz (nor .json); {how_to_get(name)}")
        interactions.append(File(reviews, domain))
        metadata = _first_existing(folder, (f"meta_{category}",))
        if metadata is not None:
            items.append(File(metadata, domain))
    return Sources(tuple(interactions), tuple(items), tuple(domain for domain, _ in PAIRS[name]))


def how_to_get(name: str) -> str:
    """Say in half a sentence how to get the files of a pair."""
    categories = " and ".join(category for _, category in PAIRS[name])
    return (
        f"edt data prepare {name} --download fetches them ({REVIEWS_M[name]} million reviews, several gigabytes); "
        f"--raw DIR reads {categories} (NAME.json.gz, meta_NAME.json.gz) from a folder"
    )


def recbole_folder(folder: Path) -> Sources:
    """Find the .inter files of a folder, one per domain.

    The .item file of the same name is included if there is one.

    Raises:
        UserError: If there is no .inter file.
    """
    require_folder(folder)
    paths = sorted(folder.glob("*.inter"))
    if not paths:
        raise UserError(
            f"{folder} holds no .inter file; name your files with --domain-file FILE, once for each domain"
        )
    return files_per_domain([(path.stem, path) for path in paths], [])


def files_per_domain(
    interactions: Sequence[tuple[str, Path]],
    items: Sequence[tuple[str | None, Path]],
    *,
    columns: Columns | None = None,
    item_columns: Columns | None = None,
) -> Sources:
    """Make sources of one file of interactions per domain.

    The .item file beside a RecBole .inter file is included.

    Args:
        interactions: (domain, file) pairs.
        items: (domain, file) pairs; the domain is None if a column determines it.
        columns: Columns of the interactions.
        item_columns: Columns of the items.

    Raises:
        UsageError: If the name of a domain is invalid, repeated or, in `items`, unknown.
    """
    domains = checked_domains([domain for domain, _ in interactions])
    if unknown := [domain for domain, _ in items if domain is not None and domain not in domains]:
        raise UsageError(
            f"items of {unknown[0]!r}, which is not a domain of the interactions: {', '.join(domains)}"
        )
    beside = [
        (domain, path.with_suffix(".item"))
        for domain, path in interactions
        if path.suffix == ".inter" and path.with_suffix(".item").is_file()
    ]
    return Sources(
        interactions=tuple(File(path, domain) for domain, path in interactions),
        items=tuple(File(path, domain) for domain, path in [*beside, *items]),
        domains=domains,
        columns=columns or Columns(),
        item_columns=item_columns or Columns(),
    )


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
    if len(set(domains)) < len(domains):
        raise UsageError(
            f"two domains have the same name: {', '.join(domains)}; name them with --domains food,kitchen"
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


def _first_existing(folder: Path, stems: Iterable[str]) -> Path | None:
    candidates = (folder / f"{stem}{suffix}" for stem in stems for suffix in (".json.gz", ".json"))
    return next((path for path in candidates if path.is_file()), None)


def require_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}")
