"""What a pilot calibrated is its own: a run on all users is the same with a pilot before it and without."""

from __future__ import annotations

import pytest
from toy import random_dataset

from edt_cli.config import Settings
from edt_cli.pipeline import Pipeline
from edt_cli.reporting.stage_summary import summary_lines
from edt_cli.workspace.layout import Workspace

pytestmark = pytest.mark.e2e


def test_a_whole_run_after_a_pilot_is_the_whole_run_without_one(tmp_path):
    dataset = random_dataset()

    def augmented(folder, limit):
        settings = Settings().changed(llm={"limit_users": limit}, augmentation={"tau": "q0.50"})
        return Pipeline(Workspace(tmp_path / folder), dataset, settings).augmentation()

    pilot, after, alone = augmented("one", 3), augmented("one", None), augmented("two", None)
    assert after.summary["tau"] == alone.summary["tau"]
    assert (
        after.generated.equals(alone.generated) and after.sequences.items.tolist() == alone.sequences.items.tolist()
    )
    assert any(
        kinds[kind] != after.summary["tau"][domain][kind]
        for domain, kinds in pilot.summary["tau"].items()
        for kind in kinds
    )
    told = dict(summary_lines(pilot.summary))["tau"]
    assert told == "calibrated on these 3 users; a run on others calibrates its own"
    assert "tau" not in dict(summary_lines(after.summary))
