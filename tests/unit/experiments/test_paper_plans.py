"""Plans of the paper's tables and figures: every row is made with the settings that it names."""

from __future__ import annotations

from pathlib import Path

import pytest

import edt_cli.experiments
from edt_cli.config import UsageError, load_settings
from edt_cli.experiments.files import evidence
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
    assert set(PLANS) >= {*(f"table-{number}" for number in range(1, 10)), "cost"}
    assert set(PLANS) >= {f"figure-{number}" for number in (1, 3, 4, 5, 6)}
    for name in evidence():
        kind, _, number = name.partition("-")
        numbers = {"table": PLANS[name].table, "figure": PLANS[name].figure}
        assert {key: value for key, value in numbers.items() if value} == ({kind: int(number)} if number else {})


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


def test_plans_that_train_nothing_have_each_artefact_once_whatever_the_seeds_and_the_preset():
    for name in ("table-1", "table-6", "figure-1", "figure-3", "cost"):
        one, two = (cells(name, seeds=[1, 2], preset=preset) for preset in (None, "best"))
        assert {cell.seed for cell in one} == {1} and len(one) == len(PLANS[name].systems)
        assert all(cell.settings().augmentation.enabled for cell in two if cell.label != "before")
    assert differences("table-6") == {
        "30%": {"augmentation.enabled": True, "augmentation.injected": 0.3},
        "60%": {"augmentation.enabled": True, "augmentation.injected": 0.6},
        "100%": {"augmentation.enabled": True},
    }


def test_figure_6_is_of_the_systems_of_table_2_with_one_seed_each():
    table_2, figure_6 = (PLANS[name].changed(data=["shop"]) for name in ("table-2", "figure-6"))
    assert figure_6.labels() == table_2.labels() and figure_6.budget == table_2.budget
    assert [cell.seed for cell in figure_6.cells()] == [42] * len(table_2.systems)


def test_a_limit_that_is_none_is_refused():
    with pytest.raises(UsageError, match="epochs"):
        cells("table-3", budget={"epochs": 0})
