"""Context of a model: a question that does not fit into it is not sent."""

from __future__ import annotations

from edt_backends.base import BackendError, ChatBackend, ChatReply, ChatRequest
from edt_backends.wrappers import ChatWrapper, request_bytes

BYTES_A_TOKEN = 3
"""Bytes of a token, on the careful side: 4 are usual in English."""


class ContextChat(ChatWrapper):
    """Chat backend whose questions and answers fit into a context of some tokens.

    Some servers, such as Ollama, cut off the beginning of a prompt that is too long without a word.
    """

    def __init__(self, backend: ChatBackend, context: int) -> None:
        super().__init__(backend)
        self._context = context

    async def complete(self, request: ChatRequest) -> ChatReply:
        check_context(self.name, request, self._context)
        return await self._backend.complete(request)


def check_context(name: str, request: ChatRequest, context: int) -> None:
    """Check that a question and its answer fit into the context of a model.

    Raises:
        BackendError: If they do not.
    """
    tokens = request_bytes(request) // BYTES_A_TOKEN + request.max_tokens
    if tokens > context:
        raise BackendError(
            f"{name}: a question of about {tokens:,} tokens, with its answer, is longer than its context of "
            f"{context:,}",
            only_this=True,
            unbilled=True,
        )
