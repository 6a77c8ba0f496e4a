"""Keys of runs: a setting that came later and is off leaves a run the key that it had before."""

from __future__ import annotations

from edt_cli.config import Settings
from edt_cli.models.llm_edt_options import LLMEDTOptions
from edt_cli.pipeline.keys import ADDED_OPTIONS, run_key
from edt_cli.workspace.layout import digest


def key_of(**training: object) -> str:
    return run_key("view", Settings().changed(training=training), {}, {}, keep_seen=False)


def test_a_key_is_that_of_before_gradients_could_be_clipped():
    s = Settings()
    before = s.training.model_dump(mode="json")
    del before["clip_norm"]
    assert key_of() == key_of(clip_norm=None) == digest("run", "view", s.model, before, {})
    assert len({key_of(), key_of(clip_norm=1.0), key_of(clip_norm=2.0)}) == 3


def test_a_run_without_departures_has_the_key_of_before_there_were_any():
    options = LLMEDTOptions().model_dump()
    before = {name: value for name, value in options.items() if name not in ADDED_OPTIONS}
    keys = {
        run_key("view", Settings(), {}, {**options, **changed}, keep_seen=False)
        for changed in ({}, {"sees_future": True}, {"global_term": False}, {"unsound": "generated-candidates"})
    }
    assert len(keys) == 4 and run_key("view", Settings(), {}, before, keep_seen=False) in keys
    assert {name: options[name] for name in ADDED_OPTIONS} == ADDED_OPTIONS


def test_what_is_measured_of_a_run_changes_no_key():
    s = Settings().changed(evaluation={"cutoffs": (1, 50), "protocol": "popular"})
    assert run_key("view", s, {}, {}, keep_seen=False) == key_of()
