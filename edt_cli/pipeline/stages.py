"""Stages before training: embeddings, augmentation and profiles, and the training data made of them."""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from edt_cli.config import Settings, UsageError
from edt_cli.llm.prompt_set import AUGMENT, PROFILE, PROFILE_NAIVE, Prompts
from edt_cli.llm.providers import Providers
from edt_cli.models.llm_edt_options import LLMEDTOptions, llm_edt_options
from edt_cli.models.systems import asks_llm, has_llm, needs, system
from edt_cli.pipeline import keys
from edt_cli.pipeline.keys import Kind, LLMStage
from edt_cli.pipeline.store import KnownTau, Stage, Tries, failed_questions, get_or_make
from edt_cli.workspace.event_types import Retrying, Warned
from edt_cli.workspace.events import Events
from edt_cli.workspace.layout import Artefact, Workspace

if TYPE_CHECKING:
    from edt_backends.base import EmbeddingBackend
    from edt_backends.cache import CachedChat, CachedEmbeddings
    from edt_cli.augmentation.artefact import Augmentation
    from edt_cli.data.dataset import Dataset, TrainingView
    from edt_cli.llm.embeddings import ItemEmbeddings
    from edt_cli.profiling.profiles import Profiles
    from edt_cli.training.data import TrainingData

LLM_STAGES: tuple[LLMStage, ...] = ("augmentation", "profiles")
OFF = "none"
"""The key of a stage that is switched off."""


@dataclass(frozen=True)
class Stages:
    """Stages of one dataset under one set of settings.

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
    def chat(self) -> CachedChat:
        """The LLM, or `local`, which retrieves from the training items."""
        if self.settings.llm.provider != "local":
            return self.providers.chat()
        from edt_cli.augmentation.catalogue import TrainingCatalogue

        return self.providers.chat(TrainingCatalogue(self.view, self.embeddings()))

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

    # Keys.

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

    def profiled(self) -> Augmentation:
        """Get or make the augmentation that profiles are written from."""
        from edt_cli.augmentation.artefact import Augmentation

        return Augmentation.none(self.view) if self.profiled_key == OFF else self.augmentation()

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

    # Stages.

    def embeddings(self) -> ItemEmbeddings:
        """Get or make the embeddings of the items' texts, which the LLM stages compare with other texts."""
        return self._embeddings

    def item_vectors(self) -> ItemEmbeddings:
        """Return what models read of the items' texts: the vectors of the dataset, or else the embeddings."""
        from edt_cli.llm.embeddings import ItemEmbeddings

        given = self.dataset.vectors
        return self.embeddings() if given is None else ItemEmbeddings.load(given.folder)

    def augmentation(self) -> Augmentation:
        """Get or make S_aug (section 3.2), checked for leaks; with `w/o Aug.` nothing is made."""
        return self._augmentation

    def profiles(self) -> Profiles:
        """Get or make user profiles (section 3.4), checked for leaks; with `w/o Profiling` nothing is made."""
        return self._profiles

    def fitted_embedder(self) -> EmbeddingBackend:
        """Return the embedder as fitted to the items, to embed other texts."""
        from edt_cli.llm.embeddings import load_embedder

        self.embeddings()
        return load_embedder(self.embedder, self._artefact("embeddings").path)

    @cached_property
    def _embeddings(self) -> ItemEmbeddings:
        from edt_cli.llm.embeddings import ItemEmbeddings, embed_items, fit_embedder

        def make(folder: Path, manifest: dict[str, Any]) -> None:
            manifest |= {"model": self.embedder.name, "dataset": self.dataset.key}
            before = self.embedder.cost_usd
            embedder = fit_embedder(self.embedder, self.dataset.catalogue, folder, self.events)
            embed_items(self.dataset.catalogue, embedder, self.events).save(folder)
            manifest |= {"embedding_usd": _since(before, self.embedder.cost_usd)}

        stage = Stage(kind="embeddings", key=self.embeddings_key, make=make, load=ItemEmbeddings.load)
        return get_or_make(self.workspace, stage, self.events)

    @cached_property
    def _augmentation(self) -> Augmentation:
        from edt_cli.augmentation.artefact import Augmentation

        if self.augmenter is not self:
            return self.augmenter.augmentation()
        s = self.settings
        if not s.augmentation.enabled:
            return Augmentation.none(self.view)

        def make(folder: Path, manifest: dict[str, Any]) -> None:
            # Not imported to load what is there: they bring scipy and scikit-learn along.
            from edt_cli.augmentation.audit import check_sequences, check_sources
            from edt_cli.augmentation.augment import augment

            embeddings, chat = self.embeddings(), self.chat
            before = self.embedder.cost_usd
            known = KnownTau(self.workspace, self.tau_key, s.llm.limit_users)
            try:
                made = augment(
                    self.view,
                    embeddings,
                    s.augmentation,
                    s.llm,
                    chat,
                    self.fitted_embedder(),
                    self.events,
                    known_tau=known.read(),
                )
            finally:
                self.providers.note_hits(chat)
            share = self._failed_share("augmentation", made.summary["asked"], made.summary["failed"])
            known.keep(made.summary["tau"])
            self._warn("augmentation", made.summary)
            checked = check_sources(self.dataset, made.sources, "augmentation", self.view.prefixes.lengths)
            checked += check_sequences(self.dataset, made, self.view.prefixes.lengths)
            made.save(folder)
            manifest |= {
                "inputs": {"embeddings": self.embeddings_key},
                "settings": s.augmentation.model_dump(),
                "embedding_usd": _since(before, self.embedder.cost_usd),
                **_account(chat, made.summary, checked, share, self.prompts("augmentation")),
            }

        stage = Stage(kind="augmentation", key=self.augmentation_key, make=make, load=Augmentation.load)
        return get_or_make(self.workspace, stage, self.events)

    @cached_property
    def _profiles(self) -> Profiles:
        from edt_cli.profiling.profiles import Profiles

        if self.profiler is not self:
            return self.profiler.profiles()
        s = self.settings
        if not s.profiling.enabled:
            return Profiles.none(len(self.view.prefixes), self.embeddings().vectors.shape[1])

        def make(folder: Path, manifest: dict[str, Any]) -> None:
            from edt_cli.augmentation.audit import check_sources
            from edt_cli.profiling.profile import profile

            (view, augmented), embeddings, chat = self.profiled_view(), self.embeddings(), self.chat
            before = self.embedder.cost_usd
            try:
                made = profile(
                    view,
                    augmented,
                    embeddings,
                    s.profiling,
                    s.llm,
                    chat,
                    self.fitted_embedder(),
                    self.events,
                )
            finally:
                self.providers.note_hits(chat)
            asked, failed = made.summary["asked_users"], dict(Counter(made.failures.drop_nulls("user")["reason"]))
            share = self._failed_share("profiles", asked, failed)
            self._warn("profiles", made.summary)
            checked = check_sources(self.dataset, made.sources, "profiles", view.prefixes.lengths)
            made.save(folder)
            manifest |= {
                "inputs": {"embeddings": self.embeddings_key, "augmentation": self.profiled_key},
                "settings": s.profiling.model_dump(),
                "embedding_usd": _since(before, self.embedder.cost_usd),
                **_account(chat, made.summary, checked, share, self.prompts("profiles")),
            }

        stage = Stage(kind="profiles", key=self.profiles_key, make=make, load=Profiles.load)
        return get_or_make(self.workspace, stage, self.events)

    def profiled_view(self) -> tuple[TrainingView, Augmentation]:
        """Return what profiles are made of: the interactions that they may see, and the augmented sequences."""
        from edt_cli.augmentation.insertion import continued

        view, augmented = self.view, self.profiled()
        if not self.departures.profiles_see_validation:
            return view, augmented
        seen = self.dataset.training_view("train+valid")
        return seen, continued(augmented, view.prefixes, seen.prefixes)

    def _warn(self, kind: LLMStage, summary: dict[str, Any]) -> None:
        for warning in summary.get("warnings", ()):
            self.events.emit(Warned(step=kind, message=f"warning: {warning}"))

    def _failed_share(self, kind: LLMStage, asked: int, failed: dict[str, int]) -> float:
        """Return the share of a stage's questions that failed, by cause.

        Raises:
            BackendError: If an LLM failed at more of them than the user accepts.
        """
        from edt_backends.base import BackendError

        count, most = sum(failed.values()), self.settings.limits.max_failed
        share = count / max(1, asked)
        if share > most and self.providers.backend.cacheable:
            causes = ", ".join(f"{number:,} {cause}" for cause, number in failed.items())
            raise BackendError(
                f"{kind}: {count:,} of {asked:,} questions failed ({causes}), more than --max-failed {most:g}, so "
                "it is not made; the replies are kept: change the model or its settings, ask again with "
                "--retry-failed, or raise --max-failed"
            )
        return share

    def failed_shares(self) -> dict[str, float]:
        """Return the share of failed questions of each artefact that a run of these settings reads, if not 0."""
        kinds = [kind for kind, key in self.artefact_keys().items() if key != OFF]
        shares = {kind: self._artefact(kind).manifest().get("failed_share", 0.0) for kind in kinds}
        return {kind: share for kind, share in shares.items() if share}

    def material(self) -> TrainingData:
        """Return the training data of a model; make the artefacts that are missing for it."""
        from edt_cli.training.data import assemble

        needed = needs(self.settings.model)
        if self.departures.unsound != "none":
            from edt_cli.pipeline.unsound import unsound_data

            return unsound_data(
                self.departures.unsound,
                self.dataset,
                self.augmentation(),
                self.item_vectors(),
                self.profiles() if self.settings.profiling.enabled else None,
                key=self.augmentation_key,
                device=self.device,
            )
        return assemble(
            self.dataset,
            self.view,
            self.device,
            embeddings=self.item_vectors() if "item text" in needed else None,
            augmentation=self.augmentation() if "generated items" in needed else None,
            augmented=system(self.settings.model.name).augmented,
            profiles=self.profiles() if "user profiles" in needed and self.settings.profiling.enabled else None,
        )

    # Failed questions are asked again if the user wants it; what comes of it is an artefact under another key, as
    # runs that read the first one, and its generated items, must go on reading it.

    def made(self, kind: Kind) -> bool:
        """Return whether the artefact of these settings exists."""
        return self._artefact(kind).complete

    def unanswered(self, kind: LLMStage) -> bool:
        """Return whether a stage has questions left: it is not made, or its failed questions are asked again."""
        return not self.made(kind) or bool(self._failed(kind))

    def failed_again(self, kind: LLMStage) -> int:
        """Return how many failed questions of a stage are to be asked again."""
        return sum(self._failed(kind).values())

    def retried(self, done: set[str] | None = None) -> Self:
        """Return the pipeline after asking failed questions once more, if the user wants that.

        A stage with the same failures as before keeps its artefact.

        Args:
            done: Stages, by their first key, whose questions other pipelines of this command have asked again: they
                are left alone. Those of this one are added.
        """
        pipeline, done = self, set() if done is None else done
        for kind in LLM_STAGES:
            if pipeline.artefact_keys().get(kind, OFF) != OFF and (first := pipeline.first_key(kind)) not in done:
                pipeline = pipeline._retried(kind)
                done.add(first)
        return pipeline

    def _failed(self, kind: LLMStage) -> dict[str, int]:
        """Return the failed questions of a stage that are to be asked again, by reason."""
        if not self.providers.retry_failed or not self.made(kind) or not self.providers.backend.cacheable:
            return {}
        return failed_questions(self._artefact(kind))

    def _retried(self, kind: LLMStage) -> Self:
        if not (failed := self._failed(kind)):
            return self
        message = f"{kind}: asking {sum(failed.values())} failed questions again"
        self.events.emit(Retrying(step=kind, failed=failed, message=message))
        tries, first = Tries(self.workspace), self.first_key(kind)
        before = tries.of(first)
        tries.set(first, before + 1)
        again = replace(self, shared=self.providers)
        try:
            old, new = (getattr(pipeline, kind)().failures.drop("detail") for pipeline in (self, again))
        except BaseException:
            tries.set(first, before)
            raise
        if not new.equals(old):
            return again
        tries.set(first, before)
        shutil.rmtree(again._artefact(kind).path)
        return self

    def _artefact(self, kind: Kind) -> Artefact:
        return self.workspace.artefact(kind, self.key_of(kind))


def _account(
    chat: CachedChat, summary: dict[str, Any], checked: int, failed_share: float, prompts: dict[str, str]
) -> dict[str, Any]:
    """Return the entries that the manifests of both LLM stages have."""
    return {
        "llm": chat.name,
        "summary": summary,
        "failed_share": failed_share,
        "leak_check": {"interactions": checked, "passed": True},
        **({"prompts": prompts} if prompts else {}),
    }


def _since(before: float | None, after: float | None) -> float | None:
    """Return the price of the texts that a stage embedded; None if it is not known."""
    return None if before is None or after is None else after - before
