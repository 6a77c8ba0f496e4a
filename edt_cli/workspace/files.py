"""Writing of files: beside the target, then renamed, so that a reader sees the old content or the new one."""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path

from filelock import FileLock, Timeout

from edt_cli.config import UserError

if sys.platform != "win32":
    import fcntl

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
ERROR_NUMBER = re.compile(r'\(os error (\d+)\)|"errno":"(\d+)"')
"""How an error of Rust (Polars, safetensors) and of DuckDB tells the number of the system's error."""
TEMPORARY = ".tmp"
SCRATCH = ".scratch-"
LOCK = ".lock"
DAY_S = 86_400


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a path to write to, whose file takes the place of `path` at an exit without an error.

    Whatever fails, `path` keeps its old content. A new file has the mode that any new file gets here, an old one
    keeps its own; a link stays one. The content is on disk on return. A pipe or a device is written to directly.

    Raises:
        UserError: If the file cannot be written, with the room there is if that is why.
    """
    with explained(path):
        if path.exists() and not path.is_file():
            yield path
            return
        target = path.resolve()
        stem = f".{target.name[:50]}."  # A name has at most 255 bytes.
        for old in target.parent.glob(f"{escape(stem)}*{TEMPORARY}"):
            if abandoned(old):
                old.unlink(missing_ok=True)
        temporary = target.with_name(f"{stem}{secrets.token_hex(4)}{TEMPORARY}")
        try:
            with temporary.open("xb") as held:
                # Where a file system has no locks, no temporary file counts as abandoned.
                with suppress(OSError):
                    _lock(held.fileno())
                mode = (target if target.exists() else temporary).stat().st_mode
                yield temporary
            temporary.chmod(mode & 0o7777)
            with temporary.open("rb+") as written:
                os.fsync(written.fileno())
            temporary.replace(target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def write_atomic(path: Path, data: bytes | str) -> None:
    """Replace the content of `path`, as `replacing` does."""
    with replacing(path) as temporary:
        temporary.write_bytes(data.encode() if isinstance(data, str) else data)


def abandoned(path: Path) -> bool:
    """Return whether the process that began a temporary file is gone: while it writes, it holds a lock on it."""
    try:
        with path.open("rb+") as file:
            _lock(file.fileno())
    except OSError:
        return False
    return True


def _lock(descriptor: int) -> None:
    """Lock a file until it is closed. On Windows an open file cannot be removed anyway."""
    if sys.platform != "win32":
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """Yield an empty folder that is removed at the end; those that killed processes left are removed first."""
    for old in parent.glob(f"{SCRATCH}*"):
        if not in_use(old):
            shutil.rmtree(old, ignore_errors=True)
    with (
        tempfile.TemporaryDirectory(prefix=SCRATCH, dir=parent, ignore_cleanup_errors=True) as folder,
        FileLock(Path(folder) / LOCK),
    ):
        yield Path(folder)


def in_use(scratch: Path) -> bool:
    """Return whether the process of a scratch folder lives: it holds the lock in it, or is about to take it."""
    lock = scratch / LOCK
    return locked(lock) if lock.exists() else time.time() - scratch.stat().st_mtime < DAY_S


def locked(path: Path) -> bool:
    """Return whether a process holds the lock at `path`; one that may not be tried counts as held."""
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except (Timeout, OSError):
        return True
    lock.release()
    return False


@contextmanager
def explained(path: Path, *, full_only: bool = False) -> Iterator[None]:
    """Turn an error in writing `path` into one line that says why, and how much room there is.

    Args:
        path: The file or folder that is written.
        full_only: Leave all errors but a full disk as they are, since what is done here also reads.

    Raises:
        UserError: In place of an error of the system, whichever library passes it on.
    """
    try:
        yield
    except Exception as error:
        number = error_number(error)
        if number is None or (full_only and number not in FULL):
            raise
        raise UserError(f"cannot write {path}: {reason(number, path if path.is_dir() else path.parent)}") from None


def error_number(error: BaseException) -> int | None:
    """Return the number of the system's error behind an exception, or None if there is none."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    match = ERROR_NUMBER.search(str(error))
    return int(match[1] or match[2]) if match else None


def reason(number: int, folder: Path) -> str:
    """Say what an error of the system means; where a disk is full, with the room that it has."""
    said = os.strerror(number)
    if number not in FULL:
        return said
    with suppress(OSError):
        said += f" ({shutil.disk_usage(folder).free / 1e6:,.1f} MB are free there)"
    return f"{said}; nothing was lost: make room, and run the command again"
