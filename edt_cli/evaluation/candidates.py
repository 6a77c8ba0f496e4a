"""Negatives of the protocols that sample.

They are drawn once per dataset, protocol and data seed, so that all models rank the same candidates.
"""

from __future__ import annotations

import numpy as np
import torch
from safetensors.numpy import load_file, save_file
from torch import Tensor

from edt_cli.config import Protocol, Split
from edt_cli.data.dataset import Dataset
from edt_cli.evaluation.queries import EvalQueries, eval_queries
from edt_cli.workspace.layout import Workspace, digest

CHUNK = 1024


def draw_candidates(
    queries: EvalQueries, negatives: int, seed: int, weights: np.ndarray | None = None
) -> np.ndarray:
    """Draw negatives for each query without replacement, uniformly or in proportion to weights.

    The target is never drawn, nor an item of the history. With `queries.keep_seen`, items of the history are drawn
    like all others; otherwise a target that is a repeat would be the only candidate that the user has seen.

    Args:
        queries: n queries.
        negatives: Number of negatives for each.
        seed: Random seed of the draw.
        weights: [1 + N], such as the popularity of items; one with 0 is never drawn.

    Returns:
        int32 [n, negatives]: columns of the target's domain, -1 where the domain has too few items.
    """
    generator = torch.Generator().manual_seed(seed)
    out = np.full((len(queries), negatives), -1, dtype=np.int32)
    for domain in range(len(queries.domains)):
        items = queries.domains.range(domain)
        of_items = None if weights is None else torch.from_numpy(weights[items.start : items.stop]).double()
        for rows in chunks(np.flatnonzero(queries.targets.domains == domain), CHUNK):
            chance = _chance(len(rows), len(items), of_items, generator)
            chance[queries.excluded(rows, domain)] = float("-inf")
            chance[torch.arange(len(rows)), torch.from_numpy(queries.target_columns[rows])] = float("-inf")
            best, columns = chance.topk(min(negatives, len(items)), dim=1)
            out[rows, : columns.shape[1]] = torch.where(best.isfinite(), columns, -1).numpy()
    return out


def _chance(rows: int, items: int, weights: Tensor | None, generator: torch.Generator) -> Tensor:
    """Return random numbers, [rows, items], whose largest in a row are a sample without replacement.

    With weights w they are log(u) / w (Efraimidis and Spirakis, "Weighted random sampling with a reservoir", 2006).
    """
    if weights is None:
        return torch.rand(rows, items, generator=generator)
    return torch.rand(rows, items, generator=generator, dtype=torch.float64).log_() / weights


def candidates(
    workspace: Workspace,
    dataset: Dataset,
    split: Split,
    negatives: int,
    *,
    keep_seen: bool = False,
    protocol: Protocol = "sampled",
) -> np.ndarray:
    """Return the result of `draw_candidates` for a split, stored in the workspace at the first call.

    Under the protocol `popular`, items are drawn in proportion to their interactions in training.
    """
    popular = ["popular"] if protocol == "popular" else []
    key = digest(dataset.key, split, negatives, *(["seen among them"] if keep_seen else []), *popular)
    artefact = workspace.artefact("candidates", key)
    if not artefact.complete:
        made_of = {"dataset": dataset.key, "split": split, "negatives": negatives, "keep_seen": keep_seen}
        with artefact.create(**made_of, protocol=protocol) as (folder, _):
            columns = draw_again(dataset, split, negatives, keep_seen=keep_seen, protocol=protocol)
            save_file({"columns": columns}, folder / "columns.safetensors")
    return load_file(artefact.path / "columns.safetensors")["columns"]


def draw_again(
    dataset: Dataset, split: Split, negatives: int, *, keep_seen: bool, protocol: Protocol
) -> np.ndarray:
    """Draw the candidates of a split, the same ones at each call."""
    popular = ["popular"] if protocol == "popular" else []
    seed = int(digest(dataset.settings.seed, split, negatives, *popular)[:12], 16)
    view = dataset.training_view()
    queries = eval_queries(dataset, split, view.prefixes, keep_seen=keep_seen)
    weights = view.popularity() if popular else None
    return draw_candidates(queries, negatives, seed, weights)


def chunks(rows: np.ndarray, size: int) -> list[np.ndarray]:
    """Cut `rows` into pieces of at most `size`."""
    return [rows[start : start + size] for start in range(0, len(rows), size)]
