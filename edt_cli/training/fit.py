"""A run from its material to its weights, through both phases; and back from the weights to a model."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edt_cli.config import KeepSeen, Settings, TrainingSettings, UserError
from edt_cli.data.dataset import Dataset, Sequences, Split, TrainingView
from edt_cli.evaluation.candidates import draw_candidates
from edt_cli.evaluation.metrics import ranking_metrics
from edt_cli.evaluation.questions import Questions, questions
from edt_cli.evaluation.ranking import InnerProduct, Recalled, Scorer, model_scorer, rank
from edt_cli.events import Events
from edt_cli.models.batch import DeviceSequences, ItemTable, domain_rows
from edt_cli.models.content_knn import ContentKNN
from edt_cli.models.given import GeneratedItems, Given
from edt_cli.models.item_knn import ItemKNN
from edt_cli.models.llm_edt import LLMEDT
from edt_cli.models.popularity import Popularity
from edt_cli.models.sequential import SequentialModel
from edt_cli.models.systems import make_model, options_of
from edt_cli.training.calibration import calibrated
from edt_cli.training.checkpoint import Progress, load_weights, read_progress, save_weights
from edt_cli.training.heap import map_large_blocks
from edt_cli.training.loop import CHECKPOINT, Validate, run_phase
from edt_cli.training.phases import PREPARATION, FineTuning, FrozenQuestions, Pretraining
from edt_cli.workspace import read_json, write_json

PRETRAINED = f"{Pretraining.name}.safetensors"
FINETUNED = f"{FineTuning.name}.safetensors"
PHASES = "phases.json"
WATCHED_NEGATIVES = 100
"""Of `training.watch = sampled`: as many as the released code ranks a target among."""


@dataclass(frozen=True)
class Material:
    """All that a run learns from. `sequences`: the training prefixes, augmented or as they happened; `inserted`:
    bool, the items of an augmented one that nobody had, or None.

    `profiles`: float32 [U, d_L], zero rows for users without one, or None. `generated`: what was generated for
    users, where a system is handed it beside its sequences.
    """

    dataset: Dataset
    view: TrainingView
    sequences: Sequences
    table: ItemTable
    profiles: Tensor | None
    generated: GeneratedItems | None = None
    inserted: np.ndarray | None = None

    @property
    def device(self) -> torch.device:
        return self.table.domain_of.device

    def given(self, settings: Settings) -> Given:
        """What the model of `settings` is made of; `single` systems have a row for each user and domain."""
        rows = self.sequences
        if settings.model.sequence == "single":
            rows = domain_rows(rows, self.table)
        own = options_of(settings.model.name, settings.options)
        return Given(
            *(self.table, settings.model, settings.training, own),
            *(rows, self.view, self.profiles, self.generated),
        )

    @cached_property
    def has_text(self) -> np.ndarray:
        """bool [1 + N]."""
        catalogue = self.dataset.catalogue
        text = np.zeros(len(catalogue), dtype=bool)
        for field in catalogue.columns[1:]:
            text |= catalogue[field].is_not_null().to_numpy()
        return np.append(False, text)

    def questions(self, split: Split, keep_seen: KeepSeen = "auto") -> Questions:
        keep = self.dataset.keeps_seen(keep_seen)
        return questions(self.dataset, split, self.sequences, self.view.prefixes.lengths, keep_seen=keep)


def train(material: Material, settings: Settings, folder: Path, events: Events) -> dict[str, Any]:
    """Both phases of section 3.3, or the one that other systems have, after that of a model which must be trained
    before; goes on where `folder` says it was.

    Returns what belongs in the manifest: parameters, and for each phase its epochs, steps, best epoch, validation
    NDCG@10 there, and seconds. Errors: UserError where there is nothing to learn from.
    """
    s = settings.training
    if material.dataset.keeps_seen(settings.evaluation.keep_seen):
        # What stays a candidate must be learned as one.
        s = s.model_copy(update={"seen_negatives": True})
    map_large_blocks(settings.model.max_length)
    torch.manual_seed(s.seed)
    given = material.given(settings)
    model = make_model(given)
    assert given.sequences is not None
    inserted = None if s.inserted_targets else material.inserted
    sequences = DeviceSequences(given.sequences, material.table, settings.model.max_length, inserted)
    if not bool((sequences.targets() > 0).any()):
        raise UserError("no user has two interactions in training: there is nothing to learn from")
    watched = None if s.final else Watched.of(material, settings)
    at = read_progress(folder / CHECKPOINT)
    days = settings.model.memory_period
    if days and model.memory is not None and model.memory.seasons is None:
        events.emit("seasons", message=f"all times lie within {days} days: the memory counts without memory_period")

    def learn(part: SequentialModel, name: str) -> None:
        phase = Pretraining(part, sequences, material.table, s, name)
        validate = None if watched is None else _validate_by(material, watched, part)
        _note(folder, name, run_phase(phase, s, folder, events, validate))

    if model.before is not None and (at is None or at.phase == PREPARATION):
        learn(model.before, PREPARATION)
    model.start()
    if at is None or at.phase in (PREPARATION, Pretraining.name):
        learn(model, Pretraining.name)
        if model.memory is not None:
            _weigh_memory(material, watched, model, s, folder, events)
    if isinstance(model, LLMEDT) and s.finetune:
        load_weights(folder / PRETRAINED, model)
        threads = FineTuning(model, sequences, material.table, s, folder)
        validate = None if watched is None else _validate_threads(material, watched, model)
        _note(folder, threads.name, run_phase(threads, s, folder, events, validate))
    return {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "phases": read_json(folder / PHASES),
        "memory_weights": None if model.memory is None else model.memory.weight.tolist(),
    }


def _weigh_memory(
    material: Material,
    watched: Watched | None,
    model: SequentialModel,
    s: TrainingSettings,
    folder: Path,
    events: Events,
) -> None:
    """The memory's weights as validation, or an earlier run that it judged, has them; in the model and on disk."""
    notes = load_weights(folder / PRETRAINED, model)
    if "memory_weights" in notes or not (s.memory_weights or (s.calibrate and watched)):
        return
    assert model.memory is not None
    if s.memory_weights is not None:
        weights = torch.tensor(s.memory_weights, device=material.device)
    else:
        assert watched is not None
        asked = watched.asked
        scorer = model_scorer(model, material.table, asked.inputs, asked.targets.domains)
        assert isinstance(scorer, Recalled)
        weights = calibrated(scorer, asked, s.seed)
    with torch.no_grad():
        model.memory.weight.copy_(weights)
    notes["memory_weights"] = weights.tolist()
    save_weights(folder / PRETRAINED, model, **notes)
    told = [
        f"{name} {' '.join(f'{one:.2f}' for one in row)}"
        for name, row in zip(material.dataset.domains.names, weights.tolist(), strict=True)
    ]
    events.emit("calibrated", message=f"the memory's weights: {', '.join(told)}")


def trained_scorer(
    material: Material, settings: Settings, folder: Path, inputs: Sequences, asked: np.ndarray, *, dft: bool = True
) -> Scorer:
    """What a finished run scores for rows of `inputs`, each in the domain asked[row].

    dft=False: `w/o DFT`, the first phase's weights. Items of `inputs` are catalogue items or this run's own
    pseudo-items.
    """
    if settings.model.name == "popularity":
        return Popularity(material.view)
    if settings.model.name == "item-knn":
        return ItemKNN(material.view, settings.model.knn_window).scorer(inputs)
    if settings.model.name == "content-knn":
        knn = ContentKNN(material.table, settings.model.knn_window)
        return InnerProduct(material.view.domains, knn.states(inputs), knn.vectors)
    return model_scorer(trained_model(material, settings, folder, dft=dft), material.table, inputs, asked)


def trained_model(material: Material, settings: Settings, folder: Path, *, dft: bool = True) -> SequentialModel:
    """The model with the best weights of a finished run."""
    model = make_model(material.given(settings))
    model.start()
    fine_tuned = dft and isinstance(model, LLMEDT) and settings.training.finetune
    load_weights(folder / (FINETUNED if fine_tuned else PRETRAINED), model)
    if isinstance(model, LLMEDT):
        model.fine_tuned = fine_tuned
    return model.eval()


def _note(folder: Path, phase: str, done: Progress) -> None:
    known = read_json(folder / PHASES) if (folder / PHASES).is_file() else {}
    write_json(folder / PHASES, {**known, phase: asdict(done)})


@dataclass(frozen=True)
class Watched:
    """What early stopping follows: NDCG@10 of the validation targets, among all items or `candidates` [n, N]."""

    asked: Questions
    candidates: np.ndarray | None

    @classmethod
    def of(cls, material: Material, settings: Settings) -> Watched:
        asked = material.questions("valid", settings.evaluation.keep_seen)
        seed = material.dataset.settings.seed
        sampled = settings.training.watch == "sampled"
        drawn = draw_candidates(asked, WATCHED_NEGATIVES, seed) if sampled else None
        return cls(asked, drawn)

    def ndcg(self, scorer: Scorer) -> dict[str, float]:
        """By domain, and "mean" over the domains that have a target."""
        ranks = rank(scorer, self.asked, candidates=self.candidates)
        watched = ranks.full if ranks.sampled is None else ranks.sampled
        found = {
            name: ranking_metrics(watched[own])["ndcg@10"]
            for number, name in enumerate(self.asked.domains.names)
            if (own := self.asked.targets.domains == number).any()
        }
        return {**found, "mean": sum(found.values()) / max(1, len(found))}


def _validate_by(material: Material, watched: Watched, model: SequentialModel) -> Validate:
    asked = watched.asked

    def validate() -> dict[str, float]:
        return watched.ndcg(model_scorer(model, material.table, asked.inputs, asked.targets.domains))

    return validate


def _validate_threads(material: Material, watched: Watched, model: LLMEDT) -> Validate:
    asked = watched.asked
    inputs = DeviceSequences(asked.inputs, material.table, model.reach)
    domains = torch.from_numpy(asked.targets.domains).to(material.device)
    frozen = FrozenQuestions.of(model, material.table, inputs, domains)
    return lambda: watched.ndcg(frozen.scorer(model))
