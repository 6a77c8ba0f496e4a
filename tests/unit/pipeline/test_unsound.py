"""Data as the unsound departures make it: which items are candidates, and which are targets."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from toy import dataset

from edt_cli.augmentation.artefact import Augmentation
from edt_cli.augmentation.insertion import insert
from edt_cli.config import UserError
from edt_cli.data.dataset import TEXT_FIELDS
from edt_cli.llm.embeddings import ItemEmbeddings
from edt_cli.pipeline.unsound import unsound_data

HISTORIES = {"u": ["a0", "b1", "a2", "b0"], "v": ["b0", "a1", "b1", "a0", "b2"]}


def augmented(lengths: np.ndarray) -> tuple[Augmentation, ItemEmbeddings]:
    """A generated item of domain a after the last item of user u, and one of b before all of user v's."""
    made = dataset(HISTORIES)
    view = made.training_view()
    prefixes = made.sequences.prefixes(lengths)
    pseudo = pl.DataFrame(
        {"number": [7, 8], "domain": [0, 1], **{name: [f"{name} 7", f"{name} 8"] for name in TEXT_FIELDS}}
    )
    gaps = np.array([prefixes.lengths[0], 0])
    sequences, inserted = insert(prefixes, np.array([0, 1]), gaps, np.ones(2), np.array([7, 8]))
    none = Augmentation.none(view).__dict__
    vectors = np.zeros((9, 9), np.float32)
    vectors[np.arange(1, 9), np.arange(1, 9)] = 1
    changes = {"sequences": sequences, "inserted": inserted, "pseudo": pseudo, "pseudo_vectors": vectors[7:]}
    return Augmentation(**{**none, **changes}), ItemEmbeddings(vectors[:7], (vectors[:7] != 0).any(1))


def names(data, items: np.ndarray) -> list[str]:
    return [data.dataset.catalogue["id"][int(item) - 1] for item in items]


def test_generated_items_become_candidates_and_nothing_else_changes():
    made = dataset(HISTORIES)
    augmentation, embeddings = augmented(made.train_lengths)
    data = unsound_data("generated-candidates", made, augmentation, embeddings, None, key="k", device="cpu")
    assert names(data, np.arange(1, 9)) == ["a0", "a1", "a2", "generated-7", "b0", "b1", "b2", "generated-8"]
    assert [len(data.dataset.domains.range(domain)) for domain in range(2)] == [4, 4] and data.table.catalogue == 8
    assert names(data, data.sequences.of(0)) == ["a0", "b1", "generated-7"]
    assert names(data, data.sequences.of(1)) == ["generated-8", "b0", "a1", "b1"]
    for split in ("valid", "test"):
        before = [made.catalogue["id"][int(item) - 1] for item in made.targets(split).items]
        assert names(data, data.dataset.targets(split).items) == before
    of_text = data.table.text.numpy()
    for number, name in enumerate(names(data, np.arange(1, 9)), start=1):
        old = (
            int(name[-1]) if name.startswith("generated") else 1 + ["a0", "a1", "a2", "b0", "b1", "b2"].index(name)
        )
        assert of_text[number].argmax() == old
    queries = data.queries("test")
    assert names(data, queries.inputs.of(0)) == ["a0", "b1", "generated-7", "a2"]
    assert data.dataset.key != made.key
    with pytest.raises(UserError, match="no generated items"):
        unsound_data(
            "generated-candidates",
            made,
            Augmentation.none(made.training_view()),
            embeddings,
            None,
            key="k",
            device="cpu",
        )


def test_a_split_after_augmentation_has_inserted_items_for_targets():
    made = dataset(HISTORIES)
    augmentation, embeddings = augmented(made.sequences.lengths)
    data = unsound_data("split-after-augmentation", made, augmentation, embeddings, None, key="k", device="cpu")
    assert names(data, data.dataset.targets("test").items) == ["generated-7", "b2"]
    assert names(data, data.dataset.targets("valid").items) == ["b0", "a0"]
    assert names(data, data.sequences.of(0)) == ["a0", "b1", "a2"]
    assert names(data, data.sequences.of(1)) == ["generated-8", "b0", "a1", "b1"]
    assert (np.diff(data.dataset.times[data.dataset.sequences.users == 1]) >= 0).all()
