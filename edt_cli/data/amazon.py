"""Files of the Amazon reviews: the pairs of the paper, and the releases that have them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edt_cli.config import UsageError, UserError
from edt_cli.data.formats import JSON_SUFFIXES, bare_name, first_line, has_suffix
from edt_cli.data.sources import File, Sources, checked_domains, refuse_parts, require_folder

# Names of the domains and their categories in the Amazon releases, in the order of section 4.1.1.
PAIRS: dict[str, tuple[tuple[str, str], tuple[str, str]]] = {
    "cloth-sport": (("cloth", "Clothing_Shoes_and_Jewelry"), ("sport", "Sports_and_Outdoors")),
    "elec-phone": (("elec", "Electronics"), ("phone", "Cell_Phones_and_Accessories")),
    "food-kitchen": (("food", "Grocery_and_Gourmet_Food"), ("kitchen", "Home_and_Kitchen")),
}


@dataclass(frozen=True)
class Release:
    """A release of the Amazon reviews.

    Attributes:
        item: Column of the ids that reviews and metadata share, as it stands in the first line of a file.
        url: Address of the files.
        reviews: Path of a category's reviews below `url`.
        metadata: Path of its metadata.
        millions: Millions of reviews of each pair, according to the release's page.
    """

    item: bytes
    url: str
    reviews: str
    metadata: str
    millions: Mapping[str, int]


# The newest first: its reviews have the older one's `asin`, too. The files of 2014 are as those of 2018.
RELEASES = {
    2023: Release(
        item=b"parent_asin",
        url="https://mcauleylab.ucsd.edu/public_datasets/data/amazon_2023/raw",
        reviews="review_categories/{}.jsonl.gz",
        metadata="meta_categories/meta_{}.jsonl.gz",
        millions={"cloth-sport": 86, "elec-phone": 65, "food-kitchen": 82},
    ),
    2018: Release(
        item=b"asin",
        url="https://mcauleylab.ucsd.edu/public_datasets/data/amazon_v2",
        reviews="categoryFiles/{}.json.gz",
        metadata="metaFiles2/meta_{}.json.gz",
        millions={"cloth-sport": 45, "elec-phone": 31, "food-kitchen": 27},
    ),
}
PAPER_RELEASE = 2018
_STEMS = ("{}", "reviews_{}", "{}_5", "reviews_{}_5")
_SUFFIXES = tuple(f"{suffix}{packed}" for suffix in (*JSON_SUFFIXES, ".csv") for packed in (".gz", ""))


def amazon_pair(name: str, folder: Path, year: int | None = None) -> Sources:
    """Find the files of a pair in `folder`, of the release of a year or of the one that is there.

    Metadata may be missing.

    Raises:
        UserError: If a file of reviews is missing, or the files are not of one release.
    """
    require_folder(folder)
    return _sources(PAIRS[name], folder, year, how_to_get(name, year))


def amazon_folder(name: str, folder: Path, year: int | None = None) -> Sources:
    """Find all Amazon reviews in `folder` for the dataset `name`, a domain for each category.

    Raises:
        UserError: If there are none.
        UsageError: If they are of several releases, of one category alone, or parts of a split.
    """
    require_folder(folder)
    files = [path for place in _places(folder) for path in sorted(place.glob("*")) if has_suffix(path, _SUFFIXES)]
    refuse_parts(name, files)
    reviews = [path for path in files if not path.name.startswith("meta_") and release_of(path)]
    if not reviews:
        raise UserError(
            f"{folder} holds no .inter file and no Amazon reviews; "
            "name your files with --domain-file FILE, once for each domain"
        )
    categories = checked_domains(dict.fromkeys(bare_name(path) for path in reviews))
    return _sources([(category, category) for category in categories], folder, year)


def how_to_get(name: str, year: int | None = None) -> str:
    """Say in half a sentence how to get the files of a pair."""
    release = RELEASES[year or PAPER_RELEASE]
    categories = " and ".join(category for _, category in PAIRS[name])
    files = ", ".join(Path(path.format("NAME")).name for path in (release.reviews, release.metadata))
    command = f"edt data prepare {name}{f' --release {year}' if year else ''} --download"
    return (
        f"{command} fetches them ({release.millions[name]} million reviews, several gigabytes); "
        f"--raw DIR reads {categories} ({files}) from a folder"
    )


def release_of(path: Path) -> int | None:
    """Return the year of the release that a file is of, by its first line; None if it is of none."""
    try:
        line = first_line(path)
    except UserError:
        return None
    return next((year for year, release in RELEASES.items() if release.item in line), None)


def _sources(categories: Sequence[tuple[str, str]], folder: Path, year: int | None, hint: str = "") -> Sources:
    """Find reviews and metadata of (domain, category) pairs."""
    reviews = {domain: _existing(folder, [stem.format(name) for stem in _STEMS]) for domain, name in categories}
    metadata = {domain: _existing(folder, [f"meta_{name}"]) for domain, name in categories}
    years = {path: release_of(path) for found in (reviews, metadata) for paths in found.values() for path in paths}
    there = sorted({known for known in years.values() if known})
    if year is None and len(there) > 1:
        raise UsageError(f"{folder} holds files of several releases: choose one with --release {there[-1]}")
    chosen = year or (there[0] if there else None)
    interactions, items = [], []
    for domain, category in categories:
        of_reviews, of_items = (
            [File(path, domain) for path in found[domain] if years[path] in (chosen, None)]
            for found in (reviews, metadata)
        )
        if not of_reviews:
            wanted = Path(RELEASES[chosen or PAPER_RELEASE].reviews.format(category)).name
            if there and chosen not in there:
                hint = f"its files are of the {there[0]} release: leave out --release {year}"
            raise UserError(f"{folder} holds no {wanted}; {hint}")
        interactions += of_reviews[:1]
        items += of_items[:1]
    return Sources(tuple(interactions), tuple(items), tuple(domain for domain, _ in categories), release=chosen)


def _existing(folder: Path, stems: Sequence[str]) -> list[Path]:
    names = [f"{stem}{suffix}" for stem in stems for suffix in _SUFFIXES]
    return [path for place in _places(folder) for name in names if (path := place / name).is_file()]


def _places(folder: Path) -> list[Path]:
    """Return a folder and those below it that the releases have."""
    paths = [path for release in RELEASES.values() for path in (release.reviews, release.metadata)]
    return [folder, *(place for path in paths if (place := folder / path.partition("/")[0]).is_dir())]
