"""A second LLM that is asked where the first has no answer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from edt_backends.base import BackendError, ChatBackend, ChatReply, ChatRequest
from edt_backends.budget import OutOfBudget
from edt_backends.cache import CachedChat
from edt_backends.store import ReplyCache


class FallbackChat(CachedChat):
    """Chat backend that asks a second one where the first fails for good.

    Each has its own replies in the cache, under its own name. A call that failed after all its attempts goes to the
    second; once the first can answer nothing more (no credit, a key that is refused), all do. What the second has
    answered before is not asked of the first again. A question that is too long, and a spending limit, concern both
    alike and are passed on.
    """

    def __init__(
        self, backend: ChatBackend, cache: ReplyCache, second: CachedChat, *, retry_failed: bool = False
    ) -> None:
        super().__init__(backend, cache, retry_failed=retry_failed)
        self._second, self._gone, self._told = second, False, list[str]()

    @property
    def parts(self) -> tuple[CachedChat, ...]:
        return (self, self._second)

    def status(self) -> dict[str, Any]:
        first, second = super().status(), self._second.status()
        notes = [*first.get("notes", ()), *second.get("notes", ()), *self._told]
        counts = second if self._gone else first
        hits = {name: first[name] + second[name] for name in ("hits", "saved_usd")}
        return counts | hits | ({"notes": notes} if notes else {})

    def contains(self, request: ChatRequest) -> bool:
        return super().contains(request) or self._second.contains(self._of_second(request))

    def halt(self) -> None:
        super().halt()
        self._second.halt()

    def reject(self, request: ChatRequest) -> None:
        super().reject(request)
        self._second.reject(self._of_second(request))

    async def complete(self, request: ChatRequest) -> ChatReply:
        other = self._of_second(request)
        if not super().contains(request) and (self._gone or self._second.contains(other)):
            return await self._second.complete(other)
        try:
            return await super().complete(request)
        except BackendError as error:
            if error.only_this or isinstance(error, OutOfBudget) or self._halted:
                raise
            self._gone = self._gone or not error.retryable
            if not self._told or (self._gone and len(self._told) < 2):
                what = "all further questions go" if self._gone else "what it does not answer goes"
                self._told.append(f"{error}; {what} to {self._second.name}")
        return await self._second.complete(other)

    def _of_second(self, request: ChatRequest) -> ChatRequest:
        more = self._second.thinking_tokens - self.thinking_tokens
        return replace(request, max_tokens=request.max_tokens + more)
