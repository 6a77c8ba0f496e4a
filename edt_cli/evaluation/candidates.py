"""Negatives of the sampled protocol.

They are drawn once per dataset and data seed, so that all models rank the same candidates.
"""

from __future__ import annotations

import numpy as np
import torch
from safetensors.numpy import load_file, save_file

from edt_cli.config import Split
from edt_cli.data.dataset import Dataset
from edt_cli.evaluation.queries import EvalQueries, eval_queries
from edt_cli.workspace.layout import Workspace, digest

CHUNK = 1024


def draw_candidates(queries: EvalQueries, negatives: int, seed: int) -> np.ndarray:
    """Draw negatives for each query, uniformly and without replacement.

    The target is never drawn, nor an item of the history. With `queries.keep_seen`, items of the history are drawn
    like all others; otherwise a target that is a repeat would be the only candidate that the user has seen.

    Returns:
        int32 [n, negatives]: columns of the target's domain, -1 where the domain has too few items.
    """
    generator = torch.Generator().manual_seed(seed)
    out = np.full((len(queries), negatives), -1, dtype=np.int32)
    for domain in range(len(queries.domains)):
        size = len(queries.domains.range(domain))
        for rows in chunks(np.flatnonzero(queries.targets.domains == domain), CHUNK):
            chance = torch.rand(len(rows), size, generator=generator)
            chance[queries.excluded(rows, domain)] = -1.0
            chance[torch.arange(len(rows)), torch.from_numpy(queries.target_columns[rows])] = -1.0
            best, columns = chance.topk(min(negatives, size), dim=1)
            out[rows, : columns.shape[1]] = torch.where(best >= 0, columns, -1).numpy()
    return out


def candidates(
    workspace: Workspace, dataset: Dataset, split: Split, negatives: int, *, keep_seen: bool = False
) -> np.ndarray:
    """Return the result of `draw_candidates` for a split, stored in the workspace at the first call."""
    seed = int(digest(dataset.settings.seed, split, negatives)[:12], 16)
    key = digest(dataset.key, split, negatives, *(["seen among them"] if keep_seen else []))
    artefact = workspace.artefact("candidates", key)
    if not artefact.complete:
        made_of = {"dataset": dataset.key, "split": split, "negatives": negatives, "keep_seen": keep_seen}
        with artefact.create(**made_of) as (folder, _):
            prefixes = dataset.training_view().prefixes
            columns = draw_candidates(eval_queries(dataset, split, prefixes, keep_seen=keep_seen), negatives, seed)
            save_file({"columns": columns}, folder / "columns.safetensors")
    return load_file(artefact.path / "columns.safetensors")["columns"]


def chunks(rows: np.ndarray, size: int) -> list[np.ndarray]:
    """Cut `rows` into pieces of at most `size`."""
    return [rows[start : start + size] for start in range(0, len(rows), size)]
