"""Keys: what goes into a step, as a digest. Pure functions of what they are handed.

What changes a result belongs into a key; what does not (concurrency, device, limits) does not. So a changed
learning rate never asks an LLM again, and a step with nothing changed does nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from edt_cli.config import AugmentationSettings, LLMSettings, ProfilingSettings, Settings
from edt_cli.workspace.layout import digest

FILTER = 2
"""To be raised when other items pass the augmenter's filter; 2: a tau for each kind of user."""

LLMStage = Literal["augmentation", "profiles"]
Kind = Literal["embeddings", LLMStage]
"""Of artefacts."""
Identity = Mapping[str, Any]
"""What a backend says of itself, as far as it can change a reply."""


def embeddings_key(dataset: str, embedder: Identity, text_map: Identity | None) -> str:
    """text_map: of what the embedder is fitted to the catalogue's texts with, if it is."""
    fitted = [] if text_map is None else [text_map]
    return digest("embeddings", dataset, embedder, *fitted)


def llm_key(chat: Identity, s: LLMSettings) -> str:
    return digest(chat, s.model_dump(exclude={"concurrency"}))


def augmentation_key(view: str, embeddings: str, s: AugmentationSettings, llm: str) -> str:
    return digest("augmentation", FILTER, view, embeddings, s, llm)


def tau_key(view: str, embeddings: str, s: AugmentationSettings, chat: Identity, llm: LLMSettings) -> str:
    """Under which values of tau are kept: that of the augmentation, for whatever sample of the users."""
    asked = llm.model_dump(exclude={"concurrency", "limit_users"})
    return digest(FILTER, view, embeddings, s, chat, asked)


def profiles_key(view: str, embeddings: str, augmentation: str, s: ProfilingSettings, llm: str) -> str:
    return digest("profiles", view, embeddings, augmentation, s, llm)


def retried_key(key: str, tries: int) -> str:
    """That of a stage whose failed questions were asked again so many times."""
    return digest(key, tries) if tries else key


def run_key(
    view: str, s: Settings, artefacts: Mapping[Kind, str], options: Mapping[str, Any], *, keep_seen: bool
) -> str:
    """options: those of the system, all of them."""
    parts = [options] if options else []
    seen = ["seen items stay candidates"] if keep_seen else []
    return digest("run", view, s.model, s.training, artefacts, *parts, *seen)
