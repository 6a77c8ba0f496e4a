"""Section of a run's results: the figures of each domain, how the run stands beside others, and every result."""

from __future__ import annotations

from collections.abc import Sequence

from textual.app import ComposeResult
from textual.containers import Container, Horizontal, Vertical
from textual.widgets import Digits, Static

from edt_cli.inference.listing import RunRow
from edt_cli.ui.ablation import Variant, ablation_lines
from edt_cli.ui.leaderboard import Leaderboard
from edt_cli.ui.rows import Col, Rows
from edt_cli.ui.text import bar, fit, safe
from edt_cli.ui.tones import Tinted, domain_tone, lines, muted
from edt_cli.workspace.documents import RunResult

SHOWN = ("users", "hr@5", "ndcg@5", "hr@10", "ndcg@10", "hr@20", "ndcg@20", "mrr")
MOST_STANDINGS = 6
CARDS = 4
"""Domains that have figures in large digits."""


class Results(Vertical):
    """Section of a run's results, domain by domain."""

    DEFAULT_CSS = """
    Results #cards { height: 6; display: none; }
    Results #cards.some { display: block; }
    Results .card { height: 6; width: 1fr; max-width: 44; }
    Results Digits { height: 3; }
    Results #others { height: auto; max-height: 12; layout: vertical; overflow-y: auto; }
    Results #others Static { height: auto; max-height: 10; display: none; width: 1fr; text-wrap: nowrap; }
    Results #others Static.some { display: block; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._cards: tuple[tuple[str, float, float], ...] = ()

    def compose(self) -> ComposeResult:
        yield Horizontal(id="cards")
        with Container(id="others"):
            yield Static(id="beside", classes="frame", markup=False)
            ablation = Static(id="ablation", classes="frame", markup=False)
            ablation.border_title = "without its parts: mean NDCG@10 of domains"
            yield ablation
        yield Rows(empty="no results: edt eval, once the run is finished")

    def show(
        self,
        row: RunRow,
        documents: list[RunResult],
        board: Leaderboard,
        variants: Sequence[Variant],
        data: str,
    ) -> None:
        """Show the results of a run beside others.

        Args:
            row: The run.
            documents: Its results.
            board: The systems on the same data.
            variants: Its method without its parts.
            data: What the data is called.
        """
        ablation = self.query_one("#ablation", Static)
        ablation.update(lines(ablation_lines(variants)))
        ablation.set_class(bool(variants), "some")
        self.query_one("#beside", Static).border_title = f"beside others on {data}: mean NDCG@10 of domains"
        lists: list[tuple[str, ...]] = []
        for document in documents:
            name = str(document.get("file", ""))
            for place, (domain, figures) in enumerate(document["domains"].items()):
                values = (figure(figures.get(metric)) for metric in SHOWN)
                lists.append((name, Tinted(domain, domain_tone(place)), *values))
            overall = document.get("overall", {})
            lists.append((name, muted("overall"), *(figure(overall.get(metric)) for metric in SHOWN)))
        metrics = [Col(name, 7, right=True) for name in SHOWN]
        self.query_one(Rows).load([Col("result", 24), Col("domain", 14), *metrics], len(lists), lists.__getitem__)
        self._show_cards(row)
        self._show_standings(row, board)

    def _show_cards(self, row: RunRow) -> None:
        names = [name.removeprefix("ndcg_") for name in row.figures if name.startswith("ndcg_")][:CARDS]
        cards = tuple((name, row.figures[f"ndcg_{name}"], row.figures.get(f"hr_{name}", 0.0)) for name in names)
        if cards == self._cards:
            return
        self._cards = cards
        box = self.query_one("#cards", Horizontal)
        box.set_class(bool(cards), "some")
        box.remove_children()
        digits = not getattr(self.app, "ascii_only", False)
        for place, (name, ndcg, hr) in enumerate(cards):
            about = lines([[muted("NDCG@10   "), muted("HR@10 "), f"{hr:.4f}"]])
            value = f"{ndcg:.4f}"
            classes = f"tone--{domain_tone(place)}"
            large = (
                Digits(value, classes=classes) if digits else Static(f"\n{value}", classes=classes, markup=False)
            )
            card = Vertical(large, Static(about, markup=False), classes="frame card")
            card.border_title = safe(name, 30)
            box.mount(card)

    def _show_standings(self, row: RunRow, board: Leaderboard) -> None:
        beside = self.query_one("#beside", Static)
        beside.set_class(len(board.standings) > 1, "some")
        best = max((standing.level for standing in board.standings), default=0.0)
        rows: list[list[str]] = []
        for standing in board.standings[:MOST_STANDINGS]:
            here = any(other.name == row.name for other in standing.rows)
            lead = "" if standing.lead is None else f"{standing.lead:+.1%}"
            rows.append(
                [
                    Tinted(("> " if here else "  ") + fit(standing.title, 26), "accent" if here else "", bold=here),
                    f" {standing.level:.4f} ",
                    Tinted(bar(standing.level / best if best else 0.0, 10), "accent" if here else "muted"),
                    f" {lead:>8}",
                    muted(f"  {len(standing.rows)} run{'s' if len(standing.rows) > 1 else ''}"),
                ]
            )
        beside.update(lines(rows))


def group_lines(documents: list[RunResult]) -> list[tuple[str, ...]]:
    """Return a line for each group of users, result and domain."""
    groups: list[tuple[str, ...]] = []
    for document in documents:
        name = str(document.get("file", ""))
        for grouping, group_figures in (document.get("groups") or {}).items():
            for group, domains in group_figures.items():
                for place, (domain, figures) in enumerate(domains.items()):
                    values = (figure(figures.get(metric)) for metric in SHOWN)
                    groups.append((name, grouping, group, Tinted(domain, domain_tone(place)), *values))
    return groups


def figure(value: object) -> str:
    """Format a metric or a count."""
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4f}" if isinstance(value, float) else ""
