"""Settings: what counts over what, and what an option is made of."""

import pytest

from edt_cli.config import UsageError, load_settings, parse_assignments
from edt_cli.models.systems import checked


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
