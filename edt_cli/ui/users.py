"""The users of a dataset: 100,000 of them move as fast as ten."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from textual.app import ComposeResult
from textual.binding import Binding
from textual.widgets import Static

from edt_cli.ui.dialogs import Question
from edt_cli.ui.library import RunRow
from edt_cli.ui.pane import Pane
from edt_cli.ui.rows import Col, Rows
from edt_cli.ui.text import safe
from edt_cli.workspace.layout import Workspace

if TYPE_CHECKING:
    import numpy as np

    from edt_cli.augmentation.artefact import Augmentation
    from edt_cli.data.dataset import Dataset, Final
    from edt_cli.profiling.profiles import Profiles

HINT = "part of a user's id; or r>0.9, r<0.5, items>20, food=0"


@dataclass(frozen=True)
class Material:
    """A dataset, and what a run's stages made of its users; `row` None: only what happened."""

    dataset: Dataset
    made: Augmentation
    profiles: Profiles
    row: RunRow | None

    @property
    def final(self) -> Final:
        return _final(self.row)

    @property
    def llm(self) -> str:
        return str(self.row.plan.get("llm", "")) if self.row else ""

    @cached_property
    def counts(self) -> np.ndarray:
        """[U, D] training items of each domain."""
        d = self.dataset
        return d.sequences.prefixes(d.learned_lengths(self.final)).domain_counts(d.domains)

    @cached_property
    def ratios(self) -> np.ndarray:
        from edt_cli.data.imbalance import imbalance

        return imbalance(self.counts)

    @cached_property
    def inserted(self) -> np.ndarray:
        """[U] items that the augmenter inserted."""
        import numpy as np

        return np.bincount(self.made.sequences.users[self.made.inserted], minlength=len(self.dataset.user_ids))


class Users(Pane):
    """`D` the next dataset; enter a user."""

    BINDINGS = [
        Binding("slash", "filter", "Filter", key_display="/"),
        Binding("D", "next_data", "Next dataset", key_display="D"),
    ]
    DEFAULT_CSS = """
    Users { layout: vertical; }
    Users #told { height: auto; max-height: 4; }
    """

    def __init__(self) -> None:
        super().__init__()
        self.material: Material | None = None
        self.text = ""
        self.order: np.ndarray | None = None
        self.sorted_by = ("", False)

    def compose(self) -> ComposeResult:
        yield Static(id="told", classes="bar", markup=False)
        yield Rows(empty="no dataset yet: edt train --data demo")

    def entered(self) -> None:
        names = [artefact.key for artefact in self.edt.workspace.datasets()]
        if self.material is None and names:
            runs = [row.data for row in self.home.runs if row.data in names]
            self.open((runs or names)[0])

    def open(self, data: str, row: RunRow | None = None) -> None:
        """The users of `data`, with the artefacts of `row`, else of its newest finished LLM-EDT run."""
        self.query_one("#told", Static).update(f" {safe(data, 60)}: reading ...")
        own = [run for run in self.home.runs if run.data == data and "augmentation" in _artefacts(run)]
        chosen = row if row is not None and "augmentation" in _artefacts(row) else None
        source = chosen or next((run for run in own if run.status == "finished"), None)
        workspace = self.edt.workspace
        self.text, self.order, self.sorted_by = "", None, ("", False)
        self.reads(lambda: read_users(workspace, data, source), self._show)

    def _show(self, material: Material) -> None:
        self.material = material
        self._load(cursor=0)

    def _load(self, cursor: int | None = None) -> None:
        assert self.material is not None
        m = self.material
        domains = m.dataset.domains.names
        columns = [
            Col("user", 24, key="user"),
            Col("items", 6, right=True, key="items"),
            *(
                Col(name, max(7, min(14, len(name))), right=True, key=f"domain {n}")
                for n, name in enumerate(domains)
            ),
            Col("r", 5, right=True, key="r"),
            Col("inserted", 8, right=True, key="inserted"),
            Col("profile", 8, key="profile"),
        ]
        count = len(m.dataset.user_ids) if self.order is None else len(self.order)
        rows = self.query_one(Rows)
        rows.load(columns, count, self._cells, cursor=cursor, sorted_by=self.sorted_by)
        source = f"as {m.row.name} has them" if m.row else "as they happened (no LLM-EDT run)"
        told = f" / {safe(self.text, 100) or 'all'}   {count:,} of {len(m.dataset.user_ids):,} users of "
        self.query_one("#told", Static).update(told + safe(f"{m.dataset.name} {source}", 200))

    def _cells(self, place: int) -> tuple[str, ...]:
        m = self.material
        assert m is not None
        user = self.user_at(place)
        profile = "v" if user < len(m.profiles.texts) and m.profiles.texts[user] else ""
        counts = [str(int(count)) for count in m.counts[user]]
        inserted = int(m.inserted[user])
        return (
            m.dataset.user_ids[user],
            str(int(m.dataset.sequences.offsets[user + 1] - m.dataset.sequences.offsets[user])),
            *counts,
            f"{m.ratios[user]:.2f}",
            str(inserted) if inserted else "",
            profile,
        )

    def user_at(self, place: int) -> int:
        return place if self.order is None else int(self.order[place])

    def on_rows_chosen(self, event: Rows.Chosen) -> None:
        from edt_cli.ui.user_screen import UserScreen

        if self.material is not None:
            self.app.push_screen(UserScreen(self.material, self.user_at(event.row)))

    def on_rows_sorted(self, event: Rows.Sorted) -> None:
        import numpy as np

        m = self.material
        if m is None:
            return
        key, down = self.sorted_by
        self.sorted_by = (event.key, not down if key == event.key else event.key != "user")
        users = np.arange(len(m.dataset.user_ids)) if self.order is None else self.order
        values = self._values(event.key)[users]
        order = np.argsort(values, kind="stable")
        self.order = users[order[::-1] if self.sorted_by[1] else order]
        self._load(cursor=0)

    def _values(self, key: str) -> np.ndarray:
        import numpy as np

        m = self.material
        assert m is not None
        if key.startswith("domain "):
            return m.counts[:, int(key.removeprefix("domain "))]
        if key == "profile":
            return m.profiles.has_profile
        if key == "user":
            return np.arange(len(m.dataset.user_ids))
        return {"items": m.dataset.sequences.lengths, "r": m.ratios, "inserted": m.inserted}[key]

    def action_filter(self) -> None:
        def answered(text: str | None) -> None:
            if text is not None and self.material is not None:
                self.text = text
                self._filter()

        self.app.push_screen(Question(HINT, self.text), answered)

    def _filter(self) -> None:
        import numpy as np

        m = self.material
        assert m is not None
        kept = np.arange(len(m.dataset.user_ids))
        names = {name: f"domain {number}" for number, name in enumerate(m.dataset.domains.names)}
        for term in self.text.split():
            field, sign, number = _compared(term)
            if sign and (field in names or field in ("r", "items", "inserted")):
                values = self._values(names.get(field, field))[kept]
                kept = kept[{">": values > number, "<": values < number, "=": values == number}[sign]]
            else:
                wanted = term.casefold()
                ids = m.dataset.user_ids
                kept = np.array([user for user in kept.tolist() if wanted in ids[user].casefold()], dtype=np.int64)
        self.order = kept if self.text else None
        self.sorted_by = ("", False)
        self._load(cursor=0)

    def action_next_data(self) -> None:
        names = [artefact.key for artefact in self.edt.workspace.datasets()]
        if names:
            at = (
                names.index(self.material.dataset.name)
                if self.material and self.material.dataset.name in names
                else -1
            )
            self.open(names[(at + 1) % len(names)])

    def failed(self, message: str) -> None:
        self.query_one("#told", Static).update(f" ! {safe(message, 300)}")


def _final(row: RunRow | None) -> Final:
    return row.plan.get("settings", {}).get("training", {}).get("final", False) if row else False


def read_users(workspace: Workspace, data: str, row: RunRow | None) -> Material:
    """Errors: UserError where the dataset or an artefact is damaged. Artefacts of other data are left aside."""
    from edt_cli.augmentation.artefact import Augmentation
    from edt_cli.data.dataset import load
    from edt_cli.profiling.profiles import Profiles

    dataset = load(workspace.dataset(data))
    keys = _artefacts(row) if row is not None else {}
    view = dataset.training_view(final=_final(row))
    if row is not None and row.plan.get("data_key") != view.key:
        row, keys, view = None, {}, dataset.training_view()
    augmentation = workspace.artefact("augmentation", keys.get("augmentation", "none"))
    profiles = workspace.artefact("profiles", keys.get("profiles", "none"))
    material = Material(
        dataset,
        Augmentation.load(augmentation.path) if augmentation.complete else Augmentation.none(view),
        Profiles.load(profiles.path) if profiles.complete else Profiles.none(len(view.prefixes), 0),
        row,
    )
    # Counted here, in the thread that reads.
    assert material.counts is not None and material.ratios is not None and material.inserted is not None
    return material


def _artefacts(row: RunRow) -> dict[str, str]:
    found = row.plan.get("artefacts")
    return found if isinstance(found, dict) else {}


def _compared(term: str) -> tuple[str, str, float]:
    for sign in (">", "<", "="):
        field, found, number = term.partition(sign)
        if found:
            try:
                return field, sign, float(number)
            except ValueError:
                break
    return term, "", 0.0
