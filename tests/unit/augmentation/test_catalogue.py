from __future__ import annotations

import numpy as np
import pytest
from llm_fakes import embed, make_view

from edt_backends.base import BackendError
from edt_cli.augmentation import catalogue as module
from edt_cli.augmentation.catalogue import TrainingCatalogue


@pytest.fixture
def shop():
    rng = np.random.default_rng(4)
    words = np.array(["tea", "mint", "kettle", "steel", "spade", "oak", "red", "large"])
    titles = [" ".join(rng.choice(words, 3)) + f" {number}" for number in range(60)]
    titles[33] = None
    view = make_view([[*range(1, 31), *range(32, 59)]], [30, 30], titles)  # 31, 59 and 60 are not in training
    return view, embed(view)


def expected(view, embeddings, item, count, exclude):
    pool = [
        i for i in range(31, 61) if i in view.training_items and embeddings.has_text[i] and f"I{i}" not in exclude
    ]
    cosines = {i: float(embeddings.vectors[item] @ embeddings.vectors[i]) for i in pool}
    return [f"I{i}" for i in sorted(pool, key=lambda i: -cosines[i])[:count]]


@pytest.mark.parametrize("width", [64, 2])
def test_nearest_training_items_of_the_domain(shop, monkeypatch, width):
    monkeypatch.setattr(module, "WIDTH", width)
    monkeypatch.setattr(module, "BLOCK", 7)
    view, embeddings = shop
    catalogue = TrainingCatalogue(view, embeddings)
    titles = view.catalogue["title"].to_list()
    exclude = expected(view, embeddings, 9, 3, ())
    for item in (1, 9, 30):
        for hidden in ((), exclude):
            (found,) = catalogue.similar("kitchen", [titles[item - 1]], 5, hidden)
            assert [row["id"] for row in found] == expected(view, embeddings, item, 5, hidden)
            assert found[0]["title"] == titles[int(found[0]["id"][1:]) - 1]
            assert found[0]["score"] >= found[-1]["score"]
    assert len(catalogue.similar("kitchen", [titles[0]], 99, ())[0]) == 26
    assert [len(rows) for rows in catalogue.similar("kitchen", titles[:4], 2, ())] == [2, 2, 2, 2]


def test_companions_by_id():
    view = make_view([[1, 4, 5], [1, 4], [1, 5], [1, 5, 6], [2, 7], [3, 8]], [3, 5])
    catalogue = TrainingCatalogue(view, embed(view))

    def found(items, count, exclude=()):
        return [row["id"] for row in catalogue.companions("kitchen", items, count, exclude)]

    assert found(["I1"], 5) == ["I5", "I4", "I6"]
    assert found(["I1"], 1, ("I5", "I8")) == ["I4"]
    assert found(["I1", "I2"], 9, ("I4",)) == ["I5", "I7", "I6"]
    assert found([], 5) == []
    assert catalogue.companions("kitchen", ["I2"], 1, ())[0]["title"] == "thing 7 of sort 1"


def test_a_text_that_no_item_has_is_refused(shop):
    with pytest.raises(BackendError, match="only texts of catalogue items"):
        TrainingCatalogue(*shop).similar("kitchen", ["no such thing"], 5, ())


def test_match_is_the_nearest_item_that_the_user_has_not_had(shop):
    view, embeddings = shop
    catalogue = TrainingCatalogue(view, embeddings)
    vectors = embeddings.vectors[[1, 1, 9]]
    users = np.array([0, 1, 1])
    best = [int(name[1:]) for name in expected(view, embeddings, 1, 2, ())]
    history = np.sort(np.array([0 * 61 + best[0], 1 * 61 + 2]))
    found = catalogue.match(1, vectors, users, history)
    assert found.tolist() == [best[1], best[0], int(expected(view, embeddings, 9, 1, ())[0][1:])]


def test_match_without_an_item_left(shop):
    view, embeddings = shop
    catalogue = TrainingCatalogue(view, embeddings)
    everything = np.arange(61)
    assert catalogue.match(1, embeddings.vectors[[1]], np.array([0]), everything).tolist() == [0]
    empty = make_view([[1, 2]], [2, 1], ["tea", "kettle", None])
    catalogue = TrainingCatalogue(empty, embed(empty))
    assert catalogue.match(1, embed(empty).vectors[[1]], np.array([0]), everything[:0]).tolist() == [0]
    assert catalogue.similar("kitchen", ["tea"], 3, ()) == [[]]
