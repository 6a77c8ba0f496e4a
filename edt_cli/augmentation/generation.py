"""Who is asked for which items, the question, and what of the answers is usable (eq. 4)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import polars as pl
from pydantic import BaseModel, field_validator

from edt_backends.base import ChatRequest
from edt_cli.augmentation.clustering import Clusters
from edt_cli.augmentation.representatives import Representatives
from edt_cli.config import AugmentationSettings, LLMSettings
from edt_cli.data.dataset import TEXT_FIELDS, TrainingView
from edt_cli.data.imbalance import imbalance
from edt_cli.llm.ask import TITLE_CHARACTERS, Failed, clean, load_prompt, request
from edt_cli.llm.embeddings import item_text

PROMPT = Path(__file__).parent / "prompts" / "generate.md"
LIMITS = {"title": TITLE_CHARACTERS, "brand": 100, "category": 200, "description": 500}


class GeneratedItem(BaseModel):
    """What an LLM is asked for."""

    title: str
    brand: str | None = None
    category: str | None = None
    description: str | None = None

    @field_validator("brand", "category", "description", mode="before")
    @classmethod
    def _joined(cls, value: object) -> object:
        """Categories come as a list as often as not."""
        if isinstance(value, list) and all(isinstance(part, str) for part in value):
            return ", ".join(value)
        return value


class RetrievedItem(GeneratedItem):
    """What a backend that retrieves may add: the id of the training item that it is."""

    id: str | None = None


Item = TypeVar("Item", bound=GeneratedItem)


class Items(BaseModel, Generic[Item]):
    items: list[Item]


Reply = Items[RetrievedItem]


def no_items(reply: Reply) -> Failed | None:
    """A reply without a single title is none."""
    return None if any(clean(item.title, LIMITS["title"]) for item in reply.items) else Failed("no items")


@dataclass(frozen=True)
class Questions:
    """Question q is about `users[q]`: items of domain `targets[q]` from those of `sources[q]`; by user, target.

    `eligible` is the number of users who would be asked without `limit_users`, `without_text` of those who
    would be but for having no item with text in the source domain.
    """

    users: np.ndarray
    sources: np.ndarray
    targets: np.ndarray
    eligible: int
    without_text: int

    def __len__(self) -> int:
        return len(self.users)


def choose_questions(
    view: TrainingView,
    representatives: Representatives,
    clusters: Clusters,
    settings: AugmentationSettings,
    llm: LLMSettings,
) -> Questions:
    """Each domain is a target once, and its source is the domain that has most of the user's other items.

    `minority` asks where the user has fewer items in the target than in the source, so with two domains only for
    the less dominant one and with equal counts for none; with three, up to twice (5, 3 and 1 items: for the
    second and the third from the first). `both` asks for every target. Without a training item with text a
    domain is no target. r and counts are of the training prefix, items without text included.
    """
    number = len(view.domains)
    counts = view.prefixes.domain_counts(view.domains)
    represented = np.diff(representatives.offsets).reshape(counts.shape) > 0
    wanted = np.zeros(counts.shape, bool)
    textless = np.zeros(counts.shape, bool)
    sources = np.zeros(counts.shape, np.int64)
    in_range = imbalance(counts) >= settings.min_r
    every = np.arange(len(counts))
    for target in range(number if number > 1 else 0):
        others = counts.copy()
        others[:, target] = -1
        source = others.argmax(1)
        sources[:, target] = source
        asked = in_range & (others[every, source] > 0) & (len(clusters.medoids[target]) > 0)
        if settings.direction == "minority":
            asked &= counts[:, target] < others[every, source]
        wanted[:, target] = asked & represented[every, source]
        textless[:, target] = asked & ~represented[every, source]
    candidates = np.flatnonzero(wanted.any(1))
    chosen = sample_users(candidates, len(counts), llm)
    users, targets = np.nonzero(wanted[chosen])
    users = chosen[users]
    without_text = int((textless.any(1) & ~wanted.any(1)).sum())
    return Questions(
        users=users,
        sources=sources[users, targets],
        targets=targets,
        eligible=len(candidates),
        without_text=without_text,
    )


def sample_users(users: np.ndarray, everybody: int, llm: LLMSettings) -> np.ndarray:
    """All, or `limit_users` of them: seeded, and a larger sample holds every smaller one. Ascending.

    One order of all users serves every stage, so that a pilot profiles those whom it augments.
    """
    if llm.limit_users is None or llm.limit_users >= len(users):
        return users
    order = np.random.default_rng(llm.seed).permutation(everybody)
    return np.sort(order[np.isin(order, users)][: llm.limit_users])


def label(row: dict[str, str | None]) -> str:
    """How an item is named in a prompt: its title, or else what text it has."""
    return (row["title"] or item_text(row) or "")[:TITLE_CHARACTERS]


def generation_requests(
    view: TrainingView,
    questions: Questions,
    representatives: Representatives,
    clusters: Clusters,
    settings: AugmentationSettings,
    llm: LLMSettings,
) -> Iterator[ChatRequest]:
    """The question for each row of `questions`, in order."""
    prompt = load_prompt(PROMPT)
    rows = list(view.catalogue.select("id", *TEXT_FIELDS).iter_rows(named=True))
    names = view.domains.names
    starts = view.domains.starts
    examples = [[label(rows[item - 1]) for item in medoids] for medoids in clusters.medoids]
    for user, source, target in zip(questions.users, questions.sources, questions.targets, strict=True):
        chosen = [rows[item - 1] for item in representatives.items[representatives.of(user * len(names) + source)]]
        prefix = view.prefixes.of(user)
        had = np.unique(prefix[(prefix >= starts[target]) & (prefix < starts[target + 1])])
        yield request(
            prompt,
            llm,
            Items[GeneratedItem],
            {
                "source": names[source],
                "target": names[target],
                "items": [_shown(row) for row in chosen],
                "examples": examples[target],
                "count": settings.ask,
            },
            {
                "task": "generate",
                "target_domain": names[target],
                "items": [row["id"] for row in chosen],
                "texts": [item_text(row) for row in chosen],
                "count": settings.ask,
                "exclude": [rows[item - 1]["id"] for item in had],
            },
            user=view.user_ids[user],
            at_most=settings.ask,
        )


def _shown(row: dict[str, str | None]) -> dict[str, str]:
    fields = {"title": label(row), "brand": row["brand"], "category": row["category"]}
    return {name: value[: LIMITS[name]] for name, value in fields.items() if value}


@dataclass(frozen=True)
class Generated:
    """The items of all answers, row for row: question, place in the answer, cleaned fields and their `text`.

    `items` [G] is the catalogue item where the backend retrieved one, else 0. `reasons[g]` says why a row is out
    already, None where it is not. `failures`: user, source, target, reason, detail of each failed question.
    """

    questions: np.ndarray
    places: np.ndarray
    items: np.ndarray
    fields: pl.DataFrame
    texts: list[str]
    reasons: list[str | None]
    failures: pl.DataFrame


def collect(
    view: TrainingView, questions: Questions, answers: Iterable[Reply | Failed], settings: AugmentationSettings
) -> Generated:
    """Clean what was generated. Every item of every answer gets a row; none is dropped silently.

    An id is believed where it is a training item of the target domain and the title is that item's: only a
    backend that retrieves can know both, since no id stands in a prompt. What an LLM invents under the title of a
    training item of the target domain (letters' case aside) is that item, not a new one.
    """
    numbers = {name: number for number, name in enumerate(view.catalogue["id"], start=1)}
    titles = view.catalogue["title"].to_list()
    trained = set(view.training_items.tolist())
    titled = [
        {
            clean(titles[item - 1], LIMITS["title"]).casefold(): item
            for item in reversed(view.domains.range(domain))
            if item in trained and titles[item - 1]
        }
        for domain in range(len(view.domains))
    ]
    failures: list[tuple[int, int, int, str, str]] = []
    columns: dict[str, list[Any]] = {name: [] for name in ("question", "place", "item", "reason", *TEXT_FIELDS)}
    for question, answer in enumerate(answers):
        user, source, target = (
            int(part[question]) for part in (questions.users, questions.sources, questions.targets)
        )
        if isinstance(answer, Failed):
            failures.append((user, source, target, answer.reason, answer.detail))
            continue
        had = set(view.prefixes.of(user).tolist())
        for place, item in enumerate(answer.items):
            text = {name: clean(getattr(item, name), limit) or None for name, limit in LIMITS.items()}
            number = numbers.get(item.id or "", 0)
            title = clean(titles[number - 1], LIMITS["title"]) if number else None
            if number not in trained or number not in view.domains.range(target) or title != text["title"]:
                number = titled[target].get((text["title"] or "").casefold(), 0)
            if text["title"] is None:
                reason: str | None = "no title"
            elif place >= settings.ask:
                reason = "more than asked"
            else:
                reason = "had already" if number in had else None
            row = {"question": question, "place": place, "item": number, "reason": reason, **text}
            for name, value in row.items():
                columns[name].append(value)
    fields = pl.DataFrame(
        {name: columns[name] for name in TEXT_FIELDS}, schema=dict.fromkeys(TEXT_FIELDS, pl.String)
    )
    return Generated(
        questions=np.array(columns["question"], dtype=np.int64),
        places=np.array(columns["place"], dtype=np.int64),
        items=np.array(columns["item"], dtype=np.int64),
        fields=fields,
        texts=[item_text(row) or "" for row in fields.iter_rows(named=True)],
        reasons=columns["reason"],
        failures=pl.DataFrame(
            failures,
            schema={
                "user": pl.Int64,
                "source": pl.Int64,
                "target": pl.Int64,
                "reason": pl.String,
                "detail": pl.String,
            },
            orient="row",
        ),
    )
