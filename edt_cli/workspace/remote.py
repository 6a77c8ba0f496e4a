"""Workspaces in object storage, such as s3://bucket/ws: a mirror on this machine, by fsspec.

Before a command, what is finished there comes here; after it, what was finished here goes there: datasets,
artefacts and runs, each whole or absent, as its manifest is the last file to go. Runs at work, jobs, replies and
the ledger stay on the machine. Credentials are those that the storage's own library finds; edt neither takes nor
writes them.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from filelock import FileLock

from edt_cli.config import UsageError, UserError
from edt_cli.workspace.files import replacing
from edt_cli.workspace.layout import MANIFEST, Workspace, json_object, write_json

STATE, LOCK = ".mirror.json", ".mirror.lock"
OF_A_PROCESS = ("heartbeat.json", "control.json")
LOOSE = (re.compile(r"artefacts/(tries|calibration)/[^/]+\.json"), re.compile(r"models\.toml"))
"""Files beside the folders: how often questions were asked again, values of tau, names of models."""
UNIT = re.compile(r"(?:(?:data|runs)/[^/.][^/]*|artefacts/[^/.][^/]*/[^/.][^/]*)(?=/)")
"""Folders that are whole or absent."""
Marks = dict[str, list[str]]
"""For each file its marks when both sides were last the same: there and here."""


def pull(workspace: Workspace) -> None:
    """Bring what is finished in the storage of a workspace here; do nothing for one on a disk.

    Raises:
        UsageError: If the address has credentials in it.
        UserError: If the storage cannot be reached, or a library for it is missing.
    """
    if workspace.url is not None:
        Mirror(workspace.root, workspace.url).pull()


def push(workspace: Workspace) -> None:
    """Bring what is finished here to the storage of a workspace; do nothing for one on a disk.

    Raises:
        UserError: If the storage cannot be reached or written.
    """
    if workspace.url is not None:
        Mirror(workspace.root, workspace.url).push()


def check_removable(workspace: Workspace) -> None:
    """Check that what is removed from a workspace does not come back.

    Raises:
        UsageError: If it is in object storage.
    """
    if workspace.url is not None:
        raise UsageError(f"what is removed here would come back from {workspace.url}: remove it there")


@dataclass(frozen=True)
class Mirror:
    """Folder of this machine, and the address in object storage that it mirrors."""

    root: Path
    url: str

    def pull(self) -> None:
        """Bring what is new or changed there here."""
        with self._alone() as marks, self._one_line("read"):
            there = self._there()
            for unit, files in _units(there).items():
                changed = [file for file in files if self._differs(file, there[file], marks)]
                if f"{unit}/{MANIFEST}" in changed:
                    changed = files
                    self._replace(unit, files)
                else:  # results and notes that were added to a finished run
                    self._fetch(changed, self.root)
                marks |= {file: [there[file], self._mark(file)] for file in changed}

    def push(self) -> None:
        """Bring what is new or changed here there."""
        here = {path.relative_to(self.root).as_posix(): "" for path in self.root.rglob("*") if path.is_file()}
        with self._alone() as marks, self._one_line("written"):
            sent = []
            for unit, files in _units(here).items():
                changed = [file for file in files if marks.get(file, ["", ""])[1] != self._mark(file)]
                manifest = f"{unit}/{MANIFEST}"
                if manifest in changed and manifest in marks:  # a dataset that was prepared anew
                    self._storage.rm(self._at(unit), recursive=True)
                    changed = files
                for folder in {file.rpartition("/")[0] for file in changed}:
                    self._storage.makedirs(self._at(folder).rstrip("/"), exist_ok=True)
                for file in sorted(changed, key=lambda name: name == manifest):
                    self._storage.put_file(str(self.root / file), self._at(file))
                sent += changed
            there = self._there() if sent else {}
            marks |= {file: [there[file], self._mark(file)] for file in sent if file in there}

    def _differs(self, file: str, mark: str, marks: Marks) -> bool:
        return marks.get(file, [""])[0] != mark or not (self.root / file).is_file()

    def _replace(self, unit: str, files: Iterable[str]) -> None:
        """Fetch a whole folder beside its place, then put it there."""
        beside = self.root / ".pulling"
        shutil.rmtree(beside, ignore_errors=True)
        self._fetch(files, beside)
        target = self.root / unit
        if target.exists():
            shutil.rmtree(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        (beside / unit).rename(target)
        shutil.rmtree(beside)

    def _fetch(self, files: Iterable[str], root: Path) -> None:
        for file in files:
            (root / file).parent.mkdir(parents=True, exist_ok=True)
            with replacing(root / file) as path:
                self._storage.get_file(self._at(file), str(path))

    @contextmanager
    def _alone(self) -> Iterator[Marks]:
        """Yield the marks while no other process of this machine uses the mirror; keep what becomes of them."""
        self.root.mkdir(parents=True, exist_ok=True)
        with FileLock(self.root / LOCK):
            marks: Marks = json_object(self.root / STATE) or {}
            try:
                yield marks
            finally:
                write_json(self.root / STATE, marks)

    @cached_property
    def _storage_and_path(self) -> tuple[Any, str]:
        from fsspec.core import url_to_fs

        storage, path = url_to_fs(self.url)
        return storage, path.rstrip("/")

    @property
    def _storage(self) -> Any:
        return self._storage_and_path[0]

    def _at(self, file: str) -> str:
        return f"{self._storage_and_path[1]}/{file}"

    def _there(self) -> dict[str, str]:
        """Return a mark of each file there, which is another one when the file is."""
        storage, prefix = self._storage_and_path
        storage.invalidate_cache()
        found: Mapping[str, Mapping[str, Any]] = storage.find(prefix, detail=True)
        return {name[len(prefix) + 1 :]: _version(info) for name, info in found.items()}

    def _mark(self, file: str) -> str:
        status = (self.root / file).stat()
        return f"{status.st_mtime_ns} {status.st_size}"

    @contextmanager
    def _one_line(self, done: str) -> Iterator[None]:
        try:
            yield
        except UserError:
            raise
        except ImportError as error:
            extra = " pip install 'edt-cli[s3]'" if self.url.startswith("s3") else ""
            raise UserError(f"{self.url} needs a library that is not installed ({error}):{extra}") from None
        except Exception as error:  # each storage's library has errors of its own
            said = (str(error).strip().splitlines() or [""])[0]
            raise UserError(f"{self.url} cannot be {done}: {said or type(error).__name__}") from None


def _version(info: Mapping[str, Any]) -> str:
    names = ("ETag", "etag", "mtime", "updated", "last_modified", "LastModified")
    return f"{next((info[name] for name in names if name in info), '')} {info.get('size')}"


def _units(files: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the files of each finished folder, and under "" those that belong to none."""
    units: dict[str, list[str]] = {}
    for file in files:
        hidden = any(part.startswith(".") for part in file.split("/"))
        if hidden or file.rpartition("/")[2] in OF_A_PROCESS:
            continue
        if any(form.fullmatch(file) for form in LOOSE):
            units.setdefault("", []).append(file)
        elif found := UNIT.match(file):
            units.setdefault(found[0], []).append(file)
    return {unit: own for unit, own in units.items() if not unit or f"{unit}/{MANIFEST}" in own}
