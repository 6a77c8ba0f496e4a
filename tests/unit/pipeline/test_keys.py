"""Keys of what was paid for stay: another key would ask an LLM again."""

from __future__ import annotations

import pytest

from edt_cli.config import load_settings
from edt_cli.data.open import open_dataset
from edt_cli.pipeline import Pipeline
from edt_cli.pipeline.keys import retried_key
from edt_cli.pipeline.store import KnownTau, Tries
from edt_cli.workspace.layout import Workspace

DEEPSEEK = {"llm": {"provider": "deepseek"}}
OPENAI = {
    "llm": {"provider": "openai/gpt-4o-mini", "limit_users": 50},
    "embedding": {"embedder": "openai/text-embedding-3-small"},
}
FINAL = {"training": {"train_on": "all"}}
KEPT = [
    ("llm-edt-ce", {}, "28cebcdf33894c6b", "d1831ed14da508ef", "3ccfa3c4e0695ff5"),
    ("llm-edt-ce", DEEPSEEK, "28cebcdf33894c6b", "46821446bfce4134", "cc2e2e56fdb2ba16"),
    ("llm-edt-ce", OPENAI, "4618932f0687365e", "58b615bf386715c6", "8d11bcf328b9a169"),
    ("llm-edt-ce", FINAL, "28cebcdf33894c6b", "5622d26242108769", "57fa7aa2b74a09d9"),
    ("best", {}, "28cebcdf33894c6b", "none", "7f4d1f1f922fe536"),
    ("best", DEEPSEEK, "28cebcdf33894c6b", "none", "a6baf8773a5be9e5"),
    ("best", OPENAI, "4618932f0687365e", "none", "d329e36f8011be20"),
    ("best", FINAL, "28cebcdf33894c6b", "none", "67f865eb3481fd4b"),
]
"""Of the demo: embeddings, augmentation, profiles."""


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Workspace:
    return Workspace(tmp_path_factory.mktemp("keys"))


@pytest.mark.parametrize(("preset", "flags", "embeddings", "augmentation", "profiles"), KEPT)
def test_keys_of_what_is_paid_for_stay(preset, flags, embeddings, augmentation, profiles, workspace, monkeypatch):
    for name in ("OPENAI_API_KEY", "DEEPSEEK_API_KEY"):
        monkeypatch.setenv(name, "not a key")
    settings = load_settings(preset, flags=flags, environment={})
    pipeline = Pipeline(workspace, open_dataset(workspace, "demo"), settings)
    assert pipeline.key_of("embeddings") == embeddings
    assert pipeline.key_of("augmentation") == augmentation
    assert pipeline.key_of("profiles") == profiles


def test_what_changes_no_result_changes_no_key(workspace):
    demo = open_dataset(workspace, "demo")
    plain = Pipeline(workspace, demo, load_settings("best", environment={}))
    changed = {"llm": {"concurrency": 3}, "limits": {"rpm": 5.0}, "training": {"lr": 0.5}}
    other = Pipeline(workspace, demo, load_settings("best", flags=changed, environment={}))
    assert plain.artefact_keys() == other.artefact_keys()
    assert plain.run_key != other.run_key


def test_a_share_of_the_kept_items_has_a_key_of_its_own(workspace):
    demo = open_dataset(workspace, "demo")
    keys = set()
    for share in (1.0, 0.6, 0.3):
        settings = load_settings("llm-edt-ce", flags={"augmentation": {"injected": share}}, environment={})
        keys.add(Pipeline(workspace, demo, settings).augmentation_key)
    assert len(keys) == 3 and KEPT[0][3] in keys


def test_a_try_has_a_key_of_its_own_and_is_remembered(tmp_path):
    tries = Tries(Workspace(tmp_path))
    assert tries.of("abc") == 0 and retried_key("abc", 0) == "abc"
    tries.set("abc", 2)
    assert tries.of("abc") == 2 and tries.of("abd") == 0
    assert len({retried_key("abc", number) for number in range(4)}) == 4


def test_tau_is_kept_by_the_users_it_is_of_and_only_added_to(tmp_path):
    known = KnownTau(Workspace(tmp_path), "key")
    assert known.read() == {} and known.of_most() == ({}, None)
    known.keep({"food": {}})
    assert known.read() == {}
    known.keep({"food": {"with": 0.5}})
    known.keep({"food": {"with": 0.7, "without": 0.2}, "kitchen": {"with": 0.1}})
    assert known.read() == {"food": {"with": 0.5, "without": 0.2}, "kitchen": {"with": 0.1}}
    small, large = (KnownTau(Workspace(tmp_path), "pilot", users) for users in (9, 50))
    for pilot in (large, small):
        pilot.keep({"food": {"with": pilot.users / 100}})
    assert small.read() == {"food": {"with": 0.09}} and large.of_most() == (large.read(), 50)
    assert KnownTau(Workspace(tmp_path), "pilot").read() == {}, "all users calibrate their own"
