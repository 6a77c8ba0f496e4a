"""Files of plans and searches: those that come with edt by name, any other by its path."""

from __future__ import annotations

from pathlib import Path

from edt_cli.config import UsageError

PLANS = Path(__file__).parent / "plans"
SEARCHES = Path(__file__).parent / "searches"
STORAGE = "EDT_STORAGE"
"""Variable with the storage of a search's study, as there may be a password in it."""
OF_EDT = ("demo", "llm-edt")
"""Plans of what the paper does not have."""


def evidence() -> list[str]:
    """Return the names of the plans of the paper's evidence: tables, figures, then what has no number."""
    kinds = ("table", "figure")
    plans = [name for name in names(PLANS) if name not in OF_EDT]
    of_kind = {kind: [name for name in plans if name.startswith(kind)] for kind in kinds}
    return [*of_kind["table"], *of_kind["figure"], *(name for name in plans if not name.startswith(kinds))]


def names(folder: Path) -> list[str]:
    """Return the names of the files that come with edt."""
    return sorted(path.stem for path in folder.glob("*.toml"))


def find(given: Path, folder: Path) -> Path:
    """Return the file that a name or a path stands for.

    Raises:
        UsageError: If it is neither; the message lists the names.
    """
    if str(given) in names(folder):
        return folder / f"{given}.toml"
    if not given.exists():
        kind = {PLANS: "plan", SEARCHES: "search"}[folder]
        raise UsageError(
            f"there is no {kind} {str(given)!r}: give a file, or the name of one that comes "
            f"with edt ({', '.join(names(folder))})"
        )
    return given
