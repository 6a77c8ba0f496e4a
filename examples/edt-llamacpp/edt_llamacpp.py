"""A GGUF model in the process, by llama.cpp: `--provider llamacpp/PATH.gguf`."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from functools import cached_property
from pathlib import Path
from typing import Any

from edt_backends.base import BackendError, BackendSpec, ChatBackend, ChatReply, ChatRequest, Plugin, Usage


class LlamaCpp(ChatBackend):
    """One question at a time; the weights are loaded with the first."""

    def __init__(self, spec: BackendSpec) -> None:
        if not spec.model:
            raise BackendError("llamacpp needs a model: --provider llamacpp/PATH.gguf")
        self._file = Path(spec.model).expanduser()
        if not self._file.is_file():
            raise BackendError(f"there is no model file {self._file}")
        self.name = f"llamacpp/{self._file.name}"
        self._lock = threading.Lock()

    def identity(self) -> dict[str, Any]:
        return {"backend": "llamacpp", "weights": self._sha256}

    async def complete(self, request: ChatRequest) -> ChatReply:
        return await asyncio.to_thread(self._complete, request)

    def _complete(self, request: ChatRequest) -> ChatReply:
        form = {"type": "json_object", "schema": dict(request.schema)} if request.schema else None
        messages = [{"role": message.role, "content": message.content} for message in request.messages]
        with self._lock:
            try:
                reply = self._model.create_chat_completion(
                    messages=messages,
                    response_format=form,
                    max_tokens=request.max_tokens,
                    temperature=request.temperature,
                    seed=request.seed,
                )
            except ValueError as error:
                if "context window" not in str(error):
                    raise BackendError(f"{self.name}: {error}") from error
                return ChatReply(
                    text="", usage=Usage(), model=self.name, finish_reason="length"
                )  # this prompt does not fit
        choice, counted = reply["choices"][0], reply["usage"]
        usage = Usage(counted["prompt_tokens"], counted["completion_tokens"])
        return ChatReply(
            text=choice["message"]["content"] or "",
            usage=usage,
            model=self.name,
            finish_reason=choice["finish_reason"],
        )

    @cached_property
    def _sha256(self) -> str:
        with self._file.open("rb") as weights:
            return hashlib.file_digest(weights, "sha256").hexdigest()

    @cached_property
    def _model(self) -> Any:
        from llama_cpp import Llama

        try:
            return Llama(str(self._file), n_ctx=0, verbose=False)  # 0: as long as the model was trained for
        except ValueError as error:
            raise BackendError(f"{self._file} is no model that llama.cpp can load: {error}") from error


plugin = Plugin(chat=LlamaCpp)
