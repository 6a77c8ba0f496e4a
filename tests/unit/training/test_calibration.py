"""The memory's weights by validation: the regression against another solver, and what a run makes of it."""

import json

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from scipy.optimize import minimize
from test_training import data_of, settings_of
from toy import random_dataset

from edt_cli.config import Settings, UsageError
from edt_cli.models.scorers import InnerProduct, SideScored
from edt_cli.models.systems import checked
from edt_cli.training import calibration
from edt_cli.training.calibration import calibrated
from edt_cli.training.fit import train
from edt_cli.workspace.events import Events, read_events

pytestmark = pytest.mark.e2e


def learned(folder, **training):
    """A run with a memory that has seasons; its settings and material."""
    material = data_of(random_dataset(), profiles=False)
    s = settings_of("llm-edt with a memory", {"loss": "ce", "negatives": 4, "finetune": False, **training})
    return material, s, train(material, s, folder, Events(folder))


def recalled(material, s) -> tuple[SideScored, object]:
    from edt_cli.models.systems import make_model

    torch.manual_seed(0)
    asked = material.queries("valid")
    model = make_model(material.given(s))
    scorer = model.scorer(asked.inputs, asked.targets.domains)
    states = torch.randn(scorer.vectors.states.shape)
    items = torch.randn(scorer.vectors.items.shape)
    return SideScored(InnerProduct(material.dataset.domains, states, items), scorer.side), asked


def slow(scorer: SideScored, asked, domain: int, seed: int) -> np.ndarray:
    """w / a by another solver, in float64, one question after the other."""
    drawn = calibration.draw_candidates(asked, calibration.NEGATIVES, seed)
    w0 = scorer.side.side_score.weight[domain].detach().double().numpy()
    first = asked.domains.range(domain).start
    tables = []
    for row in np.flatnonzero(asked.targets.domains == domain):
        columns = [asked.target_columns[row], *(c for c in drawn[row] if c >= 0)]
        items = torch.tensor([first + c for c in columns])
        with torch.no_grad():
            terms = scorer.side.side_score.terms(scorer.side.context[[row]], domain, items)
        inner = scorer.vectors.states[row].double() @ scorer.vectors.items[items].double().T
        tables.append(np.stack([inner.numpy(), *(t.expand(1, len(items))[0].double().numpy() for t in terms)], 1))

    def loss(found: np.ndarray) -> float:
        parts = [np.logaddexp.reduce(table @ found) - table[0] @ found for table in tables]
        return float(np.mean(parts) + np.square(found - [1.0, *w0]).sum() / len(tables))

    found = minimize(loss, [1.0, *w0], method="BFGS", options={"gtol": 1e-7}).x
    return found[1:] / found[0]


def test_the_weights_are_those_of_a_regression():
    material = data_of(random_dataset(users=80), profiles=False)
    s = settings_of("llm-edt with a memory", {"loss": "ce", "finetune": False})
    scorer, asked = recalled(material, s)
    # Vectors that know something of the targets, else a is about nothing.
    scorer.vectors.states.add_(2 * scorer.vectors.items[torch.from_numpy(asked.targets.items)])
    found = calibrated(scorer, asked, seed=3)
    expected = [slow(scorer, asked, domain, 3) for domain in range(2)]
    np.testing.assert_allclose(found.numpy(), expected, rtol=2e-3, atol=2e-3)


def test_vectors_that_speak_against_the_targets_leave_the_weights_alone():
    material = data_of(random_dataset(users=80), profiles=False)
    s = settings_of("llm-edt with a memory", {"loss": "ce", "finetune": False})
    scorer, asked = recalled(material, s)
    scorer.vectors.states.sub_(5 * scorer.vectors.items[torch.from_numpy(asked.targets.items)])
    assert torch.equal(calibrated(scorer, asked, seed=3), scorer.side.side_score.weight)


def test_a_run_weighs_its_memory_once_and_nothing_else(tmp_path):
    plain, _, before = learned(tmp_path / "plain")
    _, s, after = learned(tmp_path / "weighed", calibrate=True)
    one, two = (load_file(tmp_path / name / "pre-training.safetensors") for name in ("plain", "weighed"))
    assert {name for name in one if not torch.equal(one[name], two[name])} == {"side_score.weight"}
    assert two["side_score.weight"].tolist() == after["side_weights"] != before["side_weights"]
    with safe_open(tmp_path / "weighed" / "pre-training.safetensors", "pt") as file:
        assert json.loads(file.metadata()["notes"])["side_weights"] == after["side_weights"]
    events = Events(tmp_path / "weighed")
    assert train(plain, s, tmp_path / "weighed", events)["side_weights"] == after["side_weights"]
    assert [e.event for e in read_events(tmp_path / "weighed")].count("calibrated") == 1


def test_where_nothing_is_held_out_an_earlier_run_s_weights_are_taken(tmp_path):
    weights = ((0.5, -1.0, 2.0, 0.25, 1.0, -2.0), (1.0, 0.0, 0.5, 0.125, 3.0, 1.0))
    *_, done = learned(tmp_path / "final", calibrate=True, train_on="all", side_weights=weights)
    assert done["side_weights"] == [list(row) for row in weights]
    *_, done = learned(tmp_path / "no", calibrate=True, train_on="all")
    assert "calibrated" not in {e.event for e in read_events(tmp_path / "no")}


def test_without_a_memory_there_is_nothing_to_weigh():
    with pytest.raises(UsageError, match=r"options\.calibrate needs options\.memory"):
        checked(Settings.model_validate({"options": {"calibrate": True}}))
