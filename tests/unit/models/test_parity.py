"""What other implementations give for the same weights and the same users: kept as tensors, ours are held to it.

A fixture is `tests/fixtures/NAME.safetensors`: `weights.*` of a tiny model, `items` [B, L] (0 after a row's end),
what is expected, `states` [B, L, D] (NaN where the other says nothing) and `loss.*`, and for the losses
`negative_of`, one negative for each item. Where the model has them, the items' `text` [1 + N, d_L] and the users'
`profiles` [B, d_L]. Its metadata is JSON: `model` (settings), `options`, `sizes` (of the domains), `objective`
(`bce` unless it says).
"""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from toy import batch_of, domains_of_size, sequences, view_of

from edt_cli.config import ModelSettings, TrainingSettings
from edt_cli.models.batch import item_table
from edt_cli.models.inputs import ModelInputs
from edt_cli.models.losses import bce, bpr
from edt_cli.models.systems import make_model, options_of
from edt_cli.workspace.names import current_plan

FIXTURES = sorted((Path(__file__).parents[2] / "fixtures").glob("*.safetensors"))


@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.stem)
def test_states_and_losses_are_those_of_the_public_code(path):
    with safe_open(path, "pt") as kept:
        notes = {name: json.loads(value) for name, value in kept.metadata().items()}
        tensors = {name: kept.get_tensor(name) for name in kept.keys()}  # noqa: SIM118
    rows = sequences(*([item for item in row if item] for row in tensors["items"].tolist()))
    text = tensors["text"].numpy() if "text" in tensors else None
    table = item_table(domains_of_size(*notes["sizes"]), rows, vectors=text)
    kept = current_plan({"settings": {"model": notes["model"]}})["settings"]
    settings = ModelSettings.model_validate(kept["model"])
    options = options_of(settings.name, notes["options"])
    view, profiles = view_of(table.domains, rows), tensors.get("profiles")
    given = ModelInputs(table, settings, TrainingSettings(), options, rows, view, profiles)
    model = make_model(given).eval()
    for phase in model.phases(given):
        phase.enter()
    model.load_state_dict({name.removeprefix("weights."): t for name, t in tensors.items() if "weights." in name})
    batch = batch_of(table, rows, settings.max_length)
    with torch.no_grad():
        real = (batch.items > 0) & tensors["states"].isfinite().all(-1)
        torch.testing.assert_close(
            model.encode_positions(batch)[real], tensors["states"][real], atol=1e-5, rtol=1e-4
        )
        expected = {name.removeprefix("loss."): t for name, t in tensors.items() if "loss." in name}
        if expected:
            negative_of = tensors["negative_of"].long()
            next_item = {"bce": bce, "bpr": bpr}[notes.get("objective", "bce")]

            def objective(at, encode_items):
                return next_item(at.states, at.positive, encode_items(negative_of[at.targets]).unsqueeze(1))

            found = model.loss(batch, objective)
            torch.testing.assert_close({name: found[name] for name in expected}, expected, atol=1e-5, rtol=1e-4)
