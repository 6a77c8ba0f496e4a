"""Textual app with two views: the workspace (`edt ui`) and one run (`edt train`, `edt ui --attach`)."""

from __future__ import annotations

import asyncio
import locale
import os
import signal
import sys
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path

from textual.app import App, SystemCommand
from textual.binding import Binding
from textual.filter import Monochrome, NoColor
from textual.screen import Screen

from edt_cli.ui.followed import Followed
from edt_cli.ui.home import Home
from edt_cli.ui.messages import OpenRun, ShowUsers
from edt_cli.ui.run_screen import RunScreen
from edt_cli.ui.screen import EdtScreen
from edt_cli.ui.theme import DARK, LIGHT, AsciiOnly
from edt_cli.workspace.jobs import Launched
from edt_cli.workspace.layout import Workspace

WITHOUT_COLOUR = ("vt100", "vt102", "vt220", "vt320", "xterm-mono", "screen-mono")
SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class EdtApp(App[None]):
    """App that shows a workspace or one run.

    Args:
        workspace: The workspace.
        attach: Folder of a run or job to watch; by default the app shows the workspace.
        launched: Process whose end closes the view.
        ascii_only: Draw with ASCII only; None to detect what the terminal supports.
        colour: Use colours; None to detect what the terminal supports.
        light: Start with the light theme.
    """

    TITLE = "edt"
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (120, "-wide")]
    ENABLE_COMMAND_PALETTE = True
    BINDINGS = [
        Binding("q", "leave", "Quit"),
        Binding("ctrl+c", "leave", "Quit", show=False, priority=True),
        Binding("ctrl+q", "leave", "Quit", show=False, priority=True),
        Binding("t", "light_or_dark", "Light or dark", show=False),
    ]
    CSS = """
    .frame { border: round $frame; border-title-style: bold;
        border-title-color: $foreground; border-subtitle-color: $foreground-muted; padding: 0 1; }
    .frame:focus-within { border: round $primary; }
    .bar { background: $panel; }
    Sections { background: $panel; }
    ModalScreen .frame { background: $surface; border: round $primary; }
    .rows--head { background: $panel; }
    .chart--axis { color: $foreground-muted; }
    .chart--0 { color: $series-0; }
    .chart--1 { color: $series-1; }
    .chart--2 { color: $series-2; }
    .chart--3 { color: $series-3; }
    Chart { padding: 0 1; }
    .-wide Pane { layout: horizontal; }
    .-wide Runs, .-wide Users { layout: vertical; }
    .-wide Datasets Rows { height: 1fr; width: 79; }
    .-wide Runs #facts { height: 10; }
    .-wide Tables #names { height: 1fr; width: 56; }
    .-wide LlmCache #models { height: 10; }
    """

    def __init__(
        self,
        workspace: Workspace,
        attach: Path | None = None,
        launched: Launched | None = None,
        *,
        ascii_only: bool | None = None,
        colour: bool | None = None,
        light: bool = False,
    ) -> None:
        super().__init__()
        self.workspace = workspace
        self.attach = attach
        self.launched = launched
        self.ascii_only = not _speaks_unicode() if ascii_only is None else ascii_only
        self.register_theme(DARK)
        self.register_theme(LIGHT)
        self.theme = LIGHT.name if light else DARK.name
        no_colour = self.no_color or os.environ.get("TERM") in WITHOUT_COLOUR if colour is None else not colour
        if no_colour:
            # No colour codes at all: a monochrome terminal has only reverse, bold and underline.
            self._filters = [
                line_filter for line_filter in self._filters if not isinstance(line_filter, Monochrome)
            ] + [NoColor()]
        if self.ascii_only:
            self._filters.append(AsciiOnly())

    def on_mount(self) -> None:
        # Without this, a signal would end the app and leave the terminal raw, with mouse and alternate screen on.
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            with suppress(NotImplementedError, ValueError, RuntimeError):
                loop.add_signal_handler(number, self.exit)
        if self.attach is not None:
            self.push_screen(RunScreen(Followed(self.workspace, self.attach)))
        else:
            self.push_screen(Home(self.workspace))

    def on_polled(self) -> None:
        """End a view together with the process that it started."""
        if self.launched is not None and self.launched.code() is not None:
            self.exit()

    def action_leave(self) -> None:
        """Close the view; running processes go on."""
        self.exit()

    def action_light_or_dark(self) -> None:
        """Switch between the light and the dark theme."""
        self.theme = LIGHT.name if self.theme == DARK.name else DARK.name

    def on_open_run(self, event: OpenRun) -> None:
        self.push_screen(RunScreen(Followed(self.workspace, event.folder)))

    def on_show_users(self, event: ShowUsers) -> None:
        """Show users in the workspace, as requested by a run's screen.

        The workspace handles requests from its sections itself.
        """
        home = next((screen for screen in self.screen_stack if isinstance(screen, Home)), None)
        if home is None:
            self.notify("users are looked at from the workspace: edt ui")
            return
        while self.screen is not home:
            self.pop_screen()
        home.show_users(event.data, event.row)

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        yield SystemCommand("Light or dark", "The other theme", self.action_light_or_dark)
        yield SystemCommand("Quit", "Close the view; runs go on", self.action_leave)
        yield SystemCommand("Save a screenshot", "This screen as SVG", self.action_screenshot)
        if isinstance(screen, EdtScreen):
            yield SystemCommand("Keys", "Help for each key here", screen.action_help)
            for name in screen.names:
                yield SystemCommand(name, "Go to this section", partial(screen.choose, name))
        if isinstance(screen, Home):
            yield from screen.commands()


def follow(workspace: Workspace, launched: Launched) -> None:
    """Show a process that this one started, until it ends or the view is closed."""
    EdtApp(workspace, launched.folder, launched).run()


def _speaks_unicode() -> bool:
    """Return whether the terminal can show Unicode."""
    if os.environ.get("EDT_ASCII"):
        return False
    encoding = (getattr(sys.__stdout__, "encoding", None) or locale.getpreferredencoding(False)).lower()
    return "utf" in encoding and os.environ.get("TERM") not in ("linux", *WITHOUT_COLOUR)
