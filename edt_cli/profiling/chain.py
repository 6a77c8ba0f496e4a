"""The S-R-A chain of section 3.4.2: summarize, reform, analyze."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel

from edt_backends.base import ChatBackend, ChatRequest
from edt_cli.augmentation.artefact import Augmentation
from edt_cli.augmentation.clustering import cluster_items
from edt_cli.augmentation.generation import label, sample_users
from edt_cli.config import LLMSettings, ProfilingSettings
from edt_cli.data.dataset import TEXT_FIELDS, TrainingView
from edt_cli.data.imbalance import dominant, imbalance
from edt_cli.llm.ask import Failed, UsageStats, ask, clean, load_prompt, request
from edt_cli.llm.embeddings import ItemEmbeddings
from edt_cli.llm.work import Spool, StageProgress, work
from edt_cli.profiling.groups import group_sequences
from edt_cli.profiling.instructions import degree, instruction, others
from edt_cli.workspace.events import Events

PROMPTS = Path(__file__).parent / "prompts"
SUMMARY_CHARACTERS = 300
TEXT_CHARACTERS = 1000


# The schemas of these classes are sent to the LLM and are part of the keys of cached replies: adding a docstring or
# renaming anything here would ask, and pay for, every question again.


class ClusterSummary(BaseModel):
    cluster: int
    summary: str


class Summaries(BaseModel):
    summaries: list[ClusterSummary]


class Instruction(BaseModel):
    instruction: str


class ProfileText(BaseModel):
    profile: str


@dataclass(frozen=True)
class Outcome:
    """Result of one user's chain.

    Attributes:
        profile: The profile; None if a step failed.
        step: The step that failed.
        failed: Why it failed.
        summaries: Domain, cluster and text of the summaries.
    """

    profile: str | None = None
    step: str = ""
    failed: Failed | None = None
    summaries: list[tuple[int, int, str]] = field(default_factory=list)

    @classmethod
    def restored(cls, kept: dict[str, Any]) -> Outcome:
        """Rebuild an outcome from its `asdict` after JSON."""
        failed = None if kept["failed"] is None else Failed(**kept["failed"])
        return cls(
            profile=kept["profile"],
            step=kept["step"],
            failed=failed,
            summaries=[tuple(part) for part in kept["summaries"]],
        )


class Chain:
    """The questions about all users, in the order in which they depend on each other.

    Attributes:
        users: Users to profile, ascending.
        eligible: Number of users who can be profiled, before `limit_users` takes a sample.
        degrees: Degree of imbalance of each user's original training interactions [U].
        dominants: Dominant domain of each user's original training interactions [U].
        pairs: Different pairs of degree and dominant domain among `users`.
        groups: Items of each user's prompts.
    """

    def __init__(
        self,
        view: TrainingView,
        augmentation: Augmentation,
        embeddings: ItemEmbeddings,
        settings: ProfilingSettings,
        llm: LLMSettings,
    ) -> None:
        self._view, self._llm, self._items = view, llm, augmentation.sequences.items
        clusters = cluster_items(view, embeddings, settings.clusters, llm.seed)
        self._naive = settings.chain == "naive"
        self.groups = group_sequences(view, augmentation, embeddings, None if self._naive else clusters)
        self._titles = ["", *(label(row) for row in view.catalogue.select(TEXT_FIELDS).iter_rows(named=True))]
        self._titles += [label(row) for row in augmentation.pseudo.select(TEXT_FIELDS).iter_rows(named=True)]
        self._background = {
            name: [self._titles[item] for item in medoids]
            for name, medoids in zip(view.domains.described, clusters.medoids, strict=True)
        }
        counts = view.prefixes.domain_counts(view.domains)
        self.degrees, self.dominants = degree(imbalance(counts)), dominant(counts)
        with_text = np.diff(self.groups.offsets).reshape(counts.shape).any(1)
        self.eligible = int(with_text.sum())
        self.users: list[int] = sample_users(np.flatnonzero(with_text), len(counts), llm).tolist()
        self.pairs = sorted({self._pair(user) for user in self.users})

    def _pair(self, user: int) -> tuple[int, int]:
        return int(self.degrees[user]), int(self.dominants[user])

    def first_requests(self) -> Iterator[ChatRequest]:
        """Yield the requests that depend on no reply."""
        if self._naive:
            yield from (self._naive_request(user) for user in self.users)
            return
        yield from (self._reform_request(*pair) for pair in self.pairs)
        for user in self.users:
            for domain, titles in self._titles_of(user).items():
                yield self._summarize_request(user, domain, titles)

    @property
    def prompts(self) -> dict[str, str] | None:
        """Name and version of the prompt of each task; None for `naive`, whose requests are all known."""
        tasks = ("reform", "summarize", "analyze")
        return None if self._naive else {task: load_prompt(PROMPTS / f"{task}.md").name for task in tasks}

    @property
    def chained(self) -> list[str]:
        """Ids of the users with one more request, `analyze`, that depends on replies."""
        return [] if self._naive else [self._view.user_ids[user] for user in self.users]

    async def run(
        self, chat: ChatBackend, events: Events, usage: UsageStats
    ) -> tuple[dict[tuple[int, int], str | Failed], Iterator[Outcome]]:
        """Ask all questions.

        Returns:
            The reformed instruction of each pair, or why reforming failed; and each user's outcome, in order.
        """
        concurrency = self._llm.concurrency
        outcomes = Spool(len(self.users))
        reformed: dict[tuple[int, int], str | Failed] = {}
        texts: dict[tuple[int, int], str] = {}
        if not self._naive:
            reforms = (partial(self._reform, pair, chat, usage) for pair in self.pairs)
            progress = StageProgress(events, "reform", len(self.pairs), chat, usage)
            reformed = dict(zip(self.pairs, await work(reforms, concurrency, events, progress), strict=True))
            texts = {
                pair: instruction(*pair, self._view.domains.names) if isinstance(answer, Failed) else answer
                for pair, answer in reformed.items()
            }

        async def keep(number: int, user: int) -> None:
            outcome = (
                self._run_naive(user, chat, usage)
                if self._naive
                else self._run(user, texts[self._pair(user)], chat, usage)
            )
            outcomes.put(number, asdict(await outcome))

        chains = (partial(keep, number, user) for number, user in enumerate(self.users))
        progress = StageProgress(events, "profile", len(self.users), chat, usage)
        await work(chains, concurrency, events, progress)
        return reformed, (Outcome.restored(kept) for kept in outcomes)

    async def _reform(self, pair: tuple[int, int], chat: ChatBackend, usage: UsageStats) -> str | Failed:
        answer = await ask(chat, self._reform_request(*pair), Instruction, usage, _nothing_said)
        return answer if isinstance(answer, Failed) else clean(answer.instruction, TEXT_CHARACTERS)

    async def _run(self, user: int, text: str, chat: ChatBackend, usage: UsageStats) -> Outcome:
        names = self._view.domains.names
        summaries: list[tuple[int, int, str]] = []
        for domain, groups in self._titles_of(user).items():
            question = self._summarize_request(user, domain, groups)
            answer = await ask(chat, question, Summaries, usage, partial(_nothing_said_of, groups))
            if isinstance(answer, Failed):
                return Outcome(step="summarize", failed=answer, summaries=summaries)
            by_cluster = _by_cluster(answer)
            summaries += [(domain, cluster, by_cluster[cluster]) for cluster in groups if by_cluster.get(cluster)]
        by_domain = {
            names[domain]: [part[2] for part in parts] for domain, parts in groupby(summaries, lambda part: part[0])
        }
        return await self._finish("analyze", self._analyze_request(user, text, by_domain), summaries, chat, usage)

    async def _run_naive(self, user: int, chat: ChatBackend, usage: UsageStats) -> Outcome:
        return await self._finish("naive", self._naive_request(user), [], chat, usage)

    async def _finish(
        self,
        step: str,
        question: ChatRequest,
        summaries: list[tuple[int, int, str]],
        chat: ChatBackend,
        usage: UsageStats,
    ) -> Outcome:
        answer = await ask(chat, question, ProfileText, usage, _nothing_said)
        if isinstance(answer, Failed):
            return Outcome(step=step, failed=answer, summaries=summaries)
        return Outcome(profile=clean(answer.profile, TEXT_CHARACTERS), summaries=summaries)

    def _titles_of(self, user: int) -> dict[int, dict[int, list[str]]]:
        """Return a user's titles by domain and cluster, oldest first, without empty groups."""
        number = len(self._view.domains)
        titles: dict[int, dict[int, list[str]]] = {}
        for domain in range(number):
            rows = self.groups.of(user * number + domain)
            items, labels = self._items[self.groups.indices[rows]].tolist(), self.groups.labels[rows].tolist()
            for item, cluster in zip(items, labels, strict=True):
                titles.setdefault(domain, {}).setdefault(cluster, []).append(self._titles[item])
        return titles

    def _summarize_request(self, user: int, domain: int, groups: Mapping[int, list[str]]) -> ChatRequest:
        clusters = [{"cluster": cluster, "titles": titles} for cluster, titles in groups.items()]
        facts = {"domain": self._view.domains.described[domain], "clusters": clusters}
        return self._request("summarize", Summaries, facts, user, len(clusters))

    def _reform_request(self, number: int, domain: int) -> ChatRequest:
        names = self._view.domains.names
        facts = {
            "instruction": instruction(number, domain, names),
            "dominant": names[domain],
            "other": others(domain, names),
            "domains": self._background,
        }
        return self._request("reform", Instruction, facts)

    def _analyze_request(self, user: int, text: str, summaries: Mapping[str, list[str]]) -> ChatRequest:
        return self._request("analyze", ProfileText, {"instruction": text, "summaries": summaries}, user)

    def _naive_request(self, user: int) -> ChatRequest:
        names = self._view.domains.described
        titles = {names[domain]: groups[0] for domain, groups in self._titles_of(user).items()}
        return self._request("naive", ProfileText, {"titles": titles}, user)

    def _request(
        self,
        task: str,
        shape: type[BaseModel],
        facts: Mapping[str, object],
        user: int | None = None,
        at_most: int | None = None,
    ) -> ChatRequest:
        prompt = load_prompt(PROMPTS / f"{task}.md")
        name = None if user is None else self._view.user_ids[user]
        return request(prompt, self._llm, shape, facts, {"task": task, **facts}, name, at_most)


def _nothing_said(answer: Instruction | ProfileText) -> Failed | None:
    text = answer.profile if isinstance(answer, ProfileText) else answer.instruction
    return None if clean(text, TEXT_CHARACTERS) else Failed("nothing said")


def _by_cluster(answer: Summaries) -> dict[int, str]:
    return {part.cluster: clean(part.summary, SUMMARY_CHARACTERS) for part in answer.summaries}


def _nothing_said_of(clusters: Iterable[int], answer: Summaries) -> Failed | None:
    by_cluster = _by_cluster(answer)
    return None if any(by_cluster.get(cluster) for cluster in clusters) else Failed("nothing said")
