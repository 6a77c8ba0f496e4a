"""Layout of the workspace, and artefacts: folders that are named by a hash of their inputs and are never partial.

<workspace>/data/<name>/            a prepared dataset
<workspace>/artefacts/<kind>/<key>/ what one step of the pipeline made
<workspace>/runs/<name>/            a training run
<workspace>/searches/<name>/        the trials of a search, and its study
<workspace>/jobs/<name>/            a running process, or a recent one
<workspace>/cache/                  all LLM replies and embeddings
<workspace>/ledger.db               all calls of remote services, with their costs
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock
from pydantic import BaseModel

from edt_cli.config import UsageError, UserError
from edt_cli.workspace.files import explained, write_atomic
from edt_cli.workspace.version import __version__

MANIFEST = "manifest.json"


def digest(*parts: Any) -> str:
    """Return 16 hex digits over the canonical JSON of `parts`, the key of a step."""

    def plain(value: Any) -> Any:
        if isinstance(value, BaseModel):
            return value.model_dump(mode="json")
        raise TypeError(f"cannot hash {type(value).__name__}")

    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), default=plain, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def file_digest(path: Path) -> str:
    """Return 16 hex digits of a file's SHA-256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def file_digests(folder: Path) -> dict[str, str]:
    """Return the digest of each file below a folder, by its path there; manifests and hidden files are left out."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    shown = {path.relative_to(folder).as_posix(): path for path in files}
    return {
        name: file_digest(path) for name, path in shown.items() if name != MANIFEST and not name.startswith(".")
    }


def content_digest(files: Mapping[str, str]) -> str:
    """Return one digest of an artefact's tables and arrays; the JSON beside them also tells times and costs.

    Args:
        files: Digests of its files, by path.
    """
    return digest({name: one for name, one in files.items() if not name.endswith(".json")})


def write_json(path: Path, value: Any) -> None:
    """Replace `path` atomically by the JSON of `value`."""
    write_atomic(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        UserError: If the file is missing or not valid JSON.
    """
    try:
        return json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except ValueError:
        raise UserError(f"{path} is damaged (no JSON); remove its folder and run the command again") from None


def json_object(path: Path) -> dict[str, Any] | None:
    """Return the JSON object in a file, or None if there is none that can be read."""
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return document if isinstance(document, dict) else None


@dataclass(frozen=True)
class Artefact:
    """A folder that is either complete, with a manifest, or does not exist."""

    kind: str
    key: str
    path: Path

    @property
    def complete(self) -> bool:
        """Whether the folder exists with its manifest."""
        return (self.path / MANIFEST).is_file()

    def manifest(self) -> dict[str, Any]:
        """Read the manifest."""
        manifest: dict[str, Any] = read_json(self.path / MANIFEST)
        return manifest

    @contextmanager
    def create(self, **manifest: Any) -> Iterator[tuple[Path, dict[str, Any]]]:
        """Yield a temporary folder to write into and the manifest, to which entries may be added.

        Both appear under `path` only at an exit without an error; the time, the version, the seconds taken and the
        digests of all files are added to the manifest. If two processes make the same artefact, the second waits
        for the first and then replaces it with the same content.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with explained(self.path, full_only=True), FileLock(self.path.with_name(f".{self.path.name}.lock")):
            temporary = self.path.with_name(f".{self.path.name}.making")
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir()
            started = time.perf_counter()
            record: dict[str, Any] = {"kind": self.kind, "key": self.key, **manifest}
            try:
                yield temporary, record
            except BaseException:
                shutil.rmtree(temporary, ignore_errors=True)
                raise
            record |= {
                "seconds": round(time.perf_counter() - started, 3),
                "made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                "edt": __version__,
                "files": file_digests(temporary),
            }
            write_json(temporary / MANIFEST, record)
            if self.path.exists():
                shutil.rmtree(self.path)
            temporary.rename(self.path)


@dataclass(frozen=True)
class Workspace:
    """The folder of all data, artefacts and runs.

    Runs are in `folder` under the root; a search uses another one, to keep its trials apart from other runs. If it
    lies in object storage, `url` is its address there, and the root is its mirror on this machine.
    """

    root: Path
    folder: str = "runs"
    url: str | None = None

    @classmethod
    def find(cls, given: Path | None = None, environment: Mapping[str, str] = os.environ) -> Workspace:
        """Return the workspace of `--workspace`, else of EDT_WORKSPACE, else ./edt-workspace.

        Its folder is created when something is first written to it.

        Raises:
            UsageError: If it is an address with credentials in it.
        """
        place = str(given or environment.get("EDT_WORKSPACE") or "edt-workspace")
        url = _url(place)
        return cls(Path(place).absolute()) if url is None else cls(_mirror(url, environment), url=url)

    @property
    def address(self) -> str:
        """What `--workspace` takes for it, in any folder."""
        return self.url or str(self.root.absolute())

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def runs(self) -> Path:
        return self.root / self.folder

    @property
    def jobs(self) -> Path:
        return self.root / "jobs"

    @property
    def artefacts(self) -> Path:
        return self.root / "artefacts"

    @property
    def cache(self) -> Path:
        return self.root / "cache"

    @property
    def ledger(self) -> Path:
        """File of all calls of remote services."""
        return self.root / "ledger.db"

    def dataset(self, name: str) -> Artefact:
        """Return the artefact of the dataset `name`.

        Its key is in its manifest, since it depends on the content of the files.

        Raises:
            UsageError: If `name` cannot name a folder.
        """
        if not re.fullmatch(r"\w[\w .&@+-]{0,99}", name):
            raise UsageError(f"{name!r} is not a valid name for a dataset: use letters, digits and dashes")
        return Artefact("data", name, self.data / name)

    def artefact(self, kind: str, key: str) -> Artefact:
        """Return the artefact of a kind with a key, which may not exist yet."""
        return Artefact(kind, key, self.artefacts / kind / key)

    def datasets(self) -> list[Artefact]:
        """Return all prepared datasets, sorted by name."""
        return _complete("data", self.data)

    def all_artefacts(self) -> list[Artefact]:
        """Return all complete artefacts, sorted by kind and key."""
        kinds = sorted(self.artefacts.iterdir()) if self.artefacts.is_dir() else []
        return [artefact for kind in kinds if kind.is_dir() for artefact in _complete(kind.name, kind)]


def _url(place: str) -> str | None:
    """Return the address of a workspace in object storage, of which a path keeps one slash; None for a folder."""
    found = re.fullmatch(r"([a-z][a-z0-9+.-]+):/+(.+?)/*", place)
    if not found:
        return None
    if "@" in found[2] or "?" in found[2]:
        raise UsageError("the address of a workspace has no credentials in it: the storage's library finds them")
    return f"{found[1]}://{'/' if found[1] == 'file' else ''}{found[2]}"


def _mirror(url: str, environment: Mapping[str, str]) -> Path:
    """Return the folder of this machine that mirrors an address: in EDT_MIRRORS, or among the user's caches."""
    caches = Path(environment.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    mirrors = Path(environment.get("EDT_MIRRORS") or caches / "edt" / "mirrors")
    return mirrors.absolute() / f"{re.sub(r'[^a-zA-Z0-9]+', '-', url)[-60:]}-{digest(url)[:8]}"


def _complete(kind: str, folder: Path) -> list[Artefact]:
    if not folder.is_dir():
        return []
    artefacts = [Artefact(kind, path.name, path) for path in sorted(folder.iterdir()) if path.is_dir()]
    return [artefact for artefact in artefacts if artefact.complete]


def size_on_disk(path: Path) -> int:
    """Return the bytes of all files below `path`."""
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
