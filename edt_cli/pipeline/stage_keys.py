"""What the stages before training read, and the keys of what they make."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

from edt_cli.config import Settings, UsageError
from edt_cli.llm.prompt_set import AUGMENT, PROFILE, PROFILE_NAIVE, Prompts
from edt_cli.llm.providers import Providers
from edt_cli.models.llm_edt_options import LLMEDTOptions, llm_edt_options
from edt_cli.models.systems import asks_llm, has_llm, needs
from edt_cli.pipeline import keys
from edt_cli.pipeline.keys import Kind, LLMStage
from edt_cli.pipeline.store import Tries
from edt_cli.workspace.events import Events
from edt_cli.workspace.layout import Artefact, Workspace

if TYPE_CHECKING:
    from edt_backends.cache import CachedEmbeddings
    from edt_cli.data.dataset import Dataset, TrainingView

OFF = "none"
"""The key of a stage that is switched off."""


@dataclass(frozen=True)
class StageKeys:
    """What the stages of one dataset read under one set of settings, and the keys of what they make.

    Attributes:
        workspace: Folder of all artefacts and runs.
        dataset: The dataset.
        settings: All settings.
        events: Where every step is reported.
        device: Device to compute on.
        shared: LLM and embedder of the command, if several pipelines share a budget.
        preset: Preset that the settings come from; only for the names of runs.
        compiled: Whether training compiles backbones by torch.compile; like the device, it is part of no key.
        sharded: Whether several processes share out the rows of the id table; part of no key either.
    """

    workspace: Workspace
    dataset: Dataset
    settings: Settings
    events: Events = field(default_factory=Events)
    device: str = "cpu"
    shared: Providers | None = None
    preset: str | None = None
    compiled: bool = False
    sharded: bool = False

    def __post_init__(self) -> None:
        """Check that generated items will have vectors.

        Raises:
            UsageError: If an LLM writes new items for a dataset whose vectors are of no embedder that edt has.
        """
        s = self.settings
        writes = s.augmentation.enabled and s.llm.provider != "local" and "generated items" in needs(s.model)
        if self.dataset.vectors is not None and writes and s.augmentation.ground != "match":
            raise UsageError(
                f"{self.dataset.name} has item vectors of its own, and texts that an LLM writes have none of them: "
                "set augmentation.ground = match, so that real items stand for these texts"
            )

    @cached_property
    def view(self) -> TrainingView:
        """The interactions that training may use."""
        return self.dataset.training_view(self.settings.training.train_on)

    @cached_property
    def departures(self) -> LLMEDTOptions:
        """Options of LLM-EDT, in which departures of the released code are switched on."""
        return llm_edt_options(self.settings)

    @cached_property
    def augmenter(self) -> Self:
        """The stages whose augmentation this run reads: with a split after it, those that hold out nothing."""
        if self.departures.unsound != "split-after-augmentation":
            return self
        return self._sound(training={"train_on": "all"})

    @cached_property
    def profiler(self) -> Self:
        """The stages whose profiles this run reads; nothing is unsound about them."""
        return self if self.departures.unsound == "none" else self._sound()

    def _sound(self, **changes: dict[str, Any]) -> Self:
        settings = self.settings.changed(options={"unsound": "none"}, **changes)
        return replace(self, settings=settings, shared=self.providers)

    @cached_property
    def providers(self) -> Providers:
        """LLM and embedder of the command."""
        return self.shared or Providers(self.workspace, self.settings, self.device)

    @property
    def embedder(self) -> CachedEmbeddings:
        """The embedder, before its text map is fitted."""
        return self.providers.embedder

    @cached_property
    def chat_identity(self) -> dict[str, Any]:
        """Identity and name of the LLM, and of the one that is asked where it has no answer."""
        backend, other = self.providers.backend, self.providers.fallback
        second = {} if other is None else {"fallback": other.identity()}
        return {**backend.identity(), "name": backend.name, **second}

    @property
    def llm_name(self) -> str:
        """Name of the LLM in a run of these settings.

        It is `local (no LLM)` if the LLM stages are off, and "" if the system uses no LLM at all.
        """
        from edt_backends.local import LocalChat

        if not asks_llm(self.settings.model):
            return ""
        return str(self.chat_identity["name"]) if has_llm(self.settings) else LocalChat.name

    @property
    def asks_elsewhere(self) -> bool:
        """Whether anybody but this machine's `local` is asked to write or to embed."""
        return self.settings.llm.provider != "local" or self.providers.embedder.paid

    @cached_property
    def embeddings_key(self) -> str:
        """Key of the item embeddings."""
        fitted = self.embedder.text_map
        text_map = None if fitted is None else fitted.identity()
        return keys.embeddings_key(self.dataset.key, self.embedder.identity(), text_map)

    @cached_property
    def augmentation_key(self) -> str:
        """Key of the augmentation; OFF if it is switched off."""
        return self._key("augmentation") if self.settings.augmentation.enabled else OFF

    @cached_property
    def profiles_key(self) -> str:
        """Key of the profiles; OFF if they are switched off."""
        return self._key("profiles") if self.settings.profiling.enabled else OFF

    @property
    def profiled_key(self) -> str:
        """Key of the augmentation that profiles are written from; OFF if it is the purchases alone."""
        return OFF if self.settings.profiling.source == "raw" else self.augmentation_key

    @property
    def profiled_is_made(self) -> bool:
        """Whether what profiles are written from is there."""
        return self.profiled_key == OFF or self.made("augmentation")

    def made(self, kind: Kind) -> bool:
        """Return whether the artefact of these settings exists."""
        return self._artefact(kind).complete

    def key_of(self, kind: Kind) -> str:
        """Return the key of an artefact of these settings."""
        if kind == "embeddings":
            return self.embeddings_key
        return self.augmentation_key if kind == "augmentation" else self.profiles_key

    def artefact_keys(self) -> dict[Kind, str]:
        """Return the keys of the artefacts that a run of these settings reads, by kind."""
        needed = needs(self.settings.model)
        by_kind: dict[Kind, str] = {}
        if "item text" in needed and self.dataset.vectors is None:
            by_kind["embeddings"] = self.embeddings_key
        if "generated items" in needed:
            by_kind["augmentation"] = self.augmentation_key
        if "user profiles" in needed:
            by_kind["profiles"] = self.profiles_key
        return by_kind

    def first_key(self, kind: LLMStage) -> str:
        """Return the key of a stage before any question was asked again."""
        stages = self.augmenter if kind == "augmentation" else self.profiler
        if stages is not self:
            return stages.first_key(kind)
        s = self.settings
        llm = keys.llm_key(self.chat_identity, s.llm, self.prompts(kind))
        if kind == "augmentation":
            return keys.augmentation_key(self.view.key, self.embeddings_key, s.augmentation, llm)
        view = f"{self.view.key}-validation" if self.departures.profiles_see_validation else self.view.key
        return keys.profiles_key(view, self.embeddings_key, self.profiled_key, s.profiling, llm)

    @property
    def tau_key(self) -> str:
        """Key of the values of tau, whatever sample of the users they are calibrated on."""
        s = self.settings
        prompts = self.prompts("augmentation")
        return keys.tau_key(self.view.key, self.embeddings_key, s.augmentation, self.chat_identity, s.llm, prompts)

    def prompts(self, kind: LLMStage) -> dict[str, str]:
        """Return the versions of the prompts that can change what a stage makes."""
        profile = PROFILE_NAIVE if self.settings.profiling.chain == "naive" else PROFILE
        return Prompts.of(self.settings.llm).identity(AUGMENT if kind == "augmentation" else profile)

    def _key(self, kind: LLMStage) -> str:
        first = self.first_key(kind)
        return keys.retried_key(first, Tries(self.workspace).of(first))

    def _artefact(self, kind: Kind) -> Artefact:
        return self.workspace.artefact(kind, self.key_of(kind))
