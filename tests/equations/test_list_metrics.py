"""Metrics of recommended lists against slow float64 versions, and by hand."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy import random_dataset

from edt_cli.evaluation.lists import Known, gini, list_metrics


def slow(top: np.ndarray, items: range, made, vectors: np.ndarray) -> dict[str, float | None]:
    lists = [[int(item) for item in row if item] for row in top]
    recommended = [item for row in lists for item in row]
    prefixes = made.training_view().prefixes
    rows = [prefixes.of(user).tolist() for user in range(len(prefixes))]
    counts = [recommended.count(item) for item in items]
    pairs = sum(abs(a - b) for a in counts for b in counts)
    distances = []
    for row in lists:
        texts = [vectors[item].astype(np.float64) for item in row if np.any(vectors[item])]
        cosines = [a @ b / math.sqrt((a @ a) * (b @ b)) for a, b in combinations(texts, 2)]
        if cosines:
            distances.append(sum(1 - cosine for cosine in cosines) / len(cosines))
    information = [-math.log2(max(1, sum(item in row for row in rows)) / len(rows)) for item in recommended]
    return {
        "coverage@10": len(set(recommended)) / len(items),
        "popularity@10": sum(row.count(item) for item in recommended for row in rows) / len(recommended),
        "novelty@10": sum(information) / len(information),
        "gini@10": pairs / (2 * len(counts) * sum(counts)),
        "ild@10": sum(distances) / len(distances) if distances else None,
    }


@given(seed=st.integers(0, 2**32 - 1), users=st.integers(1, 6), length=st.integers(1, 10))
def test_metrics_of_lists_are_those_of_a_slow_version(seed, users, length):
    rng = np.random.default_rng(seed)
    made = random_dataset(users=20, items=11, seed=seed % 5)
    items = made.domains.range(int(rng.integers(2)))
    top = np.stack([rng.choice(items, size=length, replace=False) for _ in range(users)])
    top[rng.random(top.shape) < 0.1] = 0
    top[0, 0] = items.start
    vectors = rng.normal(size=(made.domains.items + 1, 4)).astype(np.float32)
    vectors[rng.random(len(vectors)) < 0.3] = 0
    vectors[0] = 0
    found = list_metrics(top, items, Known.of(made.training_view(), vectors))
    assert found == pytest.approx(slow(top, items, made, vectors), abs=1e-6)


def test_lists_by_hand():
    """Four items: 0.5, 0.25 and 0.125 of the users have the first three, nobody the last."""
    vectors = np.array([[0, 0], [2, 0], [0, 3], [-1, 0], [0, 0]], dtype=np.float32)
    known = Known(np.array([0, 10, 4, 2, 0]), np.array([0, 4, 2, 1, 0]), 8, vectors)
    top = np.array([[1, 2, 0], [2, 3, 4], [4, 0, 0]])
    assert list_metrics(top, range(1, 5), known) == pytest.approx(
        {
            "coverage@10": 1.0,
            "popularity@10": (10 + 4 + 4 + 2) / 6,
            "novelty@10": (1 + 2 + 2 + 3 + 3 + 3) / 6,
            "gini@10": (1 + 1 + 1 + 1) / (4 * 6),  # counts 1, 2, 1, 2: four of the six pairs differ by 1
            "ild@10": (1 + 1) / 2,
        }
    )


def test_what_lists_without_anything_tell():
    known = Known(np.ones(5), np.ones(5), 3)
    empty = list_metrics(np.zeros((2, 3), dtype=int), range(1, 5), known)
    assert empty == {
        "coverage@10": 0.0,
        "popularity@10": 0.0,
        "novelty@10": None,
        "gini@10": None,
        "ild@10": None,
    }
    one = Known(np.ones(5), np.ones(5), 3, np.eye(5, k=-1, dtype=np.float32))
    assert list_metrics(np.array([[1, 0]]), range(1, 5), one)["ild@10"] is None


def test_gini_is_0_where_all_are_equal_and_near_1_where_one_is_everything():
    assert gini(np.full(50, 3)) == pytest.approx(0)
    assert gini(np.array([0] * 49 + [7])) == pytest.approx(49 / 50)


def test_lists_are_worth_what_rectools_says():
    """Its MeanInvUserFreq, IntraListDiversity (by cosines) and CatalogCoverage, version 0.19, of the same lists."""
    rng = np.random.default_rng(0)
    made = random_dataset(users=40, items=30)
    items = made.domains.range(0)
    top = np.stack([rng.choice(items, size=10, replace=False) for _ in range(25)])
    vectors = rng.normal(size=(made.domains.items + 1, 5)).astype(np.float32)
    found = list_metrics(top, items, Known.of(made.training_view(), vectors))
    assert found["novelty@10"] == pytest.approx(3.8268460163970093, abs=1e-12)
    assert found["ild@10"] == pytest.approx(0.9956660393744172, abs=1e-9)
    assert found["coverage@10"] == 1.0
