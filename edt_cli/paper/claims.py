"""The paper's claims about its method, and the comparisons that test them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["above", "same", "larger gain", "parameters", "milliseconds"]
"""What a comparison is to show of its first row beside its second.

- above: a higher NDCG@10;
- same: NDCG@10 of the second within MARGIN of the first's;
- larger gain: a relative gain in NDCG@10 that is larger among some users than among the others;
- parameters, milliseconds: not more than LIMITS times as many.
"""
Among = Literal["all", "given items", "short", "minor domain"]
"""Whose NDCG@10 counts.

- all: that of every user;
- given items: of those in whose training history the augmenter inserted items, by the domain of these;
- short: of those with fewer than SHORT interactions; with `larger gain` beside the others;
- minor domain: of those with a target in the domain with fewest interactions, beside the one with most.
"""

MARGIN = 0.05
"""Share of the method's mean NDCG@10 within which two rows are the same; table 5's largest step is 2.2%."""
LIMITS = {"parameters": 1.10, "milliseconds": 1.25}
"""Most times the second row's parameters, or milliseconds a user, that are still near it."""
SHORT = 10
"""A user with fewer interactions is short: the groups "Very Short" and "Short" of section 4.5."""
SEEDS = (42, 44, 46)
"""Seeds that the paper averages over (section 4.1.3)."""


@dataclass(frozen=True)
class Contrast:
    """Comparison of two rows of a plan.

    Attributes:
        plan: Name of the plan.
        other: Second row: its label, or its place among the plan's rows.
        kind: What is to be shown.
        method: First row; None for the plan's row of the whole method.
        among: Whose NDCG@10 counts.
        printed: Where the paper prints both rows: table, first row, second row, and group of columns ("" for all).
    """

    plan: str
    other: str | int
    kind: Kind = "above"
    method: str | int | None = None
    among: Among = "all"
    printed: tuple[int, str, str, str] | None = None


@dataclass(frozen=True)
class Claim:
    """A claim of the paper.

    Attributes:
        number: Its number; a letter tells the parts of one claim.
        text: The claim.
        where: Where the paper makes it.
        contrasts: Comparisons that all must show it.
        needs_llm: Whether only an LLM can show it, and `local` cannot.
    """

    number: str
    text: str
    where: str
    contrasts: Sequence[Contrast]
    needs_llm: bool = False


def _ablation(label: str, among: Among = "all", kind: Kind = "above", printed: str | None = None) -> Contrast:
    """Return the comparison of the whole method with a row of table 3."""
    return Contrast("table-3", label, kind=kind, among=among, printed=(3, "LLM-EDT", printed or label, ""))


CLAIMS: tuple[Claim, ...] = (
    Claim("1a", "The augmenter helps", "4.3, table 3", (_ablation("w/o Aug."),)),
    Claim(
        "1b",
        "It helps those who are given items",
        "3.2, 4.4",
        (Contrast("table-3", "w/o Aug.", among="given items"),),
    ),
    Claim(
        "1c",
        "The more users are given items, the better",
        "4.7, table 7",
        (
            Contrast("table-7", "r ≥ 0.9", printed=(7, "r < 0.9", "0.95 ≥ r ≥ 0.9", "")),
            Contrast("table-7", "r ≥ 0.95", method="r ≥ 0.9", printed=(7, "0.95 ≥ r ≥ 0.9", "r ≥ 0.95", "")),
        ),
    ),
    Claim("2", "Filtering helps", "4.3, table 3", (_ablation("w/o Filtering", printed="w/o Filtering."),)),
    Claim(
        "3",
        "Inserting beats appending and random places",
        "4.3, table 3",
        (
            _ablation("w/o Inserting", printed="w/o Inserting."),
            _ablation("Random Inserting", printed="Random Inserting."),
        ),
    ),
    Claim("4", "Fine-tuning helps", "4.3, table 3", (_ablation("w/o DFT"),)),
    Claim("5", "Profiles help", "4.3, table 3", (_ablation("w/o Profiling"),)),
    Claim(
        "6",
        "Profiles in three steps (S-R-A) beat those in one",
        "4.3, table 3",
        (_ablation("w/o S-R-A"),),
        needs_llm=True,
    ),
    Claim(
        "7",
        "The gain is largest in the less dominant domain",
        "4.2, 4.3, table 3",
        tuple(_ablation(row, "minor domain", "larger gain") for row in ("w/o Aug.", "w/o Profiling")),
    ),
    Claim(
        "8a",
        "Short users gain most by the augmenter",
        "4.5, figure 4",
        (Contrast("figure-4", "w/o Aug.", kind="larger gain", among="short"),),
    ),
    Claim(
        "8b",
        "It gives short users more than LLMCDSR's does",
        "4.5, figure 4",
        (Contrast("figure-4", "LLMCDSR", among="short"),),
    ),
    Claim(
        "9a",
        "The threshold τ barely matters",
        "4.6, table 4",
        (
            Contrast("table-4", "τ calibrated − 0.05", kind="same", printed=(4, "τ = 0.90", "τ = 0.85", "")),
            Contrast("table-4", "τ calibrated + 0.05", kind="same", printed=(4, "τ = 0.90", "τ = 0.95", "")),
        ),
    ),
    Claim(
        "9b",
        "The number of clusters barely matters",
        "4.6, table 5",
        tuple(
            Contrast("table-5", f"{what} = {number}", kind="same", printed=(5, "k = 10", f"k = {number}", ""))
            for number in (5, 15)
            for what in ("K", "C", "K = C")
        ),
    ),
    Claim(
        "10a",
        "Another LLM gives the same",
        "4.8, table 8",
        (Contrast("table-8", 1, kind="same", method=0, printed=(8, "With DeepSeek", "With GPT3.5", "")),),
        needs_llm=True,
    ),
    Claim(
        "10b",
        "Another backbone gives the same",
        "4.8, tables 2 and 9",
        tuple(
            Contrast("table-9", f"LLM-EDT on {backbone}", kind="same", method="LLM-EDT on SASRec")
            for backbone in ("GRU4Rec", "BERT4Rec")
        ),
    ),
    Claim(
        "10c",
        "It leads LLM4CDSR on another backbone, too",
        "4.8, table 9",
        tuple(
            Contrast(
                "table-9",
                f"LLM4CDSR on {backbone}",
                method=f"LLM-EDT on {backbone}",
                printed=(9, "LLM-EDT", "LLM4CDSR", backbone),
            )
            for backbone in ("GRU4Rec", "BERT4Rec")
        ),
    ),
    Claim(
        "10d",
        "It has few parameters more than SASRec",
        "4.9, figure 6",
        (Contrast("table-9", "SASRec", kind="parameters", method="LLM-EDT on SASRec"),),
    ),
    Claim(
        "10e",
        "It is about as fast as SASRec",
        "4.9, figure 6",
        (Contrast("table-9", "SASRec", kind="milliseconds", method="LLM-EDT on SASRec"),),
    ),
)
