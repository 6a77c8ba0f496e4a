"""Every provider that litellm speaks. litellm itself takes seconds to import: only when a call is prepared."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Sequence
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np

from edt_backends.base import (
    BackendError,
    BackendSpec,
    ChatBackend,
    ChatReply,
    ChatRequest,
    EmbeddingBackend,
    EmbeddingReply,
    Plugin,
    Usage,
)

TIMEOUT_SECONDS = 120.0
RETRIES = 2
SECRET = re.compile(r"(?i)(sk-|key|token|bearer)[-_\w=: ]{6,}")
TRANSIENT = ("Timeout", "RateLimitError", "InternalServerError", "ServiceUnavailableError", "APIConnectionError")


@cache
def _litellm() -> ModuleType:
    """litellm with its own logging, its telemetry and its look-up of prices off."""
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    os.environ.setdefault("LITELLM_LOG", "ERROR")
    import litellm

    litellm.telemetry = False
    litellm.suppress_debug_info = True
    litellm.drop_params = True
    litellm.callbacks = []
    for name in ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy", "httpx"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return litellm


class LiteLLMChat(ChatBackend):
    """One chat model by litellm's name, such as deepseek/deepseek-chat."""

    paid = True

    def __init__(self, model: str, api_base: str | None = None) -> None:
        self.model = model
        self.api_base = api_base
        self.name = model
        self._key = _checked_key(model, api_base)
        self.paid = self.price_per_token() != (0.0, 0.0)

    def identity(self) -> dict[str, Any]:
        return {"backend": "litellm", "model": self.model, "api_base": self.api_base}

    def price_per_token(self) -> tuple[float, float] | None:
        """By litellm's bundled price list; nothing for a server of one's own or Ollama."""
        if self.model.startswith("ollama") or self.api_base is not None:
            return 0.0, 0.0
        known = _litellm().model_cost.get(self.model) or _litellm().model_cost.get(self.model.partition("/")[2])
        if known is None:
            return None
        return known.get("input_cost_per_token", 0.0), known.get("output_cost_per_token", 0.0)

    async def complete(self, request: ChatRequest) -> ChatReply:
        litellm = _litellm()
        options: dict[str, Any] = {"temperature": request.temperature, "max_tokens": request.max_tokens}
        if request.seed is not None:
            options["seed"] = request.seed
        if request.schema is not None:
            options["response_format"] = self._format(request)
        try:
            reply = await litellm.acompletion(
                model=self.model,
                messages=[{"role": message.role, "content": message.content} for message in request.messages],
                api_base=self.api_base,
                api_key=self._key,
                timeout=TIMEOUT_SECONDS,
                num_retries=RETRIES,
                **options,
            )
        except Exception as error:  # litellm's own and its clients' exceptions: one line for each
            raise _clear(error, self.model) from None
        if not reply.choices:
            raise BackendError(f"{self.model} gave an empty reply", retryable=True)
        choice, usage = reply.choices[0], reply.usage
        counted = (getattr(usage, "prompt_tokens", 0) or 0, getattr(usage, "completion_tokens", 0) or 0)
        return ChatReply(
            choice.message.content or "",
            Usage(*counted, self._cost(*counted)),
            self.model,
            finish_reason=choice.finish_reason or "stop",
        )

    def _cost(self, prompt_tokens: int, completion_tokens: int) -> float | None:
        price = self.price_per_token()
        return None if price is None else prompt_tokens * price[0] + completion_tokens * price[1]

    def _format(self, request: ChatRequest) -> dict[str, Any]:
        name = request.prompt.partition("@")[0]
        if self.api_base is not None or _litellm().supports_response_schema(model=self.model):
            return {"type": "json_schema", "json_schema": {"name": name, "schema": dict(request.schema or {})}}
        return {"type": "json_object"}


class LiteLLMEmbeddings(EmbeddingBackend):
    """One embedding model by litellm's name, such as openai/text-embedding-3-small."""

    def __init__(self, model: str, api_base: str | None = None) -> None:
        self.model = model
        self.api_base = api_base
        self.name = model
        self._key = _checked_key(model, api_base)
        self._dimension: int | None = None
        self.paid = self.price_per_token() != 0.0

    @property
    def dimension(self) -> int | None:
        return self._dimension

    def identity(self) -> dict[str, Any]:
        return {"backend": "litellm", "embedder": self.model, "api_base": self.api_base}

    def price_per_token(self) -> float | None:
        if self.model.startswith("ollama") or self.api_base is not None:
            return 0.0
        known = _litellm().model_cost.get(self.model) or _litellm().model_cost.get(self.model.partition("/")[2])
        return None if known is None else known.get("input_cost_per_token", 0.0)

    async def embed(self, texts: Sequence[str]) -> EmbeddingReply:
        try:
            reply = await _litellm().aembedding(
                model=self.model,
                input=list(texts),
                api_base=self.api_base,
                api_key=self._key,
                timeout=TIMEOUT_SECONDS,
                num_retries=RETRIES,
            )
        except Exception as error:
            raise _clear(error, self.model) from None
        rows = sorted(reply.data, key=lambda row: row["index"])
        vectors = np.array([row["embedding"] for row in rows], dtype=np.float32)
        if vectors.ndim != 2 or len(vectors) != len(texts):
            raise BackendError(f"{self.model} gave {len(rows)} vectors for {len(texts)} texts", retryable=True)
        self._dimension = vectors.shape[1]
        norms = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        tokens = getattr(reply.usage, "prompt_tokens", 0) or 0
        price = self.price_per_token()
        return EmbeddingReply(vectors / norms, Usage(tokens, 0, None if price is None else tokens * price))


def _checked_key(model: str, api_base: str | None) -> str | None:
    """None where litellm finds the key itself. Errors: BackendError that names the variable that is missing."""
    found = _litellm().validate_environment(model=model, api_base=api_base)
    missing = [name for name in found["missing_keys"] if name.upper().endswith(("KEY", "TOKEN"))]
    if api_base is not None:
        # A server of one's own may want no key, but the client insists on sending something.
        return "none" if missing else None
    if missing:
        raise BackendError(f"{model} needs a key: set the environment variable {' and '.join(missing)}")
    try:
        _litellm().get_llm_provider(model)
    except Exception:
        raise BackendError(
            f"unknown provider or model {model!r}: there are local, deepseek, gpt-3.5, ollama, and any PROVIDER/MODEL "
            "that litellm knows, such as openai/gpt-4o-mini"
        ) from None
    return None


def _clear(error: Exception, model: str) -> BackendError:
    """One line without secrets."""
    kind = type(error).__name__
    hints = {
        "AuthenticationError": "the key was refused; check the environment variable that holds it",
        "PermissionDeniedError": "the key may not use this model",
        "NotFoundError": "there is no such model, or the address is wrong",
        "RateLimitError": "the provider says: too many requests",
        "Timeout": f"no answer within {TIMEOUT_SECONDS:.0f} s",
        "APIConnectionError": "the server cannot be reached",
    }
    said = " ".join(str(error).split())
    for name, value in os.environ.items():
        if len(value) >= 6 and re.search(r"(?i)key|token|secret|password", name):
            said = said.replace(value, "…")
    said = SECRET.sub(r"\1…", said)[:200]
    return BackendError(f"{model}: {hints.get(kind, said)} ({kind})", retryable=kind in TRANSIENT)


def _named(spec: BackendSpec) -> str:
    if spec.model is None:
        raise BackendError("litellm needs a model, written PROVIDER/MODEL, such as openai/gpt-4o-mini")
    return spec.model


def _chat(spec: BackendSpec) -> ChatBackend:
    return LiteLLMChat(_named(spec), spec.api_base)


def _embeddings(spec: BackendSpec) -> EmbeddingBackend:
    return LiteLLMEmbeddings(_named(spec), spec.api_base)


plugin = Plugin(chat=_chat, embeddings=_embeddings)
