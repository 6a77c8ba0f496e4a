"""Tests of the paper's claims, on the runs that there are of the plans that they rest on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from edt_cli.evaluation.significance import holm
from edt_cli.experiments.compare import Comparison
from edt_cli.experiments.contrasts import Place, compare_rows
from edt_cli.experiments.plan_rows import Reader
from edt_cli.experiments.plan_tests import LEVEL
from edt_cli.paper.claims import CLAIMS, LIMITS, Claim
from edt_cli.reporting.claims import ClaimResult, ContrastResult, Verdict
from edt_cli.workspace.events import Events

if TYPE_CHECKING:
    from edt_cli.data.dataset import Dataset

PLANS = tuple(dict.fromkeys(contrast.plan for claim in CLAIMS for contrast in claim.contrasts))
"""Names of the plans whose runs test the claims."""


def claim_results(
    plans: Mapping[str, Comparison], data: str, device: str | None = "cpu", events: Events | None = None
) -> list[ClaimResult]:
    """Test every claim on the finished runs of a dataset.

    Args:
        plans: Plans by name (PLANS), opened for the dataset; one whose LLM cannot be asked may be missing.
        data: Name of the dataset.
        device: Name of the device to rank on, where a run is not evaluated yet; None to leave such runs out.
        events: Where progress is reported.

    Returns:
        A result for each claim and domain, with p-values corrected for all of them together.
    """
    reader = Reader(plans, data, device, events)
    results = [
        _result(
            claim,
            data,
            place.text(reader.dataset),
            [compare_rows(reader, contrast, place, needs_llm=claim.needs_llm) for contrast in claim.contrasts],
        )
        for claim in CLAIMS
        for place in _places(claim, reader.dataset)
    ]
    judge(results)
    return results


def _result(claim: Claim, data: str, domain: str, contrasts: list[ContrastResult]) -> ClaimResult:
    """Return a claim's result before it is judged: what lacks something decides, else the weakest comparison."""
    deciding = max(contrasts, key=lambda contrast: (contrast["problem"] is not None, _or_one(contrast["p"])))
    verdict: Verdict = deciding["problem"] or "too close to say"
    ratio = deciding["difference"]
    if deciding["problem"] is None and deciding["kind"] in LIMITS and ratio is not None:
        verdict = "confirmed" if ratio <= LIMITS[deciding["kind"]] else "refuted"
    return {
        "claim": claim.number,
        "text": claim.text,
        "where": claim.where,
        "data": data,
        "domain": domain,
        "deciding": deciding,
        "contrasts": contrasts,
        "p_holm": None,
        "verdict": verdict,
    }


def judge(results: Sequence[ClaimResult]) -> None:
    """Fill in corrected p-values and verdicts.

    A claim needs each of its comparisons, so the largest of their p-values is its own; one comparison that shows
    the contrary refutes it, so the smallest of those p-values counts, times their number. Both are corrected by
    Holm for all claims and domains, among them those that cannot be tested yet.
    """
    family = [result for result in results if result["deciding"]["kind"] not in LIMITS]
    for_it = holm([_p_for(result["contrasts"]) for result in family])
    against = holm([_p_against(result["contrasts"]) for result in family])
    for result, p, contrary in zip(family, for_it, against, strict=True):
        if result["deciding"]["problem"] is not None:
            continue
        result["p_holm"] = p
        strongest = min(result["contrasts"], key=lambda contrast: _or_one(contrast["p_against"]))
        if p < LEVEL and all(_shows(contrast) for contrast in result["contrasts"]):
            result["verdict"] = "confirmed"
        elif contrary < LEVEL and _denies(strongest):
            result["verdict"], result["deciding"] = "refuted", strongest


def _or_one(p: float | None) -> float:
    return 1.0 if p is None else p


def _p_for(contrasts: Sequence[ContrastResult]) -> float:
    return max(1.0 if contrast["problem"] else _or_one(contrast["p"]) for contrast in contrasts)


def _p_against(contrasts: Sequence[ContrastResult]) -> float:
    if any(contrast["problem"] for contrast in contrasts):
        return 1.0
    return min(1.0, len(contrasts) * min(_or_one(contrast["p_against"]) for contrast in contrasts))


def _shows(contrast: ContrastResult) -> bool:
    """Return whether the interval shows what the comparison is to show."""
    low, high, margin = contrast["low"], contrast["high"], contrast["margin"]
    assert low is not None and high is not None
    return low > 0 if margin is None else -margin < low and high < margin


def _denies(contrast: ContrastResult) -> bool:
    """Return whether the interval shows the contrary."""
    low, high, margin = contrast["low"], contrast["high"], contrast["margin"]
    assert low is not None and high is not None
    return high < 0 if margin is None else high < -margin or low > margin


def _places(claim: Claim, dataset: Dataset) -> Iterator[Place]:
    """Yield the users for whom a claim is tested."""
    domains, first = range(len(dataset.domains)), claim.contrasts[0]
    if first.kind in LIMITS:
        yield Place(None)
    elif first.among == "minor domain":
        counts = dataset.training_view().prefixes.domain_counts(dataset.domains).sum(0)
        yield Place(int(counts.argmin()), beside=int(counts.argmax()))
    elif first.among == "given items":
        yield from (Place(domain, given=given) for given in domains for domain in domains)
    else:
        yield from (Place(domain) for domain in domains)
