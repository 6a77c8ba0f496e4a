"""What systems add to histories, against slow counts and against what the trained network recalls."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import torch
from toy import dataset as toy_dataset
from toy import random_dataset

from edt_cli.augmentation.artefact import FRAMES, Augmentation, empty_frames
from edt_cli.config import UserError, load_settings
from edt_cli.data.dataset import Dataset, Sequences
from edt_cli.inference.augmented import item_map, r_before, r_inserted, r_recalled
from edt_cli.llm.embeddings import ItemEmbeddings
from edt_cli.models.systems import make_model, system
from edt_cli.training.data import assemble

WIDTH = 6


def r_of(dataset: Dataset, user: int, *more: int) -> float:
    """r of a user by counting, with items of more domains (by number)."""
    domains = [*dataset.domains.of(dataset.sequences.of(user)), *more]
    a, b = domains.count(0), domains.count(1)
    return abs(a - b) / (a + b)


def augmentation(dataset: Dataset, inserted: dict[int, list[int]], pseudo: tuple[int, ...] = ()) -> Augmentation:
    """Items by user, inserted at the end of the training prefix; `pseudo` are the domains of pseudo-items."""
    prefixes = dataset.training_view().prefixes
    rows = [[*prefixes.of(user), *inserted.get(user, [])] for user in range(len(prefixes))]
    mask = [
        [False] * len(prefixes.of(user)) + [True] * len(inserted.get(user, [])) for user in range(len(prefixes))
    ]
    first = dataset.domains.items + 1
    frames = empty_frames(FRAMES) | {
        "pseudo": pl.DataFrame({"number": range(first, first + len(pseudo)), "domain": pseudo}),
    }
    random = np.random.default_rng(5)
    return Augmentation(
        sequences=Sequences(np.cumsum([0, *map(len, rows)]), np.concatenate(rows).astype(np.int64)),
        inserted=np.concatenate(mask),
        pseudo_vectors=unit(random.normal(size=(len(pseudo), WIDTH))),
        **frames,
    )


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def embeddings(dataset: Dataset, seed: int = 0) -> ItemEmbeddings:
    vectors = unit(np.random.default_rng(seed).normal(size=(dataset.domains.items + 1, WIDTH)))
    vectors[0] = 0
    return ItemEmbeddings(vectors, dataset.has_text)


def test_inserted_items_count_in_the_domain_that_they_are_of():
    dataset = toy_dataset(
        {"u": ["a1", "a2", "a3", "a4", "a5"], "v": ["a1", "b1", "b2", "a2"], "w": ["b1", "b2", "a1"]}
    )
    first = dataset.domains.items + 1
    made = augmentation(dataset, {0: [dataset.domains.items, first], 2: [1]}, pseudo=(1,))
    assert r_before(dataset) == pytest.approx([r_of(dataset, user) for user in range(3)])
    assert r_inserted(dataset, made) == pytest.approx(
        [r_of(dataset, 0, 1, 1), r_of(dataset, 1), r_of(dataset, 2, 0)]
    )


def test_as_many_items_are_recalled_as_the_network_recalls():
    """Each user is given the nearest items of a domain, fewer where it has no more that are new to them."""
    dataset = random_dataset(users=20, items=7)
    settings = load_settings(system("llmcdsr").preset, environment={}).changed(
        model={"hidden": 8, "blocks": 1, "max_length": 4}, options={"recalled": 5}
    )
    pairs = [(user, user % 2) for user in range(0, 20, 2)] + [(user, 1) for user in range(0, 20, 4)]
    generated = pl.DataFrame(
        {
            "user": [user for user, _ in pairs for _ in range(2)],
            "target": [target for _, target in pairs for _ in range(2)],
            "item": [1 + target for _, target in pairs for _ in range(2)],
            "kept": [True, True] * len(pairs),
        }
    )
    none = augmentation(dataset, {})
    made = Augmentation(
        sequences=none.sequences,
        inserted=none.inserted,
        pseudo_vectors=none.pseudo_vectors,
        **(empty_frames(FRAMES) | {"generated": generated}),
    )
    data = assemble(
        dataset,
        dataset.training_view(),
        "cpu",
        embeddings=embeddings(dataset),
        augmentation=made,
        augmented=False,
        profiles=None,
    )
    model = make_model(data.given(settings))
    recall = model.recall
    each = torch.arange(len(recall.users))
    rows = model.rows.batch(recall.users)
    recalled = recall.nearest(recall(each, model.space), each, model.space, rows.items, 5)
    more: dict[int, list[int]] = {}
    for user, domain, items in zip(recall.users.tolist(), recall.domains.tolist(), recalled, strict=True):
        more.setdefault(user, []).extend([domain] * int((items > 0).sum()))
    assert {len(items) for items in more.values()} > {5}, "some domain has fewer that are new"
    expected = [r_of(dataset, user, *more.get(user, [])) for user in range(20)]
    assert r_recalled(dataset, made, settings) == pytest.approx(expected)


def test_the_map_is_the_same_each_time_and_counts_neighbours_of_another_domain():
    dataset = random_dataset(users=30, items=14)
    made = augmentation(dataset, {0: [29], 1: [3, 30], 2: [29]}, pseudo=(0, 1))
    vectors = embeddings(dataset)
    items = item_map(dataset, vectors, made)
    assert items.places.shape == (30, 2) and np.array_equal(items.places, item_map(dataset, vectors, made).places)
    assert items.inserted.sum() == 3 and (~items.catalogue).sum() == 2
    assert [sizes.tolist() for sizes in items.sizes] == [[14, 14], [2, 1]]
    every = made.vectors(vectors)
    domains = made.domain_of(dataset.domains)

    def share(item: int, among: list[int]) -> float:
        near = sorted((other for other in among if other != item), key=lambda other: -(every[item] @ every[other]))
        return float(np.mean([domains[other] != domains[item] for other in near[:10]]))

    real, all_items = list(range(1, 29)), list(range(1, 31))
    for domain, span in enumerate((range(1, 15), range(15, 29))):
        assert items.neighbours.before[domain] == pytest.approx(np.mean([share(i, real) for i in span]))
        assert items.neighbours.after[domain] == pytest.approx(np.mean([share(i, all_items) for i in span]))
    assert items.neighbours.inserted[1] == pytest.approx(share(30, all_items))


def test_too_few_items_with_text_are_no_map():
    dataset = toy_dataset({"u": ["a1", "b1", "a2"]}, titles={"a1": "x"})
    with pytest.raises(UserError, match="too few items with text"):
        item_map(dataset, embeddings(dataset), augmentation(dataset, {}))
