"""What people write on a run: a name, tags and a note, in a file of its own beside the plan."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edt_cli.config import UsageError
from edt_cli.workspace.layout import json_object, write_json

ANNOTATIONS = "annotations.json"
WORD = re.compile(r"\w[\w.+-]{0,59}")
MOST_TAGS, LONGEST_NOTE = 20, 1000


@dataclass(frozen=True)
class Annotations:
    """Name, tags and note of a run; they change no key and no figure."""

    name: str = ""
    tags: tuple[str, ...] = ()
    note: str = ""

    def checked(self) -> Annotations:
        """Return itself.

        Raises:
            UsageError: If a name or a tag has other characters, or there is too much.
        """
        for word in (*([self.name] if self.name else []), *self.tags):
            if not WORD.fullmatch(word):
                raise UsageError(f"{word!r} is no name or tag: use at most 60 letters, digits, dots and dashes")
        if len(self.tags) > MOST_TAGS:
            raise UsageError(f"a run has at most {MOST_TAGS} tags")
        if len(self.note) > LONGEST_NOTE:
            raise UsageError(f"a note has at most {LONGEST_NOTE:,} characters; this one has {len(self.note):,}")
        return self


def annotations_of(folder: Path) -> Annotations:
    """Read what was written on a run; anything that is not of the form is left out."""
    document = json_object(folder / ANNOTATIONS) or {}
    name, tags, note = document.get("name"), document.get("tags"), document.get("note")
    return Annotations(
        name=name if isinstance(name, str) and _is_word(name) else "",
        tags=tuple(filter(_is_word, tags))[:MOST_TAGS] if isinstance(tags, list) else (),
        note=note[:LONGEST_NOTE] if isinstance(note, str) else "",
    )


def annotate(folder: Path, annotations: Annotations) -> None:
    """Write the annotations of a run.

    Raises:
        UsageError: If they are not of the form.
    """
    write_json(folder / ANNOTATIONS, asdict(annotations.checked()))


def _is_word(value: Any) -> bool:
    return isinstance(value, str) and WORD.fullmatch(value) is not None
