"""What a pilot calibrated is used again for the rest, across commands."""

from __future__ import annotations

import pytest
from toy import random_dataset

from edt_cli.config import Settings
from edt_cli.pipeline import Pipeline
from edt_cli.workspace.layout import Workspace

pytestmark = pytest.mark.e2e


def test_a_pilots_values_of_tau_are_kept_and_added_to(tmp_path):
    dataset = random_dataset()

    def taus(limit):
        settings = Settings().changed(llm={"limit_users": limit})
        found = Pipeline(Workspace(tmp_path), dataset, settings).augmentation().summary["tau"]
        return {(domain, kind): tau for domain, kinds in found.items() for kind, tau in kinds.items()}

    pilot, rest = taus(3), taus(None)
    assert pilot and pilot.items() < rest.items()
    assert rest.items() >= taus(10).items()
