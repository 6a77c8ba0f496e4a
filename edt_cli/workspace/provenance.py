"""What made a run: the processes that worked on it, with their versions, machine, arguments, begin and end."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from edt_cli.workspace.layout import json_object, write_json
from edt_cli.workspace.machine import machine, versions

PROVENANCE = "provenance.json"
HIDDEN = "***"
SECRET = re.compile(
    r"api[_-]?key|secret|passw|credential|(?<![a-z])(?:key|token|auth)(?![a-z])|bearer", re.IGNORECASE
)


@contextmanager
def recorded(folder: Path, **facts: Any) -> Iterator[None]:
    """Add this process to those that worked on a run.

    A process that was killed has no end. Nothing here is part of a key.
    """
    record = {
        "argv": without_secrets([Path(sys.argv[0]).name, *sys.argv[1:]]),
        **versions(),
        **machine(),
        **facts,
        "begin": _now(),
        "end": None,
    }
    processes = [*made_by(folder), record]
    write_json(folder / PROVENANCE, {"processes": processes})
    try:
        yield
    finally:
        record["end"] = _now()
        with suppress(OSError):  # whatever ended the run is the error to report
            write_json(folder / PROVENANCE, {"processes": processes})


def made_by(folder: Path) -> list[dict[str, Any]]:
    """Return the processes that worked on a run, the first one first; [] if none is recorded or readable."""
    processes = (json_object(folder / PROVENANCE) or {}).get("processes")
    return [process for process in processes if isinstance(process, dict)] if isinstance(processes, list) else []


def without_secrets(argv: Sequence[str], environment: Mapping[str, str] = os.environ) -> list[str]:
    """Return arguments without secrets: values of options named so, parts of addresses, keys of the environment."""
    secrets = [
        value for name, value in environment.items() if SECRET.search(name.replace("_", "-")) and len(value) >= 6
    ]
    clean = []
    for before, argument in zip(["", *argv], argv, strict=False):
        if before.startswith("-") and "=" not in before and SECRET.search(before):
            argument = HIDDEN
        name, equals, _ = argument.partition("=")
        if equals and SECRET.search(name):
            argument = f"{name}={HIDDEN}"
        argument = re.sub(r"://[^\s/@]*@", f"://{HIDDEN}@", argument)
        argument = re.sub(r"(://[^\s?]*\?)\S+", rf"\1{HIDDEN}", argument)
        argument = re.sub(r"\b(sk-|hf_|Bearer )\S+", rf"\1{HIDDEN}", argument)
        for secret in secrets:
            argument = argument.replace(secret, HIDDEN)
        clean.append(argument)
    return clean


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
