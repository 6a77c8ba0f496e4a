"""The chain from a dataset to a trained run: which artefacts are missing, and making them in their order.

Every step is keyed by its own section of the settings and the keys before it, so a changed learning rate never
asks an LLM again, and a step with nothing changed does nothing.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from edt_cli.config import Settings, UsageError, UserError
from edt_cli.events import Events
from edt_cli.models.systems import asks_llm, has_llm, needs, options_of, system
from edt_cli.providers import Providers
from edt_cli.runs import Run, existing_run, open_run
from edt_cli.workspace import Artefact, Workspace, digest, read_json, write_json

if TYPE_CHECKING:
    import torch

    from edt_backends.base import EmbeddingBackend
    from edt_backends.cache import CachedChat, CachedEmbeddings
    from edt_cli.augmentation.artefact import Augmentation
    from edt_cli.data.dataset import Dataset, TrainingView
    from edt_cli.embeddings import ItemEmbeddings
    from edt_cli.profiling.profiles import Profiles
    from edt_cli.training.fit import Material

T = TypeVar("T")

FILTER = 2
"""Goes into keys, to be raised when other items pass the augmenter's filter; 2: a tau for each kind of user."""


def open_dataset(workspace: Workspace, name: str) -> Dataset:
    """The prepared dataset; `demo` is prepared if it is not there. Errors: UserError how to get it."""
    from edt_cli.data.dataset import load

    if name == "demo":
        from edt_cli.data.prepare import ensure_demo

        ensure_demo(workspace)
    return load(workspace.dataset(name))


def open_device(name: str) -> torch.device:
    """`cpu`, `cuda`, `cuda:1` or `auto` (a GPU where there is one). Errors: UserError before any work."""
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"unknown device {name!r}: use cpu, cuda, cuda:N or auto") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError("no CUDA GPU can be used here (torch sees none); use --device cpu")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(f"there is no GPU {device.index}: torch sees {torch.cuda.device_count()}")
    if device.type not in ("cpu", "cuda"):
        raise UsageError(f"device {name!r} is not supported: use cpu or cuda")
    return device


@dataclass(frozen=True)
class Pipeline:
    """One dataset under one set of settings. `events` hears of every step; `shared` is the LLM and the embedder of
    the command, where several pipelines are to keep one budget; `preset` is where the settings come from, for the
    names of runs alone."""

    workspace: Workspace
    dataset: Dataset
    settings: Settings
    events: Events = field(default_factory=Events)
    device: str = "cpu"
    shared: Providers | None = None
    preset: str | None = None

    @cached_property
    def view(self) -> TrainingView:
        return self.dataset.training_view(final=self.settings.training.final)

    @cached_property
    def providers(self) -> Providers:
        return self.shared or Providers(self.workspace, self.settings, self.device)

    @property
    def embedder(self) -> CachedEmbeddings:
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
        return {**self.providers.backend.identity(), "name": self.providers.backend.name}

    @property
    def keep_seen(self) -> bool:
        """Whether what users have had stays a candidate, at validation and so in training."""
        return self.dataset.keeps_seen(self.settings.evaluation.keep_seen)

    @property
    def llm_name(self) -> str:
        """Who has a part in a run of these settings, `local (no LLM)` where its stages are off; "" where no LLM has
        a part in the system."""
        from edt_backends.local import LocalChat

        if not asks_llm(self.settings.model):
            return ""
        return self.chat_identity["name"] if has_llm(self.settings) else LocalChat.name

    # Keys, from the data to the run.

    @cached_property
    def embeddings_key(self) -> str:
        fitted = self.embedder.text_map
        own = [] if fitted is None else [fitted.identity()]
        return digest("embeddings", self.dataset.key, self.embedder.identity(), *own)

    @cached_property
    def _llm_key(self) -> str:
        asked = self.settings.llm.model_dump(exclude={"concurrency"})
        return digest(self.chat_identity, asked)

    @cached_property
    def augmentation_key(self) -> str:
        s = self.settings.augmentation
        key = digest("augmentation", FILTER, self.view.key, self.embeddings_key, s, self._llm_key)
        return self._of_try("augmentation", key) if s.enabled else "none"

    @cached_property
    def profiles_key(self) -> str:
        s = self.settings.profiling
        key = digest("profiles", self.view.key, self.embeddings_key, self.augmentation_key, s, self._llm_key)
        return self._of_try("profiles", key) if s.enabled else "none"

    def artefact_keys(self) -> dict[str, str]:
        """What a run of these settings reads, by kind."""
        needed = needs(self.settings.model)
        keys = {}
        if "item text" in needed:
            keys["embeddings"] = self.embeddings_key
        if "generated items" in needed:
            keys["augmentation"] = self.augmentation_key
        if "user profiles" in needed:
            keys["profiles"] = self.profiles_key
        return keys

    @cached_property
    def run_key(self) -> str:
        s = self.settings
        own = options_of(s.model.name, s.options).model_dump()
        seen = ["seen items stay candidates"] if self.keep_seen else []
        parts = [*([own] if own else []), *seen]
        return digest("run", self.view.key, s.model, s.training, self.artefact_keys(), *parts)

    # Steps.

    def embeddings(self) -> ItemEmbeddings:
        from edt_cli.embeddings import ItemEmbeddings, embed_items, fit_embedder

        def make(folder: Path, manifest: dict[str, Any]) -> None:
            manifest |= {"model": self.embedder.name, "dataset": self.dataset.key}
            embedder = fit_embedder(self.embedder, self.dataset.catalogue, folder, self.events)
            embed_items(self.dataset.catalogue, embedder, self.events).save(folder)

        return self._step("embeddings", self.embeddings_key, make, ItemEmbeddings.load)

    def fitted_embedder(self) -> EmbeddingBackend:
        """The embedder as it was fitted to the items, for whatever else is embedded."""
        from edt_cli.embeddings import load_embedder

        self.embeddings()
        return load_embedder(self.embedder, self._artefact("embeddings", self.embeddings_key).path)

    def augmentation(self) -> Augmentation:
        """S_aug (section 3.2), checked for leaks; `w/o Aug.` is no step."""
        from edt_cli.augmentation.artefact import Augmentation
        from edt_cli.augmentation.audit import check_sequences, check_sources
        from edt_cli.augmentation.augment import augment

        s = self.settings
        if not s.augmentation.enabled:
            return Augmentation.none(self.view)

        def make(folder: Path, manifest: dict[str, Any]) -> None:
            made = augment(
                self.view,
                self.embeddings(),
                s.augmentation,
                s.llm,
                self.chat,
                self.fitted_embedder(),
                self.events,
                known_tau=self._known_tau(),
            )
            self._keep_tau(made.summary["tau"])
            for warning in made.summary["warnings"]:
                self.events.emit("warned", step="augmentation", message=f"warning: {warning}")
            checked = check_sources(self.dataset, made.sources, "augmentation", self.view.prefixes.lengths)
            checked += check_sequences(self.dataset, made, self.view.prefixes.lengths)
            made.save(folder)
            manifest |= {
                "inputs": {"embeddings": self.embeddings_key},
                "settings": s.augmentation.model_dump(),
                "llm": self.chat.name,
                "summary": made.summary,
                "leak_check": {"interactions": checked, "passed": True},
            }

        return self._step("augmentation", self.augmentation_key, make, Augmentation.load)

    def profiles(self) -> Profiles:
        """User profiles (section 3.4), checked for leaks; `w/o Profiling` is no step."""
        from edt_cli.augmentation.audit import check_sources
        from edt_cli.profiling.profile import profile
        from edt_cli.profiling.profiles import Profiles

        s = self.settings
        if not s.profiling.enabled:
            return Profiles.none(len(self.view.prefixes), self.embeddings().vectors.shape[1])

        def make(folder: Path, manifest: dict[str, Any]) -> None:
            made = profile(
                self.view,
                self.augmentation(),
                self.embeddings(),
                s.profiling,
                s.llm,
                self.chat,
                self.fitted_embedder(),
                self.events,
            )
            checked = check_sources(self.dataset, made.sources, "profiles", self.view.prefixes.lengths)
            made.save(folder)
            manifest |= {
                "inputs": {"embeddings": self.embeddings_key, "augmentation": self.augmentation_key},
                "settings": s.profiling.model_dump(),
                "llm": self.chat.name,
                "summary": made.summary,
                "leak_check": {"interactions": checked, "passed": True},
            }

        return self._step("profiles", self.profiles_key, make, Profiles.load)

    def material(self) -> Material:
        """What a model learns from; makes whatever is missing for it."""
        import torch

        from edt_cli.models.batch import item_table
        from edt_cli.models.given import GeneratedItems
        from edt_cli.training.fit import Material

        device = torch.device(self.device)
        needed = needs(self.settings.model)
        domains, sequences = self.view.domains, self.view.prefixes
        domain_of = vectors = profiles = generated = inserted = None
        if "item text" in needed:
            vectors = self.embeddings().vectors
        if "generated items" in needed:
            made = self.augmentation()
            if system(self.settings.model.name).augmented:
                sequences, domain_of = made.timed(sequences), made.domain_of(domains)
                inserted = made.inserted
                vectors = made.vectors(self.embeddings())
            elif len(usable := made.generated.filter("kept")):
                users, targets, items = (usable[name].to_numpy() for name in ("user", "target", "item"))
                generated = GeneratedItems.of(users, targets, items, made.vectors(self.embeddings())).to(device)
        if "user profiles" in needed and self.settings.profiling.enabled:
            profiles = torch.from_numpy(self.profiles().vectors)
        table = item_table(domains, sequences, domain_of, vectors).to(device)
        return Material(self.dataset, self.view, sequences, table, profiles, generated, inserted)

    def run(self, listeners: tuple[Callable[[dict[str, Any]], None], ...] = ()) -> Run:
        """Train, or go on training, or find that this run is finished already."""
        run = open_run(self.workspace, self._plan())
        with run.alone(self.events):
            return self._made(run, listeners)

    def existing(self) -> Run | None:
        """The run of these settings, finished or not, if it was ever begun."""
        return existing_run(self.workspace, self._plan())

    def _plan(self) -> dict[str, Any]:
        return {
            "data": self.dataset.name,
            "data_key": self.view.key,
            "key": self.run_key,
            "settings": self.settings.document(),
            "preset": self.preset,
            "keep_seen": self.keep_seen,
            "artefacts": self.artefact_keys(),
            "llm": self.llm_name,
            "device": self.device,
        }

    def _made(self, run: Run, listeners: tuple[Callable[[dict[str, Any]], None], ...]) -> Run:
        from edt_cli.training.fit import train

        s = self.settings
        if run.finished:
            message = f"run {run.name} is finished already, nothing to do"
            self.events.emit("skipped", run=run.name, seed=s.training.seed, message=message)
            return run
        # What was asked of an earlier process is not asked of this one.
        (run.folder / "control.json").unlink(missing_ok=True)
        self.events.emit("run", run=run.name, seed=s.training.seed)
        material = self.material()
        events = Events(run.folder, listeners)
        manifest: dict[str, Any] = {"plan": run.plan}
        if system(s.model.name).trained:
            events.emit("run", run=run.name, message=f"training {run.name} on {self.device}")
            try:
                with events.gently_interrupted():
                    manifest |= train(material, s, run.folder, events)
            except UserError as error:
                events.emit("failed", error=str(error))
                raise
            except RuntimeError as error:
                if "memory" not in str(error):
                    raise
                told = "there is not enough memory: try a smaller training.batch or training.negatives"
                events.emit("failed", error=told)
                raise UserError(told) from None
        write_json(run.folder / "manifest.json", manifest)
        events.emit("finished", run=run.name, message=f"run {run.name} is finished")
        self.events.emit("done", run=run.name)
        return run

    def final(self, on: Literal[True, "test"] = True) -> Pipeline:
        """The pipeline that trains on every interaction, or with "test" on all but the test set's, for as many
        epochs as validation found best: the run of these settings that tells is made first where it is missing."""
        s = self.settings.changed(training={"final": False})
        run = replace(self, settings=s, shared=self.providers).run(self.events.listeners)
        course = {
            name: {
                "epochs": phase["best_epoch"],
                "of": phase.get("most") or s.training.epochs,
                "cuts": phase["cuts"],
            }
            for name, phase in run.manifest().get("phases", {}).items()
        }
        changes: dict[str, Any] = {"final": on, "course": course}
        if s.training.calibrate:
            changes["memory_weights"] = run.manifest()["memory_weights"]
        return replace(self, settings=self.settings.changed(training=changes), shared=self.providers)

    def made(self, kind: str) -> bool:
        """Whether the artefact of these settings is there: `embeddings`, `augmentation` or `profiles`."""
        return self._artefact(kind, self.key_of(kind)).complete

    def key_of(self, kind: str) -> str:
        if kind == "embeddings":
            return self.embeddings_key
        return self.augmentation_key if kind == "augmentation" else self.profiles_key

    def _artefact(self, kind: str, key: str) -> Artefact:
        return self.workspace.artefact(kind, key)

    def _step(
        self, kind: str, key: str, make: Callable[[Path, dict[str, Any]], None], load: Callable[[Path], T]
    ) -> T:
        known: dict[str, Any] = self.__dict__.setdefault("_loaded", {})
        if kind in known:
            return known[kind]
        artefact = self._artefact(kind, key)
        if artefact.complete:
            self.events.emit("skipped", step=kind, message=f"{kind} {key}: nothing has changed, kept")
        else:
            try:
                with artefact.create() as (folder, manifest):
                    make(folder, manifest)
            finally:
                if "chat" in self.__dict__:
                    self.providers.note_hits(self.chat)
            seconds = artefact.manifest()["seconds"]
            self.events.emit("made", step=kind, key=key, message=f"{kind} {key}: made in {seconds:.1f} s")
        known[kind] = load(artefact.path)
        return known[kind]

    # Questions that failed are asked again by the next run; what comes of it is an artefact under another key.

    def unanswered(self, kind: str) -> bool:
        """Whether a stage has anything left to ask: it is not made, or some of its questions failed."""
        return not self.made(kind) or bool(self._failed(kind))

    def retried(self) -> Pipeline:
        """This pipeline after failed questions were asked once more; a stage that fares no better stays."""
        pipeline = self
        for kind in ("augmentation", "profiles"):
            pipeline = pipeline._retried(kind)
        return pipeline

    def _failed(self, kind: str) -> dict[str, int]:
        if not self.made(kind) or not self.providers.backend.cacheable:
            return {}
        return self._artefact(kind, self.key_of(kind)).manifest()["summary"].get("failed", {})

    def _retried(self, kind: str) -> Pipeline:
        if not (failed := self._failed(kind)):
            return self
        count = sum(failed.values())
        self.events.emit(
            "retrying", step=kind, failed=failed, message=f"{kind}: asking {count} failed questions again"
        )
        base = self._base[kind]
        before = self._tries(base)
        self._set_tries(base, before + 1)
        again = replace(self, shared=self.providers)
        try:
            old, new = (getattr(pipeline, kind)().failures.drop("detail") for pipeline in (self, again))
        except BaseException:
            self._set_tries(base, before)
            raise
        if not new.equals(old):
            return again
        self._set_tries(base, before)
        shutil.rmtree(self._artefact(kind, again.key_of(kind)).path)
        return self

    def _of_try(self, kind: str, base: str) -> str:
        """The key of a stage, from the digest of what goes in and the number of the try."""
        self._base[kind] = base
        tries = self._tries(base)
        return digest(base, tries) if tries else base

    @cached_property
    def _base(self) -> dict[str, str]:
        return {}

    def _tries_file(self, base: str) -> Path:
        return self.workspace.artefacts / "tries" / f"{base}.json"

    def _tries(self, base: str) -> int:
        return read_json(self._tries_file(base))["tries"] if self._tries_file(base).is_file() else 0

    def _set_tries(self, base: str, tries: int) -> None:
        self._tries_file(base).parent.mkdir(parents=True, exist_ok=True)
        write_json(self._tries_file(base), {"tries": tries})

    # A pilot's values of tau are used again for the rest: others would change insertions, hence prompts, and pay
    # twice.

    @cached_property
    def _tau_file(self) -> Path:
        asked = self.settings.llm.model_dump(exclude={"concurrency", "limit_users"})
        s = self.settings.augmentation
        key = digest(FILTER, self.view.key, self.embeddings_key, s, self.chat_identity, asked)
        return self.workspace.artefacts / "calibration" / f"{key}.json"

    def _known_tau(self) -> dict[str, dict[str, float]]:
        return read_json(self._tau_file)["tau"] if self._tau_file.is_file() else {}

    def _keep_tau(self, tau: dict[str, dict[str, float]]) -> None:
        """Add what is new: a pilot may have had nobody of some kind."""
        known = self._known_tau()
        merged = {name: {**kinds, **known.get(name, {})} for name, kinds in tau.items()}
        if merged != known and any(merged.values()):
            self._tau_file.parent.mkdir(parents=True, exist_ok=True)
            write_json(self._tau_file, {"tau": merged})
