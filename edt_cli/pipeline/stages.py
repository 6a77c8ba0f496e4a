"""Stages before training: embeddings, augmentation and profiles, and the training data made of them."""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from edt_cli.models.systems import needs, system
from edt_cli.pipeline.keys import LLMStage
from edt_cli.pipeline.stage_keys import OFF, StageKeys
from edt_cli.pipeline.store import KnownTau, Stage, Tries, failed_questions, get_or_make
from edt_cli.workspace.event_types import Retrying, Warned

if TYPE_CHECKING:
    from edt_backends.base import EmbeddingBackend
    from edt_backends.cache import CachedChat
    from edt_cli.augmentation.artefact import Augmentation
    from edt_cli.data.dataset import TrainingView
    from edt_cli.llm.embeddings import ItemEmbeddings
    from edt_cli.profiling.profiles import Profiles
    from edt_cli.training.data import TrainingData

LLM_STAGES: tuple[LLMStage, ...] = ("augmentation", "profiles")


@dataclass(frozen=True)
class Stages(StageKeys):
    """Stages of one dataset under one set of settings: each result is loaded, or made if it is missing."""

    @cached_property
    def chat(self) -> CachedChat:
        """The LLM, or `local`, which retrieves from the training items."""
        if self.settings.llm.provider != "local":
            return self.providers.chat()
        from edt_cli.augmentation.catalogue import TrainingCatalogue

        return self.providers.chat(TrainingCatalogue(self.view, self.embeddings()))

    def profiled(self) -> Augmentation:
        """Get or make the augmentation that profiles are written from."""
        from edt_cli.augmentation.artefact import Augmentation

        return Augmentation.none(self.view) if self.profiled_key == OFF else self.augmentation()

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
