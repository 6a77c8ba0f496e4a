"""Plans of the paper's tables and figures: every row is made with the settings that it names."""

from __future__ import annotations

from pathlib import Path

import pytest

import edt_cli.experiments
from edt_cli.config import UsageError, load_settings
from edt_cli.experiments.plan import Plan
from edt_cli.inference.labels import all_settings, is_ablated
from edt_cli.paper.ablations import ABLATIONS

PLANS = {
    path.stem: Plan.read(path) for path in (Path(edt_cli.experiments.__file__).parent / "plans").glob("*.toml")
}
HANDED = {name: plan for name, plan in PLANS.items() if not plan.data and not plan.departures}


def cells(name: str, **changes):
    return HANDED[name].changed(data=["shop"], **{"seeds": [7], **changes}).cells()


def differences(name: str) -> dict[str, dict[str, object]]:
    """Settings of each row that differ from the first row's, by flat name."""
    first, *others = (cell.settings() for cell in cells(name))
    base = all_settings(first)
    labels = [cell.label for cell in cells(name)[1:]]
    return {
        label: {key: value for key, value in all_settings(other).items() if base.get(key) != value}
        for label, other in zip(labels, others, strict=True)
    }


def test_a_plan_says_by_its_name_what_it_is_a_table_of():
    assert set(HANDED) >= {"table-3", "table-4", "table-5", "table-7", "table-9", "figure-4", "figure-5"}
    for name, plan in HANDED.items():
        kind, _, number = name.partition("-")
        assert getattr(plan, kind) == int(number)


@pytest.mark.parametrize(("name", "preset"), [*((name, "paper") for name in HANDED), ("table-7", "best")])
def test_the_preset_of_the_method_s_rows_can_be_another(name, preset):
    for cell in cells(name, preset=preset, budget={"minutes": 3.0}):
        if cell.model == "llm-edt":
            assert cell.preset_name == preset
            assert cell.settings().training.lr == load_settings(preset, environment={}).training.lr
        assert (cell.data, cell.seed, cell.settings().training.minutes) == ("shop", 7, 3.0)


def test_table_3_leaves_out_one_part_in_each_row_and_trains_nothing_for_the_first_phase():
    full, *rows = cells("table-3")
    assert not any(is_ablated(full.settings(), name) for name in ABLATIONS)
    assert [row.label for row in rows] == [title for title, _ in ABLATIONS.values()]
    for row, name in zip(rows, ABLATIONS, strict=True):
        assert row.first_phase == (name == "dft")
        if row.first_phase:
            assert row.settings() == full.settings()
        else:
            assert [other for other in ABLATIONS if is_ablated(row.settings(), other)] == [name]


def test_the_sweeps_change_what_they_sweep():
    assert differences("table-4") == {
        "τ calibrated − 0.05": {"augmentation.tau": "paper-0.05"},
        "τ calibrated + 0.05": {"augmentation.tau": "paper+0.05"},
    }
    assert differences("table-5")["K = C = 15"] == {"augmentation.clusters": 15, "profiling.clusters": 15}
    assert len(differences("table-5")) == 6
    assert [list(changed.values()) for changed in differences("table-7").values()] == [[0.9], [0.95]]
    assert [list(changed.values()) for changed in differences("figure-5").values()] == [[0.3], [0.5], [0.7], [1.0]]


def test_table_9_has_each_backbone_alone_and_under_three_systems():
    groups: dict[str, list[str]] = {}
    for cell in cells("table-9"):
        groups.setdefault(cell.group, []).append(cell.model)
        assert cell.settings().model.backbone == cell.group.lower()
    assert list(groups) == ["SASRec", "GRU4Rec", "BERT4Rec"]
    assert {tuple(models[1:]) for models in groups.values()} == {("llmcdsr", "llm4cdsr", "llm-edt")}


def test_each_departure_is_one_change_and_only_their_plan_may_be_unsound():
    plan = PLANS["departures"].changed(data=["shop"])
    first, *others = plan.cells()
    base = all_settings(first.settings())
    changed = {}
    for cell in others:
        values = all_settings(cell.settings())
        changed[cell.label] = {name: value for name, value in values.items() if base.get(name) != value}
        assert cell.label.startswith("unsound: ") == (cell.unsound != "none")
    assert list(changed.values()) == [
        {"options.sees_future": True},
        {"training.loss": "bpr", "training.negatives": 1},
        {"training.loss": "bce", "training.negatives": 1},
        {"options.adapter_residual": True},
        {"options.global_term": False},
        {"options.profiles_see_validation": True},
        {"options.unsound": "generated-candidates"},
        {"options.unsound": "split-after-augmentation"},
    ]
    assert [cell.label for cell in others if cell.has_no_effect] == [
        "unsound: generated items among the candidates"
    ]
    with pytest.raises(UsageError, match="only the plan departures takes it"):
        plan.model_copy(update={"departures": False}).cells()


def test_a_limit_that_is_none_is_refused():
    with pytest.raises(UsageError, match="epochs"):
        cells("table-3", budget={"epochs": 0})
