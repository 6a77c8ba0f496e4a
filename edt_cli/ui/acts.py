"""What can be done with runs and jobs from any screen: a process is started or asked, or a call ends at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from edt_cli.config import UserError
from edt_cli.inference.listing import read_run
from edt_cli.ui.dialogs import Question, Stop, Sure
from edt_cli.ui.export import write
from edt_cli.ui.followed import Followed
from edt_cli.ui.form import StartForm, may_spend, read_choices
from edt_cli.ui.run_screen import RunScreen
from edt_cli.ui.text import safe, size
from edt_cli.ui.tones import Tinted, muted
from edt_cli.workspace.annotations import annotate, annotations_of
from edt_cli.workspace.events import Request
from edt_cli.workspace.housekeeping import at_work, remove_folder
from edt_cli.workspace.jobs import OBEDIENT, as_typed, launch
from edt_cli.workspace.layout import Workspace, json_object, size_on_disk
from edt_cli.workspace.provenance import HIDDEN
from edt_cli.workspace.remote import check_removable
from edt_cli.workspace.runs import PLAN, Run, rename
from edt_cli.workspace.status import RunStatus

if TYPE_CHECKING:
    from textual.app import App

    from edt_cli.reporting.figure import Figure
    from edt_cli.reporting.table import Table

T = TypeVar("T")
TABLE = "file of this table: .csv, .md, .tex, .html or .json"
CHART = "file of this chart: .png, .svg or .pdf (pip install 'edt-cli[figures]'), or .csv, .json"
MOST = 12
"""Most runs that a question names."""
NOTE = "a note on this run; an empty one takes it away"
NAME = "a name by which it is found, beside its id; an empty one takes it away"
TAGS = "tags, with spaces between them; those taken out are taken away"


class Acts:
    """Acts by the names of `act_keys.ACTS`, on the screens of an app."""

    def __init__(self, app: App[Any], workspace: Workspace, changed: Callable[[], None]) -> None:
        """Keep where to act.

        Args:
            app: The app, which shows dialogs and notices.
            workspace: The workspace.
            changed: Function that is called when there are more or fewer runs, or what is written on one is new.
        """
        self.app = app
        self.workspace = workspace
        self.changed = changed

    def do(self, name: str, folders: Sequence[Path]) -> None:
        """Do something with runs or jobs."""
        getattr(self, name)(list(folders))

    def new(self, folders: Sequence[Path]) -> None:
        """Show the form of a new run, of the data of the run under the cursor if there is one."""
        plan = json_object(folders[0] / PLAN) if folders else None
        self._ask_for_a_run(["train", "--data", str(plan["data"])] if plan and plan.get("data") else [])

    def repeat(self, folders: Sequence[Path]) -> None:
        """Show the form with the settings of a run."""
        folder = folders[0]
        self.reading(lambda: _again(self.workspace, folder), self._ask_for_a_run)

    def resume(self, folders: Sequence[Path]) -> None:
        """Start the command of a run or job that did not come to its end, and show it."""
        folder = folders[0]

        def then(arguments: list[str]) -> None:
            rows = [["The same command goes on where it stopped:"], [], [as_typed(arguments)]]
            if may_spend(arguments) and "--max-cost" not in arguments:
                rows += [[], [Tinted("It asks an LLM that may send a bill, without a limit (--max-cost).", "warn")]]

            def answered(yes: bool | None) -> None:
                if yes:
                    self.start(arguments)

            self.app.push_screen(Sure(f"resume {safe(folder.name, 50)}", rows), answered)

        self.reading(lambda: _resumed(self.workspace, folder), then)

    def stop(self, folders: Sequence[Path]) -> None:
        """Ask how to stop what is at work, then ask its process."""
        shown = self.app.screen
        if isinstance(shown, RunScreen):
            self.ask_to_stop([shown.followed])
            return

        def read() -> list[Followed]:
            read = [Followed(self.workspace, folder) for folder in folders]
            for followed in read:
                followed.catch_up()
            return read

        self.reading(read, self.ask_to_stop)

    def ask_to_stop(self, what: Sequence[Followed], *, leaving: bool = False) -> None:
        """Ask whether to stop runs or jobs, and with `leaving` whether to leave them running."""
        busy = [followed for followed in what if followed.at_work]
        if not busy:
            self.say(f"{what[0].name} is {what[0].status}: nothing is at work")
            return

        def answered(answer: Request | Literal["leave"] | None) -> None:
            if answer == "leave":
                self.app.exit()
            elif answer is not None:
                for followed in busy:
                    self.request(followed, answer)

        command = busy[0].command if len(busy) == 1 else ""
        training = any(followed.training for followed in busy)
        llm = busy[0].working.llm if len(busy) == 1 and not training else None
        question = Stop(training=training, leaving=leaving, command=command, count=len(busy), llm=llm)
        self.app.push_screen(question, answered)

    def request(self, followed: Followed, request: Request) -> None:
        """Ask something of a process at work."""
        try:
            followed.request(request)
        except (OSError, UserError) as error:
            told = error.strerror if isinstance(error, OSError) else str(error)
            self.say(f"cannot ask the run: {told}", error=True)

    def pause(self, folders: Sequence[Path]) -> None:
        """Pause the run or job on the screen, or let it go on."""
        shown = self.app.screen
        if isinstance(shown, RunScreen) and shown.followed.at_work:
            followed = shown.followed
            paused = followed.status == RunStatus.PAUSED or followed.working.requested == "pause"
            self.request(followed, "run" if paused else "pause")
            shown.show_all()

    def delete(self, folders: Sequence[Path]) -> None:
        """Ask whether to delete runs, and say how much that frees."""
        try:
            check_removable(self.workspace)
        except UserError as error:
            self.say(str(error), error=True)
            return

        def then(sizes: dict[Path, int]) -> None:
            busy = [folder.name for folder in sizes if at_work(folder)]
            if busy:
                self.say(f"a process is making {', '.join(busy)}: stop it first (x)", error=True)
                return
            freed = size(sum(sizes.values()))
            listed = list(sizes.items())[:MOST]
            rows = [[safe(folder.name, 66), muted(f"  {size(count)}")] for folder, count in listed]
            more = [[muted(f"and {len(sizes) - MOST} more")]] if len(sizes) > MOST else []
            kept = "Weights, results and log go. Artefacts stay: edt clean frees those that no run needs."
            what = "this run" if len(sizes) == 1 else f"these {len(sizes)} runs"
            title = f"delete {what}: frees {freed}"
            question = Sure(title, [*rows, *more, [], [kept]])
            self.app.push_screen(question, partial(self._deleted, list(sizes), freed))

        self.reading(lambda: {folder: size_on_disk(folder) for folder in folders}, then)

    def _deleted(self, folders: list[Path], freed: str, yes: bool | None) -> None:
        if not yes:
            return

        def remove() -> None:
            for folder in folders:
                remove_folder(folder)

        def then(_: None) -> None:
            shown = self.app.screen
            if isinstance(shown, RunScreen) and shown.followed.run_row.folder in folders:
                shown.action_back()
            self.say(f"deleted {len(folders)} {'run' if len(folders) == 1 else 'runs'}, {freed} freed")
            self.changed()

        self.reading(remove, then)

    def copy(self, folders: Sequence[Path]) -> None:
        """Copy the command that makes a run, and show it, as not every terminal lets an app copy."""
        folder = folders[0]

        def then(arguments: list[str]) -> None:
            self.app.copy_to_clipboard(as_typed(arguments))
            self.say(f"copied, where the terminal lets an app copy:\n{as_typed(arguments)}")

        self.reading(lambda: _typed(self.workspace, folder), then)

    def note(self, folders: Sequence[Path]) -> None:
        """Edit the note on a run."""
        (folder,) = folders
        self._ask_for_text(
            NOTE,
            annotations_of(folder).note,
            lambda text: annotate(folder, replace(annotations_of(folder), note=text)),
        )

    def rename(self, folders: Sequence[Path]) -> None:
        """Edit the name of a run."""
        (folder,) = folders
        self._ask_for_text(
            NAME, annotations_of(folder).name, lambda text: rename(self.workspace, folder, text.strip())
        )

    def tag(self, folders: Sequence[Path]) -> None:
        """Edit the tags of a run, or those that several runs have in common."""
        shared = [tag for tag in _tags(folders[0]) if all(tag in _tags(folder) for folder in folders)]

        def write(text: str) -> None:
            for folder in folders:
                own = [tag for tag in _tags(folder) if tag not in shared]
                tags = tuple(dict.fromkeys([*own, *text.split()]))
                annotate(folder, replace(annotations_of(folder), tags=tags))

        self._ask_for_text(TAGS, " ".join(shared), write)

    def _ask_for_text(self, hint: str, before: str, write: Callable[[str], None]) -> None:
        """Ask for a line of text, and write it on a run if it is another one."""

        def answered(text: str | None) -> None:
            if text is None or text == before:
                return
            try:
                write(text)
            except (UserError, OSError) as error:
                self.say(str(error), error=True)
            self.changed()

        self.app.push_screen(Question(hint, before), answered)

    def export(self, make: Callable[[], Table | Figure], name: str) -> None:
        """Ask for a file, and write a table or chart to it."""

        def to(path: Path, yes: bool | None = True) -> None:
            if yes:
                self.reading(lambda: write(path, make()), lambda _: self.say(f"written to {path}"))

        def answered(text: str | None) -> None:
            if not text:
                return
            path = Path(text).expanduser()
            if path.exists():
                self.app.push_screen(
                    Sure("replace a file", [f"{safe(path, 200)} is there already."]), partial(to, path)
                )
            else:
                to(path)

        drawn = Path(name).suffix == ".png"
        self.app.push_screen(Question(CHART if drawn else TABLE, name), answered)

    def start(self, arguments: Sequence[str]) -> None:
        """Start a command as a process of its own, and show it."""
        try:
            words = [*arguments, *self._where(arguments)]
            data = next((after for before, after in pairwise(words) if before in DATA), "demo")
            launched = launch(self.workspace, words[0], data, words, max(80, self.app.size.width))
        except OSError as error:
            self.say(f"cannot start it: {error.strerror}", error=True)
            return
        self.app.push_screen(RunScreen(Followed(self.workspace, launched.folder, launched)))
        self.changed()

    def _where(self, arguments: Sequence[str]) -> list[str]:
        """Return the option that names this workspace, where the process would take another."""
        here = "--workspace" in arguments or Workspace.find().root == self.workspace.root.absolute()
        return [] if here else ["--workspace", self.workspace.address]

    def _ask_for_a_run(self, arguments: list[str]) -> None:
        def answered(given: list[str] | None) -> None:
            if given is not None:
                self.start(given)

        self.reading(
            lambda: read_choices(self.workspace),
            lambda choices: self.app.push_screen(StartForm(self.workspace, choices, arguments), answered),
        )

    def reading(self, work: Callable[[], T], then: Callable[[T], object]) -> None:
        """Call `work` in another thread, then `then` in this one; an error is shown in one line."""

        async def both() -> None:
            try:
                result = await asyncio.to_thread(work)
            except (UserError, OSError) as error:
                self.say(str(error), error=True)
                return
            then(result)

        self.app.run_worker(both(), group="acts", exit_on_error=True)

    def say(self, message: str, *, error: bool = False) -> None:
        """Show a notice."""
        self.app.notify(message, severity="error" if error else "information", markup=False, timeout=8)


DATA = ("--data", "-d")


def _tags(folder: Path) -> tuple[str, ...]:
    return annotations_of(folder).tags


def _typed(workspace: Workspace, folder: Path) -> list[str]:
    """Return the arguments that made a run or job as they were typed, else those that would make the run again.

    Raises:
        UserError: If they are not known.
    """
    arguments = Followed(workspace, folder).arguments
    return arguments or _again(workspace, folder)


def _resumed(workspace: Workspace, folder: Path) -> list[str]:
    """Return the arguments with which a run or job goes on.

    Raises:
        UserError: If they are not known, there was a secret among them, which is not kept, or the command cannot be
            started from here, as `edt compare`.
    """
    arguments = _typed(workspace, folder)
    if arguments[0] not in OBEDIENT:
        raise UserError(f"start it from the command line: {as_typed(arguments)}")
    if any(HIDDEN in word for word in arguments):
        raise UserError(f"a secret was in the command, and is not kept: type it again: {as_typed(arguments)}")
    return arguments


def _again(workspace: Workspace, folder: Path) -> list[str]:
    """Return the arguments that make a run again, from its settings.

    Raises:
        UserError: If it is no run, or cannot be read.
    """
    from edt_cli.inference.reproduce import command_of

    row = read_run(folder)
    try:
        return command_of(Run(row.folder, row.plan))
    except (ValueError, KeyError, TypeError):
        raise UserError(f"the settings of {folder.name} cannot be read") from None
