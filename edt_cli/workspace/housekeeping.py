"""Sizes of the workspace's contents, and removal of what is no longer referred to."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edt_cli.config import UserError
from edt_cli.workspace.files import DAY_S, LOCK, SCRATCH, TEMPORARY, abandoned, in_use, locked
from edt_cli.workspace.jobs import alive, heartbeat
from edt_cli.workspace.layout import Workspace, read_json, size_on_disk

KINDS = ("data", "raw", "artefacts", "runs", "searches", "jobs", "cache")


@dataclass(frozen=True)
class Holding:
    """Number and size in bytes of the entries of one kind in the workspace."""

    kind: str
    count: int
    size: int


@dataclass(frozen=True)
class Removable:
    """A folder or file that can be removed, with the reason and its size in bytes."""

    path: Path
    what: str
    why: str
    size: int


def holdings(workspace: Workspace) -> list[Holding]:
    """Return the number and size of the entries of each kind."""
    summary = []
    for kind in KINDS:
        folder = workspace.root / kind
        entries = [path for path in folder.iterdir() if not path.name.startswith(".")] if folder.is_dir() else []
        count = len(workspace.all_artefacts()) if kind == "artefacts" else len(entries)
        summary.append(Holding(kind, count, size_on_disk(folder) if folder.is_dir() else 0))
    return summary


def removable(
    workspace: Workspace, *, older_than_days: float | None = None, raw: bool = False, cache: bool = False
) -> list[Removable]:
    """List artefacts that no dataset and no run refers to, and partial results of interrupted steps.

    Args:
        workspace: The workspace.
        older_than_days: Include older artefacts that only a dataset refers to; they can be made again.
        raw: Include downloaded files.
        cache: Include the cache of LLM replies and embeddings, although these were paid for.
    """
    chosen = [*_left_half_made(workspace), *_unreferenced(workspace, older_than_days)]
    for kind, wanted, why in (("raw", raw, "can be downloaded again"), ("cache", cache, "asked for by --cache")):
        folder = workspace.root / kind
        if wanted and folder.is_dir():
            chosen.append(Removable(path=folder, what=kind, why=why, size=size_on_disk(folder)))
    return chosen


def remove_folder(path: Path) -> None:
    """Remove a folder or a file.

    Raises:
        UserError: If it cannot be removed.
    """
    try:
        # Rename it first, so that a partly removed folder never looks like a complete one.
        doomed = path.with_name(f".{path.name}.removing")
        path.rename(doomed)
        shutil.rmtree(doomed) if doomed.is_dir() else doomed.unlink()
    except OSError as error:
        raise UserError(f"cannot remove {path}: {error.strerror}") from None


def at_work(folder: Path) -> bool:
    """Return whether a process is making the run in this folder."""
    return alive(heartbeat(folder)) or locked(folder / LOCK)


def _unreferenced(workspace: Workspace, older_than_days: float | None) -> Iterator[Removable]:
    artefacts = workspace.all_artefacts()
    mentions = {artefact.key: set(_strings(artefact.manifest())) - {artefact.key} for artefact in artefacts}
    of_runs = _reached(set(_run_strings(workspace)), mentions)
    data_keys = {artefact.manifest().get("data_key") for artefact in workspace.datasets()}
    of_data = {key for key in mentions if _leads_to(key, mentions, data_keys)}
    for artefact in artefacts:
        if artefact.key in of_runs:
            continue
        if artefact.key not in of_data:
            why = "of no dataset and no run"
        elif older_than_days is not None and _age_days(artefact.path) > older_than_days:
            why = f"of no run, older than {older_than_days:g} days"
        else:
            continue
        yield Removable(path=artefact.path, what=artefact.kind, why=why, size=size_on_disk(artefact.path))


def _reached(names: set[str], mentions: dict[str, set[str]]) -> set[str]:
    """Return the artefact keys among `names` and, transitively, those that they mention."""
    reached: set[str] = set()
    waiting = names & mentions.keys()
    while waiting:
        key = waiting.pop()
        reached.add(key)
        waiting |= (mentions[key] & mentions.keys()) - reached
    return reached


def _leads_to(key: str, mentions: dict[str, set[str]], data_keys: set[Any]) -> bool:
    return any(data_keys & mentions[reached] for reached in _reached({key}, mentions))


def _run_strings(workspace: Workspace) -> Iterator[str]:
    for path in workspace.runs.glob("*/*.json"):
        try:
            yield from _strings(read_json(path))
        except UserError:
            continue


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _strings(part)


def _left_half_made(workspace: Workspace) -> Iterator[Removable]:
    """Yield folders and files of steps that did not end; what a living process makes has a lock that it holds."""
    folders = [workspace.root, workspace.data, *workspace.artefacts.glob("*")]
    hidden = sorted(path for folder in folders for path in folder.glob(".*") if path.is_dir())
    left = [path for path in hidden if _is_left(path)]
    left += [
        path
        for path in sorted(workspace.root.rglob(f".*{TEMPORARY}"))
        if path.is_file() and not any(folder in path.parents for folder in hidden) and abandoned(path)
    ]
    for path in left:
        size = size_on_disk(path) if path.is_dir() else path.stat().st_size
        yield Removable(path=path, what="left half made", why="a step that did not end", size=size)


def _is_left(folder: Path) -> bool:
    """Return whether nobody makes, or reads by way of, a hidden folder any more."""
    if folder.name.startswith(SCRATCH):
        return not in_use(folder)
    making = folder.suffix == ".making" and not locked(folder.with_suffix(LOCK))
    return making or folder.suffix == ".removing"


def _age_days(path: Path) -> float:
    return (time.time() - path.stat().st_mtime) / DAY_S
