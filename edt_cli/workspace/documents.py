"""Form of the result documents in a run's folder, and of the statistics that tables show."""

from __future__ import annotations

from typing import NotRequired, TypedDict

from edt_cli.config import EvaluationSettings, Protocol

RANKS, LISTS = "-ranks.parquet", "-lists.parquet"
"""Endings of the files behind a result document: every user's rank, and the items recommended to them."""

Figures = dict[str, float | None]
"""Metrics by name, with the number of targets as `users`."""


class Measured(TypedDict):
    """Metrics of one run under one protocol."""

    domains: dict[str, Figures]
    overall: Figures
    groups: dict[str, dict[str, dict[str, Figures]]]
    """By group, label and domain."""


class Header(TypedDict):
    """The run that a result is of."""

    run: str
    data: str
    data_key: NotRequired[str]
    synthetic: bool
    quick: NotRequired[bool]
    """Whether it is of a small sample of the data, so that the figures say nothing."""
    unsound: NotRequired[str]
    """Departure of the released code that makes the figures no result."""
    model: str
    preset: str
    """Name of the preset it was made with, "" if it has none."""
    variant: str
    """Name of its ablation in table 3, or ""."""
    first_phase: bool
    """Whether the model is that after the first of two phases."""
    llm: str
    """Name of the LLM, such as `local (no LLM)`; "" if no LLM is involved."""
    failed_shares: NotRequired[dict[str, float]]
    """Share of the questions to the LLM that failed, by the artefact that the run reads; left out where it is 0."""
    item_vectors: NotRequired[str]
    """Files of the vectors that the model read in place of an embedder's."""
    seed: int
    parameters: int | None
    seconds: float | None


class Seen(TypedDict):
    """Whether items that a user has interacted with are candidates."""

    keep_seen: NotRequired[bool]
    keep_seen_by: NotRequired[str]
    """What decided it: "repeats" (their share in the dataset) or "setting"."""
    repeats: NotRequired[float]
    """Share of the dataset's targets that are repeats."""


class RunResult(Header, Seen, Measured):
    """Result of one run under one protocol: a file in its folder."""

    file: NotRequired[str]
    """Name of the file, without its ending; an ensemble has none."""
    split: str
    protocol: str
    negatives: int | None
    rank_seconds: NotRequired[float]
    """Seconds from the weights on disk to the rank of every user, under all protocols."""


class Result(RunResult):
    """A result as tables show it."""

    label: str
    """Name of the system; in brackets its preset and the settings that tell it from other runs, except the seed."""


class DomainStatistics(TypedDict):
    """Number of users and items of a domain."""

    users: int
    items: int


class PairStatistics(TypedDict):
    """Statistics of a dataset; `average_length` is that of the mixed sequences."""

    domains: dict[str, DomainStatistics]
    average_length: float


class Statistics(TypedDict):
    """Statistics of a dataset for table 1, before and after augmentation."""

    data: str
    synthetic: bool
    quick: NotRequired[bool]
    llm: str
    """Name of the LLM that augmented the dataset."""
    before: PairStatistics
    after: NotRequired[PairStatistics | None]
    """None or absent if the dataset was not augmented."""


class Similarity(TypedDict):
    """Similarity of users' profiles before and after augmentation, for table 6."""

    data: str
    synthetic: bool
    quick: bool
    llm: str
    share: str
    """Share of the kept items that is inserted, such as `30%`."""
    users: int | None
    """Users with both profiles; None if a profile is not made yet."""
    given: int | None
    """Those of them who were given items."""
    of_all: float | None
    """Mean cosine over `users`; None if there are none."""
    of_given: float | None
    """Mean cosine over `given`; None if there are none."""


class StageBill(TypedDict):
    """What an LLM stage costs, for section 4.9."""

    data: str
    synthetic: bool
    quick: bool
    llm: str
    embedder: str
    stage: str
    """Name of the stage in the paper: embedding, generation or summarization."""
    users: int
    """Users whom the stage is about."""
    left_usd: tuple[float, float] | None
    """Least and most that is left to spend; None if a price is not known."""
    spent_usd: float | None
    """Price of all replies when they were made; None if nothing is made, or if a price is not known."""
    paper_usd_a_user: float


def result_name(split: str, s: EvaluationSettings, protocol: Protocol, *, first_phase: bool) -> str:
    """Return the name of a result document's file, without its ending."""
    parts = [split, protocol if protocol == "full" else f"{protocol}-{s.negatives}"]
    seen = {"auto": [], True: ["with-seen"], False: ["without-seen"]}[s.keep_seen]
    return "-".join(parts + seen + ["without-dft"] * first_phase)
