"""No held-out interaction can reach a prompt, a profile, an insertion or a negative."""

import numpy as np
import polars as pl
import pytest
from toy import random_dataset

from edt_cli.augmentation.artefact import Augmentation
from edt_cli.augmentation.augment import augment
from edt_cli.config import Settings, UserError
from edt_cli.data.dataset import TrainingView
from edt_cli.pipeline import Pipeline
from edt_cli.workspace.layout import Workspace

pytestmark = pytest.mark.e2e


@pytest.fixture
def pipeline(tmp_path) -> Pipeline:
    return Pipeline(Workspace(tmp_path), random_dataset(), Settings())


def test_the_view_holds_the_training_prefixes_and_no_memory_of_the_rest():
    made = random_dataset()
    view = made.training_view()
    assert not np.shares_memory(view.prefixes.items, made.sequences.items)
    assert view.prefixes.items.base is None
    for user in range(len(made.user_ids)):
        assert view.prefixes.of(user).tolist() == made.sequences.of(user)[:-2].tolist()


def with_position(made: Augmentation, view: TrainingView, past_the_end: int) -> Augmentation:
    user = int(made.sources["user"][0])
    position = int(view.prefixes.lengths[user]) + past_the_end
    planted = pl.DataFrame({"user": [user], "position": [position], "item": [1]}, schema=made.sources.schema)
    return Augmentation(**{**made.__dict__, "sources": pl.concat([made.sources, planted])})


@pytest.mark.parametrize("past_the_end", [0, 1])
def test_a_held_out_interaction_in_a_prompt_stops_the_run(pipeline, monkeypatch, past_the_end):
    """The validation target and the test target, planted among what went into a prompt."""
    import edt_cli.augmentation.augment as module

    def leaking(view, *arguments, **named):
        return with_position(augment(view, *arguments, **named), view, past_the_end)

    monkeypatch.setattr(module, "augment", leaking)
    with pytest.raises(UserError, match="not in training"):
        pipeline.augmentation()
    assert not pipeline.workspace.artefact("augmentation", pipeline.augmentation_key).complete
    with pytest.raises(UserError, match="not in training"):
        pipeline.run()


def test_a_held_out_interaction_in_a_sequence_stops_the_run(pipeline, monkeypatch):
    import edt_cli.augmentation.augment as module

    def leaking(view, *arguments, **named):
        made = augment(view, *arguments, **named)
        items = made.sequences.items.copy()
        items[np.flatnonzero(~made.inserted)[0]] = 3 if items[0] != 3 else 4
        return Augmentation(**{**made.__dict__, "sequences": type(made.sequences)(made.sequences.offsets, items)})

    monkeypatch.setattr(module, "augment", leaking)
    with pytest.raises(UserError, match="leak check"):
        pipeline.augmentation()


def test_a_held_out_interaction_in_a_profile_stops_the_run(pipeline, monkeypatch):
    import edt_cli.profiling.profile as module

    original = module.profile

    def leaking(view, *arguments, **named):
        made = original(view, *arguments, **named)
        return type(made)(**{**made.__dict__, "sources": with_position(made, view, 0).sources})

    def with_position(made, view, past_the_end):
        user = 0
        row = {"user": [user], "position": [int(view.prefixes.lengths[user])], "item": [1]}
        planted = pl.DataFrame(row, schema=made.sources.schema)
        return type(made)(**{**made.__dict__, "sources": pl.concat([made.sources, planted])})

    monkeypatch.setattr(module, "profile", leaking)
    with pytest.raises(UserError, match="not in training"):
        pipeline.profiles()


def test_prompts_inserts_and_profiles_do_not_change_with_what_is_held_out(tmp_path):
    """Every held-out item is another one: all that was made before evaluation stays the same."""
    made = random_dataset()
    other_items = made.sequences.items.copy()
    for user in range(len(made.user_ids)):
        end = made.sequences.offsets[user + 1]
        other_items[end - 2 : end] = 1 + other_items[end - 2 : end] % made.domains.items
    other = type(made)(**{**made.__dict__, "sequences": type(made.sequences)(made.sequences.offsets, other_items)})
    one, two = (
        Pipeline(Workspace(tmp_path / name), dataset, Settings()) for name, dataset in (("a", made), ("b", other))
    )
    assert one.augmentation().sequences.items.tolist() == two.augmentation().sequences.items.tolist()
    assert one.augmentation().generated.equals(two.augmentation().generated)
    assert list(one.profiles().texts) == list(two.profiles().texts)
