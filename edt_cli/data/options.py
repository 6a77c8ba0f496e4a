"""Options of `edt data prepare`, and the settings and sources that follow from them."""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from edt_cli.config import DataSettings, UsageError, UserError, validated
from edt_cli.data.columns import Columns, parse_columns
from edt_cli.data.download import fetch_pair
from edt_cli.data.formats import bare_name
from edt_cli.data.handled import handled_folder
from edt_cli.data.heads import ENCODINGS
from edt_cli.data.sources import (
    PAIRS,
    File,
    Sources,
    amazon_pair,
    checked_domains,
    files_per_domain,
    how_to_get,
    recbole_folder,
    renamed,
)
from edt_cli.data.times import check_format
from edt_cli.workspace.events import Events
from edt_cli.workspace.layout import Workspace


@dataclass(frozen=True)
class SourceOptions:
    """Options that name files.

    `domain_files`, `items` and `item_vectors` are FILE or DOMAIN=FILE each.
    """

    raw: Path | None = None
    handled: Path | None = None
    download: bool = False
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
    def split_already(self) -> bool:
        """Whether the files are already split."""
        return bool(self.train or self.valid or self.test)

    @property
    def kinds(self) -> list[str]:
        """Ways of naming interactions that were used; only one may be."""
        named = {
            "--raw": self.raw,
            "--handled": self.handled,
            "--download": self.download,
            "--domain-file": self.domain_files,
            "--interactions": self.interactions,
            "--train and --test": self.split_already,
        }
        return [option for option, value in named.items() if value]


def data_settings(
    name: str,
    options: SourceOptions,
    *,
    window: str | None = None,
    k_core: str | None = None,
    split: str | None = None,
    **values: Any,
) -> DataSettings:
    """Make the settings of dataset `name` from options.

    By default, raw files of a pair of the paper are filtered by the released recipe, other data is not filtered.

    Raises:
        UsageError: If a value is not valid, or options contradict each other.
    """
    if options.split_already and split not in (None, "given"):
        raise UsageError(f"--train and --test are a split already: leave out --split {split}")
    if split == "given" and not options.split_already:
        raise UsageError("--split given needs --train FILE and --test FILE")
    values["split"] = "given" if options.split_already else split or "leave-one-out"
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
    vectors = tuple(File(path, domain) for domain, path in map(_maybe_named, options.item_vectors))
    return replace(sources, vectors=vectors) if vectors else sources


def _sources(name: str, options: SourceOptions, workspace: Workspace, events: Events) -> Sources:
    if len(options.kinds) > 1:
        raise UsageError(f"name the interactions in one way, not by {' and '.join(options.kinds)}")
    domains = _listed(options.domains)
    if options.download or (options.raw and name in PAIRS):
        if name not in PAIRS:
            raise UsageError(f"--download knows {', '.join(PAIRS)}; {name!r} is none of them")
        folder = options.raw or fetch_pair(name, workspace.root / "raw", events)
        sources = amazon_pair(name, folder)
        return renamed(sources, domains) if domains else sources
    if options.handled:
        return handled_folder(options.handled, domains or _pair_domains(name))
    if options.raw:
        sources = recbole_folder(options.raw)
        return renamed(sources, domains) if domains else sources
    if options.kinds:
        return _file_sources(options, domains or _pair_domains(name))
    if name in PAIRS:
        raise UserError(f"{name} is not here yet: {how_to_get(name)}")
    raise UsageError(
        f"{name!r} is not a built-in pair ({', '.join(PAIRS)}); to use your data, name its files: "
        f"edt data prepare {name} --domain-file FILE --domain-file FILE, or --interactions FILE, or --raw DIR"
    )


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


def _file_sources(options: SourceOptions, domains: tuple[str, ...]) -> Sources:
    columns, item_columns = (
        parse_columns(text, header=options.header) for text in (options.columns, options.item_columns)
    )
    if options.encoding is not None and options.encoding not in ENCODINGS:
        raise UsageError(f"--encoding is one of {', '.join(ENCODINGS)}; got {options.encoding!r}")
    encoding = options.encoding or ""
    columns = replace(columns, time_format=check_format(options.time_format), encoding=encoding)
    item_columns = replace(item_columns, encoding=encoding)
    if not options.header and not columns.positions:
        raise UsageError("without a header, give the roles by position: --columns user,item,time")
    items = [_maybe_named(text) for text in options.items]
    if options.interactions:
        return _one_stream((File(options.interactions),), items, options, domains, columns, item_columns)
    if options.split_already:
        if not options.train or not options.test:
            raise UsageError("data that is already split needs --train and --test (and --valid, if there is one)")
        parts = (options.train, options.valid, options.test)
        files = tuple(File(path, None, part) for part, path in enumerate(parts) if path)
        return _one_stream(files, items, options, domains, columns, item_columns)
    named = [(name or bare_name(path), path) for name, path in map(_maybe_named, options.domain_files)]
    if domains and len(domains) != len(named):
        raise UsageError(f"--domains names {len(domains)} domains, but the files have {len(named)}")
    names = domains or [name for name, _ in named]
    interactions = [(name, path) for name, (_, path) in zip(names, named, strict=True)]
    return files_per_domain(interactions, items, columns=columns, item_columns=item_columns)


def _one_stream(
    files: tuple[File, ...],
    items: Sequence[tuple[str | None, Path]],
    options: SourceOptions,
    domains: tuple[str, ...],
    columns: Columns,
    item_columns: Columns,
) -> Sources:
    """Make sources of files that hold all domains, which a column or the files of items tell apart."""
    known = domains or tuple(dict.fromkeys(name for name, _ in items if name))
    return Sources(
        interactions=files,
        items=tuple(File(path, name) for name, path in items),
        domains=checked_domains(known) if known else None,
        columns=columns,
        item_columns=item_columns,
    )


def _maybe_named(text: str) -> tuple[str | None, Path]:
    """Split DOMAIN=FILE; the domain is None for a FILE, in whose name there may be a `=`."""
    name, equals, path = text.partition("=")
    if not equals or Path(text).exists():
        return None, Path(text)
    if not name or not path:
        raise UsageError(f"a file is named as FILE or DOMAIN=FILE, such as sport=outlet.csv; got {text!r}")
    return name, Path(path)
