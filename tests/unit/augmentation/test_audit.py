"""A held-out interaction that is planted in a prompt or in a sequence is found and refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from llm_fakes import Scripted, WordEmbedder, embed

from edt_cli.augmentation.audit import check_sequences, check_sources
from edt_cli.augmentation.augment import augment
from edt_cli.config import AugmentationSettings, DataSettings, LLMSettings, UserError
from edt_cli.data.assemble import assemble
from edt_cli.data.dataset import Sequences
from edt_cli.workspace.events import Events


@pytest.fixture
def dataset():
    """Three users with six interactions each: four train, then validation and test."""
    rows = [
        (f"U{user}", f"{'f' if item < 5 or user < 2 else 'k'}{item}", item)
        for user in range(3)
        for item in range(6)
    ]
    interactions = pl.DataFrame(rows, schema=["user", "item", "time"], orient="row")
    items = (
        interactions.select("item")
        .unique()
        .with_columns(domain=pl.col("item").str.starts_with("k").cast(pl.Int64), title="title " + pl.col("item"))
    )
    items = pl.concat([items, pl.DataFrame({"item": ["k0"], "domain": [1], "title": ["a pan"]})])
    interactions = pl.concat([interactions, pl.DataFrame({"user": ["U0"], "item": ["k0"], "time": [-1]})])
    return assemble(interactions, items, ["food", "kitchen"], DataSettings(window=None, k_core=None))


def augmented(dataset, train_on="train"):
    view = dataset.training_view(train_on)
    chat = Scripted(lambda request: {"items": [{"title": "a pot"}]})
    settings = AugmentationSettings(tau=-1.0)
    return augment(view, embed(view), settings, LLMSettings(), chat, WordEmbedder(), Events())


def test_what_the_augmenter_did_passes(dataset):
    found = augmented(dataset)
    assert found.inserted.any()
    assert check_sources(dataset, found.sources, "prompts") == len(found.sources) > 0
    assert check_sequences(dataset, found) == dataset.train_lengths.sum()


@pytest.mark.parametrize("position", [-1, 4, 5, 6, 99])
def test_a_held_out_interaction_in_a_prompt_is_refused(dataset, position):
    found = augmented(dataset)
    item = int(dataset.sequences.of(1)[min(position, 5)])
    planted = pl.concat([found.sources, pl.DataFrame({"user": [1], "position": [position], "item": [item]})])
    with pytest.raises(UserError, match=rf"prompts: position {position} of user U1 is not in training"):
        check_sources(dataset, planted, "prompts")


def test_a_record_that_names_another_item_or_user_is_refused(dataset):
    with pytest.raises(UserError, match="position 0 of user U1"):
        check_sources(dataset, pl.DataFrame({"user": [1], "position": [0], "item": [99]}), "prompts")
    with pytest.raises(UserError, match="number 7"):
        check_sources(dataset, pl.DataFrame({"user": [7], "position": [0], "item": [1]}), "prompts")
    assert check_sources(dataset, augmented(dataset).sources.clear(), "prompts") == 0


def test_a_held_out_interaction_in_a_sequence_is_refused(dataset):
    found = augmented(dataset)
    end = found.sequences.offsets[2]
    items = np.insert(found.sequences.items, end, dataset.sequences.of(1)[4])
    offsets = found.sequences.offsets + (np.arange(4) >= 2)
    planted = replace(found, sequences=Sequences(offsets, items), inserted=np.insert(found.inserted, end, False))
    with pytest.raises(UserError, match="user U1"):
        check_sequences(dataset, planted)
    swapped = found.sequences.items.copy()
    own = np.flatnonzero(~found.inserted)
    swapped[own[-1]] += 1
    with pytest.raises(UserError, match="user U2"):
        check_sequences(dataset, replace(found, sequences=Sequences(found.sequences.offsets, swapped)))


def test_training_on_everything_passes_its_own_lengths(dataset):
    found = augmented(dataset, "all")
    lengths = dataset.sequences.lengths
    assert check_sequences(dataset, found, lengths) == lengths.sum()
    assert check_sources(dataset, found.sources, "prompts", lengths) == len(found.sources)
    with pytest.raises(UserError, match="leak check"):
        check_sequences(dataset, found)
    with pytest.raises(UserError, match="leak check"):
        check_sources(dataset, found.sources, "prompts")
