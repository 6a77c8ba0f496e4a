"""What ctrl+p finds: actions, sections, runs, datasets, tables, users and settings, by any part of their names."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from rich.text import Text
from textual.command import DiscoveryHit, Hit, Hits, Provider
from textual.markup import escape

from edt_cli.ui.home import Home
from edt_cli.ui.messages import OpenRun, ShowUsers
from edt_cli.ui.screen import EdtScreen
from edt_cli.ui.text import safe
from edt_cli.ui.tones import sign
from edt_cli.workspace.layout import Artefact

if TYPE_CHECKING:
    from textual.app import App

MOST_USERS = 20
"""Most users that are offered: there may be 100,000."""
KINDS = ("action", "section", "run", "dataset", "table", "setting", "user")
"""Kinds of entries, those first that are meant first where a text is in several."""


@dataclass(frozen=True)
class Entry:
    """Something that the palette finds.

    Attributes:
        kind: One of KINDS.
        name: Its name.
        about: What it is, in a few words.
        call: Function that goes there, or does it.
        others: Other words by which it is found.
    """

    kind: str
    name: str
    about: str
    call: Callable[[], Any]
    others: str = ""

    def score(self, words: Sequence[str]) -> float:
        """Return how well it answers to words (0 to 1); 0 unless all are in it."""
        name = self.name.casefold()
        whole = f"{name} {self.others}".casefold()
        if not all(word in whole for word in words):
            return 0.0
        early = 1.0 - min(1.0, max(name.find(words[0]), 0) / 40) if words and words[0] in name else 0.0
        return 0.4 + 0.3 * early + 0.25 * (1 - KINDS.index(self.kind) / len(KINDS)) + 0.05 * (name == words[0])


class Everything(Provider):
    """Entries for all that the workspace and the screen hold."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._entries: list[Entry] = []
        self._users: list[tuple[str, Sequence[str]]] = []

    @property
    def home(self) -> Home | None:
        """The screen of the workspace, if the app has one."""
        return next((screen for screen in self.app.screen_stack if isinstance(screen, Home)), None)

    async def startup(self) -> None:
        """List everything; users are read in another thread."""
        self._entries = [*_actions(self.app, self.screen), *_sections(self.screen)]
        if (home := self.home) is not None:
            self._entries += [*_runs(home), *_datasets(home), *_tables(home), *_settings(self.app)]
            self._users = await asyncio.to_thread(lambda: list(_users(home.workspace.datasets())))

    async def discover(self) -> Hits:
        for entry in self._entries:
            if entry.kind in KINDS[:2]:
                yield DiscoveryHit(entry.name, entry.call, help=escape(entry.about))

    async def search(self, query: str) -> Hits:
        words = query.casefold().split()
        found = [(entry.score(words), entry) for entry in [*self._entries, *self._matching_users(words)]]
        hits = [(score, entry) for score, entry in found if score]
        if not hits:
            # Nothing has the words in it: letters in their order may do.
            matcher = self.matcher(query)
            hits = [(match / 2, entry) for entry in self._entries if (match := matcher.match(entry.name)) > 0]
        for score, entry in hits:
            yield Hit(score, Text(safe(entry.name, 100)), entry.call, help=escape(f"{entry.kind}: {entry.about}"))

    def _matching_users(self, words: Sequence[str]) -> Iterator[Entry]:
        """Yield the first users in whose ids, or in the word `user` before them, are all words."""
        words = [word for word in words if word != "user"]
        home, left = self.home, MOST_USERS
        for data, names in self._users if words and home is not None else ():
            for name in names:
                if all(word in name.casefold() for word in words):
                    yield Entry("user", name, f"of {data}", partial(_show_user, self.app, data, name), "user")
                    left -= 1
                    if not left:
                        return


def _actions(app: App[Any], screen: Any) -> Iterator[Entry]:
    """Yield what can be done on the screen now, by its bindings; moving about in a widget is not among it."""
    known = set()
    for active in screen.active_bindings.values():
        binding = active.binding
        shown = active.enabled and binding.description and active.node is not screen.focused
        if not shown or binding.key.isdigit() or binding.description in known:
            continue
        known.add(binding.description)
        call = partial(app.run_action, binding.action, active.node)
        yield Entry("action", binding.description, f"key {app.get_key_display(binding)}", call)
    yield Entry("action", "Save a screenshot", "this screen as SVG", app.action_screenshot)


def _sections(screen: Any) -> Iterator[Entry]:
    for name in screen.names if isinstance(screen, EdtScreen) else ():
        yield Entry("section", name, "of this screen", partial(screen.choose, name))


def _runs(home: Home) -> Iterator[Entry]:
    for row in home.shelf.runs:
        written = " ".join([row.annotations.name, *row.annotations.tags, row.annotations.note])
        about = f"{sign(row.status)}  {row.title} on {row.data}  {safe(written, 80)}".rstrip()
        others = f"run {row.title} {row.data} {row.status} {row.preset} {written}"
        yield Entry("run", row.name, about, partial(home.post_message, OpenRun(row.folder)), others)


def _datasets(home: Home) -> Iterator[Entry]:
    for artefact in home.workspace.datasets():
        call = partial(home.post_message, ShowUsers(artefact.key))
        yield Entry("dataset", artefact.key, "its users: histories and profiles", call, "dataset users")


def _tables(home: Home) -> Iterator[Entry]:
    for number, (name, _) in enumerate(home.pane("Tables").makers()):
        yield Entry("table", name, "read, copy or write it", partial(_show_table, home, number), "table")


def _settings(app: App[Any]) -> Iterator[Entry]:
    from edt_cli.config import Settings, fields_of
    from edt_cli.models.llm_edt_options import LLMEDTOptions

    fields = [*fields_of(Settings), *((f"options.{name}", field) for name, field in fields_of(LLMEDTOptions))]
    for name, field in fields:
        if name.count(".") == 1:
            call = partial(_show_setting, app, name)
            yield Entry("setting", name, field.description or "", call, f"setting {field.description or ''}")


def _users(datasets: Iterable[Artefact]) -> Iterator[tuple[str, Sequence[str]]]:
    """Yield each dataset with the ids of its users; one that cannot be read has none."""
    import polars as pl

    for artefact in datasets:
        try:
            yield artefact.key, pl.read_parquet(artefact.path / "users.parquet", columns=["id"])["id"].to_list()
        except (OSError, pl.exceptions.PolarsError):
            continue


def _home_of(app: App[Any]) -> Home:
    """Return the screen of the workspace, after leaving those above it."""
    home = next(screen for screen in app.screen_stack if isinstance(screen, Home))
    while app.screen is not home:
        app.pop_screen()
    return home


def _show_user(app: App[Any], data: str, name: str) -> None:
    _home_of(app).show_users(data, user=name)


def _show_table(home: Home, number: int) -> None:
    _home_of(home.app).show_table(number)


def _show_setting(app: App[Any], name: str) -> None:
    from edt_cli.ui.setting import SettingDialog

    app.push_screen(SettingDialog(name))
