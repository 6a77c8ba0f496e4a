"""Outcome of an audit: one line for each thing that was checked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from edt_cli.config import UserError


@dataclass(frozen=True)
class Check:
    """Something that was checked.

    Attributes:
        step: Link of the chain, such as "dataset" or "results".
        passed: Whether it is as it should be; None if it cannot be checked here.
        said: What was found, in one line.
    """

    step: str
    passed: bool | None
    said: str

    def document(self) -> dict[str, Any]:
        """Return the check as JSON values."""
        return {"step": self.step, "passed": self.passed, "said": self.said}


@dataclass
class Audit:
    """Audit of a run, or of a bundle of runs.

    Attributes:
        name: Name of the run or the bundle.
        label: Name of the run in tables.
        chain: Checks from the raw files to the results.
        leaks: Checks of what the run could have known.
        again: Comparison with the run made again; empty if it was not.
        cells: Figures of the run's results, as tables show them.
        command: Arguments of the `edt` command that makes the run again.
    """

    name: str
    label: str = ""
    chain: list[Check] = field(default_factory=list)
    leaks: list[Check] = field(default_factory=list)
    again: list[Check] = field(default_factory=list)
    cells: list[dict[str, Any]] = field(default_factory=list)
    command: list[str] = field(default_factory=list)

    @property
    def problems(self) -> list[Check]:
        """Checks that failed."""
        return [check for check in (*self.chain, *self.leaks, *self.again) if check.passed is False]

    def document(self) -> dict[str, Any]:
        """Return the audit as JSON values."""
        return {
            "run": self.name,
            "label": self.label,
            "passed": not self.problems,
            **{name: [one.document() for one in getattr(self, name)] for name in ("chain", "leaks", "again")},
            "cells": self.cells,
            "command": self.command,
        }


def tried(step: str, check: Callable[[], Check | list[Check]]) -> list[Check]:
    """Return what a check found; an error that a user can fix is a failed check."""
    try:
        found = check()
    except UserError as error:
        return [Check(step, False, str(error))]
    return found if isinstance(found, list) else [found]
