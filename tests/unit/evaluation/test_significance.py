"""The bootstraps against slow ones, the t-tests against scipy, Holm by hand, and known answers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ttest_1samp, ttest_ind, ttest_rel

from edt_cli.evaluation.metrics import ranking_metrics
from edt_cli.evaluation.significance import (
    equivalence,
    gains_bootstrap,
    gains_t,
    holm,
    ndcg_of,
    nonequivalence,
    paired_bootstrap,
    paired_t,
    relative_gain,
)


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


def test_equivalence_is_two_one_sided_tests_and_its_contrary_the_other_two():
    rng = np.random.default_rng(7)
    first = rng.gamma(2, 0.2, 500)
    for gain in (-0.06, -0.02, 0.0, 0.03, 0.2):
        second = first * (1 + gain) + rng.normal(0, 0.1, 500)
        above = ttest_1samp(second - 0.95 * first, 0, alternative="greater").pvalue
        below = ttest_1samp(second - 1.05 * first, 0, alternative="less").pvalue
        assert equivalence(first, second, 0.05) == pytest.approx(max(above, below))
        assert nonequivalence(first, second, 0.05) == pytest.approx(min(1.0, 2 * (1 - max(above, below))))


def test_equivalence_needs_users_and_a_mean_and_what_is_the_same_is_equivalent():
    values = np.linspace(0.1, 1, 50)
    assert equivalence(values, values, 0.05) < 1e-9
    assert nonequivalence(values, values, 0.05) == 1.0
    assert equivalence(np.zeros(50), np.zeros(50), 0.05) == 1.0
    assert equivalence(values[:1], values[:1], 0.05) == 1.0
    noise = np.random.default_rng(1).normal(0, 3, 50)
    assert equivalence(values, values + noise - noise.mean(), 0.05) > 0.3  # level on the mean, but nobody can tell


def groups(rng: np.random.Generator, gain: float, rest: float) -> list[tuple[np.ndarray, np.ndarray]]:
    pairs = []
    for users, share in ((400, gain), (900, rest)):
        first = ndcg_of(rng.integers(1, 25, users).astype(float))
        pairs.append((first, first * (1 + share) + rng.normal(0, 0.05, users)))
    return pairs


def test_the_difference_of_gains_and_its_interval_are_those_of_a_slow_bootstrap():
    rng = np.random.default_rng(2)
    group, rest = groups(rng, 0.2, 0.05)
    found = gains_bootstrap(group, rest)

    def gain(pair: tuple[np.ndarray, np.ndarray]) -> float:
        users = rng.integers(0, len(pair[0]), len(pair[0]))
        return pair[1][users].sum() / pair[0][users].sum() - 1

    draws = [gain(group) - gain(rest) for _ in range(4000)]
    low, high = np.quantile(draws, [0.025, 0.975])
    assert found.mean == pytest.approx(group[1].sum() / group[0].sum() - rest[1].sum() / rest[0].sum())
    assert (found.low, found.high) == (pytest.approx(low, abs=0.003), pytest.approx(high, abs=0.003))
    assert found.users == 1300
    # The t-test speaks of the same spread: p is near the share of draws at or below 0.
    spread = float(np.std(draws))
    same = groups(np.random.default_rng(3), 0.05 + 0.3 * spread, 0.05)
    expected = np.mean(np.array(draws) - found.mean <= -(relative_gain(same[0]) - relative_gain(same[1])))
    assert gains_t(*same) == pytest.approx(expected, abs=0.03)


def test_the_t_test_of_gains_is_welchs_where_the_first_values_do_not_vary():
    rng = np.random.default_rng(4)
    one, two = rng.normal(1.2, 0.5, 30), rng.normal(1.1, 0.1, 80)
    known = ttest_ind(one, two, equal_var=False, alternative="greater").pvalue
    assert gains_t((np.ones(30), one), (np.ones(80), two)) == pytest.approx(known)
    assert gains_t((np.ones(30), one), (np.ones(1), two[:1])) == 1.0
    assert gains_t((np.ones(9), np.ones(9)), (np.ones(9), np.ones(9))) == 1.0


def test_a_gain_over_nothing_is_refused():
    nothing, values = np.zeros(20), np.ones(20)
    with pytest.raises(ValueError, match="above 0"):
        relative_gain((nothing, values))
    few = np.zeros(20)
    few[0] = 1
    with pytest.raises(ValueError, match="too few"):
        gains_bootstrap((few, values), (values, values))


def test_a_mean_over_seeds_is_at_most_as_wide_as_the_mean_of_their_intervals():
    """What docs/claims.md says of runs in different workspaces."""
    rng = np.random.default_rng(6)
    common = rng.normal(0, 0.1, 60)
    seeds = [0.01 + 0.5 * common + rng.normal(0, 0.1, 60) for _ in range(3)]
    assert _half_width(np.mean(seeds, axis=0)) < np.mean([_half_width(seed) for seed in seeds])
    assert _half_width(np.mean([common] * 3, axis=0)) == pytest.approx(_half_width(common))  # the bound is reached


def _half_width(differences: np.ndarray) -> float:
    found = paired_bootstrap(np.zeros_like(differences), differences)
    return (found.high - found.low) / 2
