"""What a run could have known of the held-out interactions, checked again on what it was made from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from edt_cli.audit.checks import Check, tried
from edt_cli.augmentation.artefact import Augmentation
from edt_cli.augmentation.audit import check_sequences, check_sources
from edt_cli.config import Split
from edt_cli.data.dataset import Dataset, TrainingView
from edt_cli.evaluation.queries import EvalQueries
from edt_cli.models.batch import DeviceSequences
from edt_cli.models.scorers import Recommender
from edt_cli.models.sequential import SequentialModel
from edt_cli.pipeline import Pipeline
from edt_cli.profiling.profiles import Profiles
from edt_cli.training.data import TrainingData
from edt_cli.workspace.layout import Workspace
from edt_cli.workspace.runs import Run

PROBED, NEWEST = 32, 12
"""Histories on which a model is asked whether a state depends on later items, and how many of their items."""
TOLERANCE = 1e-4
SPLITS: tuple[Split, ...] = ("valid", "test")


@dataclass(frozen=True)
class Held:
    """What a run holds out: the splits of whose targets it has learned nothing."""

    splits: tuple[Split, ...]

    @classmethod
    def of(cls, run: Run) -> Held:
        """Return what a run holds out by its settings."""
        return cls({"train": SPLITS, "train+valid": SPLITS[1:], "all": ()}[run.settings.training.train_on])


def check_leaks(
    workspace: Workspace, run: Run, pipeline: Pipeline, data: TrainingData, model: Recommender
) -> Iterator[Check]:
    """Check everything that a held-out interaction could have reached.

    Args:
        workspace: The workspace of the run.
        run: A finished run.
        pipeline: The pipeline of its settings.
        data: What it was trained on.
        model: What it trained.
    """
    held = Held.of(run)
    if not held.splits:
        yield Check("training", None, "the run is trained on everything (--final): nothing is held out")
    yield check_view(data.dataset, data.view, held)
    yield from _artefacts(workspace, run, pipeline)
    for split in held.splits:
        yield check_inputs(data, data.queries(split, run.settings.evaluation.keep_seen), split)
    yield check_candidates(data)
    if isinstance(model, SequentialModel):
        yield check_future(model, data)
    else:
        yield Check("model", True, "it has no weights: it counts what the training view holds, and nothing else")


def check_view(dataset: Dataset, view: TrainingView, held: Held) -> Check:
    """Check that the training view is the beginning of each user's sequence, and ends before what is held out."""
    lengths, sequences = view.prefixes.lengths, dataset.sequences
    starts = np.repeat(sequences.offsets[:-1], lengths)
    steps = np.arange(len(view.prefixes.items)) - np.repeat(view.prefixes.offsets[:-1], lengths)
    if len(lengths) != len(sequences) or (view.prefixes.items != sequences.items[starts + steps]).any():
        return Check("training", False, "the training view is not the beginning of the users' sequences")
    targets = 0
    for split in held.splits:
        positions = dataset.target_positions[split]
        if len(late := np.flatnonzero((positions >= 0) & (lengths > positions))):
            user = dataset.user_ids[int(late[0])]
            return Check("training", False, f"the {split} target of user {user} is in training")
        targets += int((positions >= 0).sum())
    both = dataset.target_positions
    if ((both["valid"] >= both["test"]) & (both["test"] >= 0) & (both["valid"] >= 0)).any():
        return Check("training", False, "a validation target is not before the test target of its user")
    said = f"{len(view.prefixes.items):,} interactions, all before the {targets:,} targets held out"
    return Check("training", True, said)


def _artefacts(workspace: Workspace, run: Run, pipeline: Pipeline) -> Iterator[Check]:
    """Check again what the LLM stages put into prompts and sequences."""
    keys = run.plan["artefacts"]
    augmentation = workspace.artefact("augmentation", keys.get("augmentation", ""))
    if "augmentation" in keys and augmentation.complete:
        yield from tried("augmentation", lambda: _augmentation(pipeline, Augmentation.load(augmentation.path)))
    profiles = workspace.artefact("profiles", keys.get("profiles", ""))
    if "profiles" in keys and profiles.complete:
        yield from tried("profiles", lambda: _profiles(pipeline, Profiles.load(profiles.path)))


def _augmentation(pipeline: Pipeline, made: Augmentation) -> list[Check]:
    lengths = pipeline.augmenter.view.prefixes.lengths
    prompts = check_sources(pipeline.dataset, made.sources, "augmentation", lengths)
    kept = check_sequences(pipeline.dataset, made, lengths)
    if pipeline.augmenter is not pipeline:
        return [Check("augmentation", False, "its prompts name what is held out, as options.unsound has it")]
    inserted = f"{int(made.inserted.sum()):,} inserted items"
    return [
        Check("augmentation", True, f"its prompts name {prompts:,} interactions, all of training"),
        Check("augmentation", True, f"its sequences are {kept:,} interactions of training, and {inserted}"),
    ]


def _profiles(pipeline: Pipeline, made: Profiles) -> Check:
    departed = pipeline.departures.profiles_see_validation
    lengths = pipeline.dataset.learned_lengths("train+valid") if departed else pipeline.view.prefixes.lengths
    prompts = check_sources(pipeline.dataset, made.sources, "profiles", lengths)
    if departed:
        said = "their prompts name validation targets, as options.profiles_see_validation has it"
        return Check("profiles", False, said)
    return Check("profiles", True, f"their prompts name {prompts:,} interactions, all of training")


def check_inputs(data: TrainingData, queries: EvalQueries, split: Split) -> Check:
    """Check that what a model reads to rank a target are the interactions before it, and what was inserted."""
    targets, sequences = queries.targets, data.dataset.sequences
    added = data.sequences.lengths - data.view.prefixes.lengths
    before = sequences.offsets[targets.users] + targets.positions
    lengths = queries.inputs.lengths
    if (lengths != targets.positions + added[targets.users]).any():
        return Check("ranking", False, f"{split}: a history has other items than those before its target")
    beyond = targets.positions > data.view.prefixes.lengths[targets.users]
    ends = queries.inputs.items[queries.inputs.offsets[1:] - 1]
    if (ends[beyond] != sequences.items[before[beyond] - 1]).any():
        return Check("ranking", False, f"{split}: a history does not end with the item before its target")
    if (sequences.items[before] != targets.items).any():
        return Check("ranking", False, f"{split}: a target is not the item at its position")
    return Check("ranking", True, f"{len(queries):,} {split} targets, each ranked after the interactions before it")


def check_candidates(data: TrainingData) -> Check:
    """Check that the candidates are the items of the catalogue, without generated ones."""
    catalogue, pseudo = data.dataset.domains.items, len(data.table.domain_of) - 1 - data.table.catalogue
    if data.table.catalogue != catalogue or len(data.dataset.catalogue) != catalogue:
        return Check("ranking", False, "the items that can be recommended are not those of the catalogue")
    generated = f"; the {pseudo:,} generated items are none" if pseudo else ""
    return Check("ranking", True, f"candidates are the {catalogue:,} items of the catalogue{generated}")


@torch.no_grad()
def check_future(model: SequentialModel, data: TrainingData) -> Check:
    """Check on the trained weights that no state depends on a later item.

    In each of some histories all items from a position on are replaced, and the states before it compared.
    """
    newest = min(NEWEST, model.context_length)
    rows = np.flatnonzero(data.sequences.lengths > 1)[:PROBED]
    if not len(rows) or newest < 2:
        return Check("model", None, "no history is long enough to see whether a state depends on later items")
    sequences = DeviceSequences(data.sequences.rows(rows), data.table, newest)
    batch = sequences.batch(torch.arange(len(rows), device=data.device))
    half = (batch.lengths // 2).clamp_min(1)
    steps = torch.arange(batch.items.shape[1], device=data.device)
    later = (steps >= half[:, None]) & (batch.items > 0)
    other = torch.where(later, batch.items.roll(1, 0).clamp_min(1), batch.items)
    other = torch.where(later & (other == batch.items), batch.items % data.table.catalogue + 1, other)
    changed = type(batch)(**{**batch.__dict__, "items": other})
    before = ~later & (batch.items > 0)
    states, again = (model.encode_positions(one)[before] for one in (batch, changed))
    moved = float((states - again).abs().max() / states.abs().max().clamp_min(1e-12))
    if moved > TOLERANCE:
        return Check("model", False, "a state depends on later items: in training the model sees its own targets")
    compared = f"{int(before.sum()):,} states of {len(rows)} histories"
    return Check("model", True, f"{compared} stay the same when all later items are others: it sees no future")
