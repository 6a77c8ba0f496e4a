"""What `edt data prepare` was asked for: from its options to settings and sources."""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from edt_cli.config import DataSettings, UsageError, UserError, validated
from edt_cli.data.columns import Columns, parse_columns
from edt_cli.data.download import fetch_pair
from edt_cli.data.formats import bare_name
from edt_cli.data.sources import (
    PAIRS,
    File,
    Sources,
    amazon_pair,
    checked_domains,
    how_to_get,
    own_files,
    recbole_folder,
    renamed,
)
from edt_cli.workspace.events import Events
from edt_cli.workspace.layout import Workspace


@dataclass(frozen=True)
class Asked:
    """The options that name files. `domain_files` are DOMAIN=FILE, `items` are FILE or DOMAIN=FILE."""

    raw: Path | None = None
    download: bool = False
    a: Path | None = None
    b: Path | None = None
    domain_files: Sequence[str] = ()
    interactions: Path | None = None
    train: Path | None = None
    valid: Path | None = None
    test: Path | None = None
    a_items: Path | None = None
    b_items: Path | None = None
    items: Sequence[str] = ()
    domains: str | None = None
    columns: str | None = None
    item_columns: str | None = None
    header: bool = True

    @property
    def split_already(self) -> bool:
        return bool(self.train or self.valid or self.test)

    @property
    def kinds(self) -> list[str]:
        """The ways of naming interactions that were used; one is meant to be."""
        named = {
            "--raw": self.raw,
            "--download": self.download,
            "--a, --b or --domain-file": self.a or self.b or self.domain_files,
            "--interactions": self.interactions,
            "--train and --test": self.split_already,
        }
        return [option for option, value in named.items() if value]


def data_settings(
    name: str,
    asked: Asked,
    *,
    window: str | None = None,
    k_core: str | None = None,
    split: str | None = None,
    **values: Any,
) -> DataSettings:
    """A pair of the paper has the released recipe where an option does not say otherwise; other data has no filter.

    Errors: UsageError for a value that does not fit.
    """
    if asked.split_already and split not in (None, "given"):
        raise UsageError(f"--train and --test are a split already: leave out --split {split}")
    if split == "given" and not asked.split_already:
        raise UsageError("--split given needs --train FILE and --test FILE")
    values["split"] = "given" if asked.split_already else split or "leave-one-out"
    if window is not None or name not in PAIRS:
        values["window"] = parse_window(window or "none")
    if k_core is not None or name not in PAIRS:
        values["k_core"] = parse_k_core(k_core or "none")
    return validated(DataSettings, values)


def find_sources(name: str, asked: Asked, workspace: Workspace, events: Events) -> Sources:
    """The files of dataset `name`; `--download` fetches them first.

    Errors: UsageError where options contradict each other; UserError, how to get a pair, where none does.
    """
    if len(asked.kinds) > 1:
        raise UsageError(f"name the interactions in one way, not by {' and '.join(asked.kinds)}")
    domains = _listed(asked.domains)
    if asked.download or (asked.raw and name in PAIRS):
        if name not in PAIRS:
            raise UsageError(f"--download knows {', '.join(PAIRS)}; {name!r} is none of them")
        folder = asked.raw or fetch_pair(name, workspace.root / "raw", events)
        sources = amazon_pair(name, folder)
        return renamed(sources, domains) if domains else sources
    if asked.raw:
        sources = recbole_folder(asked.raw)
        return renamed(sources, domains) if domains else sources
    if asked.kinds:
        return _own_sources(asked, domains or _pair_domains(name))
    if name in PAIRS:
        raise UserError(f"{name} is not here yet: {how_to_get(name)}")
    raise UsageError(
        f"{name!r} is no built-in pair ({', '.join(PAIRS)}); for data of your own name its files: "
        f"edt data prepare {name} --a FILE --b FILE, or --interactions FILE, or --raw DIR"
    )


def parse_window(text: str) -> tuple[int, int] | None:
    """`none`, or START:END as unix seconds or dates of UTC, both outside the window. Errors: UsageError."""
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
    """`none`, `paper`, or a number of 1 or more. Errors: UsageError."""
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


def _own_sources(asked: Asked, domains: tuple[str, ...]) -> Sources:
    columns, item_columns = (
        parse_columns(text, header=asked.header) for text in (asked.columns, asked.item_columns)
    )
    if not asked.header and not columns.positions:
        raise UsageError("without a header, say what stands where: --columns user,item,time")
    items = [_maybe_named(text) for text in asked.items]
    if asked.interactions:
        return _one_stream((File(asked.interactions),), items, asked, domains, columns, item_columns)
    if asked.split_already:
        if not asked.train or not asked.test:
            raise UsageError("data that is split already needs --train and --test (and --valid, if there is one)")
        parts = (asked.train, asked.valid, asked.test)
        files = tuple(File(path, None, part) for part, path in enumerate(parts) if path)
        return _one_stream(files, items, asked, domains, columns, item_columns)
    named = [(bare_name(path), path) for path in (asked.a, asked.b) if path] + [
        _named(text) for text in asked.domain_files
    ]
    if domains and len(domains) != len(named):
        raise UsageError(f"--domains names {len(domains)} domains, the files are of {len(named)}")
    names = domains or [name for name, _ in named]
    interactions = [(name, path) for name, (_, path) in zip(names, named, strict=True)]
    short = [(name, path) for name, path in zip(names, (asked.a_items, asked.b_items), strict=False) if path]
    return own_files(interactions, [*short, *items], columns=columns, item_columns=item_columns)


def _one_stream(
    files: tuple[File, ...],
    items: Sequence[tuple[str | None, Path]],
    asked: Asked,
    domains: tuple[str, ...],
    columns: Columns,
    item_columns: Columns,
) -> Sources:
    """Files that hold all domains: a column tells which, or the items' files do."""
    short = [path for path in (asked.a_items, asked.b_items) if path]
    names = domains or tuple(bare_name(path) for path in short)
    of_domain = [*zip(names, short, strict=False), *items]
    known = domains or tuple(dict.fromkeys(name for name, _ in of_domain if name))
    return Sources(
        interactions=files,
        items=tuple(File(path, name) for name, path in of_domain),
        domains=checked_domains(known) if known else None,
        columns=columns,
        item_columns=item_columns,
    )


def _named(text: str) -> tuple[str, Path]:
    name, equals, path = text.partition("=")
    if not equals or not name or not path:
        raise UsageError(f"--domain-file takes DOMAIN=FILE, such as sport=outlet.csv; got {text!r}")
    return name, Path(path)


def _maybe_named(text: str) -> tuple[str | None, Path]:
    if "=" not in text or Path(text).exists():
        return None, Path(text)
    return _named(text)
