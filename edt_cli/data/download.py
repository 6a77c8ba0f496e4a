"""Download of the public files of a pair; an interrupted download can be continued."""

from __future__ import annotations

import http.client
import re
import shutil
import time
import urllib.error
import urllib.request
from email.message import Message
from pathlib import Path

from filelock import FileLock

from edt_cli.config import UserError
from edt_cli.data.amazon import PAIRS, PAPER_RELEASE, RELEASES
from edt_cli.workspace.event_types import Remark
from edt_cli.workspace.events import Events
from edt_cli.workspace.files import explained, write_atomic

CHUNK = 1 << 20
ATTEMPTS = 5
TIMEOUT_S = 60
MB = 1_000_000


def fetch_pair(
    name: str, folder: Path, events: Events, year: int = PAPER_RELEASE, *, url: str | None = None
) -> Path:
    """Download reviews and metadata of a pair to `folder`, and return it; existing files are kept.

    Args:
        name: The pair.
        folder: Where the files go.
        events: Where progress is reported.
        year: Year of the release.
        url: Address of the release's files, if not the usual one.

    Raises:
        UserError: If the server cannot be reached, or the download breaks off repeatedly.
    """
    release = RELEASES[year]
    folder.mkdir(parents=True, exist_ok=True)
    for _, category in PAIRS[name]:
        for path in (release.reviews.format(category), release.metadata.format(category)):
            fetch(f"{url or release.url}/{path}", folder / Path(path).name, events)
    return folder


def fetch(url: str, target: Path, events: Events, *, pause_s: float = 2.0) -> None:
    """Download a file.

    A partial download is kept in `target`.part, with the server's tag of the version beside it, so that parts of
    two versions are never joined.

    Raises:
        UserError: If the server cannot be reached, the download breaks off repeatedly, or the disk is full.
    """
    with FileLock(target.with_name(f".{target.name}.lock")):
        if target.exists():
            return
        part, tag = target.with_name(f"{target.name}.part"), target.with_name(f"{target.name}.part.tag")
        failures = 0
        while True:
            before = _size(part)
            try:
                whole = _fetch_more(url, part, tag, events)
            except urllib.error.HTTPError as error:
                raise UserError(f"{url}: the server says {error.code} {error.reason}") from None
            except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
                problem = str(getattr(error, "reason", error)) or type(error).__name__
                if isinstance(error, urllib.error.URLError) and not _size(part):
                    raise UserError(
                        f"cannot reach {url} ({problem}); are you online? "
                        "To read files from a folder, use --raw DIR"
                    ) from None
            except OSError as error:
                raise UserError(f"cannot write {part}: {error.strerror}") from None
            else:
                if whole:
                    break
                problem = "the connection closed early"
            failures = 0 if _size(part) > before else failures + 1
            if failures >= ATTEMPTS:
                raise UserError(
                    f"the download of {target.name} broke off at {_size(part) / MB:,.0f} MB ({problem}); "
                    "run the same command again to continue"
                )
            time.sleep(pause_s * failures)
        part.replace(target)
        tag.unlink(missing_ok=True)
    events.emit(Remark(message=f"{target.name}: {_size(target) / MB:,.0f} MB"))


def _fetch_more(url: str, part: Path, tag: Path, events: Events) -> bool:
    """Append the rest of the file; return True if it is then complete, by the size that the server states."""
    received = _size(part)
    version = tag.read_text("utf-8") if received and tag.is_file() else ""
    headers = {"User-Agent": "edt", "Accept-Encoding": "identity"}
    if version:
        headers |= {"Range": f"bytes={received}-", "If-Range": version}
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        # 416: there is no rest, since the download is complete, or longer than the current version of the file.
        if error.code != 416:
            raise
        whole = _range(error.headers)[1] == received
        if not whole:
            part.unlink()
        return whole
    with response:
        begin, total = _range(response.headers) if response.status == 206 else (0, _length(response.headers))
        if begin != received:
            part.unlink(missing_ok=True)
        if begin not in (0, received) or begin is None:
            return False
        _require_space(part, (total or 0) - begin)
        write_atomic(tag, _version(response.headers))
        _append(response, part, total, events)
    if total is not None and _size(part) > total:
        part.unlink()
        return False
    return total is None or _size(part) == total


def _append(response: http.client.HTTPResponse, part: Path, total: int | None, events: Events) -> None:
    tenths = -1
    with explained(part, full_only=True), part.open("ab") as file:
        while chunk := response.read(CHUNK):
            file.write(chunk)
            if total:
                done = file.tell()
                message = {"message": f"{part.stem}: {done / MB:,.0f} of {total / MB:,.0f} MB"}
                new = 10 * done // total > tenths
                events.progress(f"fetch {part.stem} (MB)", done // MB, total // MB, **(message if new else {}))
                tenths = 10 * done // total


def _version(headers: Message) -> str:
    """Return the version for If-Range: a strong ETag, else the date of modification."""
    etag = headers.get("ETag", "")
    return etag if etag.startswith('"') else headers.get("Last-Modified", "")


def _length(headers: Message) -> int | None:
    length = headers.get("Content-Length", "")
    return int(length) if length.isdecimal() else None


def _range(headers: Message) -> tuple[int | None, int | None]:
    """Parse the first byte and the total size of Content-Range (`bytes 100-199/200`, `bytes */200`)."""
    match = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(?:(\d+)|\*)", headers.get("Content-Range", ""))
    first, total = match.groups() if match else (None, None)
    return int(first) if first else None, int(total) if total else None


def _require_space(part: Path, needed: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if needed > free:
        raise UserError(
            f"{part.parent} has room for {free / MB:,.0f} MB; {needed / MB:,.0f} MB are still to be downloaded"
        )


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
