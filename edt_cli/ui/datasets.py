"""Section of the prepared datasets: their statistics, figure 1, and users to try."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.widgets import Static

from edt_cli.reporting.bar_chart import bar_chart
from edt_cli.ui.messages import ShowUsers
from edt_cli.ui.pane import Pane
from edt_cli.ui.rows import Col, Rows
from edt_cli.ui.text import fit, safe
from edt_cli.ui.tones import Tinted
from edt_cli.workspace.layout import Artefact, Workspace

COLUMNS = [Col("data", 20), Col("state", 9), Col("domains", 18), Col("made", 20)]


class Datasets(Pane):
    """Section of the prepared datasets; `u` or enter shows the users of the one under the cursor."""

    BINDINGS = [Binding("u,enter", "users", "Users", key_display="u")]
    DEFAULT_CSS = """
    Datasets Rows { height: 6; }
    """

    def __init__(self, workspace: Workspace) -> None:
        super().__init__()
        self.workspace = workspace
        self.datasets: list[Artefact] = []
        self._known: dict[tuple[str, int], RenderableType] = {}

    def compose(self) -> ComposeResult:
        yield Rows(empty="reading ...")
        with VerticalScroll(classes="frame facts", can_focus=True) as scroll:
            scroll.border_title = "statistics"
            yield Static(id="statistics", markup=False)

    def entered(self) -> None:
        self.datasets = self.workspace.datasets()
        lines = [_line(artefact) for artefact in self.datasets]
        self.query_one(Rows).empty = "no dataset yet: edt data prepare NAME, or edt train --data demo"
        self.query_one(Rows).load(COLUMNS, len(lines), lines.__getitem__)

    def on_rows_moved(self, event: Rows.Moved) -> None:
        panel = self.query_one("#statistics", Static)
        if event.row >= len(self.datasets):
            panel.update("")
            return
        artefact = self.datasets[event.row]
        stamp = (artefact.key, (artefact.path / "manifest.json").stat().st_mtime_ns)
        if stamp in self._known:
            panel.update(self._known[stamp])
            return
        panel.update("counting ...")

        def then(statistics: dict[str, Any]) -> None:
            self._known[stamp] = describe(statistics)
            panel.update(self._known[stamp])

        self.reads(lambda: _statistics(artefact), then)

    def failed(self, message: str) -> None:
        self.query_one("#statistics", Static).update(Text(f"! damaged: {safe(message, 300)}"))

    def on_rows_chosen(self, event: Rows.Chosen) -> None:
        self.action_users()

    def action_users(self) -> None:
        row = self.query_one(Rows).cursor
        if row < len(self.datasets):
            self.post_message(ShowUsers(self.datasets[row].key))


def _line(artefact: Artefact) -> tuple[str, ...]:
    """Return the texts of a dataset's row."""
    try:
        manifest = artefact.manifest()
        domains = ", ".join(manifest.get("domains", []))
        name = f"{artefact.key} (synthetic)" if manifest.get("synthetic") else artefact.key
        return name, Tinted("v ready", "good"), domains, str(manifest.get("made", ""))
    except Exception as error:  # a damaged manifest can hold anything
        return artefact.key, Tinted("! damaged", "bad"), f"{type(error).__name__}", ""


def _statistics(artefact: Artefact) -> dict[str, Any]:
    from edt_cli.data.saved import load
    from edt_cli.data.stats import statistics

    return statistics(load(artefact), artefact.manifest())


def describe(statistics: dict[str, Any]) -> RenderableType:
    """Return the figures of table 1, ties, repeats, the distribution of r (figure 1) and sample users as text."""
    lines = [
        f"{statistics['users']:,} users   {statistics['interactions']:,} interactions   "
        f"{_share(statistics['average_length'], '.2f')} a user",
        f"{statistics['users_in_several_domains']:,} users in several domains"
        + ("   SYNTHETIC" if statistics["synthetic"] else ""),
        "",
        fit("domain", 16) + "".join(f"{name:>13}" for name in ("users", "items", "interactions", "with text")),
    ]
    for domain in statistics["domains"]:
        counts = "".join(f"{domain[name]:>13,}" for name in ("users", "items", "interactions"))
        lines.append(fit(domain["domain"], 16) + counts + f"{_share(domain['items_with_text']):>13}")
    ties = statistics["ties"]
    tied = f"ties in time: {_share(ties['steps'])} of steps, {_share(ties['test_targets'])} of test targets"
    repeats = statistics["repeats"]
    seen = "stay candidates" if repeats["keep_seen"] else "are no candidates"
    repeated = f"repeats: {_share(repeats['share'])} of targets; seen items {seen}"
    edges = statistics["r"]["edges"]
    bins = [f"r {low:.1f}-{high:.1f}" for low, high in pairwise(edges)]
    chart = bar_chart(
        bins, statistics["r"]["users"], "Users by r (0: as many of each domain, 1: one domain only)", width=70
    )
    sample = statistics["sample"]
    users = [f"one domain: {', '.join(safe(name, 40) for name in sample['one_domain'])}"]
    users += [f"several: {', '.join(safe(name, 40) for name in sample['several_domains'])}"]
    settings = ", ".join(f"{name} {value}" for name, value in statistics["settings"].items())
    return Group(
        Text("\n".join([*lines, "", tied, repeated, ""])),
        chart,
        Text("\n".join(["", "Users to try", *users, "", f"settings: {safe(settings, 400)}"])),
    )


def _share(value: float | None, form: str = ".1%") -> str:
    return "-" if value is None else format(value, form)
