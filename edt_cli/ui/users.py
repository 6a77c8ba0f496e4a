"""Section of the users of a dataset, as fast with 100,000 users as with ten."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.app import ComposeResult
from textual.binding import Binding
from textual.widgets import Static

from edt_cli.inference.listing import RunRow
from edt_cli.ui.dialogs import Question
from edt_cli.ui.histories import Histories, artefacts_of, read_histories
from edt_cli.ui.library import Shelf
from edt_cli.ui.pane import Pane
from edt_cli.ui.rows import Col, Rows
from edt_cli.ui.text import safe
from edt_cli.ui.tones import domain_tone
from edt_cli.ui.user_screen import UserScreen
from edt_cli.workspace.layout import Workspace
from edt_cli.workspace.status import RunStatus

if TYPE_CHECKING:
    import numpy as np

HINT = "part of a user's id; or r>0.9, r<0.5, items>20, food=0"


class Users(Pane):
    """Section of the users of a dataset; `D` goes to the next dataset, enter opens a user."""

    BINDINGS = [
        Binding("slash", "filter", "Filter", key_display="/"),
        Binding("D", "next_data", "Next dataset", key_display="D"),
    ]
    DEFAULT_CSS = """
    Users { layout: vertical; }
    Users #summary { height: auto; max-height: 4; }
    """

    def __init__(self, workspace: Workspace, shelf: Shelf) -> None:
        super().__init__()
        self.workspace = workspace
        self.shelf = shelf
        self.histories: Histories | None = None
        self.came_from: RunRow | None = None
        self.text = ""
        self.order: np.ndarray | None = None
        self.sorted_by = ("", False)

    def compose(self) -> ComposeResult:
        yield Static(id="summary", classes="bar", markup=False)
        yield Rows(empty="reading ...")

    def entered(self) -> None:
        names = [artefact.key for artefact in self.workspace.datasets()]
        if not names:
            self.query_one(Rows).empty = "no dataset yet: edt train --data demo"
            self.query_one(Rows).refresh()
        if self.histories is None and names:
            runs = [row.data for row in self.shelf.runs if row.data in names]
            self.open((runs or names)[0])

    def open(self, data: str, row: RunRow | None = None, user: str | None = None) -> None:
        """Show the users of `data`, with the artefacts of `row` or of its newest finished LLM-EDT run.

        Args:
            data: Name of a dataset.
            row: The run that one came from, whose recommendations are shown first.
            user: Id of a user whose screen is opened.
        """
        self.query_one("#summary", Static).update(f" {safe(data, 60)}: reading ...")
        data_runs = [run for run in self.shelf.runs if run.data == data and "augmentation" in artefacts_of(run)]
        wanted_run = row if row is not None and "augmentation" in artefacts_of(row) else None
        source = wanted_run or next((run for run in data_runs if run.status == RunStatus.FINISHED), None)
        self.text, self.order, self.sorted_by = "", None, ("", False)
        self.came_from = row

        def then(histories: Histories) -> None:
            self.histories = histories
            known = user is not None and histories.dataset.has_user(user)
            self._load(cursor=histories.dataset.user(user) if known and user is not None else 0)
            if known and user is not None:
                self._open_user(histories.dataset.user(user))

        self.reads(lambda: read_histories(self.workspace, data, source), then)

    def _load(self, cursor: int | None = None) -> None:
        assert self.histories is not None
        h = self.histories
        domains = h.dataset.domains.names
        columns = [
            Col("user", 24, key="user"),
            Col("items", 6, right=True, key="items"),
            *(
                Col(name, max(7, min(14, len(name))), right=True, key=f"domain {n}", tone=domain_tone(n))
                for n, name in enumerate(domains)
            ),
            Col("r", 5, right=True, key="r"),
            Col("inserted", 8, right=True, key="inserted"),
            Col("profile", 8, key="profile"),
        ]
        count = len(h.dataset.user_ids) if self.order is None else len(self.order)
        rows = self.query_one(Rows)
        rows.empty = "no user has that"
        rows.load(columns, count, self._cells, cursor=cursor, sorted_by=self.sorted_by)
        source = f"as {h.row.name} has them" if h.row else "as they happened (no LLM-EDT run)"
        summary = f" / {safe(self.text, 100) or 'all'}   {count:,} of {len(h.dataset.user_ids):,} users of "
        self.query_one("#summary", Static).update(summary + safe(f"{h.dataset.name} {source}", 200))

    def _cells(self, position: int) -> tuple[str, ...]:
        h = self.histories
        assert h is not None
        user = self.user_at(position)
        profile = "v" if user < len(h.profiles.texts) and h.profiles.texts[user] else ""
        counts = [str(int(count)) for count in h.counts[user]]
        inserted = int(h.inserted[user])
        return (
            h.dataset.user_ids[user],
            str(int(h.dataset.sequences.offsets[user + 1] - h.dataset.sequences.offsets[user])),
            *counts,
            f"{h.ratios[user]:.2f}",
            str(inserted) if inserted else "",
            profile,
        )

    def user_at(self, position: int) -> int:
        """Return the number of the user in a row of the list."""
        return position if self.order is None else int(self.order[position])

    def on_rows_chosen(self, event: Rows.Chosen) -> None:
        self._open_user(self.user_at(event.row))

    def _open_user(self, user: int) -> None:
        if self.histories is not None:
            screen = UserScreen(self.workspace, self.shelf, self.histories, user, self.came_from)
            self.app.push_screen(screen)

    def on_rows_sorted(self, event: Rows.Sorted) -> None:
        import numpy as np

        h = self.histories
        if h is None:
            return
        key, down = self.sorted_by
        self.sorted_by = (event.key, not down if key == event.key else event.key != "user")
        users = np.arange(len(h.dataset.user_ids)) if self.order is None else self.order
        values = self._values(event.key)[users]
        order = np.argsort(values, kind="stable")
        self.order = users[order[::-1] if self.sorted_by[1] else order]
        self._load(cursor=0)

    def _values(self, key: str) -> np.ndarray:
        """Return the values of all users in a column."""
        import numpy as np

        h = self.histories
        assert h is not None
        if key.startswith("domain "):
            return h.counts[:, int(key.removeprefix("domain "))]
        if key == "profile":
            return h.profiles.has_profile
        if key == "user":
            return np.arange(len(h.dataset.user_ids))
        return {"items": h.dataset.sequences.lengths, "r": h.ratios, "inserted": h.inserted}[key]

    def action_filter(self) -> None:
        def answered(text: str | None) -> None:
            if text is not None and self.histories is not None:
                self.text = text
                self._filter()

        self.app.push_screen(Question(HINT, self.text, answered), answered)

    def _filter(self) -> None:
        """Apply the filter to the users."""
        import numpy as np

        h = self.histories
        assert h is not None
        kept = np.arange(len(h.dataset.user_ids))
        names = {name: f"domain {number}" for number, name in enumerate(h.dataset.domains.names)}
        for term in self.text.split():
            field, sign, number = _parse_comparison(term)
            if sign and (field in names or field in ("r", "items", "inserted")):
                values = self._values(names.get(field, field))[kept]
                kept = kept[{">": values > number, "<": values < number, "=": values == number}[sign]]
            else:
                wanted = term.casefold()
                ids = h.dataset.user_ids
                kept = np.array([user for user in kept.tolist() if wanted in ids[user].casefold()], dtype=np.int64)
        self.order = kept if self.text else None
        self.sorted_by = ("", False)
        self._load(cursor=0)

    def clear_filter(self) -> bool:
        had, self.text = bool(self.text), ""
        if had and self.histories is not None:
            self._filter()
        return had

    def action_next_data(self) -> None:
        names = [artefact.key for artefact in self.workspace.datasets()]
        if names:
            at = (
                names.index(self.histories.dataset.name)
                if self.histories and self.histories.dataset.name in names
                else -1
            )
            self.open(names[(at + 1) % len(names)])

    def failed(self, message: str) -> None:
        self.query_one("#summary", Static).update(f" ! {safe(message, 300)}")


def _parse_comparison(term: str) -> tuple[str, str, float]:
    """Split a term such as `r>0.9` into field, sign and number; other terms have no sign."""
    for sign in (">", "<", "="):
        field, separator, number = term.partition(sign)
        if separator:
            try:
                return field, sign, float(number)
            except ValueError:
                break
    return term, "", 0.0
