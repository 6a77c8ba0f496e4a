"""Comparisons of two rows of plans, for groups of users, on the runs that there are."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edt_cli.evaluation.significance import (
    Difference,
    Pair,
    equivalence,
    gains_bootstrap,
    gains_t,
    nonequivalence,
    paired_bootstrap,
    paired_t,
    relative_gain,
)
from edt_cli.experiments.llms import LOCAL
from edt_cli.experiments.plan_rows import Ranked, Reader, Row
from edt_cli.experiments.plan_tests import ndcg_by_user
from edt_cli.inference.latency import latency
from edt_cli.paper.claims import LIMITS, MARGIN, SHORT, Contrast
from edt_cli.pipeline.stage_keys import OFF
from edt_cli.reporting.claims import ContrastResult, printed_gain

if TYPE_CHECKING:
    from edt_cli.data.dataset import Dataset
    from edt_cli.pipeline import Pipeline

FEWEST_HITS = 30
"""Fewest users of a group with a target among the first ten, for a relative gain of that group."""


class Place(NamedTuple):
    """Users for whom a claim is tested: those with a target in a domain.

    Attributes:
        domain: Number of the domain of their targets; None for a comparison of costs.
        given: Number of the domain that they were given items of, if only such users count.
        beside: Number of the domain that the domain is held against, for a difference of gains.
    """

    domain: int | None
    given: int | None = None
    beside: int | None = None

    def text(self, dataset: Dataset) -> str:
        """Return its name in tables."""
        names = dataset.domains.names
        if self.domain is None:
            return "all"
        if self.beside is not None:
            return f"{names[self.domain]} beside {names[self.beside]}"
        return names[self.domain] + (f", given items of {names[self.given]}" if self.given is not None else "")


def compare_rows(reader: Reader, contrast: Contrast, place: Place, *, needs_llm: bool) -> ContrastResult:
    """Test a comparison for the users of a place.

    Args:
        reader: The runs.
        contrast: The comparison.
        place: The users.
        needs_llm: Whether runs with `local` cannot show it.
    """
    method = reader.row(contrast.plan, contrast.method)
    other = reader.row(contrast.plan, contrast.other)
    result = _untested(contrast, method, other)
    result["command"] = reader.command(contrast.plan, llm=needs_llm)
    result["missing_seeds"] = reader.wanted(contrast.plan).seeds
    if method is None or other is None or (needs_llm and LOCAL in (method.llm, other.llm)):
        result["problem"] = "not testable with local"
        return result
    seeds = [seed for seed in method.seeds if seed in method.runs and seed in other.runs]
    result["seeds"], result["missing_seeds"] = seeds, [seed for seed in method.seeds if seed not in seeds]
    if not seeds:
        result["problem"] = "no run yet"
    elif contrast.kind in LIMITS:
        _compare_costs(result, method, other, reader.device)
    else:
        sampled = needs_llm and method.pipeline.settings.llm.limit_users is not None
        result["comparison"] += ", users who were asked about" * sampled
        groups = _groups(reader.dataset, contrast, place, method, sampled=sampled)
        if contrast.kind == "larger gain":
            _compare_gains(result, [_values(method, other, seeds, *group) for group in groups])
        else:
            _compare_means(result, _values(method, other, seeds, *groups[0]))
        if result["users"]:
            if any(row.runs[seed].outcome["cut"] for row in (method, other) for seed in seeds):
                result["problem"] = "a limit ended a run"
            elif len(seeds) < 2:
                result["problem"] = "one seed only"
    return result


def _untested(contrast: Contrast, method: Row | None, other: Row | None) -> ContrastResult:
    """Return a comparison without figures."""
    first = "LLM-EDT" if contrast.method is None else _name(contrast.method, method)
    second = _name(contrast.other, other)
    texts = {
        "above": f"{first} over {second}",
        "same": f"{second} beside {first}",
        "larger gain": f"gain over {second}",
        "parameters": f"parameters beside {second}",
        "milliseconds": f"milliseconds a user beside {second}",
    }
    gain = ""
    if contrast.printed is not None:
        table, gaining, beside, group = contrast.printed
        # Of two rows that are to be the same, the second is held against the first.
        rows = (beside, gaining) if contrast.kind == "same" else (gaining, beside)
        gain = printed_gain(table, *rows, group)
    return {
        "comparison": texts[contrast.kind] + (f", under {SHORT} interactions" if contrast.among == "short" else ""),
        "kind": contrast.kind,
        "plan": contrast.plan,
        "method": first if method is None else method.label,
        "other": second,
        "seeds": [],
        "missing_seeds": [],
        "paper": gain,
        "problem": None,
        "command": "",
        "method_value": None,
        "other_value": None,
        "difference": None,
        "low": None,
        "high": None,
        "margin": None,
        "p": None,
        "p_against": None,
        "users": None,
    }


def _name(name: str | int, row: Row | None) -> str:
    """Return the label of a row, or what it would be about if it is not there: an LLM that cannot be asked."""
    if row is not None:
        return row.label
    return name if isinstance(name, str) else ("one LLM" if name == 0 else "another")


Group = tuple[int, NDArray[np.bool_] | None]
"""Domain of the targets, and whether each user of the dataset counts [U]; None for all of them."""


def _groups(dataset: Dataset, contrast: Contrast, place: Place, method: Row, *, sampled: bool) -> tuple[Group, ...]:
    """Return whose NDCG@10 is compared: one group, or two whose gains are compared.

    Args:
        dataset: The dataset.
        contrast: The comparison.
        place: Users for whom it is tested.
        method: First row of the comparison.
        sampled: Whether the LLM was asked about a sample of the users, who alone count.
    """
    assert place.domain is not None
    if place.beside is not None:
        return (place.domain, None), (place.beside, None)
    if contrast.among == "given items":
        return ((place.domain, _given_items(method.pipeline, place.given)),)
    if contrast.among == "short":
        short = dataset.sequences.lengths < SHORT
        both = (place.domain, short), (place.domain, ~short)
        return both if contrast.kind == "larger gain" else both[:1]
    if sampled:
        return ((place.domain, _profiled(method.pipeline)),)
    return ((place.domain, None),)


def _given_items(pipeline: Pipeline, domain: int | None) -> NDArray[np.bool_]:
    """Return which users the augmenter gave items of a domain: bool [U]; no user if there is no augmentation."""
    given = np.zeros(len(pipeline.dataset.sequences), dtype=bool)
    if pipeline.augmentation_key != OFF and pipeline.made("augmentation"):
        made = pipeline.augmentation()
        of_domain = made.domain_of(pipeline.dataset.domains)[made.sequences.items] == domain
        given[made.sequences.users[made.inserted & of_domain]] = True
    return given


def _profiled(pipeline: Pipeline) -> NDArray[np.bool_]:
    """Return which users have a profile: bool [U]; none where they are not made, as nobody is asked here."""
    if pipeline.profiles_key != OFF and pipeline.made("profiles"):
        return pipeline.profiles().has_profile
    return np.zeros(len(pipeline.dataset.sequences), dtype=bool)


def _values(method: Row, other: Row, seeds: Sequence[int], domain: int, counted: NDArray[np.bool_] | None) -> Pair:
    """Return the NDCG@10 of each user of a group under the other row and under the method, a mean over seeds."""
    sides = []
    for row in (other, method):
        frames = [row.runs[seed].ranks for seed in seeds]
        if counted is not None:
            frames = [frame.filter(counted[frame["user"].to_numpy()]) for frame in frames]
        sides.append(ndcg_by_user(frames, domain))
    (users, theirs), (same_users, ours) = sides
    if not users.equals(same_users):
        raise ValueError(f"{other.label} and {method.label} ranked different targets: they cannot be compared")
    return theirs, ours


def _compare_means(result: ContrastResult, pair: Pair) -> None:
    """Fill in the comparison of two means: whether the first row is better, or the second within MARGIN of it."""
    theirs, ours = pair
    if len(ours) < 2:
        result["problem"] = "too few such users"
        return
    result["method_value"], result["other_value"] = float(ours.mean()), float(theirs.mean())
    if result["kind"] == "same":
        _fill(result, paired_bootstrap(ours, theirs))
        result["margin"] = MARGIN * float(ours.mean())
        result["p"] = equivalence(ours, theirs, MARGIN)
        result["p_against"] = nonequivalence(ours, theirs, MARGIN)
    else:
        _fill(result, paired_bootstrap(theirs, ours))
        result["p"] = paired_t(theirs, ours)
        result["p_against"] = paired_t(ours, theirs)


def _compare_gains(result: ContrastResult, pairs: Sequence[Pair]) -> None:
    """Fill in by how much the first group of users gains more than the second."""
    if any((theirs > 0).sum() < FEWEST_HITS for theirs, _ in pairs):
        result["problem"] = "too few such users"
        return
    group, rest = pairs
    result["method_value"], result["other_value"] = relative_gain(group), relative_gain(rest)
    _fill(result, gains_bootstrap(group, rest))
    p = gains_t(group, rest)
    result["p"], result["p_against"] = p, 1.0 - p


def _fill(result: ContrastResult, d: Difference) -> None:
    result["difference"], result["low"], result["high"], result["users"] = d.mean, d.low, d.high, d.users


def _compare_costs(result: ContrastResult, method: Row, other: Row, device: str | None) -> None:
    """Fill in how many times as much the first row takes, in the median run.

    Args:
        result: The comparison.
        method: Its first row.
        other: Its second row.
        device: Name of the device to measure time on; None to measure none.
    """
    if result["kind"] == "milliseconds" and device is None:
        result["problem"] = "not measured yet"
        return

    def cost(ranked: Ranked) -> float:
        if result["kind"] == "parameters":
            return ranked.outcome["parameters"] or 0
        measured = latency(method.pipeline.workspace, ranked.run, device or "cpu")
        return 1000 * measured["seconds"] / measured["users"]

    ours, theirs = (statistics.median(cost(row.runs[seed]) for seed in result["seeds"]) for row in (method, other))
    result["method_value"], result["other_value"] = ours, theirs
    result["difference"], result["high"] = ours / theirs, LIMITS[result["kind"]]
