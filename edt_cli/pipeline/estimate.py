"""Estimate of the requests, time and cost of the LLM stages that are not made yet; nothing is sent."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from edt_backends.base import ChatRequest
from edt_backends.cache import CachedChat
from edt_backends.store import Observed
from edt_backends.wrappers import request_bytes
from edt_cli.config import LimitSettings
from edt_cli.llm.ask import with_thoughts
from edt_cli.models.systems import has_llm, needs
from edt_cli.paper.facts import COST_PER_USER

if TYPE_CHECKING:
    from edt_cli.data.dataset import TrainingView
    from edt_cli.llm.embeddings import ItemEmbeddings
    from edt_cli.llm.shards import Shard
    from edt_cli.pipeline import Pipeline

ENOUGH = 10
"""Fewest questions of a prompt in the cache to rely on their statistics."""
PAPER_STAGES = {"augment": "generation", "profile": "summarization", "embed": "embedding"}


class Span(NamedTuple):
    """Range from `low` to `high`; equal if the estimate is a single number."""

    low: float
    high: float

    def __add__(self, other: object) -> Span:
        assert isinstance(other, Span)
        return Span(self.low + other.low, self.high + other.high)

    def times(self, other: Span) -> Span:
        """Return the product of two ranges of positive numbers."""
        return Span(self.low * other.low, self.high * other.high)


NOTHING, ONCE = Span(0.0, 0.0), Span(1.0, 1.0)
TOKENS_A_BYTE = Span(1 / 5, 1 / 3)
SECONDS_A_CALL = Span(1.0, 10.0)
REPLY_TOKENS = {
    "generate": Span(120, 500),
    "summarize": Span(60, 400),
    "reform": Span(60, 160),
    "analyze": Span(90, 220),
    "naive": Span(90, 220),
}
GENERATE_BYTES, ANALYZE_BYTES = Span(1500, 6000), Span(1200, 4000)
PROFILE_TOKENS, ITEM_TOKENS = Span(60, 150), Span(15, 80)


@dataclass(frozen=True)
class Estimate:
    """Estimate of one stage.

    Attributes:
        stage: Name of the stage.
        users: Number of users that the requests are about.
        calls: Number of calls to make, without cached ones.
        cached: Number of requests whose replies are in the cache.
        prompt_tokens: Tokens of all prompts.
        completion_tokens: Tokens of all replies.
        cost_usd: Cost in US dollars; None if the price is unknown.
        seconds: Time at the concurrency and limits of the settings.
        basis: Where the figures come from.
    """

    stage: str
    users: int
    calls: Span = NOTHING
    cached: int = 0
    prompt_tokens: Span = NOTHING
    completion_tokens: Span = NOTHING
    cost_usd: Span | None = NOTHING
    seconds: Span = NOTHING
    basis: str = "stated ranges"

    @property
    def paper_usd(self) -> float:
        """Cost of this stage per user in the paper."""
        return COST_PER_USER[PAPER_STAGES[self.stage]]

    def document(self) -> dict[str, Any]:
        """Return the estimate as JSON values."""
        return {
            "stage": self.stage,
            "users": self.users,
            "calls": list(self.calls),
            "cached": self.cached,
            "prompt_tokens": list(self.prompt_tokens),
            "completion_tokens": list(self.completion_tokens),
            "cost_usd": None if self.cost_usd is None else list(self.cost_usd),
            "cost_usd_a_user": None
            if self.cost_usd is None
            else [part / max(1, self.users) for part in self.cost_usd],
            "paper_usd_a_user": self.paper_usd,
            "seconds": list(self.seconds),
            "basis": self.basis,
        }


@dataclass
class Counted:
    """What a forecast of several pipelines has counted, so that no artefact or request is counted twice."""

    artefacts: set[str] = field(default_factory=set)
    requests: set[str] = field(default_factory=set)

    def first(self, key: str) -> bool:
        """Count an artefact, and return whether it was not counted before."""
        known = key in self.artefacts
        self.artefacts.add(key)
        return not known


def estimates(pipeline: Pipeline, counted: Counted | None = None, shard: Shard | None = None) -> list[Estimate]:
    """Estimate the stages that are not made yet, in order: of this run and of the one that it makes first.

    Args:
        pipeline: Pipeline of the stages.
        counted: What was estimated for other pipelines, which is left out here; what is estimated here is added.
        shard: Shard of the users who alone are asked about.
    """
    counted = counted or Counted()
    first = pipeline.first
    if first is None or ((run := first.existing()) is not None and run.finished):
        return _estimates(pipeline, counted, shard)
    return [*_estimates(first, counted), *_estimates(pipeline, counted)]


def _estimates(pipeline: Pipeline, counted: Counted, shard: Shard | None = None) -> list[Estimate]:
    """Estimate the stages of one run that are not made yet, in order.

    Requests that depend on missing replies are estimated from the cached replies to that prompt and model, or else
    from a stated range. If even the vectors of the items would have to be paid for, random vectors stand in for
    them: the prompts then contain other items, but about as many.
    """
    s, needed, stages = pipeline.settings, needs(pipeline.settings.model), []
    chat = pipeline.providers.chat()
    asks_items = (
        s.augmentation.enabled
        and "generated items" in needed
        and pipeline.unanswered("augmentation")
        and counted.first(pipeline.augmentation_key)
    )
    asks_profiles = (
        s.profiling.enabled
        and "user profiles" in needed
        and pipeline.unanswered("profiles")
        and counted.first(pipeline.profiles_key)
    )
    known = Known(
        chat=chat,
        price=pipeline.providers.price,
        observed=pipeline.providers.cache.observed(chat.name),
        concurrency=s.llm.concurrency,
        limits=s.limits,
        counted=counted,
        stated=pipeline.providers.price_is_stated,
        fallback=pipeline.providers.fallback_with_price,
    )
    vectors = _vectors(pipeline) if asks_items or asks_profiles else None
    items = 0
    if asks_items and vectors is not None:
        from edt_cli.augmentation.augment import planned_requests
        from edt_cli.llm.prompt_set import Prompts

        view, prompt = pipeline.augmenter.view, Prompts.of(s.llm)["generate"].name
        failed = pipeline.failed_again("augmentation")
        again = [(prompt, Span(failed, failed), known.size(prompt, GENERATE_BYTES))] if failed else []
        requests = planned_requests(view, vectors, s.augmentation, s.llm)
        if shard is not None:
            requests = (request for request in requests if shard.holds(request.user or ""))
        stage = known.stage("augment", requests, again)
        items = int(stage.calls.high) * s.augmentation.ask
        stages.append(stage)
    profiles = 0
    if asks_profiles and vectors is not None:
        stage = _profiles(pipeline.profiler, vectors, known, shard)
        profiles = stage.users
        stages.append(stage)
    embedded = _embedding(pipeline, items, profiles, counted)
    return [embedded, *stages] if embedded else stages


@dataclass
class Known:
    """Prices and statistics of cached replies, to estimate the tokens, time and cost of requests.

    Attributes:
        chat: The LLM with its cache.
        price: US dollars per prompt token and per completion token; None if unknown.
        observed: Statistics of cached replies by prompt.
        concurrency: Most calls in flight at a time.
        limits: Limits of requests and tokens per minute.
        counted: Requests that were counted already.
        stated: Whether the user states the price, which then holds for all tokens.
        fallback: Name and price of the LLM that is asked where the first has no answer, if there is one.
    """

    chat: CachedChat
    price: tuple[float, float] | None
    observed: dict[str, Observed]
    concurrency: int
    limits: LimitSettings
    counted: Counted = field(default_factory=Counted)
    stated: bool = False
    fallback: tuple[str, tuple[float, float] | None] | None = None

    def stage(
        self, name: str, requests: Iterable[ChatRequest], more: Iterable[tuple[str, Span, Span]] = ()
    ) -> Estimate:
        """Estimate a stage.

        Args:
            name: Name of the stage.
            requests: Requests that are known already.
            more: Requests that are not: prompt, number, and bytes of each.
        """
        new: dict[str, tuple[int, int]] = {}
        cached, users, keys = 0, set(), self.counted.requests
        for request in requests:
            if request.user is not None:
                users.add(request.user)
            key = self.chat.key(request)
            if key in keys or self.chat.contains(fitting(self.chat, request)):
                cached += 1  # the reply to an equal request answers it, too
                continue
            keys.add(key)
            seen, total = new.get(request.prompt, (0, 0))
            new[request.prompt] = seen + 1, total + request_bytes(request)
        parts = [
            (prompt, Span(number, number), Span(size / number, size / number))
            for prompt, (number, size) in new.items()
        ]
        calls = prompt_tokens = priced_tokens = completion_tokens = seconds = NOTHING
        for prompt, count, size in [*parts, *more]:
            replies, tokens_in, tokens_out, each = self.per_question(prompt, size)
            calls += count.times(replies)
            prompt_tokens += count.times(tokens_in)
            full = self.share_at_full_price(prompt)
            priced_tokens += count.times(tokens_in).times(Span(full, full))
            completion_tokens += count.times(tokens_out)
            seconds += count.times(replies).times(each)
        cost = None
        if self.price is not None:
            into, out = (Span(price, price) for price in self.price)
            cost = priced_tokens.times(into) + completion_tokens.times(out)
        cost = self._at_worst(cost, prompt_tokens, completion_tokens)
        return Estimate(
            stage=name,
            users=len(users),
            calls=calls,
            cached=cached,
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
            cost_usd=cost,
            seconds=self._duration(calls, prompt_tokens + completion_tokens, seconds),
            basis=self._basis([prompt for prompt, _, _ in [*parts, *more]]),
        )

    def _at_worst(self, cost: Span | None, prompt_tokens: Span, completion_tokens: Span) -> Span | None:
        """Return a cost whose upper end holds if the second LLM answers everything, where there is one."""
        if self.fallback is None or cost is None:
            return cost
        price = self.fallback[1]
        if price is None:
            return None
        return Span(cost.low, max(cost.high, prompt_tokens.high * price[0] + completion_tokens.high * price[1]))

    def statistics(self, prompt: str) -> Observed | None:
        """Return the statistics of a prompt's cached replies; None if there are too few."""
        observed = self.observed.get(prompt)
        return observed if observed is not None and observed.questions >= ENOUGH else None

    def share_at_full_price(self, prompt: str) -> float:
        """Return the share of its price that a prompt token costs: less where a provider knows the beginning.

        It is what the replies so far had, at the provider's price for them; 1 while nothing is known.
        """
        stats, cached = self.statistics(prompt), self.chat.further_prices().cached
        if stats is None or cached is None or self.price is None or not self.price[0] or self.stated:
            return 1.0
        return 1.0 - stats.cached_tokens / max(1, stats.prompt_tokens) * (1.0 - cached / self.price[0])

    def per_question(self, prompt: str, size: Span) -> tuple[Span, Span, Span, Span]:
        """Estimate a question of `size` bytes.

        Returns:
            Number of replies (including repairs), prompt tokens, completion tokens, and seconds per reply.
        """
        stats = self.statistics(prompt)
        if stats is None:
            out = REPLY_TOKENS[prompt.partition("@")[0]]
            return ONCE, size.times(TOKENS_A_BYTE), out, SECONDS_A_CALL
        replies = stats.replies / stats.questions
        tokens_in = stats.prompt_tokens / max(1, stats.prompt_bytes) * replies
        tokens_out = stats.completion_tokens / stats.questions
        each = stats.seconds / stats.replies
        return (
            Span(replies, replies),
            size.times(Span(tokens_in, tokens_in)),
            Span(tokens_out, tokens_out),
            Span(each, each),
        )

    def size(self, prompt: str, otherwise: Span) -> Span:
        """Return the bytes of a question that cannot be written yet, from the cache or `otherwise`."""
        stats = self.statistics(prompt)
        return Span(*[stats.prompt_bytes / stats.replies] * 2) if stats else otherwise

    def _basis(self, prompts: list[str]) -> str:
        unique = dict.fromkeys(prompts)
        counts = {prompt: stats.questions for prompt in unique if (stats := self.statistics(prompt))}
        said = ", ".join(f"{count:,} of {prompt}" for prompt, count in counts.items())
        known = [f"replies in the cache: {said}"] if counts else []
        stated = [] if counts and len(counts) == len(unique) else ["stated ranges"]
        worst = [] if self.fallback is None else [f"at worst all by {self.fallback[0]}"]
        return "; ".join(known + stated + worst)

    def _duration(self, calls: Span, tokens: Span, seconds: Span) -> Span:
        """Return the longest of the times for answers, requests per minute and tokens per minute."""

        def of(calls: float, tokens: float, seconds: float) -> float:
            rpm, tpm = self.limits.rpm, self.limits.tpm
            return max(
                seconds / self.concurrency, calls / rpm * 60 if rpm else 0.0, tokens / tpm * 60 if tpm else 0.0
            )

        return Span(of(calls.low, tokens.low, seconds.low), of(calls.high, tokens.high, seconds.high))


def fitting(chat: CachedChat, request: ChatRequest) -> ChatRequest:
    """Return the question that is sent in place of one that a server has refused as too long."""
    while chat.was_too_long(with_thoughts(request, chat)) and request.shorter is not None:
        if (shorter := request.shorter()) is None:
            break
        request = shorter
    return request


def _profiles(pipeline: Pipeline, vectors: ItemEmbeddings, known: Known, shard: Shard | None) -> Estimate:
    """Estimate the chain of section 3.4.2.

    While the augmentation is not made, the number and length of a user's summaries are taken from the users in the
    cache whose chain is finished.
    """
    from edt_cli.augmentation.artefact import Augmentation
    from edt_cli.profiling.chain import Chain

    s = pipeline.settings
    made = pipeline.profiled_is_made
    augmented = pipeline.profiled() if made else Augmentation.none(pipeline.view)
    chain = Chain(pipeline.view, augmented, vectors, s.profiling, s.llm)
    if shard is not None:
        chain.of_shard(shard)
    names = chain.versions
    requests: list[ChatRequest] | Iterable[ChatRequest] = chain.first_requests()
    failed = pipeline.failed_again("profiles")
    if names is None:
        prompt = next(iter(chain.first_requests())).prompt if failed else ""
        return known.stage("profile", requests, [(prompt, Span(failed, failed), ANALYZE_BYTES)] if failed else ())
    analyzed = known.observed.get(names["analyze"], Observed()).users
    waiting = [user for user in chain.chained if user not in analyzed]
    more = [(names["analyze"], Span(len(waiting), len(waiting)), known.size(names["analyze"], ANALYZE_BYTES))]
    if not made:
        left = set(waiting)
        stats = known.statistics(names["summarize"])
        least = sum(request.user in left for request in chain.first_requests())
        count = Span(least, max(least, len(waiting) * len(pipeline.view.domains)))
        if stats is not None and stats.users:
            count = Span(*[len(waiting) * stats.questions / len(stats.users)] * 2)
        sizes = [request_bytes(request) for request in chain.first_requests() if request.user in left]
        mean = sum(sizes) / max(1, len(sizes))
        more.append((names["summarize"], count, known.size(names["summarize"], Span(mean, 1.5 * mean))))
        requests = (request for request in chain.first_requests() if request.user not in left)
    if failed:  # at any of their steps
        count = Span(failed, failed * (len(pipeline.view.domains) + 1))
        more.append((names["summarize"], count, known.size(names["summarize"], ANALYZE_BYTES)))
    return replace(known.stage("profile", requests, more), users=len(chain.users))


def _embedding(pipeline: Pipeline, items: int, profiles: int, counted: Counted) -> Estimate | None:
    """Estimate the embedding of new texts: catalogue items, generated items and profiles."""
    embedder, users = pipeline.providers.embedder, len(pipeline.view.prefixes)
    if not embedder.paid or (pipeline.dataset.vectors is not None and not has_llm(pipeline.settings)):
        return None
    from edt_cli.llm.embeddings import item_texts

    texts = [text for text in item_texts(pipeline.dataset.catalogue) if text is not None]
    first = not pipeline.made("embeddings") and counted.first(pipeline.embeddings_key)
    missing = embedder.missing(texts) if first else []
    size = float(sum(len(text.encode("utf-8", "replace")) for text in missing))
    tokens = Span(size, size).times(TOKENS_A_BYTE)
    tokens += Span(items, items).times(ITEM_TOKENS) + Span(profiles, profiles).times(PROFILE_TOKENS)
    if not tokens.high:
        return None
    price = embedder.price_per_token()
    batches = -(-len(missing) // embedder.batch_size) + -(-(items + profiles) // embedder.batch_size)
    calls = Span(batches, batches)
    cost = None if price is None else tokens.times(Span(price, price))
    cached = len(set(texts)) - len(missing) if first else 0
    return Estimate(
        stage="embed",
        users=users,
        calls=calls,
        cached=cached,
        prompt_tokens=tokens,
        completion_tokens=NOTHING,
        cost_usd=cost,
        seconds=calls.times(Span(0.2, 2.0)),
    )


def _vectors(pipeline: Pipeline) -> ItemEmbeddings:
    local = pipeline.settings.embedding.embedder.partition("/")[0] == "local"
    asks = pipeline.providers.embedder.paid or (pipeline.providers.dry and not local)
    if pipeline.made("embeddings") or not asks:
        return pipeline.embeddings()
    return _stand_in(pipeline.view)


def _stand_in(view: TrainingView) -> ItemEmbeddings:
    """Return random unit vectors, the same each time."""
    import numpy as np

    from edt_cli.llm.embeddings import ItemEmbeddings, item_texts

    has_text = np.array([False, *(text is not None for text in item_texts(view.catalogue))])
    vectors = np.random.default_rng(0).normal(size=(len(has_text), 32)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return ItemEmbeddings(np.where(has_text[:, None], vectors, 0).astype(np.float32), has_text)
