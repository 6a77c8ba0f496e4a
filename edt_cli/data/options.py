"""Options of `edt data prepare`, and the settings and sources that follow from them."""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from edt_cli.config import DataSettings, UsageError, UserError, validated
from edt_cli.data.amazon import PAIRS, PAPER_RELEASE, RELEASES, amazon_folder, amazon_pair, how_to_get
from edt_cli.data.clean import clean_text
from edt_cli.data.columns import Columns, parse_columns
from edt_cli.data.download import fetch_pair
from edt_cli.data.formats import bare_name
from edt_cli.data.handled import handled_folder
from edt_cli.data.heads import ENCODINGS
from edt_cli.data.sources import (
    File,
    Sources,
    checked_domains,
    data_files,
    files_per_domain,
    inter_files,
    is_split,
    recbole_folder,
    refuse_parts,
    renamed,
    with_items,
)
from edt_cli.data.times import check_format
from edt_cli.workspace.events import Events
from edt_cli.workspace.layout import Workspace

MAX_DESCRIPTION = 200
"""Most characters of a domain's description, which every prompt repeats."""


@dataclass(frozen=True)
class SourceOptions:
    """Options that name files.

    `domain_files`, `items` and `item_vectors` are FILE or DOMAIN=FILE each.
    """

    raw: Path | None = None
    handled: Path | None = None
    download: bool = False
    release: int | None = None
    domain_files: Sequence[str] = ()
    interactions: Path | None = None
    train: Path | None = None
    valid: Path | None = None
    test: Path | None = None
    items: Sequence[str] = ()
    item_vectors: Sequence[str] = ()
    domains: str | None = None
    columns: str | None = None
    item_columns: str | None = None
    header: bool = True
    time_format: str | None = None
    encoding: str | None = None

    @property
    def parts(self) -> list[tuple[int, Path]]:
        """Files of a split that were named, with the number of their part."""
        return [(part, path) for part, path in enumerate((self.train, self.valid, self.test)) if path]

    @property
    def split_already(self) -> bool:
        """Whether the files are already split."""
        return bool(self.parts) or (self.raw is not None and is_split(self.raw))

    @property
    def kinds(self) -> list[str]:
        """Ways of naming interactions that were used; only one may be."""
        named = {
            "--raw": self.raw,
            "--handled": self.handled,
            "--download": self.download,
            "--domain-file": self.domain_files,
            "--interactions": self.interactions,
            "--train and --test": self.parts,
        }
        return [option for option, value in named.items() if value]


def data_settings(
    name: str,
    options: SourceOptions,
    *,
    window: str | None = None,
    k_core: str | None = None,
    split: str | None = None,
    describe: Sequence[str] = (),
    **values: Any,
) -> DataSettings:
    """Make the settings of dataset `name` from options.

    By default, raw files of a pair of the paper are filtered by the released recipe, other data is not filtered.

    Raises:
        UsageError: If a value is not valid, or options contradict each other.
    """
    if options.split_already and split not in (None, "given"):
        raise UsageError(f"these files are a split already: leave out --split {split}")
    if split == "given" and not options.split_already:
        raise UsageError("--split given needs --train FILE and --test FILE")
    values["split"] = "given" if options.split_already else split or "leave-one-out"
    values["descriptions"] = _descriptions(describe)
    raw_pair = name in PAIRS and not options.handled
    if window is not None or not raw_pair:
        values["window"] = parse_window(window or "none")
    if k_core is not None or not raw_pair:
        values["k_core"] = parse_k_core(k_core or "none")
    return validated(DataSettings, values)


def find_sources(name: str, options: SourceOptions, workspace: Workspace, events: Events) -> Sources:
    """Find the files of dataset `name`, after downloading them with `--download`.

    Raises:
        UsageError: If options contradict each other or do not name files.
        UserError: If the files are missing; for a pair, the message says how to get them.
    """
    sources = _sources(name, options, workspace, events)
    vectors = tuple(File(path, domain) for domain, path in map(maybe_named, options.item_vectors))
    return replace(sources, vectors=vectors) if vectors else sources


def _sources(name: str, options: SourceOptions, workspace: Workspace, events: Events) -> Sources:
    if len(options.kinds) > 1:
        raise UsageError(f"name the interactions in one way, not by {' and '.join(options.kinds)}")
    if options.release is not None and options.release not in RELEASES:
        raise UsageError(f"--release is {' or '.join(map(str, sorted(RELEASES)))}; got {options.release}")
    if options.release is not None and options.kinds and not (options.raw or options.download):
        raise UsageError("--release is of Amazon's files: it goes with --raw DIR or --download")
    if options.handled:
        return handled_folder(options.handled, _listed(options.domains) or _pair_domains(name))
    columns, item_columns = _columns(options)
    items = [(domain, file) for domain, path in map(maybe_named, options.items) for file in data_files(path)]
    if options.raw or options.download:
        sources = with_items(_folder_sources(name, options, workspace, events), items)
    elif options.kinds:
        sources = _file_sources(name, options, items)
    elif name in PAIRS:
        raise UserError(f"{name} is not here yet: {how_to_get(name, options.release)}")
    else:
        raise UsageError(
            f"{name!r} is not a built-in pair ({', '.join(PAIRS)}); to use your data, name its files: "
            f"edt data prepare {name} --domain-file FILE --domain-file FILE, or --interactions FILE, or --raw DIR"
        )
    return replace(sources, columns=columns, item_columns=item_columns)


def parse_window(text: str) -> tuple[int, int] | None:
    """Parse `--window`: `none`, or START:END as unix seconds or UTC dates, both exclusive.

    Raises:
        UsageError: If the text is not of this form, or the window is empty.
    """
    if text == "none":
        return None
    try:
        start, end = (_seconds(part) for part in text.split(":"))
    except ValueError:
        raise UsageError(f"--window takes none or START:END, such as 2018-01-01:2020-01-01; got {text!r}") from None
    if start >= end:
        raise UsageError(f"--window {text} ends before it begins")
    return start, end


def parse_k_core(text: str) -> Literal["paper"] | int | None:
    """Parse `--k-core`: `none`, `paper` or a number from 1.

    Raises:
        UsageError: If the text is none of these.
    """
    if text == "none":
        return None
    if text == "paper":
        return "paper"
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"--k-core takes none, paper or a number; got {text!r}")
    return int(text)


def _seconds(text: str) -> int:
    if re.fullmatch(r"-?\d+", text):
        return int(text)
    return int(datetime.datetime.fromisoformat(text).replace(tzinfo=datetime.UTC).timestamp())


def _listed(text: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",")) if text else ()


def _pair_domains(name: str) -> tuple[str, ...]:
    return tuple(domain for domain, _ in PAIRS.get(name, ()))


def _columns(options: SourceOptions) -> tuple[Columns, Columns]:
    """Return the columns of interactions and of items."""
    columns, item_columns = (
        parse_columns(text, header=options.header) for text in (options.columns, options.item_columns)
    )
    if options.encoding is not None and options.encoding not in ENCODINGS:
        raise UsageError(f"--encoding is one of {', '.join(ENCODINGS)}; got {options.encoding!r}")
    if not options.header and not columns.positions:
        raise UsageError("without a header, give the roles by position: --columns user,item,time")
    encoding = options.encoding or ""
    columns = replace(columns, time_format=check_format(options.time_format), encoding=encoding)
    return columns, replace(item_columns, encoding=encoding)


def _folder_sources(name: str, options: SourceOptions, workspace: Workspace, events: Events) -> Sources:
    """Find the files of `--raw` or `--download`: of a pair, of RecBole, or of other categories of Amazon."""
    raw, year = options.raw, options.release
    if raw is None:
        if name not in PAIRS:
            raise UsageError(f"--download knows {', '.join(PAIRS)}; {name!r} is none of them")
        year = year or PAPER_RELEASE
        sources = amazon_pair(name, fetch_pair(name, workspace.root / "raw", events, year), year)
    elif name in PAIRS:
        sources = amazon_pair(name, raw, year)
    elif year is None and inter_files(raw):
        sources = recbole_folder(raw)
    else:
        sources = amazon_folder(name, raw, year)
    domains = _listed(options.domains)
    return renamed(sources, domains) if domains else sources


def _file_sources(name: str, options: SourceOptions, items: Sequence[tuple[str | None, Path]]) -> Sources:
    """Make sources of the files that were named one by one."""
    domains = _listed(options.domains) or _pair_domains(name)
    if options.domain_files:
        return files_per_domain(_named_files(name, options, domains), items)
    if options.parts and not (options.train and options.test):
        raise UsageError("data that is already split needs --train and --test (and --valid, if there is one)")
    # Files that hold all domains, which a column or the files of items tell apart.
    whole = [File(file) for file in _parts_of_one(name, options.interactions)] if options.interactions else []
    parts = [File(file, None, part) for part, path in options.parts for file in data_files(path)]
    known = domains or tuple(dict.fromkeys(domain for domain, _ in items if domain))
    return with_items(Sources((*whole, *parts), domains=checked_domains(known) if known else None), items)


def _named_files(name: str, options: SourceOptions, domains: tuple[str, ...]) -> dict[str, list[Path]]:
    """Return the files of each domain; all that are called DOMAIN=FILE alike are of one."""
    groups: dict[str | int, list[Path]] = {}
    for number, text in enumerate(options.domain_files):
        domain, path = maybe_named(text)
        groups.setdefault(domain or number, []).append(path)
    if not domains:
        refuse_parts(name, [paths[0] for key, paths in groups.items() if isinstance(key, int)])
        domains = tuple(bare_name(paths[0]) if isinstance(key, int) else key for key, paths in groups.items())
    if len(domains) != len(groups):
        raise UsageError(f"--domains names {len(domains)} domains, but the files have {len(groups)}")
    files = ([file for path in paths for file in _parts_of_one(name, path)] for paths in groups.values())
    return dict(zip(checked_domains(domains), files, strict=True))


def _parts_of_one(name: str, path: Path) -> list[Path]:
    """Return the files of a folder whose parts make one file, or the file itself."""
    files = data_files(path)
    if path.is_dir():
        refuse_parts(name, files)
    return files


def _descriptions(texts: Sequence[str]) -> dict[str, str]:
    """Parse `--describe`: DOMAIN=TEXT each, the text on one line and without markup, as that of a catalogue."""
    descriptions: dict[str, str] = {}
    for given in texts:
        name, _, text = given.partition("=")
        name, text = name.strip(), clean_text(text) or ""
        if not name or not text:
            raise UsageError(
                f"--describe takes DOMAIN=TEXT, such as food='Groceries and gourmet food'; got {given!r}"
            )
        if len(text) > MAX_DESCRIPTION:
            raise UsageError(f"the description of {name} is too long: at most {MAX_DESCRIPTION} characters")
        if name in descriptions:
            raise UsageError(f"{name} is described twice")
        descriptions[name] = text
    return descriptions


def maybe_named(text: str) -> tuple[str | None, Path]:
    """Split DOMAIN=FILE; the domain is None for a FILE, in whose name there may be a `=`."""
    name, equals, path = text.partition("=")
    if not equals or Path(text).exists():
        return None, Path(text)
    if not name or not path:
        raise UsageError(f"a file is named as FILE or DOMAIN=FILE, such as sport=outlet.csv; got {text!r}")
    return name, Path(path)
