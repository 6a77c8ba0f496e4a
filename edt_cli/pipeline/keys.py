"""Keys of the steps: digests of all their inputs, as pure functions.

All that changes a result belongs in a key; concurrency, device and limits do not. So a changed learning rate never
asks an LLM again, and a step whose inputs have not changed does nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from edt_cli.config import AugmentationSettings, LLMSettings, ProfilingSettings, Settings
from edt_cli.workspace.layout import digest

FILTER = 2
"""Version of the augmenter's filter, to be raised when other items pass it; 2: a tau for each kind of user."""

ADDED = ("clip_norm",)
"""Settings of training that came after the first runs; where they are off, a run has the key that it always had."""

ADDED_OPTIONS = {
    "sees_future": False,
    "adapter_residual": False,
    "global_term": True,
    "profiles_see_validation": False,
    "unsound": "none",
}
"""Options of LLM-EDT that came after the first runs, with their defaults, which leave a run its key."""

NO_RESULT = {"concurrency", "prompts"}
"""Settings of the LLM that change no result; of prompts, what they say counts, not where they lie."""

LLMStage = Literal["augmentation", "profiles"]
Kind = Literal["embeddings", LLMStage]
"""Kinds of artefacts."""
Identity = Mapping[str, Any]
"""All of a backend that can change a reply, from its `identity()`."""


def embeddings_key(dataset: str, embedder: Identity, text_map: Identity | None) -> str:
    """Return the key of the item embeddings.

    Args:
        dataset: Key of the dataset.
        embedder: Identity of the embedder.
        text_map: Identity of the text map that is fitted to the catalogue's texts, if there is one.
    """
    fitted = [] if text_map is None else [text_map]
    return digest("embeddings", dataset, embedder, *fitted)


def llm_key(chat: Identity, s: LLMSettings, prompts: Mapping[str, str]) -> str:
    """Return the key of the LLM, its settings and the prompts that it is asked with.

    Args:
        chat: Identity of the LLM.
        s: Its settings.
        prompts: Versions of the prompts, from `Prompts.identity`.
    """
    return digest(chat, _asked(s), *_if_any(prompts))


def augmentation_key(view: str, embeddings: str, s: AugmentationSettings, llm: str) -> str:
    """Return the key of an augmentation before any failed question was asked again."""
    return digest("augmentation", FILTER, view, embeddings, _augmenter(s), llm)


def tau_key(
    view: str,
    embeddings: str,
    s: AugmentationSettings,
    chat: Identity,
    llm: LLMSettings,
    prompts: Mapping[str, str],
) -> str:
    """Return the key of the kept values of tau: that of the augmentation, but for any sample of the users."""
    llm_settings = {name: value for name, value in _asked(llm).items() if name != "limit_users"}
    return digest(FILTER, view, embeddings, _augmenter(s), chat, llm_settings, *_if_any(prompts))


def _asked(s: LLMSettings) -> dict[str, Any]:
    """Return the settings of the LLM that can change a reply; later ones only where they are not the default."""
    later: dict[str, Any] = {"structured": "auto", "extra": {}, "fallback": None}
    settings = s.model_dump(exclude=NO_RESULT)
    return {name: value for name, value in settings.items() if later.get(name, ...) != value}


def _if_any(prompts: Mapping[str, str]) -> list[Mapping[str, str]]:
    return [prompts] if prompts else []


def _augmenter(s: AugmentationSettings) -> dict[str, Any]:
    """Return the augmenter's settings without those that came later and are at their default.

    So an augmentation that was paid for before a setting existed keeps its key.
    """
    later = {"injected": 1.0}
    return {name: value for name, value in s.model_dump(mode="json").items() if later.get(name) != value}


def profiles_key(view: str, embeddings: str, augmentation: str, s: ProfilingSettings, llm: str) -> str:
    """Return the key of profiles before any failed question was asked again.

    Args:
        view: Key of the training view.
        embeddings: Key of the item embeddings.
        augmentation: Key of the augmentation that they are written from, which says what `source` does.
        s: Settings of the profiles.
        llm: Key of the LLM.
    """
    return digest("profiles", view, embeddings, augmentation, s.model_dump(exclude={"source"}), llm)


def retried_key(key: str, tries: int) -> str:
    """Return the key of a stage whose failed questions were asked again `tries` times."""
    return digest(key, tries) if tries else key


def run_key(
    view: str, s: Settings, artefacts: Mapping[Kind, str], options: Mapping[str, Any], *, keep_seen: bool
) -> str:
    """Return the key of a run.

    Args:
        view: Key of the training view.
        s: All settings.
        artefacts: Keys of the artefacts that the run reads.
        options: All options of the system.
        keep_seen: Whether items that a user has seen stay candidates.
    """
    known = {name: value for name, value in options.items() if ADDED_OPTIONS.get(name, ...) != value}
    parts = [known] if known else []
    seen = ["seen items stay candidates"] if keep_seen else []
    later = {name for name in ADDED if getattr(s.training, name) is None}
    training = s.training.model_dump(mode="json", exclude=later)
    return digest("run", view, s.model, training, artefacts, *parts, *seen)
