"""Statistics of a dataset for table 1, before augmentation and after it."""

from __future__ import annotations

import numpy as np

from edt_cli.augmentation.artefact import Augmentation
from edt_cli.data.dataset import Dataset
from edt_cli.data.open import is_synthetic
from edt_cli.workspace.documents import DomainStatistics, PairStatistics, Statistics
from edt_cli.workspace.layout import Workspace


def statistics(
    workspace: Workspace, dataset: Dataset, augmentation: Augmentation | None = None, llm: str = ""
) -> Statistics:
    """Return the figures of table 1 for a dataset: before augmentation and, if there is one, after it by an LLM."""
    counts = dataset.sequences.domain_counts(dataset.domains)
    domains: dict[str, DomainStatistics] = {
        name: {"users": int((counts[:, number] > 0).sum()), "items": len(dataset.domains.range(number))}
        for number, name in enumerate(dataset.domains.names)
    }
    length = float(dataset.sequences.lengths.mean())
    before: PairStatistics = {"domains": domains, "average_length": length}
    synthetic = is_synthetic(workspace, dataset.name)
    document: Statistics = {
        "data": dataset.name,
        "synthetic": synthetic,
        "quick": bool(dataset.sample_of),
        "llm": llm,
        "before": before,
        "after": None,
    }
    if augmentation is None:
        return document
    pseudo = np.bincount(augmentation.pseudo["domain"].to_numpy(), minlength=len(dataset.domains))
    after: PairStatistics = {
        "domains": {
            name: {"users": figures["users"], "items": figures["items"] + int(pseudo[number])}
            for number, (name, figures) in enumerate(domains.items())
        },
        "average_length": length + float(augmentation.inserted.sum()) / len(dataset.sequences),
    }
    return {**document, "after": after}
