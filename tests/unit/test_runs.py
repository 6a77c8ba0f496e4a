"""How runs are told apart in a table."""

import pytest

from edt_cli.config import load_settings
from edt_cli.runs import Run, labelled


@pytest.fixture
def runs(tmp_path):
    """Two of ABXI that differ in an option, which the older of them was made without."""
    newer = load_settings("abxi", flags={"options": {"positions": "newest"}}).document()
    older = {**newer, "options": {name: value for name, value in newer["options"].items() if name != "positions"}}
    return [Run(tmp_path / name, {"settings": one}) for name, one in (("newer", newer), ("older", older))]


def document(run: Run) -> dict:
    return {"run": run.name, "data": "d", "model": "abxi", "variant": "", "seed": 42, "first_phase": False}


def test_a_run_of_before_a_setting_was_there_stands_beside_one_that_has_it(runs):
    labels = [one["label"] for one in labelled([document(run) for run in runs], runs)]
    assert labels == ["ABXI (positions=newest)", "ABXI"]
