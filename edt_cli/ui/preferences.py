"""What the app remembers from one session to the next: the theme."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from edt_cli.config import UserError
from edt_cli.workspace.layout import json_object, write_json


def preferences_file(environment: Mapping[str, str] = os.environ) -> Path | None:
    """Return the file of a user's preferences; None for a user without a home folder."""
    try:
        return Path(environment.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "edt" / "app.json"
    except RuntimeError:
        return None


def preferred(name: str) -> Any:
    """Return a preference, or None if it was never chosen or cannot be read."""
    path = preferences_file()
    return None if path is None else (json_object(path) or {}).get(name)


def prefer(name: str, value: Any) -> None:
    """Keep a preference; where it cannot be written, it is lost with the session."""
    path = preferences_file()
    if path is not None:
        with suppress(OSError, UserError):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, {**(json_object(path) or {}), name: value})
