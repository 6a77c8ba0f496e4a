"""What runs are called: the preset, what was taken out, and what was set otherwise."""

import pytest

from edt_cli.config import Settings, load_settings
from edt_cli.inference.labels import all_settings, identity, label_of, labelled, name_of, preset_of
from edt_cli.inference.listing import RunRow
from edt_cli.models.systems import BUILT_IN, presets_of
from edt_cli.paper.ablations import ABLATIONS
from edt_cli.workspace.runs import Run
from edt_cli.workspace.status import RunStatus


@pytest.fixture
def run(tmp_path):
    """`run("best", training={"lr": 0.1})`: of a preset and flags over it; `told`: its plan's word for it."""
    count = 0

    def make(preset: str, *ablate: str, told: str | None = "", **flags: dict) -> Run:
        nonlocal count
        count += 1
        settings = load_settings(preset, flags=flags, environment={})
        for name in ablate:
            settings = settings.changed(**ABLATIONS[name][1])
        plan = {"settings": settings.document(), "preset": preset if told == "" else told}
        return Run(tmp_path / f"run{count}", plan)

    return make


def document(run: Run, *, first_phase: bool = False) -> dict:
    s = run.settings
    return {
        "run": run.name,
        "data": "d",
        "model": s.model.name,
        "seed": s.training.seed,
        "first_phase": first_phase,
    }


def labels(*runs: Run) -> list[str]:
    return [one["label"] for one in labelled([document(run) for run in runs], list(runs))]


def test_a_preset_is_named_for_llm_edt_always_and_for_others_where_it_is_not_their_own(run):
    presets = ["best", "paper", "llm-edt-ce", "sasrec", "sasrec-ce", "gru4rec"]
    runs = [run(name) for name in presets]
    expected = [*(f"LLM-EDT ({name})" for name in presets[:3]), "SASRec", "SASRec (sasrec-ce)", "GRU4Rec"]
    assert labels(*runs) == expected
    assert [labels(one)[0] for one in runs] == expected
    assert [name_of(one) for one in runs] == expected
    found = labelled([document(one) for one in runs], runs)
    assert [one["preset"] for one in found] == presets


def test_a_label_with_a_preset_says_what_is_otherwise(run):
    changed = run(
        "best", training={"lr": 0.0123, "seed": 7}, llm={"provider": "deepseek"}, limits={"max_cost": 1.0}
    )
    assert labels(changed) == ["LLM-EDT (best, lr=0.0123)"]
    assert labels(run("sasrec-ce", model={"dropout": 0.1})) == ["SASRec (sasrec-ce, dropout=0.1)"]
    assert labels(run("paper", model={"name": "sasrec"})) == ["SASRec (paper)"]
    # Of a preset that no label names, as before: only what sets two of them apart.
    other = run("sasrec", model={"dropout": 0.1})
    assert labels(other) == ["SASRec"]
    assert labels(run("sasrec"), other) == ["SASRec (dropout=0.5)", "SASRec (dropout=0.1)"]


def test_what_was_taken_out_is_told_against_the_preset(run):
    runs = [run("llm-edt-ce", "aug"), run("paper", "dft", "sra"), run("paper", "profiling", training={"lr": 0.1})]
    found = labelled([document(one) for one in runs], runs)
    assert [(one["label"], one["variant"]) for one in found] == [
        ("LLM-EDT (llm-edt-ce)", "w/o Aug."),
        ("LLM-EDT (paper)", "w/o DFT, w/o S-R-A"),
        ("LLM-EDT (paper, lr=0.1)", "w/o Profiling"),
    ]
    assert name_of(runs[0]) == "LLM-EDT (llm-edt-ce) w/o Aug."


def test_what_a_preset_does_not_have_was_not_taken_out_of_it(run):
    off = {"augmentation": {"enabled": False}, "profiling": {"enabled": False}}
    flags = {section: {"enabled": True} for section in off}
    for name, preset in presets_of("llm-edt").items():
        assert identity(run(name)) == {"preset": name, "variant": ""}
        for stage, title in (("augmentation", "w/o Aug."), ("profiling", "w/o Profiling")):
            without = identity(run(name, **{**flags, stage: off[stage]}))["variant"]
            assert (title in without) == getattr(preset, stage).enabled


def test_a_first_phase_is_shown_once_where_it_was_trained_as_a_run_of_its_own(run):
    whole, own = run("paper"), run("paper", "dft")
    documents = [document(whole), document(whole, first_phase=True), document(own)]
    assert [one["variant"] for one in labelled(documents, [whole, own])] == ["", "w/o DFT"]
    without = {"options": {"finetune_epochs": 7}}  # which a run without a second phase does not use
    assert labels(run("paper", "dft", **without)) == ["LLM-EDT (paper)"]
    assert labels(run("paper", **without)) == ["LLM-EDT (paper, finetune_epochs=7)"]
    other = run("llm-edt-ce", "dft")
    found = labelled([*documents[:2], document(other)], [whole, other])
    assert [(one["label"], one["variant"]) for one in found[1:]] == [
        ("LLM-EDT (paper)", "w/o DFT"),
        ("LLM-EDT (llm-edt-ce)", "w/o DFT"),
    ]


def test_a_run_that_names_no_preset_has_that_of_its_settings(run):
    assert preset_of(run("llm-edt-ce", told=None, training={"seed": 9})) == "llm-edt-ce"
    assert identity(run("paper", "aug", told=None)) == {"preset": "paper", "variant": "w/o Aug."}
    assert preset_of(run("sasrec-ce", told=None)) == "sasrec-ce"
    other = run("paper", "aug", told=None, training={"lr": 0.1})
    assert identity(other) == {"preset": "", "variant": "w/o Aug."}
    assert labels(other, run("paper", told=None)) == ["LLM-EDT", "LLM-EDT (paper)"]


def test_a_preset_that_is_gone_is_still_a_name(run):
    assert labels(run("paper", told="of-long-ago")) == ["LLM-EDT (of-long-ago)"]
    assert identity(run("paper", "aug", told="of-long-ago"))["variant"] == "w/o Aug."


def test_a_refit_is_no_other_setting(run):
    schedules = {"pre-training": {"epochs": 3, "planned_epochs": 5, "cuts": ()}}
    refit = run("best", training={"train_on": "train+valid", "schedules": schedules})
    assert (
        labelled([document(refit)], [refit])[0] | {"variant": "refit", "label": "LLM-EDT (best)"}
        == labelled([document(refit)], [refit])[0]
    )


def test_every_system_has_its_presets_its_own_first():
    assert list(presets_of("llm-edt")) == ["best", "llm-edt-ce", "paper"]
    assert list(presets_of("sasrec")) == ["sasrec", "sasrec-ce"]
    for system in BUILT_IN:
        own = next(iter(presets_of(system.name).items()))
        assert own == (system.preset, load_settings(system.preset, environment={}))
    assert presets_of("paper's nothing") == {}


def test_what_the_paper_states_is_the_same_in_its_preset_and_by_default():
    """Sections 4.1.3 and 4.6, equations 7 and 9; where items start, dropout and the like are left open there."""
    paper, default = presets_of("llm-edt")["paper"], Settings()
    assert (paper.augmentation, paper.profiling) == (default.augmentation, default.profiling)
    stated = [f"model.{field}" for field in ("encoder", "hidden", "backbone")]
    stated += [f"training.{field}" for field in ("loss", "negatives", "batch", "lr")]
    stated += [f"options.{field}" for field in ("adapter", "threads", "memory", "finetune", "finetune_lr")]
    values, by_default = all_settings(paper), all_settings(default)
    assert [values[name] for name in stated] == [by_default[name] for name in stated]
    assert values["options.alpha"] in (0.1, 0.3, 0.5, 0.7, 1.0)


def test_a_run_of_before_a_setting_was_there_stands_beside_one_that_has_it(run):
    """Two of ABXI that differ in an option, which the older of them was made without."""
    newer = run("abxi", told=None)
    older = run("abxi", told=None)
    del older.plan["settings"]["options"]["positions"]
    assert labels(newer, older) == ["ABXI (positions=newest)", "ABXI"]


def test_candidates_are_told_where_they_made_another_run(tmp_path):
    """Whatever was asked for: what was left out before `auto` was there is, on most data, what it leaves out."""

    def made(name: str, asked: object, **plan: bool) -> Run:
        settings = load_settings("abxi", flags={"evaluation": {"keep_seen": asked}}, environment={}).document()
        return Run(tmp_path / name, {"settings": settings, "preset": "abxi", **plan})

    older, auto, kept = made("a", False), made("b", "auto", keep_seen=False), made("c", "auto", keep_seen=True)
    assert labels(older, auto) == ["ABXI", "ABXI"]
    assert labels(older, kept) == ["ABXI (keep_seen=False)", "ABXI (keep_seen=True)"]


def test_a_field_that_two_sections_have_is_told_with_its_section():
    told = {"profiling.clusters": 10, "augmentation.clusters": 20, "training.lr": 0.5}
    assert label_of("llm4cdsr", "llm4cdsr", told) == (
        "LLM4CDSR (augmentation.clusters=20, profiling.clusters=10, lr=0.5)"
    )
    assert load_settings("best", environment={}).flat()["training.negatives"] == 512


def test_a_name_alone_means_what_was_trained_with(tmp_path):
    settings = {"evaluation": {"negatives": 100}, "training": {"negatives": 512}, "zzz": {"negatives": 7}}
    fields = RunRow(tmp_path, RunStatus.FINISHED, 0.0, {"settings": settings}).fields
    assert (fields["negatives"], fields["evaluation.negatives"]) == (512, 100)
