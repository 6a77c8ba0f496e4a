"""The paired bootstrap against a slow one, and what it must say where the answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from edt_cli.evaluation.metrics import ranking_metrics
from edt_cli.evaluation.significance import ndcg_of, paired_bootstrap


def test_the_interval_is_that_of_drawing_users_with_replacement():
    rng = np.random.default_rng(1)
    first, second = (ndcg_of(rng.integers(1, 30, 400).astype(float)) for _ in range(2))
    found = paired_bootstrap(first, second)
    difference = second - first
    draws = [difference[rng.integers(0, 400, 400)].mean() for _ in range(4000)]
    low, high = np.quantile(draws, [0.025, 0.975])
    assert found.mean == pytest.approx(difference.mean())
    assert (found.low, found.high) == (pytest.approx(low, abs=0.004), pytest.approx(high, abs=0.004))
    assert found.users == 400


def test_ndcg_of_users_is_the_metric_of_all_of_them():
    ranks = np.array([1.0, 2.5, 10.0, 10.5, 300.0])
    assert ndcg_of(ranks).mean() == pytest.approx(ranking_metrics(ranks)["ndcg@10"])


def test_the_same_ranks_differ_by_nothing_and_a_clear_gain_is_clear():
    same = ndcg_of(np.arange(1.0, 50.0))
    none = paired_bootstrap(same, same)
    assert (none.mean, none.low, none.high, none.clear) == (0.0, 0.0, 0.0, False)
    assert paired_bootstrap(same, same + 0.1).clear
    assert paired_bootstrap(same + 0.1, same).high < 0


def test_other_users_cannot_be_paired():
    with pytest.raises(ValueError, match="the same users"):
        paired_bootstrap(np.zeros(3), np.zeros(4))
    with pytest.raises(ValueError, match="at least one"):
        paired_bootstrap(np.zeros(0), np.zeros(0))


def test_an_interval_of_95_percent_holds_the_truth_about_95_times_of_100():
    rng = np.random.default_rng(5)
    held = 0
    for _ in range(200):
        first = rng.normal(0, 1, 200)
        found = paired_bootstrap(first, first + rng.normal(0.1, 1, 200))
        held += found.low <= 0.1 <= found.high
    assert 180 <= held <= 199
