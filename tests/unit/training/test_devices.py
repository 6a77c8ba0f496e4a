"""Training, ranking and going on elsewhere than on the CPU, without the hardware for it."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from test_training import data_of, settings_of, weights
from toy import KINDS, random_dataset

pretended = pytest.importorskip("pretended", reason="this torch knows no backend in Python", exc_type=ImportError)

from edt_cli.evaluation.ranking import rank  # noqa: E402
from edt_cli.inference.trained import load_trained  # noqa: E402
from edt_cli.models import fine_tuning, sequential  # noqa: E402
from edt_cli.models.phases import seeded  # noqa: E402
from edt_cli.training.data import TrainingData  # noqa: E402
from edt_cli.training.fit import train  # noqa: E402
from edt_cli.workspace.events import Events, Stopped, read_events  # noqa: E402

pytestmark = pytest.mark.e2e


@pytest.fixture
def device(monkeypatch):
    """Its random numbers are the CPU's."""
    for module in (fine_tuning, sequential):
        monkeypatch.setattr(module, "seeded", lambda seed, device: seeded(seed, torch.device("cpu")))
    with pretended.Pretended():
        yield pretended.DEVICE


def moved(material: TrainingData, device: torch.device) -> TrainingData:
    assert material.generated is not None
    return replace(material, table=material.table.to(device), generated=material.generated.to(device))


# torch's GRU has a kernel for GPUs alone, and there is nothing of ours in it.
@pytest.mark.parametrize("kind", [kind for kind in KINDS if "gru4rec" not in kind])
def test_every_model_trains_and_ranks_there_as_on_the_cpu(kind, device, tmp_path):
    material, losses, ranks = data_of(random_dataset(users=20)), {}, {}
    s = settings_of(kind, {"epochs": 1, "loss": "ce", "negatives": 4})
    for place, given in (("here", material), ("there", moved(material, device))):
        train(given, s, tmp_path / place, Events(tmp_path / place))
        losses[place] = [e.losses for e in read_events(tmp_path / place) if e.event == "epoch"]
        asked = given.queries("test")
        scorer = load_trained(given, s, tmp_path / place).scorer(asked.inputs, asked.targets.domains)
        ranks[place] = rank(scorer, asked).full
    for here, there in zip(losses["here"], losses["there"], strict=True):
        assert there == pytest.approx(here, rel=1e-4)
    assert np.mean(ranks["here"] == ranks["there"]) > 0.9


def test_a_run_that_was_stopped_there_goes_on_to_the_same_result(device, tmp_path):
    material = moved(data_of(random_dataset(users=20)), device)
    s = settings_of(training={"epochs": 3, "finetune_epochs": 2}, dropout=0.3)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    expected = train(material, s, whole, Events(whole))
    parts.mkdir()
    (parts / "control.json").write_text(json.dumps({"request": "stop-after-epoch"}))
    with pytest.raises(Stopped):
        train(material, s, parts, Events(parts))
    found = train(material, s, parts, Events(parts))
    assert found["phases"]["pre-training"]["step"] == expected["phases"]["pre-training"]["step"]
    one, two = weights(whole), weights(parts)
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_what_meets_the_cpu_is_an_error(device):
    """Or nothing here could fail."""
    there = torch.ones(3).to(device)
    with pytest.raises(RuntimeError, match="of the CPU"):
        there + torch.ones(3)
    with pytest.raises(TypeError, match="no float64"):
        there.double()
    assert (there * 2).cpu().tolist() == [2, 2, 2]
