"""Fitting the weights of a side score's terms on the validation set.

Training undervalues the memory, because item vectors have already learned their training targets. On queries that
were not trained on, a dozen weights can be fitted by logistic regression; nothing else of the model changes.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from edt_cli.evaluation.candidates import chunks, draw_candidates
from edt_cli.evaluation.queries import EvalQueries
from edt_cli.models.scorers import SideScored

NEGATIVES = 999
"""Candidates drawn for each query."""
ROWS = 256
"""Queries scored at once."""


def calibrated(scorer: SideScored, queries: EvalQueries, seed: int) -> Tensor:
    """Fit the weights of a side score, [D, F], to replace `scorer.side.side_score.weight`.

    For each domain they are the w / a that minimise the mean of -log softmax(a <u, v> + sum_f w_f term_f(v)) at the
    targets of the n `queries`, against NEGATIVES uniform candidates each, + |(a, w) - (1, w0)|^2 / n. The penalty
    keeps the weights near those from training, w0, if there are few queries. A domain without queries keeps w0, and
    so does one where the inner product would not contribute (a <= 0).
    """
    weights = scorer.side.side_score.weight.detach().clone()
    drawn = torch.from_numpy(draw_candidates(queries, NEGATIVES, seed)).long()
    for domain in range(len(weights)):
        rows = np.flatnonzero(queries.targets.domains == domain)
        if len(rows):
            parts = [_terms(scorer, queries, drawn, part, domain) for part in chunks(rows, ROWS)]
            fitted = _regression(torch.cat(parts), weights[domain])
            weights[domain] = fitted[1:] / fitted[0] if fitted[0] > 0 else weights[domain]
    return weights


def _terms(scorer: SideScored, queries: EvalQueries, drawn: Tensor, rows: np.ndarray, domain: int) -> Tensor:
    """Return the inner product and the terms of each query's target and its candidates.

    Returns:
        Float32 [n, 1 + NEGATIVES, 1 + F]; the target comes first, and missing candidates are NaN.
    """
    at = torch.from_numpy(rows)
    target = torch.from_numpy(queries.target_columns[rows])[:, None]
    inner = scorer.vectors.scores(at, domain)
    columns = torch.cat([target, drawn[rows]], 1).to(inner.device)
    with torch.no_grad():
        side = scorer.side[at.to(scorer.side.context.device)]
        terms = side.side_score.terms(side.context, domain)
        values = [term.expand_as(inner).gather(1, columns.clamp_min(0)) for term in (inner, *terms)]
    return torch.stack(values, -1).masked_fill((columns < 0).unsqueeze(-1), float("nan"))


def _regression(terms: Tensor, weights: Tensor) -> Tensor:
    """Fit (a, w) [1 + F] to terms [n, K, 1 + F], whose first of K candidates is the target."""
    start = torch.cat([weights.new_ones(1), weights])
    missing = terms[..., 0].isnan()
    terms = terms.nan_to_num()
    fitted = start.clone().requires_grad_()
    optimizer = torch.optim.LBFGS([fitted], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        scores = (terms @ fitted).masked_fill(missing, float("-inf"))
        value = (scores.logsumexp(1) - scores[:, 0]).mean() + (fitted - start).square().sum() / len(terms)
        value.backward()
        return value

    optimizer.step(loss)
    return fitted.detach()
