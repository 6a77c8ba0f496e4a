"""Textual app with two views: the workspace (`edt ui`) and one run (`edt train`, `edt ui --attach`)."""

from __future__ import annotations

import locale
import os
import sys
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textual.app import App
from textual.binding import Binding
from textual.filter import Monochrome, NoColor

from edt_cli.ui.chart import SERIES
from edt_cli.ui.dialogs import Stop
from edt_cli.ui.followed import Followed
from edt_cli.ui.home import Home
from edt_cli.ui.messages import Act, Export, OpenRun, ShowUsers
from edt_cli.ui.preferences import prefer, preferred
from edt_cli.ui.signals import leaving_on_signals, terminal_gone
from edt_cli.ui.theme import DARK, LIGHT, AsciiOnly
from edt_cli.ui.tones import TONES
from edt_cli.workspace.jobs import Launched
from edt_cli.workspace.layout import Workspace

if TYPE_CHECKING:
    from edt_cli.ui.acts import Acts
    from edt_cli.ui.palette import Everything

WITHOUT_COLOUR = ("vt100", "vt102", "vt220", "vt320", "xterm-mono", "screen-mono")
CHECK_S = 1.0


def _everything() -> type[Everything]:
    """Return the provider of the palette, which is not imported before somebody asks for it."""
    from edt_cli.ui.palette import Everything

    return Everything


class EdtApp(App[None]):
    """App that shows a workspace or one run.

    Args:
        workspace: The workspace.
        attach: Folder of a run or job to watch; by default the app shows the workspace.
        launched: Process whose end closes the view.
        ascii_only: Draw with ASCII only; None to detect what the terminal supports.
        colour: Use colours; None to detect what the terminal supports.
        light: Use the light theme; None for the theme that was used last.
    """

    TITLE = "edt"
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (120, "-wide")]
    VERTICAL_BREAKPOINTS = [(0, "-low"), (34, "-tall")]
    COMMANDS = {_everything}
    BINDINGS = [
        Binding("q", "leave", "Quit"),
        Binding("ctrl+c", "interrupt", "Quit; in a live view, ask whether to stop", show=False, priority=True),
        Binding("ctrl+q", "leave", "Quit", show=False, priority=True),
        Binding("t", "light_or_dark", "Light or dark", show=False),
    ]
    CSS = """
    .frame { border: round $frame; border-title-style: bold;
        border-title-color: $foreground; border-subtitle-color: $tone-muted; padding: 0 1; }
    .frame:focus-within { border: round $primary; }
    .bar { background: $panel; }
    Sections { background: $panel; }
    ModalScreen .frame { background: $surface; border: round $primary; }
    .rows--head { background: $panel; color: $tone-muted; }
    .rows--cursor { background: $cursor-row; }
    .chart--axis { color: $tone-muted; }
    .chart--cursor { color: $tone-accent; }
    Chart { padding: 0 1; }
    .-wide Pane { layout: horizontal; }
    .-wide Runs Look { height: 1fr; width: 42%; }
    .-wide Look Chart { display: block; }
    .-tall Dashboard #curves.some { display: block; }
    .-wide Dashboard, .-wide Users { layout: vertical; }
    .-wide Results #others { layout: horizontal; }
    .-wide Results #others #beside { width: 11fr; }
    .-wide Results #others #ablation { width: 9fr; }
    .-wide Datasets Rows { height: 1fr; width: 40%; }
    .-wide Compare #left { width: 9fr; }
    .-wide Compare #right { width: 11fr; }
    .-wide Tables #names { height: 1fr; width: 42%; max-width: 70; }
    .-wide LlmCache #models { height: 10; }
    """ + "".join(
        [f".tone--{tone} {{ color: $tone-{tone}; }}\n" for tone in TONES]
        + [f".chart--{number} {{ color: $tone-series-{number}; }}\n" for number in range(SERIES)]
    )

    def __init__(
        self,
        workspace: Workspace,
        attach: Path | None = None,
        launched: Launched | None = None,
        *,
        ascii_only: bool | None = None,
        colour: bool | None = None,
        light: bool | None = None,
    ) -> None:
        super().__init__()
        self.workspace = workspace
        self.attach = attach
        self.launched = launched
        self.ascii_only = not _speaks_unicode() if ascii_only is None else ascii_only
        self.register_theme(DARK)
        self.register_theme(LIGHT)
        light = preferred("theme") == "light" if light is None else light
        self.theme = LIGHT.name if light else DARK.name
        self._until_left = ExitStack()
        self._writer_seen = False
        no_colour = self.no_color or os.environ.get("TERM") in WITHOUT_COLOUR if colour is None else not colour
        self.coloured = not no_colour
        if no_colour:
            # No colour codes at all: a monochrome terminal has only reverse, bold and underline.
            self._filters = [
                line_filter for line_filter in self._filters if not isinstance(line_filter, Monochrome)
            ] + [NoColor()]
        if self.ascii_only:
            self._filters.append(AsciiOnly())

    @cached_property
    def acts(self) -> Acts:
        """What can be done with runs and jobs."""
        from edt_cli.ui.acts import Acts

        return Acts(self, self.workspace, self._reread)

    def on_mount(self) -> None:
        if not self.is_headless:
            self._until_left.enter_context(leaving_on_signals(self.exit))
            self.set_interval(CHECK_S, self._check_terminal)
        if self.attach is not None:
            self._watch(self.attach, self.launched)
        else:
            self.push_screen(Home(self.workspace))

    def _check_terminal(self) -> None:
        """Leave if the terminal is gone and nothing has said so."""
        self._writer_seen, gone = terminal_gone(self._writer_seen)
        if gone:
            self.exit()

    def run(self, *arguments: Any, **options: Any) -> None:
        """Run the app. Signals end it, also where its terminal is gone."""
        with self._until_left:
            super().run(*arguments, **options)

    def on_polled(self) -> None:
        """End a view together with the process that it started."""
        if self.launched is not None and self.launched.code() is not None:
            self.exit()

    def action_leave(self) -> None:
        """Close the view; running processes go on."""
        self.exit()

    def action_interrupt(self) -> None:
        """Ask whether to stop the process that this view shows; if it asks already, stop the process at once."""
        asking = self.screen
        followed = getattr(asking, "followed", None)
        if isinstance(asking, Stop):
            asking.action_answer("stop-now")
        elif self.launched is not None and self.launched.code() is None and isinstance(followed, Followed):
            self.acts.ask_to_stop([followed], leaving=True)
        else:
            self.exit()

    def action_light_or_dark(self) -> None:
        """Switch between the light and the dark theme, and remember it for the next session."""
        light = self.theme == DARK.name
        self.theme = LIGHT.name if light else DARK.name
        prefer("theme", "light" if light else "dark")

    def on_act(self, event: Act) -> None:
        self.acts.do(event.name, event.folders)

    def on_export(self, event: Export) -> None:
        self.acts.export(event.make, event.name)

    def _reread(self) -> None:
        """Let the workspace read its runs again."""
        if home := self._home():
            home.call_later(home.reread)

    def _home(self) -> Home | None:
        return next((screen for screen in self.screen_stack if isinstance(screen, Home)), None)

    def on_open_run(self, event: OpenRun) -> None:
        self._watch(event.folder)

    def _watch(self, folder: Path, launched: Launched | None = None) -> None:
        """Show a run or job on a screen of its own."""
        from edt_cli.ui.run_screen import RunScreen

        self.push_screen(RunScreen(Followed(self.workspace, folder, launched)))

    def on_show_users(self, event: ShowUsers) -> None:
        """Show users in the workspace, as requested by a run's screen.

        The workspace handles requests from its sections itself.
        """
        home = self._home()
        if home is None:
            self.notify("users are looked at from the workspace: edt ui")
            return
        while self.screen is not home:
            self.pop_screen()
        home.show_users(event.data, event.row)


def follow(workspace: Workspace, launched: Launched) -> None:
    """Show a process that this one started, until it ends or the view is closed."""
    EdtApp(workspace, launched.folder, launched).run()


def _speaks_unicode() -> bool:
    """Return whether the terminal can show Unicode."""
    if os.environ.get("EDT_ASCII"):
        return False
    encoding = (getattr(sys.__stdout__, "encoding", None) or locale.getpreferredencoding(False)).lower()
    return "utf" in encoding and os.environ.get("TERM") not in ("linux", *WITHOUT_COLOUR)
