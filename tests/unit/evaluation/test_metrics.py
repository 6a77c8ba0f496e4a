"""Metrics against an independent library, and against the definition where ranks are halves."""

import math

import ir_measures
import numpy as np
import pytest
from ir_measures import RR, Success, nDCG

from edt_cli.evaluation.metrics import ranking_metrics

CUTOFFS = (1, 5, 10, 20, 33)


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
    wanted = {f"hr@{k}": Success @ k for k in CUTOFFS} | {f"ndcg@{k}": nDCG @ k for k in CUTOFFS} | {"mrr": RR}
    expected = ir_measures.calc_aggregate(list(wanted.values()), qrels, run)
    found = ranking_metrics(ranks, CUTOFFS)
    assert set(found) == set(wanted)
    for name, measure in wanted.items():
        assert found[name] == pytest.approx(expected[measure], abs=1e-9), name


def test_half_a_rank_is_a_hit_up_to_k_and_gains_between_its_neighbours():
    found = ranking_metrics(np.array([10.0, 10.5, 1.5]))
    assert found["hr@10"] == pytest.approx(2 / 3)
    assert found["ndcg@10"] == pytest.approx((1 / math.log2(11) + 1 / math.log2(2.5)) / 3)
    assert found["mrr"] == pytest.approx((1 / 10 + 1 / 10.5 + 1 / 1.5) / 3)
