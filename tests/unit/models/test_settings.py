"""Every setting, as it is listed."""

import pytest

from edt_cli.config import Settings, UsageError, load_settings, parse_assignments
from edt_cli.models.settings import list_settings, written


def listed(name: str | None = None, s: Settings | None = None):
    sections = list_settings(s or load_settings("sasrec-ce", environment={}), name)
    return {setting.name: setting for section in sections for setting in section.settings}


def test_every_setting_is_listed_with_its_value_and_what_it_does():
    s = load_settings("best", environment={})
    found = listed(s=s)
    assert set(s.flat()) <= set(found)
    assert {name: found[name].value for name in s.flat()} == s.flat()
    assert all(setting.about for setting in found.values())


def test_what_a_preset_sets_otherwise_is_marked():
    found = listed()
    assert found["training.loss"].changed and found["training.loss"].value == "ce"
    assert not found["training.minutes"].changed


def test_types_are_words():
    found = listed()
    assert found["training.lr"].kind == "float > 0"
    assert found["training.seed"].kind == "int >= 0, <= 4294967295"
    assert found["evaluation.protocol"].kind == "full | sampled | popular"
    assert found["evaluation.keep_seen"].kind == "true | false | auto"
    assert found["training.minutes"].kind == "float > 0 | none"


def test_a_section_a_setting_and_an_option_can_be_named():
    assert list(listed("training.lr")) == ["training.lr"]
    assert {name.partition(".")[0] for name in listed("model")} == {"model"}
    llm_edt = load_settings("best", environment={})
    assert list(listed("options.alpha", llm_edt)) == ["options.alpha"]
    assert not listed("options")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("training.learning_rate", "did you mean training.lr"),
        ("lr", "did you mean training.lr"),
        ("zzz", "the sections are: embedding, "),
        ("options.zzz", "options has: "),
    ],
)
def test_a_mistyped_name_is_told_what_is_meant(name, message):
    with pytest.raises(UsageError, match=message):
        listed(name)


def test_a_written_value_is_one_that_set_takes():
    for name, setting in listed("training").items():
        if setting.kind not in ("table", "list | none"):
            flags = parse_assignments([f"{name}={written(setting.value)}"])
            assert load_settings("sasrec-ce", flags=flags, environment={}) == load_settings(
                "sasrec-ce", environment={}
            )
