"""The paired bootstrap against a slow one, the t-test against scipy, Holm by hand, and known answers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ttest_rel

from edt_cli.evaluation.metrics import ranking_metrics
from edt_cli.evaluation.significance import holm, ndcg_of, paired_bootstrap, paired_t


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
    with pytest.raises(ValueError, match="the same users"):
        paired_t(np.zeros(3), np.zeros(4))


@pytest.mark.parametrize("gain", [-0.05, 0.0, 0.01, 0.3])
@pytest.mark.parametrize("users", [2, 5, 300])
def test_the_t_test_is_that_of_scipy(gain, users):
    rng = np.random.default_rng(users)
    first = rng.normal(0.3, 0.2, users)
    second = first + gain + rng.normal(0, 0.1, users)
    known = ttest_rel(second, first, alternative="greater").pvalue
    assert paired_t(first, second) == pytest.approx(known, rel=1e-9, abs=1e-300)


def test_the_t_test_where_nothing_varies():
    assert paired_t(np.zeros(5), np.zeros(5)) == 1.0
    assert paired_t(np.zeros(5), np.ones(5)) == 0.0
    assert paired_t(np.ones(5), np.zeros(5)) == 1.0
    assert paired_t(np.zeros(1), np.ones(1)) == 1.0


def test_holm_by_hand():
    # Sorted 0.005 0.01 0.03 0.04: times 4, 3, 2, 1 are 0.02 0.03 0.06 0.04, and the last may not fall below 0.06.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.5]) == [1.0, 1.0]
    assert holm([0.02]) == [0.02]
    assert holm([]) == []
    assert holm([0.02, 0.02, 1.0]) == pytest.approx([0.06, 0.06, 1.0])


def test_holm_is_never_below_the_value_and_never_above_bonferroni():
    p = np.random.default_rng(3).uniform(0, 0.2, 30)
    found = np.array(holm(list(p)))
    assert (found >= p).all() and (found <= np.minimum(1.0, 30 * p) + 1e-12).all()
    assert (np.diff(found[np.argsort(p)]) >= 0).all()


def test_an_interval_of_95_percent_holds_the_truth_about_95_times_of_100():
    rng = np.random.default_rng(5)
    held = 0
    for _ in range(200):
        first = rng.normal(0, 1, 200)
        found = paired_bootstrap(first, first + rng.normal(0.1, 1, 200))
        held += found.low <= 0.1 <= found.high
    assert 180 <= held <= 199
