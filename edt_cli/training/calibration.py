"""The weights of a memory's terms by validation.

Beside vectors that have learned their own targets, training undervalues what the memory says. Of queries that
nobody has learned from, a dozen weights can be told: logistic regression, and nothing else of the model moves.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from edt_cli.evaluation.candidates import chunks, draw_candidates
from edt_cli.evaluation.queries import EvalQueries
from edt_cli.models.scorers import SideScored

NEGATIVES = 999
ROWS = 256


def calibrated(scorer: SideScored, asked: EvalQueries, seed: int) -> Tensor:
    """[D, F], to be put in the place of `scorer.side.side_score.weight`.

    For each domain the w / a that minimise the mean of -log softmax(a <u, v> + sum_f w_f term_f(v)) at the targets
    of `asked`, against NEGATIVES uniform candidates each, + |(a, w) - (1, w0)|^2 / n for n queries: few of them
    say little against what training found, w0. A domain without queries keeps w0, and so does one where the
    inner product would count for nothing (a <= 0).
    """
    weights = scorer.side.side_score.weight.detach().clone()
    drawn = torch.from_numpy(draw_candidates(asked, NEGATIVES, seed)).long()
    for domain in range(len(weights)):
        rows = np.flatnonzero(asked.targets.domains == domain)
        if len(rows):
            parts = [_terms(scorer, asked, drawn, part, domain) for part in chunks(rows, ROWS)]
            found = _regression(torch.cat(parts), weights[domain])
            weights[domain] = found[1:] / found[0] if found[0] > 0 else weights[domain]
    return weights


def _terms(scorer: SideScored, asked: EvalQueries, drawn: Tensor, rows: np.ndarray, domain: int) -> Tensor:
    """float32 [n, 1 + NEGATIVES, 1 + F]: inner product and terms of each query's target and its candidates,
    NaN where there are fewer."""
    at = torch.from_numpy(rows)
    target = torch.from_numpy(asked.target_columns[rows])[:, None]
    inner = scorer.vectors.scores(at, domain)
    columns = torch.cat([target, drawn[rows]], 1).to(inner.device)
    with torch.no_grad():
        side = scorer.side[at.to(scorer.side.context.device)]
        terms = side.side_score.terms(side.context, domain)
        found = [one.expand_as(inner).gather(1, columns.clamp_min(0)) for one in (inner, *terms)]
    return torch.stack(found, -1).masked_fill((columns < 0).unsqueeze(-1), float("nan"))


def _regression(terms: Tensor, weights: Tensor) -> Tensor:
    """[1 + F]: (a, w) from terms [n, K, 1 + F], of which the first of K is the target's."""
    start = torch.cat([weights.new_ones(1), weights])
    none = terms[..., 0].isnan()
    terms = terms.nan_to_num()
    found = start.clone().requires_grad_()
    search = torch.optim.LBFGS([found], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        search.zero_grad()
        scores = (terms @ found).masked_fill(none, float("-inf"))
        value = (scores.logsumexp(1) - scores[:, 0]).mean() + (found - start).square().sum() / len(terms)
        value.backward()
        return value

    search.step(loss)
    return found.detach()
