"""Which files make up a dataset: the pairs of the paper, a folder of RecBole's, or files of one's own."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edt_cli.config import UsageError, UserError
from edt_cli.data.columns import Columns

# Domain name and category of the Amazon release, in the paper's order (4.1.1).
PAIRS: dict[str, tuple[tuple[str, str], tuple[str, str]]] = {
    "cloth-sport": (("cloth", "Clothing_Shoes_and_Jewelry"), ("sport", "Sports_and_Outdoors")),
    "elec-phone": (("elec", "Electronics"), ("phone", "Cell_Phones_and_Accessories")),
    "food-kitchen": (("food", "Grocery_and_Gourmet_Food"), ("kitchen", "Home_and_Kitchen")),
}
# Millions of reviews in the 2018 release, as its page states them.
REVIEWS_M = {"cloth-sport": 45, "elec-phone": 31, "food-kitchen": 27}

MAX_DOMAINS = 16


@dataclass(frozen=True)
class File:
    """`domain`: None where a column, or the items' own files, tell it. `part`: 0 train, 1 validation, 2 test, of
    data that is split already."""

    path: Path
    domain: str | None = None
    part: int | None = None


@dataclass(frozen=True)
class Sources:
    """`domains`: in their order; None where the files' domain column tells."""

    interactions: tuple[File, ...]
    items: tuple[File, ...] = ()
    domains: tuple[str, ...] | None = None
    columns: Columns = field(default_factory=Columns)
    item_columns: Columns = field(default_factory=Columns)


def amazon_pair(name: str, folder: Path) -> Sources:
    """The files of a pair in `folder`, in the layout of the 2018 release or of that of 2014.

    Errors: UserError naming the first file of reviews that is not there. Metadata may be missing.
    """
    _require_folder(folder)
    interactions, items = [], []
    for domain, category in PAIRS[name]:
        stems = (category, f"reviews_{category}", f"{category}_5", f"reviews_{category}_5")
        reviews = _first_there(folder, stems)
        if reviews is None:
            raise UserError(f"{folder} holds no {category}.json.gz (nor .json); {how_to_get(name)}")
        interactions.append(File(reviews, domain))
        metadata = _first_there(folder, (f"meta_{category}",))
        if metadata is not None:
            items.append(File(metadata, domain))
    return Sources(tuple(interactions), tuple(items), tuple(domain for domain, _ in PAIRS[name]))


def how_to_get(name: str) -> str:
    """Both ways to the files of a pair, in half a sentence."""
    categories = " and ".join(category for _, category in PAIRS[name])
    return (
        f"edt data prepare {name} --download fetches them ({REVIEWS_M[name]} million reviews, several gigabytes); "
        f"--raw DIR reads {categories} (NAME.json.gz, meta_NAME.json.gz) from a folder"
    )


def recbole_folder(folder: Path) -> Sources:
    """One domain a .inter file, with the .item file of the same name where there is one."""
    _require_folder(folder)
    found = sorted(folder.glob("*.inter"))
    if not found:
        raise UserError(f"{folder} holds no .inter file; name files of your own with --a FILE --b FILE")
    return own_files([(path.stem, path) for path in found], [])


def own_files(
    interactions: Sequence[tuple[str, Path]],
    items: Sequence[tuple[str | None, Path]],
    *,
    columns: Columns | None = None,
    item_columns: Columns | None = None,
) -> Sources:
    """A file of interactions a domain; `items` with the domain that each is of (None: a column tells).

    A RecBole .inter file brings the .item file beside it. Errors: UsageError for bad or repeated domain names.
    """
    domains = checked_domains([domain for domain, _ in interactions])
    if unknown := [domain for domain, _ in items if domain is not None and domain not in domains]:
        raise UsageError(f"items of {unknown[0]!r}, which is no domain of the interactions: {', '.join(domains)}")
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
    """Errors: UsageError unless there are two or more, each once, of letters, digits, spaces and `_.&-`."""
    domains = tuple(names)
    for name in domains:
        if not re.fullmatch(r"\w[\w .&-]{0,39}", name):
            raise UsageError(f"{name!r} is no name for a domain: use letters, digits and dashes (--domains)")
    if len(set(domains)) < len(domains):
        raise UsageError(f"two domains have one name: {', '.join(domains)}; name them with --domains food,kitchen")
    if len(domains) < 2:
        raise UsageError("cross-domain data needs two domains or more")
    if len(domains) > MAX_DOMAINS:
        raise UsageError(f"{len(domains)} domains are too many ({MAX_DOMAINS} at most); choose with --domains")
    return domains


def renamed(sources: Sources, names: Sequence[str]) -> Sources:
    """`--domains`: new names for the files' domains, by position; for a domain column, those that are kept."""
    new = checked_domains(names)
    if sources.domains is None:
        return Sources(
            interactions=sources.interactions,
            items=sources.items,
            domains=new,
            columns=sources.columns,
            item_columns=sources.item_columns,
        )
    if len(new) != len(sources.domains):
        raise UsageError(f"--domains names {len(new)} domains, the files are of {len(sources.domains)}")
    name: Mapping[str | None, str | None] = {None: None, **dict(zip(sources.domains, new, strict=True))}
    interactions, items = (
        tuple(File(file.path, name[file.domain], file.part) for file in files)
        for files in (sources.interactions, sources.items)
    )
    return Sources(
        interactions=interactions,
        items=items,
        domains=new,
        columns=sources.columns,
        item_columns=sources.item_columns,
    )


def _first_there(folder: Path, stems: Iterable[str]) -> Path | None:
    candidates = (folder / f"{stem}{suffix}" for stem in stems for suffix in (".json.gz", ".json"))
    return next((path for path in candidates if path.is_file()), None)


def _require_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}")
