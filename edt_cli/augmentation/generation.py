"""Generation of items (eq. 4): which questions to ask, the requests, and reading the replies."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any, Generic, TypeVar

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, WithJsonSchema, field_validator

from edt_backends.base import ChatRequest
from edt_cli.augmentation.clustering import Clusters
from edt_cli.augmentation.representatives import Representatives
from edt_cli.config import AugmentationSettings, LLMSettings
from edt_cli.data.dataset import TEXT_FIELDS, TrainingView
from edt_cli.data.imbalance import imbalance
from edt_cli.llm.ask import TITLE_CHARACTERS, Failed, clean, request
from edt_cli.llm.embeddings import item_text
from edt_cli.llm.prompt_set import Prompts

COLUMNS = ("question", "position", "purchase", "item", "reason")
OTHER_DOMAIN = "other domain"
MANY = 10_000
"""More purchases than any question has."""
LIMITS = {"title": TITLE_CHARACTERS, "brand": 100, "category": 200, "description": 500}


# This docstring is part of the JSON schema that is sent to the LLM, hence of the keys of cached replies: changing a
# word of it would ask, and pay for, every question again.
class GeneratedItem(BaseModel):
    """What an LLM is asked for."""

    # A model that is constrained to the schema leaves out whatever it may, so the number is required of it.
    model_config = ConfigDict(json_schema_extra={"required": ["purchase", "title"]})

    purchase: Annotated[int | None, WithJsonSchema({"type": "integer"})] = None
    title: str
    brand: str | None = None
    category: str | None = None
    description: str | None = None

    @field_validator("purchase", mode="before")
    @classmethod
    def _numbered(cls, value: object) -> object:
        """Read the number of a purchase; what is none costs no item."""
        if isinstance(value, str):
            digits = re.search(r"\d{1,4}", value)
            value = int(digits[0]) if digits else None
        known = isinstance(value, int) and not isinstance(value, bool) and 0 < value < MANY
        return value if known else None

    @field_validator("brand", "category", "description", mode="before")
    @classmethod
    def _joined(cls, value: object) -> object:
        """Join a list into one text: LLMs often give categories as a list."""
        if isinstance(value, list) and all(isinstance(part, str) for part in value):
            return ", ".join(value)
        return value


class RetrievedItem(GeneratedItem):
    """Generated item with the id of a training item, which a backend that retrieves may add."""

    id: str | None = None


Item = TypeVar("Item", bound=GeneratedItem)


class Items(BaseModel, Generic[Item]):
    items: list[Item]


Reply = Items[RetrievedItem]


def no_items(reply: Reply) -> Failed | None:
    """Check a reply: without a single title it is a failure."""
    return None if any(_said(item.title, LIMITS["title"]) for item in reply.items) else Failed("no items")


@dataclass(frozen=True)
class Questions:
    """Questions to the LLM, ordered by user and target domain.

    Question q is about user `users[q]`: it gives items of domain `sources[q]` and asks for items of domain
    `targets[q]`.

    Attributes:
        users: Users [Q].
        sources: Source domains [Q].
        targets: Target domains [Q].
        eligible: Number of users with questions, before `limit_users` takes a sample.
        without_text: Number of users who have no question only because no item of the source domain has text.
    """

    users: np.ndarray
    sources: np.ndarray
    targets: np.ndarray
    eligible: int
    without_text: int

    def __len__(self) -> int:
        return len(self.users)

    def only(self, chosen: np.ndarray) -> Questions:
        """Return some of the questions, by bool [Q]."""
        return replace(self, users=self.users[chosen], sources=self.sources[chosen], targets=self.targets[chosen])


def choose_questions(
    view: TrainingView,
    representatives: Representatives,
    clusters: Clusters,
    settings: AugmentationSettings,
    llm: LLMSettings,
) -> Questions:
    """Choose the questions: for which users, from which source domain, for which target domain.

    Each domain is a target once; its source is the domain with most of the user's other items. The direction
    `minority` asks where the user has fewer items in the target than in the source: with two domains only for the
    less dominant one, and for none with equal counts; with three domains up to twice (with 5, 3 and 1 items: for
    the second and the third, from the first). `both` asks for every target. A domain without a training item with
    text is never a target. r and the counts are of the training prefix, including items without text.
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
        eligible = in_range & (others[every, source] > 0) & (len(clusters.medoids[target]) > 0)
        if settings.direction == "minority":
            eligible &= counts[:, target] < others[every, source]
        wanted[:, target] = eligible & represented[every, source]
        textless[:, target] = eligible & ~represented[every, source]
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


def sample_users(users: np.ndarray, total: int, llm: LLMSettings) -> np.ndarray:
    """Sample `limit_users` of the users, or return all if there is no limit; ascending.

    A larger sample with the same seed contains every smaller one. All stages use the same random order of users, so
    that a pilot profiles the users whose sequences it augments.

    Args:
        users: Users to sample from.
        total: Number of all users.
        llm: Settings with the limit and the seed.
    """
    if llm.limit_users is None or llm.limit_users >= len(users):
        return users
    order = np.random.default_rng(llm.seed).permutation(total)
    return np.sort(order[np.isin(order, users)][: llm.limit_users])


def label(row: dict[str, str | None]) -> str:
    """Return the name of an item in a prompt: its title, or else its other text."""
    return (row["title"] or item_text(row) or "")[:TITLE_CHARACTERS]


def generation_requests(
    view: TrainingView,
    questions: Questions,
    representatives: Representatives,
    clusters: Clusters,
    settings: AugmentationSettings,
    llm: LLMSettings,
) -> Iterator[ChatRequest]:
    """Yield the request of each question, in order."""
    prompt = Prompts.of(llm)["generate"]
    rows = list(view.catalogue.select("id", *TEXT_FIELDS).iter_rows(named=True))
    names, described = view.domains.names, view.domains.described
    starts = view.domains.starts
    examples = [[label(rows[item - 1]) for item in medoids] for medoids in clusters.medoids]

    def ask_about(first: int, *, user: int, source: int, target: int) -> ChatRequest:
        """Build the request about a user's representatives, without those before the first."""
        chosen = [rows[item - 1] for item in representatives.items[representatives.of(user * len(names) + source)]]
        prefix = view.prefixes.of(user)
        seen = np.unique(prefix[(prefix >= starts[target]) & (prefix < starts[target + 1])])
        later = (first + len(chosen) + 1) // 2
        return request(
            prompt,
            llm,
            Items[GeneratedItem],
            {
                "source": described[source],
                "target": described[target],
                "items": [{"number": n, **shown(row)} for n, row in enumerate(chosen, start=1)][first:],
                "examples": examples[target],
                "count": settings.ask,
            },
            {
                "task": "generate",
                "target_domain": names[target],
                "items": [row["id"] for row in chosen],
                "texts": [item_text(row) for row in chosen],
                "count": settings.ask,
                "exclude": [rows[item - 1]["id"] for item in seen],
            },
            user=view.user_ids[user],
            at_most=settings.ask,
            shorter=partial(ask_about, later, user=user, source=source, target=target)
            if later < len(chosen)
            else None,
        )

    for user, source, target in zip(questions.users, questions.sources, questions.targets, strict=True):
        yield ask_about(0, user=int(user), source=int(source), target=int(target))


def shown(row: dict[str, str | None]) -> dict[str, str]:
    """Return what a prompt shows of an item: its name, brand and category."""
    fields = {"title": label(row), "brand": row["brand"], "category": row["category"]}
    return {name: value[: LIMITS[name]] for name, value in fields.items() if value}


@dataclass(frozen=True)
class Generated:
    """Generated items of all replies, one row per item.

    Attributes:
        questions: Question of each item [G].
        positions: Position of each item in its reply [G].
        purchases: Number of the purchase that the reply names for each item [G], from 1 in the question; 0 if none.
        items: Number of the catalogue item [G] if the backend retrieved one, else 0.
        fields: Cleaned text fields of each item.
        texts: Text of each item, from its fields.
        reasons: Why an item is rejected already; None if it is not.
        failures: User, source, target, reason and detail of each failed question.
    """

    questions: np.ndarray
    positions: np.ndarray
    purchases: np.ndarray
    items: np.ndarray
    fields: pl.DataFrame
    texts: list[str]
    reasons: list[str | None]
    failures: pl.DataFrame


def _said(value: str | None, limit: int) -> str | None:
    """Return a text that was said; None for nothing, or for the dots of the prompt's form."""
    text = clean(value, limit)
    return text if text.strip(" .…") else None


def collect(
    view: TrainingView, questions: Questions, answers: Iterable[Reply | Failed], settings: AugmentationSettings
) -> Generated:
    """Clean the generated items. Every item of every reply gets a row; none is dropped silently.

    What stands in the form of the prompt for a text ("...") is none. An id is trusted if it is a training item of
    the target domain with the same title: only a backend that retrieves can know both, since prompts contain no
    ids. An item that an LLM invents under the title of a training item of the target domain (ignoring case) is that
    item, not a new one; one under the title of an item of another domain, such as a purchase in the question, is
    none of the target domain.
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
    columns: dict[str, list[Any]] = {name: [] for name in (*COLUMNS, *TEXT_FIELDS)}
    for question, answer in enumerate(answers):
        user, source, target = (
            int(part[question]) for part in (questions.users, questions.sources, questions.targets)
        )
        if isinstance(answer, Failed):
            failures.append((user, source, target, answer.reason, answer.detail))
            continue
        seen = set(view.prefixes.of(user).tolist())
        for position, item in enumerate(answer.items):
            text = {name: _said(getattr(item, name), limit) for name, limit in LIMITS.items()}
            number = numbers.get(item.id or "", 0)
            title = clean(titles[number - 1], LIMITS["title"]) if number else None
            if number not in trained or number not in view.domains.range(target) or title != text["title"]:
                number = titled[target].get((text["title"] or "").casefold(), 0)
            if text["title"] is None:
                reason: str | None = "no title"
            elif not number and any(
                text["title"].casefold() in titled[other] for other in range(len(titled)) if other != target
            ):
                reason = OTHER_DOMAIN
            elif position >= settings.ask:
                reason = "more than asked"
            else:
                reason = "had already" if number in seen else None
            row = (question, position, item.purchase or 0, number, reason, *text.values())
            for name, value in zip(columns, row, strict=True):
                columns[name].append(value)
    fields = pl.DataFrame(
        {name: columns[name] for name in TEXT_FIELDS}, schema=dict.fromkeys(TEXT_FIELDS, pl.String)
    )
    return Generated(
        questions=np.array(columns["question"], dtype=np.int64),
        positions=np.array(columns["position"], dtype=np.int64),
        purchases=np.array(columns["purchase"], dtype=np.int64),
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
