"""Tables of what the LLM stages made, without training: the paper's table 6, and its section 4.9."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from edt_cli.reporting import paper_tables as paper
from edt_cli.reporting.grouping import shown_data
from edt_cli.reporting.table import Cell, Column, Measure, Row, Table
from edt_cli.workspace.documents import Similarity, StageBill

MISSING = "–"
DOLLAR_DIGITS = 6
Documents = TypeVar("Documents", Similarity, StageBill)


def similarity_tables(similarities: Sequence[Similarity]) -> list[Table]:
    """Return table 6 for each dataset: the mean cosine of profiles before and after augmentation, in percent."""
    return [_similarity_table(data, of_data) for data, of_data in _by_data(similarities).items()]


def _similarity_table(data: str, shares: Sequence[Similarity]) -> Table:
    lines: dict[str, list[Cell]] = {
        "Similarity (%)": [_percent(one["of_all"]) for one in shares],
        "of users given items (%)": [_percent(one["of_given"]) for one in shares],
        "Users": [_count(one["users"]) for one in shares],
        "Users given items": [_count(one["given"]) for one in shares],
    }
    notes = (
        f"By {', '.join(dict.fromkeys(one['llm'] for one in shares if one['llm']))}.",
        "Mean cosine of the vectors of a user's two profiles, over the users who have both. Users who were given "
        "nothing keep the profile that they had: only the second line can tell anything.",
        *([f"{MISSING} not there yet."] if any(one["users"] is None for one in shares) else []),
    )
    columns = tuple(Column(one["share"], "Inject Ratio") for one in shares)
    rows = tuple(Row(label, tuple(cells)) for label, cells in lines.items())
    return Table(f"{paper.TABLES[6].title} on {data}", columns, rows, ("", ""), notes, number=6)


def bill_tables(bills: Sequence[StageBill]) -> list[Table]:
    """Return section 4.9 for each dataset, LLM and embedder: US dollars of each stage, left and spent."""
    return [
        _bill_table(
            f"{llm}, embedder {embedder}, on {data}", [one for one in of_data if _by_whom(one) == (llm, embedder)]
        )
        for data, of_data in _by_data(bills).items()
        for llm, embedder in dict.fromkeys(map(_by_whom, of_data))
    ]


def _by_whom(bill: StageBill) -> tuple[str, str]:
    return bill["llm"], bill["embedder"]


def _bill_table(title: str, bills: Sequence[StageBill]) -> Table:
    columns = (
        Column("Users"),
        *(Column(name, "USD a user") for name in ("left, from", "to", "spent", "paper")),
        *(Column(name, "USD") for name in ("left, to", "spent")),
    )
    notes = (
        "Left: an estimate of what is not made yet. Spent: the price of all replies when they were made; "
        f"{MISSING} nothing is made, or a price is not known. A stage is of the users whom it asks about.",
    )
    rows = (*map(_bill_row, bills), _sum_row(bills))
    return Table(f"What the LLM stages cost (section 4.9): {title}", columns, rows, ("", "Stage"), notes)


def _bill_row(bill: StageBill) -> Row:
    users = max(1, bill["users"])
    low, high = bill["left_usd"] or (None, None)
    cells = (
        Measure(bill["users"], digits=0),
        *(_dollars(value, users) for value in (low, high, bill["spent_usd"])),
        _dollars(bill["paper_usd_a_user"]),
        *(_dollars(value, digits=4) for value in (high, bill["spent_usd"])),
    )
    return Row(bill["stage"], cells)


def _sum_row(bills: Sequence[StageBill]) -> Row:
    high = _total(bill["left_usd"] and bill["left_usd"][1] for bill in bills)
    spent = _total(bill["spent_usd"] for bill in bills)
    paper_usd = sum(bill["paper_usd_a_user"] for bill in bills)
    whole = (_dollars(high, digits=4), _dollars(spent, digits=4))
    return Row("all", (None, None, None, None, _dollars(paper_usd), *whole), compared=False)


def _total(values: Iterable[float | None]) -> float | None:
    listed = list(values)
    real = [value for value in listed if value is not None]
    return sum(real) if len(real) == len(listed) else None


def _dollars(value: float | None, users: int = 1, digits: int = DOLLAR_DIGITS) -> Cell:
    return MISSING if value is None else Measure(value / users, digits=digits)


def _count(value: int | None) -> Cell:
    return MISSING if value is None else Measure(value, digits=0)


def _percent(value: float | None) -> Cell:
    return MISSING if value is None else Measure(100 * value, digits=2)


def _by_data(documents: Sequence[Documents]) -> dict[str, list[Documents]]:
    """Group documents by the displayed name of their dataset."""
    groups: dict[str, list[Documents]] = {}
    for document in documents:
        shown = shown_data(document["data"], document["synthetic"], quick=document["quick"])
        groups.setdefault(shown, []).append(document)
    return groups
