"""Settings: what counts over what, and what an option is made of."""

import pytest

from edt_cli.config import UsageError, load_settings, parse_assignments, preset_path
from edt_cli.models.systems import checked, options_of, system


def test_a_flag_counts_over_the_environment_over_a_file_over_the_preset(tmp_path):
    path = tmp_path / "own.toml"
    path.write_text("[training]\nlr = 0.3\nbatch = 7\n[options]\nalpha = 0.3\nadapter = 7\n")
    environment = {"EDT_TRAINING_LR": "0.2", "EDT_OPTIONS_ALPHA": "0.2", "EDT_OPTIONS_MEMORY_PERIOD": "none"}
    flags = parse_assignments(["options.alpha=0.1"])
    s = checked(load_settings("best", config=path, environment=environment, flags=flags))
    assert (s.training.lr, s.training.batch) == (0.2, 7)
    assert (s.options["alpha"], s.options["adapter"], s.options["memory_period"]) == (0.1, 7, None)
    assert s.options["threads"] == "joint"


def test_options_that_came_as_text_are_what_they_mean():
    found = checked(load_settings("best", flags=parse_assignments(["options.memory=false", "options.calibrate=0"])))
    assert found.options["memory"] is False and found.options["calibrate"] is False


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("training.learning_rate", "training.lr"),
        ("training.lrr", "training.lr"),
        ("model.lr", "training.lr"),
        ("trainig.lr", "training"),
        ("model.hidden_size", "model.hidden"),
        ("training.batch_size", "training.batch"),
    ],
)
def test_a_mistyped_setting_is_told_the_one_that_is_meant(name, meant, tmp_path):
    with pytest.raises(UsageError, match=rf"there is no setting [\w.]+; did you mean {meant}( or .*)?\?$"):
        load_settings("best", flags=parse_assignments([f"{name}=1"]), environment={})
    section, _, field = name.partition(".")
    path = tmp_path / "own.toml"
    path.write_text(f"[{section}]\n{field} = 1\n")
    with pytest.raises(UsageError, match=f"did you mean {meant}"):
        load_settings("best", config=path, environment={})


def test_a_setting_without_its_section_and_one_like_no_other():
    with pytest.raises(UsageError, match=r"did you mean training\.lr=?"):
        parse_assignments(["lr=1"])
    with pytest.raises(UsageError, match=r"no setting training\.zzzzzz; edt settings lists them"):
        load_settings("best", flags={"training": {"zzzzzz": 1}}, environment={})


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda: preset_path("sasrecce"), "unknown preset 'sasrecce'; did you mean sasrec-ce"),
        (lambda: preset_path("zzz"), "there are: abxi, "),
        (lambda: system("llmedt"), "unknown model 'llmedt'; did you mean llm-edt"),
        (lambda: options_of("llm-edt", {"alpah": 1}), "no option 'alpah'; did you mean alpha?"),
    ],
)
def test_a_mistyped_name_is_told_those_like_it_or_all(ask, message):
    with pytest.raises(UsageError, match=message):
        ask()


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("options.memory=false", "options.calibrate needs options.memory"),
        ("training.loss=bpr", "training.loss = ce"),
        ("model.backbone=bert4rec", "causal backbone"),
        ("model.sequence=single", "llm-edt learns from mixed sequences"),
        ("options.speed=3", "llm-edt has no option 'speed'; it has: alpha, "),
        ("options.alpha=-1", "alpha"),
    ],
)
def test_settings_that_do_not_go_together_in_a_system_are_one_line(assignment, message):
    with pytest.raises(UsageError, match=message) as error:
        flags = parse_assignments([assignment, "training.negative_pool=none"])
        checked(load_settings("best", flags=flags, environment={}))
    assert "\n" not in str(error.value)
