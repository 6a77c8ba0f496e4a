"""A system that is handed generated items gets them as they are, and rows as they happened."""

import numpy as np
import pytest
from toy import random_dataset

from edt_cli.config import load_settings
from edt_cli.pipeline import Pipeline
from edt_cli.workspace.events import Events
from edt_cli.workspace.layout import Workspace

pytestmark = pytest.mark.e2e


def test_generated_items_are_handed_over_beside_rows_as_they_happened(tmp_path):
    settings = load_settings("llmcdsr", flags={"training": {"epochs": 1}})
    pipeline = Pipeline(Workspace(tmp_path), random_dataset(), settings, Events())
    material, made = pipeline.material(), pipeline.augmentation()
    assert material.sequences is pipeline.view.prefixes
    assert len(material.table.domain_of) == material.table.catalogue + 1
    handed = material.generated
    assert handed is not None
    vectors = made.vectors(pipeline.embeddings())
    for user, domain, items in zip(handed.users, handed.domains, handed.items, strict=True):
        own = made.generated.filter(kept=True, user=user.item(), target=domain.item())
        found = handed.vectors[items[items > 0]].numpy()
        np.testing.assert_array_equal(found, vectors[own["item"].to_numpy()])
    assert (handed.items > 0).sum().item() == made.generated["kept"].sum()
    run = pipeline.run()
    assert set(run.manifest()["phases"]) == {"preparation", "pre-training"}


def test_without_augmentation_nothing_is_handed_over(tmp_path):
    settings = load_settings("llmcdsr", flags={"augmentation": {"enabled": False}})
    material = Pipeline(Workspace(tmp_path), random_dataset(), settings, Events()).material()
    assert material.generated is None
