"""Statistics of a dataset for table 1, before augmentation and after it."""

from __future__ import annotations

import numpy as np

from edt_cli.augmentation.artefact import Augmentation
from edt_cli.data.dataset import Dataset
from edt_cli.data.open import is_synthetic
from edt_cli.inference.labels import identity
from edt_cli.models.systems import OURS
from edt_cli.workspace.documents import DomainStatistics, PairStatistics, Statistics
from edt_cli.workspace.layout import Workspace
from edt_cli.workspace.runs import Run, all_runs

WHOLE = {"filter": True, "insertion": "similar", "injected": 1.0, "min_r": 0.0}
"""Settings of an augmentation that no table of the paper takes a part out of."""


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


def newest_augmentation(workspace: Workspace, dataset: Dataset) -> tuple[Augmentation | None, str]:
    """Return the augmentation of the newest whole run of LLM-EDT on a dataset, and the name of its LLM.

    Without such a run it is the newest whole augmentation that was made alone; (None, "") if there is none.
    """
    runs = [run for run in all_runs(workspace) if run.plan["data_key"] == dataset.key and _augments(run)]
    if runs:
        plan = runs[-1].plan
        artefact = workspace.artefact("augmentation", plan["artefacts"]["augmentation"])
        return Augmentation.load(artefact.path), plan["llm"]
    made = workspace.all_artefacts()
    vectors = {one.key for one in made if one.kind == "embeddings" and one.manifest().get("dataset") == dataset.key}
    alone = [(one, one.manifest()) for one in made if one.kind == "augmentation"]
    whole = [
        (manifest["made"], one, manifest["llm"])
        for one, manifest in alone
        if manifest["inputs"]["embeddings"] in vectors
        and WHOLE.items() <= {**WHOLE, **manifest["settings"]}.items()
    ]
    if not whole:
        return None, ""
    _, newest, llm = max(whole, key=lambda entry: entry[0])
    return Augmentation.load(newest.path), llm


def _augments(run: Run) -> bool:
    """Return whether a finished run is of the whole of LLM-EDT, with the augmenter."""
    s = run.settings
    return run.finished and s.model.name == OURS and s.augmentation.enabled and not identity(run)["variant"]
