"""Tables of the paper's claims: the verdict on each, and the comparisons that it rests on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypedDict

from edt_cli.reporting.comparison import MISSING
from edt_cli.reporting.paper_tables import TABLES
from edt_cli.reporting.table import Cell, Column, Measure, PValue, Table
from edt_cli.reporting.table import Row as TableRow

Verdict = Literal[
    "confirmed",
    "refuted",
    "too close to say",
    "not testable with local",
    "no run yet",
    "one seed only",
    "a limit ended a run",
    "too few such users",
    "not measured yet",
]
"""What the runs say of a claim; those after the third say why they say nothing."""


class ContrastResult(TypedDict):
    """Comparison of two rows for the users of one domain. Figures are None if there is no run or no such user."""

    comparison: str
    kind: str
    plan: str
    method: str
    other: str
    method_value: float | None
    other_value: float | None
    """NDCG@10, or what is compared: parameters, milliseconds a user, relative gains in two groups of users."""
    difference: float | None
    low: float | None
    high: float | None
    """Ends of the 95% interval of the difference, or for a cost the limit of the ratio as `high`."""
    margin: float | None
    """Difference within which two rows count as the same."""
    p: float | None
    """P-value of what is to be shown."""
    p_against: float | None
    """P-value of its contrary."""
    users: int | None
    seeds: list[int]
    """Seeds of which both rows have a run."""
    missing_seeds: list[int]
    """Wanted seeds of which they do not."""
    paper: str
    """The gain that the paper prints."""
    problem: Verdict | None
    """Why no verdict can rest on it."""
    command: str
    """Makes the runs that are missing, or made those that are there."""


class ClaimResult(TypedDict):
    """Verdict on a claim for the users of a domain."""

    claim: str
    text: str
    where: str
    """Where the paper makes it."""
    data: str
    domain: str
    deciding: ContrastResult
    """Comparison that the verdict rests on: the weakest, or the one that refutes the claim."""
    contrasts: list[ContrastResult]
    p_holm: float | None
    """P-value that the claim holds, corrected for the number of claims and domains."""
    verdict: Verdict


def printed_gain(table: int, first: str, second: str, group: str = "") -> str:
    """Return the relative gain of a row of the paper over another, such as `+1.7 / +7.8% N@10`.

    It is that of NDCG@10 in each domain, or of HR@10 where the table has nothing else.

    Args:
        table: Number of the table in the paper.
        first: Label of the row that gains.
        second: Label of the row beside it.
        group: First word of the column groups that count; "" for all.
    """
    printed = TABLES[table]
    rows = {row.label: row for row in printed.rows}
    metrics = {column.name for column in printed.columns}
    gains = []
    for index, column in enumerate(printed.columns):
        of_first, of_second = rows[first].cells[index], rows[second].cells[index]
        counts = column.name == "N@10" or "N@10" not in metrics
        if counts and column.group.startswith(group) and isinstance(of_first, Measure):
            assert isinstance(of_second, Measure)
            gains.append(f"{100 * (of_first.mean / of_second.mean - 1):+.1f}")
    return f"{' / '.join(gains)}% {'N@10' if 'N@10' in metrics else 'H@10'}"


def claim_tables(results: Sequence[ClaimResult]) -> list[Table]:
    """Return for each dataset the table of verdicts, and the table of the comparisons behind them."""
    of_data: dict[str, list[ClaimResult]] = {}
    for result in results:
        of_data.setdefault(result["data"], []).append(result)
    return [table(data, own) for data, own in of_data.items() for table in (_verdicts, _comparisons)]


def _verdicts(data: str, results: Sequence[ClaimResult]) -> Table:
    columns = ("Difference", "95% from", "to", "p (Holm)", "Verdict", "Paper", "Decided by")
    rows = tuple(
        TableRow(
            f"{result['text']}: {result['domain']}",
            (
                *_interval(result["deciding"]),
                MISSING if result["p_holm"] is None else PValue(result["p_holm"]),
                result["verdict"],
                result["deciding"]["paper"] or MISSING,
                result["deciding"]["comparison"],
            ),
            result["claim"],
        )
        for result in results
    )
    tested = sum(result["deciding"]["kind"] not in _COSTS for result in results)
    notes = [
        "NDCG@10 of each user in full ranking, a mean over seeds, paired; the interval by the bootstrap over "
        f"users; p by Holm corrected for the {tested} tests of the table, those not made yet among them. pts: "
        "percentage points of relative gain. ×: times the other's. The paper's gains are of another protocol.",
    ]
    contrasts = [contrast for result in results for contrast in result["contrasts"]]
    if commands := dict.fromkeys(contrast["command"] for contrast in contrasts if contrast["missing_seeds"]):
        notes.append(f"What is missing is made by: {'; '.join(commands)}")
    return Table(f"The paper's claims on {data}", tuple(map(Column, columns)), rows, ("", "Claim"), tuple(notes))


def _comparisons(data: str, results: Sequence[ClaimResult]) -> Table:
    columns = ("First", "Second", "Difference", "95% from", "to", "Margin", "p", "Users", "Seeds")
    rows = tuple(
        TableRow(
            f"{contrast['comparison']}: {result['domain']}",
            (
                _value(contrast, contrast["method_value"]),
                _value(contrast, contrast["other_value"]),
                *_interval(contrast),
                MISSING if contrast["margin"] is None else f"±{contrast['margin']:.4f}",
                MISSING if contrast["p"] is None else PValue(contrast["p"]),
                MISSING if contrast["users"] is None else f"{contrast['users']:,}",
                ", ".join(map(str, contrast["seeds"])) or MISSING,
            ),
            result["claim"],
        )
        for result in results
        for contrast in result["contrasts"]
    )
    notes = ("p: not corrected. A claim needs all of its comparisons.",)
    return Table(f"The comparisons behind them, on {data}", tuple(map(Column, columns)), rows, ("", ""), notes)


_COSTS = ("parameters", "milliseconds")


def _value(contrast: ContrastResult, value: float | None) -> Cell:
    """Return what a comparison compares: NDCG@10, a relative gain, parameters or milliseconds a user."""
    if value is None:
        return MISSING
    if contrast["kind"] == "larger gain":
        return f"{100 * value:+.1f}%"
    return Measure(value, digits={"parameters": 0, "milliseconds": 3}.get(contrast["kind"], 4))


def _interval(contrast: ContrastResult) -> list[Cell]:
    """Return the difference and the ends of its interval."""

    def shown(value: float | None) -> Cell:
        if value is None:
            return MISSING
        if contrast["kind"] == "larger gain":
            return f"{100 * value:+.1f} pts"
        return f"{value:.2f}×" if contrast["kind"] in _COSTS else f"{value:+.4f}"

    if contrast["kind"] in _COSTS:
        limit = "" if contrast["high"] is None else f"at most {contrast['high']:.2f}×"
        return [shown(contrast["difference"]), MISSING, limit or MISSING]
    return [shown(contrast[end]) for end in ("difference", "low", "high")]
