"""A prompt tried on one user: the question, the reply, what is read in it, and what the filter keeps."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from edt_backends.base import ChatBackend, ChatReply, ChatRequest
from edt_backends.wrappers import ChatWrapper, request_bytes
from edt_cli.augmentation.artefact import Augmentation
from edt_cli.augmentation.generation import Reply, collect, generation_requests, no_items
from edt_cli.augmentation.identity import identify
from edt_cli.augmentation.summary import KINDS
from edt_cli.augmentation.verdicts import Plan, judge, make_plan
from edt_cli.config import UserError
from edt_cli.data.imbalance import imbalance
from edt_cli.llm.ask import Failed, UsageStats, ask
from edt_cli.llm.prompt_set import AUGMENT, Prompts
from edt_cli.pipeline import keys
from edt_cli.pipeline.store import KnownTau, Tau
from edt_cli.profiling.chain import Chain

if TYPE_CHECKING:
    from edt_cli.pipeline import Pipeline

ONE_DOMAIN = "one-domain"
TRIED = ("generate", "summarize", "reform", "analyze", "naive")
"""Prompts that can be tried; each repair shows by itself."""


class Recorder(ChatWrapper):
    """Chat backend that keeps every request with its reply."""

    def __init__(self, backend: ChatBackend) -> None:
        super().__init__(backend)
        self.exchanges: list[tuple[ChatRequest, ChatReply | None]] = []

    async def complete(self, request: ChatRequest) -> ChatReply:
        reply = await self._backend.complete(request)
        self.exchanges.append((request, reply))
        return reply


@dataclass
class Trial:
    """A prompt tried on one user, which can be asked.

    Attributes:
        pipeline: The pipeline whose settings count.
        name: Name of the prompt.
        user: Number of the user.
        notes: What is otherwise than in the whole stage.
    """

    pipeline: Pipeline
    name: str
    user: int
    notes: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, pipeline: Pipeline, name: str, user: str) -> Trial:
        """Return the trial of a prompt on a user, or on the first with items in one domain for `one-domain`.

        Raises:
            UserError: If there is no such user.
        """
        if user != ONE_DOMAIN:
            return cls(pipeline, name, pipeline.dataset.user(user))
        ratios = imbalance(pipeline.view.prefixes.domain_counts(pipeline.view.domains))
        return cls(pipeline, name, int(np.flatnonzero(ratios == np.nanmax(ratios))[0]))

    def requests(self) -> list[ChatRequest]:
        """Return the requests that depend on no reply."""
        if self.name == "generate":
            return list(self._generation(self._plan()))
        return [request for request in self._chain().first_requests() if self._shows(request)]

    def ask(self) -> dict[str, Any]:
        """Ask, and return the document of the trial."""
        chat, usage = Recorder(self.pipeline.chat), UsageStats()
        found = self._generate(chat, usage) if self.name == "generate" else self._profile(chat, usage)
        shown = [pair for pair in chat.exchanges if self._shows(pair[0])]
        return {
            **self._head(),
            "exchanges": [_exchange(*pair) for pair in shown],
            "calls": len(chat.exchanges),
            "mended": usage.mended,
            **found,
            "cost_usd": None if usage.unpriced else usage.cost_usd,
            "spent_usd": usage.spent_usd,
            "notes": self.notes,
        }

    def shown(self) -> dict[str, Any]:
        """Return the document of the trial without asking anybody."""
        requests, price = self.requests(), self.pipeline.providers.price
        if not requests:
            self.notes.append(f"{self.name} is asked with what other replies say, so nothing can be shown before")
        most = None
        if price is not None:
            most = sum(request_bytes(one) * price[0] + one.max_tokens * price[1] for one in requests)
        exchanges = [_exchange(request, None) for request in requests]
        return {**self._head(), "exchanges": exchanges, "most_usd": most, "notes": self.notes}

    def _head(self) -> dict[str, Any]:
        prompts = Prompts.of(self.pipeline.settings.llm)
        if prompts.local:
            self.notes.append("`local` reads no prompt: it answers from the data")
        return {
            "user": self.pipeline.dataset.user_ids[self.user],
            "data": self.pipeline.dataset.name,
            "llm": self.pipeline.chat_identity["name"],
            "prompt": prompts.version(self.name),
            "file": str(prompts.file(self.name)),
        }

    def _shows(self, request: ChatRequest) -> bool:
        return request.prompt.partition("@")[0] == self.name

    # Generation.

    def _plan(self) -> Plan:
        """Return the questions of the augmenter about the user alone.

        Raises:
            UserError: If there are none.
        """
        s = self.pipeline.settings
        everybody = s.llm.model_copy(update={"limit_users": None})
        plan = make_plan(self.pipeline.view, self.pipeline.embeddings(), s.augmentation, everybody)
        rows = np.flatnonzero(plan.questions.users == self.user)
        if not len(rows):
            raise UserError(
                f"the augmenter asks nothing about {self.pipeline.dataset.user_ids[self.user]}, who has as many "
                "items in each domain, or none with a text: name another with --user"
            )
        parts = {name: getattr(plan.questions, name)[rows] for name in ("users", "sources", "targets")}
        return replace(plan, questions=replace(plan.questions, **parts))

    def _generation(self, plan: Plan) -> Iterable[ChatRequest]:
        s = self.pipeline.settings
        return generation_requests(
            self.pipeline.view, plan.questions, plan.representatives, plan.clusters, s.augmentation, s.llm
        )

    def _generate(self, chat: ChatBackend, usage: UsageStats) -> dict[str, Any]:
        pipeline, s = self.pipeline, self.pipeline.settings.augmentation
        plan, prompts = self._plan(), Prompts.of(self.pipeline.settings.llm)

        async def answers() -> list[Reply | Failed]:
            return [await ask(chat, request, Reply, usage, no_items, prompts) for request in self._generation(plan)]

        replies = asyncio.run(answers())
        generated = collect(pipeline.view, plan.questions, replies, s)
        embeddings, embedder = pipeline.embeddings(), pipeline.fitted_embedder()
        generated, _, vectors = identify(
            pipeline.view, embeddings, generated, plan.questions, s, embedder, pipeline.events
        )
        known = self._known_tau()
        judged = judge(pipeline.view, embeddings, plan, generated, vectors, s, known)
        missing = {cell for cell in np.unique(judged.cells).tolist() if not self._has_tau(known, cell)}
        if missing:  # a threshold that is calibrated on one user's items would say nothing
            open_ = s.model_copy(update={"tau": -1.0})
            judged = judge(pipeline.view, embeddings, plan, generated, vectors, open_, {})
            self.notes.append("tau is not calibrated yet, so only ranks count: edt augment --limit-users does it")
        names, titles = pipeline.view.domains.names, pipeline.view.catalogue["title"].to_list()
        history = pipeline.view.prefixes.of(self.user)
        items = []
        for row, question in enumerate(generated.questions.tolist()):
            anchor = int(history[judged.scores.anchors[row]]) if judged.usable[row] else 0
            items.append(
                {
                    "domain": names[plan.questions.targets[question]],
                    "title": generated.fields["title"][row],
                    "purchase": int(generated.purchases[row]) or None,
                    "anchor": titles[anchor - 1] if anchor else None,
                    "score_source": float(judged.scores.source[row]) if judged.usable[row] else None,
                    "score_target": float(judged.scores.target[row]) if judged.usable[row] else None,
                    "tau": None if missing or np.isnan(judged.tau[row]) else float(judged.tau[row]),
                    "rank": int(judged.ranks[row]) if judged.usable[row] else None,
                    "kept": bool(judged.passed[row]),
                    "reason": judged.reasons[row],
                }
            )
        failed = [f"{reply.reason} {reply.detail}".strip() for reply in replies if isinstance(reply, Failed)]
        return {"failed": failed, "items": items}

    def _known_tau(self) -> Tau:
        """Return the values of tau of these prompts, or else of the built-in ones, that were calibrated here."""
        pipeline, s = self.pipeline, self.pipeline.settings
        known, users = KnownTau(pipeline.workspace, pipeline.tau_key).of_most()
        if known:
            self.notes += [] if users is None else [f"tau is that of a pilot of {users:,} users"]
            return known
        built_in = Prompts(local=s.llm.provider == "local").identity(AUGMENT)
        key = keys.tau_key(
            pipeline.view.key,
            pipeline.embeddings_key,
            s.augmentation,
            pipeline.chat_identity,
            s.llm,
            built_in,
        )
        known, _ = KnownTau(pipeline.workspace, key).of_most()
        if known:
            self.notes.append("tau is the one of the built-in prompts")
        return known

    def _has_tau(self, known: Tau, cell: int) -> bool:
        s = self.pipeline.settings.augmentation
        name = self.pipeline.view.domains.names[cell // 2]
        return not s.filter or isinstance(s.tau, float) or KINDS[cell % 2] in known.get(name, {})

    # Profiles.

    def _chain(self) -> Chain:
        pipeline, s = self.pipeline, self.pipeline.settings
        augmented = pipeline.profiled() if pipeline.profiled_is_made else Augmentation.none(pipeline.view)
        if not pipeline.profiled_is_made:
            self.notes.append("there is no augmentation yet, so the question is about the purchases alone")
        profiling = s.profiling.model_copy(
            update={"chain": "naive" if self.name == "naive" else "summarize-reform-analyze"}
        )
        chain = Chain(pipeline.view, augmented, pipeline.embeddings(), profiling, s.llm)
        chain.only(self.user)
        return chain

    def _profile(self, chat: ChatBackend, usage: UsageStats) -> dict[str, Any]:
        chain = self._chain()
        reformed, outcomes = asyncio.run(chain.run(chat, self.pipeline.events, usage))
        (outcome,) = outcomes
        names = self.pipeline.view.domains.names
        failed = [f"{step.reason} {step.detail}".strip() for step in reformed.values() if isinstance(step, Failed)]
        if outcome.failed is not None:
            failed.append(f"{outcome.step}: {outcome.failed.reason} {outcome.failed.detail}".strip())
        return {
            "failed": failed,
            "instructions": [text for text in reformed.values() if not isinstance(text, Failed)],
            "summaries": [
                {"domain": names[domain], "cluster": cluster, "summary": text}
                for domain, cluster, text in outcome.summaries
            ],
            "profile": outcome.profile,
        }


def _exchange(request: ChatRequest, reply: ChatReply | None) -> dict[str, Any]:
    said: dict[str, Any] = {}
    if reply is not None:
        said = {
            "reply": reply.text,
            "finish_reason": reply.finish_reason,
            "model": reply.model,
            "cached": reply.cached,
            "prompt_tokens": reply.usage.prompt_tokens,
            "completion_tokens": reply.usage.completion_tokens,
            "cost_usd": reply.usage.cost_usd,
            "seconds": reply.seconds,
        }
    messages = [{"role": message.role, "content": message.content} for message in request.messages]
    return {"prompt": request.prompt, "messages": messages, "max_tokens": request.max_tokens, **said}
