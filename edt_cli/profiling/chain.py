"""The S-R-A chain of section 3.4.2: summarize, reform, analyze."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import groupby
from typing import Any

import numpy as np
from pydantic import BaseModel

from edt_backends.base import ChatBackend, ChatRequest
from edt_cli.augmentation.artefact import Augmentation
from edt_cli.augmentation.clustering import cluster_items
from edt_cli.augmentation.generation import label, sample_users, shown
from edt_cli.config import LLMSettings, ProfilingSettings, UserError
from edt_cli.data.dataset import TEXT_FIELDS, TrainingView
from edt_cli.data.imbalance import dominant, imbalance
from edt_cli.llm.ask import Failed, UsageStats, ask, clean, request
from edt_cli.llm.content import Content
from edt_cli.llm.embeddings import ItemEmbeddings
from edt_cli.llm.prompt_set import NO_DOMAIN, Prompts, others
from edt_cli.llm.shards import Shard
from edt_cli.llm.work import Spool, StageProgress, work
from edt_cli.profiling.groups import group_sequences
from edt_cli.workspace.events import Events

Groups = dict[int, dict[int, list[int]]]
"""Items of a user by domain and cluster, each where it stands in the augmented sequences."""
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
        pairs: Different pairs of degree and dominant domain among `users`; the domain is NO_DOMAIN where the
            instruction of that degree names none.
        groups: Items of each user's prompts.
        prompts: The prompts.
        content: The profiles that an LLM has written, at a glance.
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
        self._inserted, self.prompts, self.content = augmentation.inserted, Prompts.of(llm), Content()
        clusters = cluster_items(view, embeddings, settings.clusters, llm.seed)
        self._naive = settings.chain == "naive"
        self.groups = group_sequences(view, augmentation, embeddings, None if self._naive else clusters)
        catalogues = (view.catalogue, augmentation.pseudo)
        rows = [row for part in catalogues for row in part.select(TEXT_FIELDS).iter_rows(named=True)]
        self._titles = ["", *map(label, rows)]
        self._shown = [{}, *map(shown, rows)]
        self._background = {
            name: [self._titles[item] for item in medoids]
            for name, medoids in zip(view.domains.described, clusters.medoids, strict=True)
        }
        counts = view.prefixes.domain_counts(view.domains)
        self.degrees, self.dominants = self.prompts.instructions.degree(imbalance(counts)), dominant(counts)
        with_text = np.diff(self.groups.offsets).reshape(counts.shape).any(1)
        self.eligible = int(with_text.sum())
        self.users: list[int] = sample_users(np.flatnonzero(with_text), len(counts), llm).tolist()
        self.pairs = sorted({self._pair(user) for user in self.users})

    def _pair(self, user: int) -> tuple[int, int]:
        return self.prompts.instructions.pair(int(self.degrees[user]), int(self.dominants[user]))

    def only(self, user: int) -> None:
        """Ask about one user alone.

        Raises:
            UserError: If nothing can be asked about the user.
        """
        if not self._groups_of(user):
            raise UserError(f"no item of {self._view.user_ids[user]} has a text, so nothing can be asked")
        self.users, self.pairs = [user], [self._pair(user)]

    def of_shard(self, shard: Shard) -> None:
        """Ask about the users of a shard alone, and what all users share."""
        mine = shard.among(self.users, self._view.user_ids)
        self.users = [user for user, chosen in zip(self.users, mine, strict=True) if chosen]

    def first_requests(self) -> Iterator[ChatRequest]:
        """Yield the requests that depend on no reply."""
        if self._naive:
            yield from (self._naive_request(user) for user in self.users)
            return
        yield from (self._reform_request(*pair) for pair in self.pairs)
        for user in self.users:
            for domain, groups in self._groups_of(user).items():
                yield self._summarize_request(user, domain, groups)

    @property
    def versions(self) -> dict[str, str] | None:
        """Name and version of the prompt of each task; None for `naive`, whose requests are all known."""
        tasks = ("reform", "summarize", "analyze")
        return None if self._naive else {task: self.prompts[task].name for task in tasks}

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
                pair: self.instruction(pair) if isinstance(answer, Failed) else answer
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

    def instruction(self, pair: tuple[int, int]) -> str:
        """Return the instruction of a pair of degree and dominant domain, before an LLM reforms it."""
        return self.prompts.instructions.text(*pair, self._view.domains.names)

    async def _reform(self, pair: tuple[int, int], chat: ChatBackend, usage: UsageStats) -> str | Failed:
        answer = await ask(chat, self._reform_request(*pair), Instruction, usage, _nothing_said, self.prompts)
        return answer if isinstance(answer, Failed) else clean(answer.instruction, TEXT_CHARACTERS)

    async def _run(self, user: int, text: str, chat: ChatBackend, usage: UsageStats) -> Outcome:
        names = self._view.domains.names
        summaries: list[tuple[int, int, str]] = []
        for domain, groups in self._groups_of(user).items():
            question = self._summarize_request(user, domain, groups)
            answer = await ask(chat, question, Summaries, usage, partial(_nothing_said_of, groups), self.prompts)
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
        answer = await ask(chat, question, ProfileText, usage, _nothing_said, self.prompts)
        if isinstance(answer, Failed):
            return Outcome(step=step, failed=answer, summaries=summaries)
        profile = clean(answer.profile, TEXT_CHARACTERS)
        if chat.cacheable:
            self.content.add(profile, question)
        return Outcome(profile=profile, summaries=summaries)

    def _groups_of(self, user: int) -> Groups:
        """Return where a user's items stand in the augmented sequences, oldest first, without empty groups."""
        number = len(self._view.domains)
        found: Groups = {}
        for domain in range(number):
            rows = self.groups.of(user * number + domain)
            indices, labels = self.groups.indices[rows].tolist(), self.groups.labels[rows].tolist()
            for index, cluster in zip(indices, labels, strict=True):
                found.setdefault(domain, {}).setdefault(cluster, []).append(index)
        return found

    def _titles_at(self, indices: Iterable[int]) -> list[str]:
        return [self._titles[self._items[index]] for index in indices]

    def _products_at(self, indices: Iterable[int]) -> list[dict[str, Any]]:
        """Return what a prompt shows of items: name, brand and category, and whether an item was only suggested."""
        suggested = {"suggested": True}
        return [self._shown[self._items[index]] | (suggested if self._inserted[index] else {}) for index in indices]

    def _summarize_request(self, user: int, domain: int, groups: Mapping[int, list[int]]) -> ChatRequest:
        described = self._view.domains.described[domain]
        fewer = {cluster: _newer(indices) for cluster, indices in groups.items()}
        return self._request(
            "summarize",
            Summaries,
            {
                "domain": described,
                "clusters": [
                    {"cluster": cluster, "products": self._products_at(indices)}
                    for cluster, indices in groups.items()
                ],
            },
            {
                "domain": described,
                "clusters": [
                    {"cluster": cluster, "titles": self._titles_at(indices)} for cluster, indices in groups.items()
                ],
            },
            user,
            len(groups),
            shorter=partial(self._summarize_request, user, domain, fewer) if fewer != groups else None,
        )

    def _reform_request(self, number: int, domain: int) -> ChatRequest:
        names = self._view.domains.names
        text = self.instruction((number, domain))
        dominant = "" if domain == NO_DOMAIN else names[domain]
        inputs = {"instruction": text, "dominant": dominant, "other": others(domain, names)}
        fields = {"instruction": text, "domains": self._background}
        return self._request("reform", Instruction, fields, inputs | {"domains": self._background})

    def _analyze_request(self, user: int, text: str, summaries: Mapping[str, list[str]]) -> ChatRequest:
        inputs = {"instruction": text, "summaries": summaries}
        fields = inputs | {"domains": list(self._view.domains.described)}
        return self._request("analyze", ProfileText, fields, inputs, user)

    def _naive_request(self, user: int) -> ChatRequest:
        return self._naive_about(user, {domain: groups[0] for domain, groups in self._groups_of(user).items()})

    def _naive_about(self, user: int, items: Mapping[int, list[int]]) -> ChatRequest:
        names = self._view.domains.described
        fewer = {domain: _newer(indices) for domain, indices in items.items()}
        return self._request(
            "naive",
            ProfileText,
            {"products": {names[domain]: self._products_at(indices) for domain, indices in items.items()}},
            {"titles": {names[domain]: self._titles_at(indices) for domain, indices in items.items()}},
            user,
            shorter=partial(self._naive_about, user, fewer) if fewer != items else None,
        )

    def _request(
        self,
        task: str,
        shape: type[BaseModel],
        fields: Mapping[str, object],
        inputs: Mapping[str, object],
        user: int | None = None,
        at_most: int | None = None,
        shorter: Callable[[], ChatRequest] | None = None,
    ) -> ChatRequest:
        name = None if user is None else self._view.user_ids[user]
        inputs = {"task": task, **inputs}
        return request(self.prompts[task], self._llm, shape, fields, inputs, name, at_most, shorter)


def _newer(indices: list[int]) -> list[int]:
    """Return the newer half of items, oldest first; a single one stays."""
    return indices[len(indices) // 2 :]


def _nothing_said(answer: Instruction | ProfileText) -> Failed | None:
    text = answer.profile if isinstance(answer, ProfileText) else answer.instruction
    return None if clean(text, TEXT_CHARACTERS).strip(" .…") else Failed("nothing said")


def _by_cluster(answer: Summaries) -> dict[int, str]:
    return {part.cluster: clean(part.summary, SUMMARY_CHARACTERS) for part in answer.summaries}


def _nothing_said_of(clusters: Iterable[int], answer: Summaries) -> Failed | None:
    by_cluster = _by_cluster(answer)
    return None if any(by_cluster.get(cluster) for cluster in clusters) else Failed("nothing said")
