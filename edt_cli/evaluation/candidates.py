"""The sampled protocol's negatives, drawn once for a dataset and a data seed, so that all models rank the same."""

from __future__ import annotations

import numpy as np
import torch
from safetensors.numpy import load_file, save_file

from edt_cli.data.dataset import Dataset, Split
from edt_cli.evaluation.queries import EvalQueries, eval_queries
from edt_cli.workspace.layout import Workspace, digest

CHUNK = 1024


def draw_candidates(asked: EvalQueries, negatives: int, seed: int) -> np.ndarray:
    """int32 [n, negatives]: columns of the target's domain, uniform, without replacement, none that is the target
    or in the history. -1 where the domain has too few.

    With `asked.keep_seen` those in the history are drawn like all others: a target that is a repeat would else be
    told from its negatives by that alone.
    """
    generator = torch.Generator().manual_seed(seed)
    out = np.full((len(asked), negatives), -1, dtype=np.int32)
    for domain in range(len(asked.domains)):
        size = len(asked.domains.range(domain))
        for rows in chunks(np.flatnonzero(asked.targets.domains == domain), CHUNK):
            chance = torch.rand(len(rows), size, generator=generator)
            chance[asked.excluded(rows, domain)] = -1.0
            chance[torch.arange(len(rows)), torch.from_numpy(asked.target_columns[rows])] = -1.0
            best, columns = chance.topk(min(negatives, size), dim=1)
            out[rows, : columns.shape[1]] = torch.where(best >= 0, columns, -1).numpy()
    return out


def candidates(
    workspace: Workspace, dataset: Dataset, split: Split, negatives: int, *, keep_seen: bool = False
) -> np.ndarray:
    """`draw_candidates` of a split, kept in the workspace."""
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
    return [rows[start : start + size] for start in range(0, len(rows), size)]
