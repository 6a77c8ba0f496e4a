"""Augmentations that are there: those of the newest runs, and those that were made alone."""

from __future__ import annotations

from edt_cli.augmentation.artefact import Augmentation
from edt_cli.data.dataset import Dataset
from edt_cli.inference.labels import identity
from edt_cli.llm.embeddings import ItemEmbeddings
from edt_cli.models.systems import OURS
from edt_cli.pipeline.stage_keys import OFF
from edt_cli.workspace.layout import Workspace
from edt_cli.workspace.runs import Run, all_runs

WHOLE = {"filter": True, "insertion": "similar", "injected": 1.0, "min_r": 0.0}
"""Settings of an augmentation that no table of the paper takes a part out of."""


def augmenting_run(workspace: Workspace, dataset: Dataset, model: str) -> Run | None:
    """Return the newest finished run of a system with generated items and no ablation; None if there is none."""
    for run in reversed(all_runs(workspace)):
        of_data = run.plan["data"] == dataset.name and run.dataset_key == dataset.key and run.finished
        augments = run.plan["artefacts"].get("augmentation", OFF) != OFF
        if of_data and augments and run.settings.model.name == model and not identity(run)["variant"]:
            return run
    return None


def augmentation_of(workspace: Workspace, run: Run) -> Augmentation:
    """Load the augmentation that a run was trained on."""
    return Augmentation.load(workspace.artefact("augmentation", run.plan["artefacts"]["augmentation"]).path)


def embeddings_of(workspace: Workspace, run: Run, dataset: Dataset) -> ItemEmbeddings:
    """Load the vectors of items that a run read: those of the dataset, or those that it was augmented with."""
    if dataset.vectors is not None:
        return ItemEmbeddings.load(dataset.vectors.folder)
    return ItemEmbeddings.load(workspace.artefact("embeddings", run.plan["artefacts"]["embeddings"]).path)


def newest_augmentation(workspace: Workspace, dataset: Dataset) -> tuple[Augmentation | None, str]:
    """Return the augmentation of the newest whole run of LLM-EDT on a dataset, and the name of its LLM.

    Without such a run it is the newest whole augmentation that was made alone; (None, "") if there is none.
    """
    if (run := augmenting_run(workspace, dataset, OURS)) is not None:
        return augmentation_of(workspace, run), run.plan["llm"]
    made = [(artefact, artefact.manifest()) for artefact in workspace.all_artefacts()]
    vectors = {
        artefact.key
        for artefact, manifest in made
        if artefact.kind == "embeddings" and manifest.get("dataset") == dataset.key
    }
    whole = [
        (manifest["made"], artefact, manifest["llm"])
        for artefact, manifest in made
        if artefact.kind == "augmentation"
        and manifest["inputs"]["embeddings"] in vectors
        and WHOLE.items() <= {**WHOLE, **manifest["settings"]}.items()
    ]
    if not whole:
        return None, ""
    _, newest, llm = max(whole, key=lambda entry: entry[0])
    return Augmentation.load(newest.path), llm
