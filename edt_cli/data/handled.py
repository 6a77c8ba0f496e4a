"""The folder `handled` of the released data of LLM4CDSR and LLM-EDT, converted into files that edt reads.

It has two dicts by user, of item numbers and of domain numbers (`cloth_sport.pkl`); the ids behind the numbers
(`id_map.json`); vectors of the items (`itm_emb_np_all.pkl`, or one file a domain); and perhaps text of the items
(`item2attributes_A.json` or `title_A.pkl`). The profiles in it are not read: they know the validation items.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from edt_cli.config import UserError
from edt_cli.data.clean import MAX_RAW_CHARACTERS
from edt_cli.data.formats import decoded, unreadable
from edt_cli.data.pickled import read_pickled
from edt_cli.data.sources import File, Sources, checked_domains, require_folder
from edt_cli.workspace.event_types import Remark
from edt_cli.workspace.events import Events

AUGMENTED = "aug_"
"""Begins the names of LLM-EDT's files, in which generated items stand among those of the users."""
LETTERS = "AB"
MOST_ITEMS = 10_000_000
LABELS = 100
_OTHER_FILES = re.compile(r"adj|all|attr|aug|cold|emb|item|itm|profile|prompt|title|user|usr|[AB]")
"""Words in the names of files that are not of a pair of domains."""


def handled_folder(folder: Path, domains: Sequence[str] = ()) -> Sources:
    """Find the files of a folder, which `converted` makes readable.

    Args:
        folder: The folder, or the one above it.
        domains: Names of the two domains. Default: those in the name of the file of interactions.

    Raises:
        UserError: If the folder does not have the files, or those of several pairs.
    """
    require_folder(folder)
    folder = folder / "handled" if (folder / "handled").is_dir() else folder
    for prefix in ("", AUGMENTED):
        id_map = folder / f"{prefix}id_map.json"
        pairs = {path: names for path in sorted(folder.glob("*.pkl")) if (names := _pair(path.stem, prefix))}
        if id_map.is_file() and pairs:
            break
    else:
        raise UserError(
            f"{folder} holds no id_map.json beside a pair such as cloth_sport.pkl; --handled reads both"
        )
    if len(pairs) > 1:
        raise UserError(f"{folder} holds several pairs ({', '.join(path.name for path in pairs)}): leave one there")
    ((interactions, found),) = pairs.items()
    names = checked_domains(domains or found)
    by_letter = list(zip(LETTERS, names, strict=False))
    together = (File(folder / f"{prefix}itm_emb_np_all.pkl"),)
    apart = tuple(File(folder / f"{prefix}itm_emb_np_{letter}.pkl", name) for letter, name in by_letter)
    whole = (files for files in (together, apart) if all(file.path.is_file() for file in files))
    items = [
        File(path, name)
        for letter, name in by_letter
        for path in (folder / f"item2attributes_{letter}.json", folder / f"{prefix}title_{letter}.pkl")
        if path.is_file()
    ]
    return Sources(
        interactions=(File(interactions),),
        items=tuple(items),
        domains=names,
        vectors=next(whole, ()),
        id_map=id_map,
    )


def converted(sources: Sources, folder: Path, events: Events) -> Sources:
    """Write the files of `handled_folder` into `folder` as edt reads them, in unchanged order.

    Raises:
        UserError: If a file is damaged, or two of them do not belong together.
    """
    assert sources.id_map is not None and sources.domains is not None
    ids = _Ids.read(sources.id_map, sources.domains)
    (interactions,) = sources.interactions
    if sources.id_map.name.startswith(AUGMENTED):
        message = f"{interactions.path.name} has generated items among the real ones: any of them may be a target"
        events.emit(Remark(message=message))
    for name in sources.domains:
        (folder / name).mkdir(parents=True)
    frame = _interactions(interactions.path, ids)
    frame.write_parquet(folder / f"{interactions.path.stem}.parquet")
    return replace(
        sources,
        interactions=(File(folder / f"{interactions.path.stem}.parquet"),),
        items=tuple(_write_items(file, ids, folder) for file in sources.items),
        vectors=tuple(part for file in sources.vectors for part in _write_vectors(file, ids, folder)),
        id_map=None,
    )


@dataclass(frozen=True)
class _Ids:
    """Ids behind the numbers of users, and of the items of each domain, which count from 1."""

    file: str
    domains: Sequence[str]
    users: Mapping[int, str]
    items: Sequence[pl.Series]

    @classmethod
    def read(cls, path: Path, domains: Sequence[str]) -> _Ids:
        document = _json(path)
        try:
            of_items = document["item_dict"]
            names = [_names(of_items[str(number)]) for number in range(len(domains))]
            # Generated items are counted, and may have no id.
            counts = [int(of_items.get("item_count", {}).get(str(n), max(known))) for n, known in enumerate(names)]
            users = _names(document["user_dict"])
            if max(counts) > MOST_ITEMS:
                raise ValueError
        except (KeyError, TypeError, ValueError, AttributeError):
            raise UserError(f"{path.name} has no ids of users and of the items of {len(domains)} domains") from None
        items = [
            pl.Series("item", [known.get(item, f"{domain}-{item}") for item in range(1, count + 1)], pl.String)
            for domain, known, count in zip(domains, names, counts, strict=True)
        ]
        return cls(path.name, domains, users, items)

    def belongs(self, path: Path, rows: int, count: int) -> None:
        """Raise a UserError if a file has not one row an item."""
        if rows != count:
            raise UserError(
                f"{path.name} has {rows:,} rows, but {self.file} {count:,} items: they do not belong together"
            )


def _names(entry: Mapping[str, Any]) -> dict[int, str]:
    """Return ids by number, each of one line."""
    pairs = [(number, name) for name, number in entry.get("str2id", {}).items()]
    return {int(number): " ".join(str(name).split()) for number, name in [*pairs, *entry.get("id2str", {}).items()]}


def _json(path: Path) -> Any:
    try:
        return json.loads(decoded(path))
    except OSError as error:
        raise unreadable(path, error) from None
    except (ValueError, RecursionError):
        raise UserError(f"{path.name} is no JSON, or is damaged: download or copy it again") from None


def _pair(stem: str, prefix: str) -> tuple[str, ...]:
    """Return the two domains in the name of a file of interactions, nothing for another file."""
    names = tuple(re.split("[_-]", stem.removeprefix(prefix)))
    fits = stem.startswith(prefix) and len(names) == 2 and all(names)
    return names if fits and not any(map(_OTHER_FILES.fullmatch, names)) else ()


def _interactions(path: Path, ids: _Ids) -> pl.DataFrame:
    """Return user, item and domain of each interaction, user by user and oldest first."""
    match read_pickled(path):
        case (dict(items), dict(domains)) if items.keys() == domains.keys():
            pass
        case _:
            raise UserError(f"{path.name} is not two dicts by user, of items and of domains")
    # No honest file says the same sequence for many users, and what is said once takes a byte or more an item.
    if sum(map(_length, items.values())) > path.stat().st_size:
        raise UserError(f"{path.name} has more interactions than bytes, and is not read")
    numbers, of_domain = (
        [_numbers(part, path) for part in parts] for parts in (items.values(), (domains[user] for user in items))
    )
    if [len(part) for part in numbers] != [len(part) for part in of_domain]:
        raise UserError(f"{path.name} has users with more items than domains, or fewer")
    users = pl.Series(
        [ids.users.get(user, str(user)) if isinstance(user, int) else user for user in items], dtype=pl.String
    )
    frame = pl.DataFrame(
        {
            "user": users.gather(np.repeat(np.arange(len(numbers)), [len(part) for part in numbers])),
            "number": np.concatenate([np.zeros(0, np.int64), *numbers]),
            "domain": np.concatenate([np.zeros(0, np.int64), *of_domain]),
        }
    ).with_row_index("place")
    known = pl.concat(
        pl.DataFrame({"item": names}).with_row_index("number", 1).with_columns(domain=pl.lit(number, pl.Int64))
        for number, names in enumerate(ids.items)
    ).with_columns(pl.col("number").cast(pl.Int64))
    joined = frame.join(known, on=["domain", "number"], how="left", maintain_order="left")
    if len(unknown := joined.filter(pl.col("item").is_null())):
        item, domain = unknown.select("number", "domain").row(0)
        raise UserError(f"{path.name} has item {item} of domain {domain}, which {ids.file} does not have")
    return joined.select("user", "item", pl.col("domain").replace_strict(dict(enumerate(ids.domains))))


def _length(sequence: Any) -> int:
    return len(sequence) if isinstance(sequence, list | np.ndarray) else 0


def _numbers(sequence: Any, path: Path) -> np.ndarray:
    """Return a list or an array of whole numbers."""
    if isinstance(sequence, list) and all(type(number) is int and abs(number) < 2**31 for number in sequence):
        return np.array(sequence, np.int64)
    if isinstance(sequence, np.ndarray) and sequence.ndim == 1 and sequence.dtype.kind in "iu":
        return sequence.astype(np.int64)
    raise UserError(f"{path.name} has a user whose items or domains are not whole numbers")


def _write_items(file: File, ids: _Ids, folder: Path) -> File:
    """Write text of the items of a domain as JSON lines."""
    assert file.domain is not None
    rows: Iterable[Mapping[str, Any]]
    if file.path.suffix == ".json":
        described = _json(file.path)
        if not (isinstance(described, dict) and all(isinstance(text, dict) for text in described.values())):
            raise UserError(f"{file.path.name} is no description of items by id")
        rows = ({**text, "item": name} for name, text in described.items())
    else:
        titles, names = read_pickled(file.path), ids.items[ids.domains.index(file.domain)]
        if not isinstance(titles, list):
            raise UserError(f"{file.path.name} is no list of titles")
        ids.belongs(file.path, len(titles), len(names))
        rows = [
            {"item": name, "title": _title(title, file.path)} for name, title in zip(names, titles, strict=True)
        ]
    target = folder / file.domain / f"{file.path.stem}.jsonl"
    with target.open("w", encoding="utf-8") as lines:
        lines.writelines(json.dumps(row) + "\n" for row in rows)
    return File(target, file.domain)


def _title(title: Any, path: Path) -> str:
    """Return a title, or the labels that are one."""
    parts = title[:LABELS] if isinstance(title, list) else [title]
    if not all(isinstance(part, str) for part in parts):
        raise UserError(f"{path.name} has a title that is no text")
    return ", ".join(parts)[:MAX_RAW_CHARACTERS]


def _write_vectors(file: File, ids: _Ids, folder: Path) -> list[File]:
    """Write the vectors of one domain, or of one after the other, as an array with ids for each."""
    if file.path.suffix != ".pkl":
        return [file]
    vectors = read_pickled(file.path)
    if not isinstance(vectors, np.ndarray) or vectors.ndim != 2:
        raise UserError(f"{file.path.name} is no array of vectors")
    parts = [(name, ids.items[n]) for n, name in enumerate(ids.domains) if file.domain in (None, name)]
    ids.belongs(file.path, len(vectors), sum(len(names) for _, names in parts))
    written, start = [], 0
    for name, names in parts:
        target = folder / name / f"{file.path.stem}.npy"
        np.save(target, vectors[start : start + len(names)])
        target.with_suffix(".ids.txt").write_text("\n".join(names), "utf-8")
        written.append(File(target, name))
        start += len(names)
    return written
