"""Tests of a plan's rows: whether the method beats its rivals, paired over users and corrected for their number."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from edt_cli.config import EvaluationSettings
from edt_cli.evaluation.significance import holm, ndcg_of, paired_bootstrap, paired_t
from edt_cli.experiments.plan import Plan
from edt_cli.reporting.comparison import Claim, Grid, Outcome, Row

LEVEL = 0.05
"""Significance level of a claim."""


def claims_of(
    grid: Grid,
    plan: Plan,
    outcomes: Sequence[Outcome],
    ranks: Mapping[tuple[Any, ...], pl.DataFrame],
) -> list[Claim]:
    """Return the claims of a plan, for each protocol, dataset and domain.

    They are one for each row of the method, or one for each row other than the first (`Plan.against`). P-values are
    corrected for all of them together, including those that cannot be tested.
    """
    claims = [
        _claim(
            row, rivals, [o for o in outcomes if (o["protocol"], o["data"]) == (s.protocol, data)], target, ranks
        )
        for s in plan.evaluations
        for data, domains in grid.domains.items()
        for row, rivals in _contrasts(grid, plan)
        for target in ((s, data, number, name) for number, name in enumerate(domains))
    ]
    better = holm([1.0 if claim["p"] is None else claim["p"] for claim in claims])
    worse = holm([1.0 if claim["p"] is None else 1.0 - claim["p"] for claim in claims])
    for claim, p, other in zip(claims, better, worse, strict=True):
        if claim["p"] is not None:
            claim["p_holm"] = p
            claim["verdict"] = _verdict(claim, p, other)
    return claims


def _contrasts(grid: Grid, plan: Plan) -> list[tuple[Row, list[Row]]]:
    """Return the rows to test, each with those of which it is held against the best."""
    if plan.against == "each":
        first, *others = (row for row in grid.rows if not row.unsound)
        return [(first, [other]) for other in others]
    rivals = [row for row in grid.rows if row.model != grid.method]
    return [(row, rivals) for row in grid.rows if rivals and row.model == grid.method]


def _verdict(claim: Claim, better: float, worse: float) -> str:
    """Return the verdict of a claim, for which a corrected one-sided test and the interval must agree.

    Args:
        claim: The claim with its interval.
        better: Corrected p-value that the method is better.
        worse: Corrected p-value that the method is worse.
    """
    if better < LEVEL and (claim["low"] or 0) > 0:
        return "better"
    return "worse" if worse < LEVEL and (claim["high"] or 0) < 0 else "not clear"


def _claim(
    row: Row,
    rivals: Sequence[Row],
    outcomes: Sequence[Outcome],
    target: tuple[EvaluationSettings, str, int, str],
    ranks: Mapping[tuple[Any, ...], pl.DataFrame],
) -> Claim:
    """Test the method against the rival with the highest NDCG@10, with seeds averaged for each user.

    The pair is not tested if one of the two lacks a run, or has a run that the budget ended.
    """
    s, data, number, domain = target

    def mean(system: Row) -> float | None:
        values = [o["domains"].get(domain, {}).get("ndcg@10") for o in outcomes if o["label"] == system.label]
        real = [value for value in values if value is not None]
        return statistics.fmean(real) if real else None

    scored = {system.label: value for system in rivals if (value := mean(system)) is not None}
    only = rivals[0].label if len(rivals) == 1 else None
    best = max(scored, key=lambda label: scored[label], default=only)
    claim: Claim = {
        "protocol": s.protocol,
        "negatives": None if s.protocol == "full" else s.negatives,
        "data": data,
        "domain": domain,
        "method": row.label,
        "rival": best,
        "method_ndcg": mean(row),
        "rival_ndcg": None if best is None else scored.get(best),
        **dict.fromkeys(("difference", "low", "high", "p", "p_holm", "users"), None),  # type: ignore[typeddict-item]
        "verdict": "not tested",
    }
    pair = [system for system in (*rivals, row) if system.label in (best, row.label)]
    for system in pair:
        if any(o["cut"] for o in outcomes if o["label"] == system.label):
            claim["verdict"] = f"no claim: the budget ended {system.label}"
            return claim
        if any((s.protocol, data, system.label, seed) not in ranks for seed in system.seeds):
            claim["verdict"] = f"no claim: {system.label} is not there"
            return claim
    if best is None:
        claim["verdict"] = "no claim: there is no rival"
        return claim
    sides = [
        ndcg_by_user([ranks[s.protocol, data, system.label, seed] for seed in system.seeds], number)
        for system in pair
    ]  # rivals come first in `pair`
    (rival_users, rival), (method_users, method) = sides
    if not rival_users.equals(method_users):
        raise ValueError(f"{best} and {row.label} ranked different targets on {data}: they cannot be compared")
    d = paired_bootstrap(rival, method)
    return {
        **claim,
        "difference": d.mean,
        "low": d.low,
        "high": d.high,
        "p": paired_t(rival, method),
        "users": d.users,
    }


def ndcg_by_user(frames: Sequence[pl.DataFrame], domain: int) -> tuple[pl.DataFrame, np.ndarray]:
    """Return the targets of a domain, and NDCG@10 of each user as the mean over runs with different seeds."""
    in_domain = [frame.filter(pl.col("domain") == domain) for frame in frames]
    targets = in_domain[0].drop("rank")
    if not all(frame.drop("rank").equals(targets) for frame in in_domain):
        raise ValueError("runs of one system ranked different targets")
    return targets, np.mean([ndcg_of(frame["rank"].to_numpy()) for frame in in_domain], axis=0)
