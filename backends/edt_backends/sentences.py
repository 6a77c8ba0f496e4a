"""Local text embeddings by sentence-transformers.

The default is the packaged MiniLM with a lexical map beside it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from edt_backends.base import (
    BackendError,
    EmbeddingBackend,
    EmbeddingCancelled,
    EmbeddingReply,
    Usage,
    Vectors,
)
from edt_backends.lexical import COMPONENTS, LexicalMap
from edt_backends.minilm import MINILM, MINILM_SHA256, WEIGHTS, minilm_folder, sha256_of

MINILM_DIMENSION = 384
DIMENSION = MINILM_DIMENSION + COMPONENTS
"""Dimension of `local`: MiniLM and the lexical map."""
HUB_FILES = ["*.json", "*.txt", "*.model", "*.safetensors"]


class LocalEmbeddings(EmbeddingBackend):
    """Embedding backend of unit vectors in float32, computed on this machine.

    Texts longer than the model's limit (256 tokens for MiniLM) are cut. The other texts of a batch change a vector
    only by float32 rounding (1e-6).

    Args:
        model: A sentence-transformers model, by its name on the hub or its folder. None is the packaged MiniLM with
            the lexical map; "all-MiniLM-L6-v2" is the same without the map.
        device: Device to compute on.
    """

    def __init__(self, model: str | None = None, device: str = "cpu") -> None:
        self.name = f"local ({model or f'{MINILM} + lexical'})"
        self.text_map = LexicalMap if model is None else None
        self.batch_size = 128 if device == "cpu" else 1024
        self._model, self._device = None if model == MINILM else model, device
        self._dimension = MINILM_DIMENSION if self._model is None else None
        self._lock = threading.Lock()
        self._cancelled = threading.Event()

    @property
    def dimension(self) -> int | None:
        """Length of a vector: 384 for MiniLM; known for another model after the first call."""
        return self._dimension

    def identity(self) -> dict[str, Any]:
        return {"backend": "local", "model": self._model or MINILM, "weights": self._sha256}

    def prepare(self, texts: Sequence[str]) -> None:
        assert self._encoder

    async def embed(self, texts: Sequence[str]) -> EmbeddingReply:
        cancelled, parts = threading.Event(), list[tuple[np.ndarray, Vectors]]()
        # A cancelled caller does not stop a thread. No task, as it would be cancelled with all others at Ctrl-C.
        working = asyncio.get_running_loop().run_in_executor(None, self._embed, texts, cancelled, parts)
        try:
            return EmbeddingReply(await asyncio.shield(working), Usage())
        except asyncio.CancelledError:
            cancelled.set()
            with contextlib.suppress(_Cancelled):
                await working
            finished = {texts[row]: vector for rows, part in parts for row, vector in zip(rows, part, strict=True)}
            raise EmbeddingCancelled(finished) from None

    def _embed(
        self, texts: Sequence[str], cancelled: threading.Event, parts: list[tuple[np.ndarray, Vectors]]
    ) -> Vectors:
        """Return the vectors, after adding those of each small batch, with their rows, to `parts`."""
        if not texts:
            return np.zeros((0, self._dimension or 0), np.float32)
        with self._lock:
            self._cancelled, model = cancelled, self._encoder
            tokens = model.tokenizer(list(texts), truncation=True, max_length=model.max_seq_length)["input_ids"]
            # Sort by tokens: encode() sorts by characters, which leaves a third of each batch to padding.
            order = np.argsort([-len(ids) for ids in tokens], kind="stable")
            size = 32 if self._device == "cpu" else 256
            for start in range(0, len(texts), size):
                self._stop_if_cancelled()
                rows = order[start : start + size]
                vectors = model.encode(
                    [texts[row] for row in rows],
                    batch_size=size,
                    normalize_embeddings=True,
                    show_progress_bar=False,
                )
                parts.append((rows, vectors))
        vectors = np.concatenate([part for _, part in parts])
        self._dimension = vectors.shape[1]
        return vectors[np.argsort(order)]

    def _stop_if_cancelled(self, *_: Any) -> None:
        if self._cancelled.is_set():
            raise _Cancelled

    @cached_property
    def _folder(self) -> Path:
        if self._model is None:
            return minilm_folder()
        if Path(self._model).is_dir():
            return Path(self._model)
        return _from_hub(self._model)

    @cached_property
    def _sha256(self) -> str:
        """SHA-256 of the weights."""
        file = self._folder / WEIGHTS
        if self._model is None:
            return MINILM_SHA256[WEIGHTS]
        if not file.is_file():
            raise BackendError(
                f"{self._folder} holds no {WEIGHTS}: only sentence-transformers models in that format are loaded"
            )
        return sha256_of(file)

    @cached_property
    def _encoder(self) -> Any:
        assert self._sha256
        os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
        import transformers
        from sentence_transformers import SentenceTransformer

        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        model = SentenceTransformer(
            str(self._folder),
            device=self._device,
            local_files_only=True,
            trust_remote_code=False,
            model_kwargs={"use_safetensors": True},
        )
        if self._device == "cpu":
            from edt_backends._onednn import use_onednn

            use_onednn(model)
        # A batch of long texts takes seconds on a CPU, a single layer a fraction of one.
        for module in model.modules():
            module.register_forward_pre_hook(self._stop_if_cancelled)
        return model


class _Cancelled(Exception):
    """The caller no longer waits for the vectors."""


def _from_hub(name: str) -> Path:
    """Return the folder of a model on the hub, downloading it if needed, without pickles."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    import httpx
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=HUB_FILES))
    except (OSError, ValueError, httpx.HTTPError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise BackendError(
            f"the embedding model {name!r} is not a local folder and cannot be downloaded from the hub ({reason}); "
            "--embedder local needs no download"
        ) from error
