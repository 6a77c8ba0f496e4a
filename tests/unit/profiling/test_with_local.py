"""Both LLM stages with `local`, which retrieves and extracts, from a dataset to profiles."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from llm_fakes import WordEmbedder

from edt_backends.local import LocalChat
from edt_cli.augmentation.artefact import Augmentation
from edt_cli.augmentation.audit import check_sequences, check_sources
from edt_cli.augmentation.augment import augment
from edt_cli.augmentation.catalogue import TrainingCatalogue
from edt_cli.config import AugmentationSettings, DataSettings, LLMSettings, ProfilingSettings
from edt_cli.data.assemble import assemble
from edt_cli.data.dataset import Dataset
from edt_cli.llm.embeddings import embed_items
from edt_cli.profiling.profile import profile
from edt_cli.workspace.events import Events

THEMES = ("mint", "ginger", "oat", "maple", "lemon")
NOUNS = {"food": ("tea", "bar", "syrup"), "kitchen": ("jar", "pan", "mill"), "garden": ("pot", "seeds", "shears")}


def make_dataset(domains: tuple[str, ...], seed: int = 0) -> Dataset:
    """40 users with one or two themes each; half of them buy in one domain only, some have very few purchases."""
    rng = np.random.default_rng(seed)
    items = pl.DataFrame(
        [
            (f"{domain}-{theme}-{noun}-{size}", number, f"{theme} {noun} {size}" if size else None)
            for number, domain in enumerate(domains)
            for theme in THEMES
            for noun in NOUNS[domain]
            for size in range(3)
        ],
        schema=["item", "domain", "title"],
        orient="row",
    )
    rows = []
    for user in range(40):
        own = rng.permutation(len(domains))[: 1 if user % 2 else 2]
        themes = rng.choice(THEMES, 2)
        for time in range(1 + user % 9):
            domain = domains[rng.choice(own)]
            item = f"{domain}-{rng.choice(themes)}-{rng.choice(NOUNS[domain])}-{rng.integers(3)}"
            rows.append((f"user {user}", item, time))
    interactions = pl.DataFrame(rows, schema=["user", "item", "time"], orient="row")
    return assemble(interactions, items, domains, DataSettings(window=None, k_core=None, ties="file"))


@pytest.mark.parametrize("domains", [("food", "kitchen"), ("food", "kitchen", "garden")])
@pytest.mark.parametrize("ground", ["pseudo", "match"])
@pytest.mark.parametrize("direction", ["minority", "both"])
def test_from_a_dataset_to_profiles(domains, ground, direction):
    dataset = make_dataset(domains)
    view, events, embedder = dataset.training_view(), Events(), WordEmbedder()
    embeddings = embed_items(view.catalogue, embedder, events)
    chat = LocalChat(TrainingCatalogue(view, embeddings))
    settings = AugmentationSettings(ground=ground, direction=direction, tau="q0.30")
    asked = len(embedder.asked)
    made = augment(view, embeddings, settings, LLMSettings(), chat, embedder, events)
    assert len(embedder.asked) == asked  # all items are catalogue items, whose vectors are known
    assert made.failures.is_empty() and made.pseudo.is_empty() and made.inserted.any()
    assert set(made.generated["reason"]) <= {"kept", "rank", "tau", "rank and tau"}
    for row in made.generated.iter_rows(named=True):
        assert row["item"] in view.training_items and row["item"] in view.domains.range(row["target"])
        assert row["item"] not in view.prefixes.of(row["user"])
        assert row["title"] == view.catalogue["title"][row["item"] - 1]
    assert check_sources(dataset, made.sources, "prompts") and check_sequences(dataset, made)

    profiles = profile(view, made, embeddings, ProfilingSettings(), LLMSettings(), chat, embedder, events)
    assert profiles.failures.is_empty()
    assert check_sources(dataset, profiles.sources, "profiles")
    with_text = [embeddings.has_text[made.sequences.of(user)].any() for user in range(len(view.prefixes))]
    assert profiles.has_profile.tolist() == with_text
    naive = profile(view, made, embeddings, ProfilingSettings(chain="naive"), LLMSettings(), chat, embedder, events)
    assert naive.has_profile.tolist() == with_text and naive.texts != profiles.texts
    without = profile(
        view, Augmentation.none(view), embeddings, ProfilingSettings(), LLMSettings(), chat, embedder, events
    )
    assert without.texts != profiles.texts


def test_what_is_held_out_changes_no_question():
    """The same data with other validation and test interactions gives the same generated items and profiles."""
    dataset = make_dataset(("food", "kitchen"))
    items = dataset.sequences.items.copy()
    held_out = dataset.train_lengths[dataset.sequences.users] <= (
        np.arange(len(items)) - dataset.sequences.offsets[dataset.sequences.users]
    )
    assert held_out.any()
    known = dataset.training_view().training_items
    items[held_out] = np.random.default_rng(3).choice(known, held_out.sum())
    other = Dataset(**{**dataset.__dict__, "sequences": type(dataset.sequences)(dataset.sequences.offsets, items)})
    results = []
    for one in (dataset, other):
        view, embedder = one.training_view(), WordEmbedder()
        embeddings = embed_items(view.catalogue, embedder, Events())
        chat = LocalChat(TrainingCatalogue(view, embeddings))
        made = augment(view, embeddings, AugmentationSettings(), LLMSettings(), chat, embedder, Events())
        profiles = profile(view, made, embeddings, ProfilingSettings(), LLMSettings(), chat, embedder, Events())
        results.append((made, profiles))
    (made, profiles), (made_again, profiles_again) = results
    assert made.generated.equals(made_again.generated)
    assert made.sequences.items.tolist() == made_again.sequences.items.tolist()
    assert profiles.texts == profiles_again.texts
