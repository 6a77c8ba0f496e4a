"""The LLM and the embedder of a command, with cache, budget and pacing around them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from edt_backends.base import ChatBackend
from edt_cli.config import Settings, UsageError
from edt_cli.workspace.layout import Workspace

if TYPE_CHECKING:
    from edt_backends.base import Catalogue, EmbeddingBackend
    from edt_backends.budget import Budget, Price
    from edt_backends.cache import CachedChat, CachedEmbeddings
    from edt_backends.ledger import Ledger
    from edt_backends.limits import Pace
    from edt_backends.store import ReplyCache
    from edt_cli.llm.aliases import Alias


@dataclass(frozen=True)
class Providers:
    """LLM and embedder, shared by all steps of a command so that a limit holds for all together.

    Attributes:
        workspace: Folder of the cache and the ledger.
        settings: Settings of the LLM, the embedder and the limits.
        device: Device to compute embeddings on.
        retry_failed: Whether to ask questions again whose replies could not be used.
        dry: Whether nobody will be called, so that no key is needed.
    """

    workspace: Workspace
    settings: Settings
    device: str = "cpu"
    retry_failed: bool = False
    dry: bool = False

    @cached_property
    def cache(self) -> ReplyCache:
        """Cache of replies and vectors."""
        from edt_backends.store import ReplyCache

        return ReplyCache(self.workspace.cache)

    @cached_property
    def ledger(self) -> Ledger:
        """Ledger of paid calls."""
        from edt_backends.ledger import open_ledger

        return open_ledger(self.workspace.ledger)

    @cached_property
    def budget(self) -> Budget:
        """Budget of the command, or of all that name the same one."""
        from edt_backends.budget import Budget
        from edt_backends.shared_budget import SharedBudget

        limits = self.settings.limits
        if limits.budget is None:
            return Budget(self.ledger, limits.max_cost)
        return SharedBudget(self.ledger, limits.budget, limits.max_cost)

    @cached_property
    def backend(self) -> ChatBackend:
        """The LLM itself, for its name and identity; `local` cannot answer without a catalogue.

        Raises:
            BackendError: If the provider is unknown or a key is missing.
        """
        return self._backend(None)

    @cached_property
    def fallback(self) -> ChatBackend | None:
        """The LLM that is asked where the first has no answer.

        Raises:
            BackendError: If the provider is unknown or a key is missing, or if `local` would stand in.
        """
        from edt_backends.base import BackendError
        from edt_backends.registry import same_provider

        s = self.settings.llm
        if s.fallback is None:
            return None
        address = s.api_base if same_provider(s.provider, s.fallback) else None
        backend = self._named(s.fallback, None, address, None, {})
        if not (backend.cacheable and self.backend.cacheable):
            raise BackendError("--fallback is an LLM, PROVIDER/MODEL, beside another one; `local` is none")
        return backend

    @cached_property
    def price(self) -> tuple[float, float] | None:
        """US dollars per prompt token and per completion token, as the user states or as known; else None."""
        if self._stated is not None:
            return self._stated
        client = self.backend.batches() if self.settings.limits.batch_api else None
        return (client or self.backend).price_per_token()

    @property
    def price_is_stated(self) -> bool:
        """Whether the user states the LLM's price."""
        return self._stated is not None

    @property
    def fallback_with_price(self) -> tuple[str, Price | None] | None:
        """Name of the second LLM, and its price in US dollars per token, None if unknown; None without a second."""
        second = self.fallback
        return None if second is None else (second.name, self._fallback_price or second.price_per_token())

    @property
    def paid(self) -> bool:
        """Whether a call may cost money: a price that is not known may be one."""
        second = self.fallback_with_price
        other = second is not None and (second[1] is None or any(second[1]))
        return self.price is None or any(self.price) or other or self.embedder.paid

    @cached_property
    def embedder(self) -> CachedEmbeddings:
        """The embedder with cache, and, unless it is local, with budget and pacing."""
        from edt_backends.budget import BudgetedEmbeddings
        from edt_backends.cache import CachedEmbeddings
        from edt_backends.limits import PacedEmbeddings
        from edt_backends.registry import embedding_backend

        s, limits = self.settings.embedding, self.settings.limits
        backend: EmbeddingBackend = embedding_backend(
            s.embedder, self._embedder_address, self.device, limits.timeout, dry=self.dry
        )
        backend.batch_size = s.batch_size or backend.batch_size
        if s.embedder.partition("/")[0] != "local":
            price = None if limits.embedder_price is None else limits.embedder_price / 1e6
            backend = PacedEmbeddings(BudgetedEmbeddings(backend, self.budget, price), self._pace(1))
        return CachedEmbeddings(backend, self.cache)

    @property
    def _embedder_address(self) -> str | None:
        """Address of the embedder's server: if none is set, that of the LLM of the same provider."""
        from edt_backends.registry import same_provider

        s, llm, alias = self.settings.embedding, self.settings.llm, self._alias(self.settings.llm.provider)
        provider = llm.provider if alias is None else alias.model
        address = llm.api_base or (None if alias is None else alias.api_base)
        return s.api_base or (address if same_provider(s.embedder, provider) else None)

    def chat(self, catalogue: Catalogue | None = None) -> CachedChat:
        """Return the LLM with cache, budget and pacing; `local` needs only the catalogue to retrieve from.

        With `limits.batch_api`, what is not in the cache is sent as batch jobs.
        """
        from edt_backends.budget import BudgetedChat
        from edt_backends.cache import CachedChat
        from edt_backends.fallback import FallbackChat
        from edt_backends.limits import PacedChat

        s, backend = self.settings.llm, self._backend(catalogue)
        if self.settings.limits.batch_api and backend.cacheable:
            return self._batched(backend)
        if backend.cacheable:
            backend = PacedChat(BudgetedChat(backend, self.budget, self._stated), self._chat_pace)
        backend = self._within_context(s.provider, backend)
        if self.fallback is None or s.fallback is None:
            return CachedChat(backend, self.cache, retry_failed=self.retry_failed)
        second = PacedChat(BudgetedChat(self.fallback, self.budget, self._fallback_price), self._fallback_pace)
        other = CachedChat(self._within_context(s.fallback, second), self.cache, retry_failed=self.retry_failed)
        return FallbackChat(backend, self.cache, other, retry_failed=self.retry_failed)

    def _batched(self, backend: ChatBackend) -> CachedChat:
        from edt_backends.base import BackendError
        from edt_backends.batches import BatchedChat

        if self.settings.limits.budget is not None:
            raise BackendError(
                "batch jobs share no budget with other commands: leave out limits.budget or --batch-api"
            )
        if self.fallback is not None:
            raise BackendError("no second model is asked in batch jobs: leave out --fallback or --batch-api")
        client, alias = backend.batches(), self._alias(self.settings.llm.provider)
        if client is None:
            raise BackendError(f"{backend.name} has no batch jobs that edt can use: leave out --batch-api")
        return BatchedChat(
            backend,
            self.cache,
            client,
            self.budget,
            self.ledger,
            price=self._stated,
            context=None if alias is None else alias.context,
            retry_failed=self.retry_failed,
        )

    def _within_context(self, name: str, backend: ChatBackend) -> ChatBackend:
        """Return a backend whose questions fit into the context that `models.toml` states for its name."""
        from edt_backends.context import ContextChat

        alias = self._alias(name)
        return backend if alias is None or alias.context is None else ContextChat(backend, alias.context)

    def check(self) -> None:
        """Check the settings of LLM and embedder before any work.

        Raises:
            BackendError: If a key is missing, a provider is unknown, or there is a spending limit without a price.
        """
        self.chat()
        assert self.embedder

    def note_hits(self, chat: CachedChat) -> None:
        """Record in the ledger what the cache has answered in this command so far."""
        from edt_backends.budget import pico

        for one in chat.parts:
            if one.hits:
                self.ledger.save_hits(one.name, one.hits, pico(one.saved_usd))

    @cached_property
    def _stated(self) -> Price | None:
        alias = self._alias(self.settings.llm.provider)
        text = self.settings.limits.price or (None if alias is None else alias.price)
        return None if text is None else self._parsed(text)

    @cached_property
    def _fallback_price(self) -> Price | None:
        alias = self._alias(self.settings.llm.fallback or "")
        return None if alias is None or alias.price is None else self._parsed(alias.price)

    def _parsed(self, price: str) -> Price:
        from edt_backends.base import BackendError
        from edt_backends.budget import parse_price

        try:
            return parse_price(price)
        except BackendError as error:
            raise UsageError(str(error)) from None

    @cached_property
    def _aliases(self) -> dict[str, Alias]:
        from edt_cli.llm.aliases import read_aliases

        return read_aliases(self.workspace.root)

    def _alias(self, name: str) -> Alias | None:
        return self._aliases.get(name)

    @cached_property
    def _chat_pace(self) -> Pace:
        return self._pace(self.settings.llm.concurrency)

    @cached_property
    def _fallback_pace(self) -> Pace:
        return self._pace(self.settings.llm.concurrency)

    def _pace(self, concurrency: int) -> Pace:
        from edt_backends.limits import Pace, Patience

        limits = self.settings.limits
        return Pace(concurrency, limits.rpm, limits.tpm, Patience(first=limits.backoff))

    def _backend(self, catalogue: Catalogue | None) -> ChatBackend:
        s = self.settings.llm
        return self._named(s.provider, s.model, s.api_base, catalogue, s.extra)

    def _named(
        self,
        provider: str,
        model: str | None,
        api_base: str | None,
        catalogue: Catalogue | None,
        extra: Mapping[str, Any],
    ) -> ChatBackend:
        """Return a backend by a provider's name, or by one of the user's own."""
        from edt_backends.registry import chat_backend

        structured, alias = self.settings.llm.structured, self._alias(provider)
        if alias is not None:
            provider, api_base, extra = alias.model, api_base or alias.api_base, {**alias.extra, **extra}
            structured = "off" if alias.structured == "off" else structured
        return chat_backend(
            provider,
            model,
            api_base,
            catalogue,
            self.settings.limits.timeout,
            dry=self.dry,
            extra=extra,
            structured=structured == "auto",
        )
