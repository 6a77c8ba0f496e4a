"""Metrics against an independent library, and against the definition where ranks are halves."""

import math

import ir_measures
import numpy as np
import pytest
from ir_measures import RR, Success, nDCG

from edt_cli.evaluation.metrics import list_metrics, ranking_metrics


@pytest.mark.parametrize("seed", range(3))
def test_hr_ndcg_and_mrr_are_those_of_ir_measures(seed):
    rng = np.random.default_rng(seed)
    users, items = 60, 40
    scores = rng.normal(size=(users, items))
    targets = rng.integers(0, items, size=users)
    own = scores[np.arange(users), targets]
    ranks = 1.0 + (scores > own[:, None]).sum(1)

    qrels = [ir_measures.Qrel(str(user), str(target), 1) for user, target in enumerate(targets)]
    run = [
        ir_measures.ScoredDoc(str(user), str(item), float(scores[user, item]))
        for user in range(users)
        for item in range(items)
    ]
    wanted = {
        "hr@5": Success @ 5,
        "hr@10": Success @ 10,
        "hr@20": Success @ 20,
        "ndcg@5": nDCG @ 5,
        "ndcg@10": nDCG @ 10,
        "ndcg@20": nDCG @ 20,
        "mrr": RR,
    }
    expected = ir_measures.calc_aggregate(list(wanted.values()), qrels, run)
    found = ranking_metrics(ranks)
    assert set(found) == set(wanted)
    for name, measure in wanted.items():
        assert found[name] == pytest.approx(expected[measure], abs=1e-9), name


def test_half_a_rank_is_a_hit_up_to_k_and_gains_between_its_neighbours():
    found = ranking_metrics(np.array([10.0, 10.5, 1.5]))
    assert found["hr@10"] == pytest.approx(2 / 3)
    assert found["ndcg@10"] == pytest.approx((1 / math.log2(11) + 1 / math.log2(2.5)) / 3)
    assert found["mrr"] == pytest.approx((1 / 10 + 1 / 10.5 + 1 / 1.5) / 3)


def test_coverage_and_popularity_of_what_is_recommended():
    top = np.array([[1, 2, 0], [2, 3, 0]])
    popularity = np.array([0, 10, 4, 2, 7])
    found = list_metrics(top, 4, popularity)
    assert found == {"coverage@10": 3 / 4, "popularity@10": (10 + 4 + 4 + 2) / 4}
    assert list_metrics(np.zeros((2, 3), dtype=int), 4, popularity) == {"coverage@10": 0.0, "popularity@10": 0.0}
