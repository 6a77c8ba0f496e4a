"""Items that came after training: they get the text's part of their vectors, and nothing is trained again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import torch

from edt_cli.config import UserError
from edt_cli.data.dataset import TEXT_FIELDS, Sequences
from edt_cli.llm.embeddings import embed_texts, item_texts
from edt_cli.models.batch import ItemTable
from edt_cli.pipeline import Pipeline
from edt_cli.training.data import TrainingData
from edt_cli.workspace.event_types import Remark


def with_new_items(data: TrainingData, items: pl.DataFrame, pipeline: Pipeline) -> TrainingData:
    """Add items to the catalogue that a trained model ranks; those that it has already are passed over.

    Args:
        data: Data and artefacts of a run.
        items: item, domain (a name) and TEXT_FIELDS, one row per item.
        pipeline: That of the run; its embedder reads the texts, and its events say how many items are added.

    Raises:
        UserError: If the run's system reads no texts, a domain is unknown, or no new item has a text.
    """
    dataset = data.dataset
    if data.table.text is None:
        system = pipeline.settings.model.name
        raise UserError(f"{system} reads no texts, so that a new item has no vector without training")
    if dataset.vectors is not None:
        raise UserError(f"{dataset.name} came with item vectors, and new items have none of these: train again")
    numbers = [dataset.domains.number(name) for name in items["domain"]]
    items = items.with_columns(domain=pl.Series(numbers, dtype=pl.Int64))
    items = items.filter(pl.Series([dataset.item_number(name) is None for name in items["item"]], dtype=pl.Boolean))
    texts = pl.Series("text", item_texts(items), dtype=pl.String)
    added = items.with_columns(texts).filter(texts.is_not_null()).sort("domain", maintain_order=True)
    if added.is_empty() and len(items):
        raise UserError("none of the new items has a title, brand, category or description to make a vector from")
    counts = {
        "items added by their texts": len(added),
        "without text left out": len(items) - len(added),
        "in the catalogue already": len(numbers) - len(items),
    }
    message = ", ".join(f"{count:,} {what}" for what, count in counts.items() if count)
    pipeline.events.emit(Remark(message=message))
    if added.is_empty():
        return data
    vectors = embed_texts(added["text"].to_list(), pipeline.fitted_embedder(), pipeline.events)
    return extended(data, added.rename({"item": "id"}), vectors)


def extended(data: TrainingData, items: pl.DataFrame, vectors: np.ndarray) -> TrainingData:
    """Return the data with n further items, which nobody has interacted with; each domain ends with its new ones.

    A model of the result takes the weights of one of `data`, since only items of training have weights.

    Args:
        data: Data with text vectors.
        items: id, domain (a number, ascending) and TEXT_FIELDS.
        vectors: Float32 [n, d_L], their text vectors.
    """
    dataset, table = data.dataset, data.table
    assert table.text is not None
    old, domain_of_new = dataset.domains, np.array(items["domain"], dtype=np.int64)
    added = np.bincount(domain_of_new, minlength=len(old))
    starts = old.starts + np.concatenate([[0], np.cumsum(added)])
    domains = replace(old, starts=starts)
    total = len(table.domain_of) + len(items)
    # Items behind those of a domain, pseudo-items included, make room for its new ones.
    ends = np.repeat(old.starts[1:], added)
    is_new = np.zeros(total, dtype=bool)
    is_new[ends + np.arange(len(items))] = True
    number = np.flatnonzero(~is_new)
    """The number that each item has now, [1 + N + P]."""

    def moved(sequences: Sequences) -> Sequences:
        return replace(sequences, items=number[sequences.items])

    device = table.domain_of.device
    at, new = (torch.from_numpy(np.flatnonzero(mask)).to(device) for mask in (~is_new, is_new))

    def widened(values: torch.Tensor, of_new: torch.Tensor | None = None) -> torch.Tensor:
        out = values.new_zeros(total, *values.shape[1:])
        out[at] = values
        if of_new is not None:
            out[new] = of_new.to(out)
        return out

    fields = ("id", *TEXT_FIELDS)
    rows = pl.concat([dataset.catalogue.select(fields), items.select(fields)])
    order = np.empty(domains.items, dtype=np.int64)
    order[number[1 : old.items + 1] - 1] = np.arange(old.items)
    order[np.flatnonzero(is_new) - 1] = old.items + np.arange(len(items))
    catalogue = rows[order]
    return replace(
        data,
        dataset=replace(dataset, domains=domains, sequences=moved(dataset.sequences), catalogue=catalogue),
        view=replace(data.view, domains=domains, prefixes=moved(data.view.prefixes), catalogue=catalogue),
        sequences=moved(data.sequences),
        table=ItemTable(
            domains=domains,
            domain_of=widened(table.domain_of, torch.from_numpy(domain_of_new)),
            counts=widened(table.counts),
            text=widened(table.text, torch.from_numpy(vectors)),
            new=torch.from_numpy(is_new).to(device),
        ),
    )
