"""A prompt tried on one user, with a scripted LLM."""

from __future__ import annotations

import json

import pytest
from llm_fakes import Scripted, WordEmbedder
from toy import random_dataset

from edt_cli.config import UserError, load_settings
from edt_cli.inference.prompt_trial import Trial
from edt_cli.llm.embeddings import embed_items
from edt_cli.pipeline import Pipeline
from edt_cli.pipeline.stages import Stages
from edt_cli.pipeline.store import KnownTau
from edt_cli.workspace.events import Events
from edt_cli.workspace.layout import Workspace


def answer(request):
    task, facts = request.inputs["task"], request.inputs
    if task == "generate":
        items = [{"title": "new thing", "purchase": 1}, {"title": "other thing", "purchase": 99}, {"title": ""}]
        return "Sure: " + json.dumps({"items": items})
    if task == "summarize":
        return {"summaries": [{"cluster": part["cluster"], "summary": "likes it"} for part in facts["clusters"]]}
    return {"instruction": "Weigh them."} if task == "reform" else {"profile": "Likes things."}


@pytest.fixture
def pipeline(tmp_path, monkeypatch) -> Pipeline:
    flags = {"llm": {"provider": "scripted/one"}, "limits": {"price": "1,2"}}
    made = Pipeline(Workspace(tmp_path), random_dataset(), load_settings("llm-edt-ce", flags=flags, environment={}))
    monkeypatch.setattr(Stages, "fitted_embedder", lambda self: WordEmbedder())
    made.__dict__["chat"] = made.providers.__dict__["backend"] = Scripted(answer)
    made.__dict__["_embeddings"] = embed_items(made.dataset.catalogue, WordEmbedder(), Events())
    return made


def test_generate_shows_question_reply_items_and_price(pipeline):
    trial = Trial.of(pipeline, "generate", "one-domain")
    (question,) = trial.requests()
    found = trial.ask()
    assert found["user"] == question.user and found["prompt"] == "generate@2" and found["calls"] == 1
    (exchange,) = found["exchanges"]
    assert [turn["content"] for turn in exchange["messages"]] == [turn.content for turn in question.messages]
    assert exchange["reply"].startswith("Sure") and found["mended"] == {"text around it": 1}
    assert [(item["purchase"], item["reason"]) for item in found["items"]] == [
        (1, "kept"),
        (99, "kept"),
        (None, "no title"),
    ]
    assert found["items"][0]["anchor"] and found["items"][0]["score_target"] is not None
    assert found["cost_usd"] == 0.001 and any("not calibrated" in note for note in found["notes"])
    assert not pipeline.made("augmentation"), "a trial makes no artefact"


def test_the_tau_that_was_calibrated_here_counts(pipeline):
    names = pipeline.dataset.domains.names
    high = {name: dict.fromkeys(("with items", "without"), 0.999) for name in names}
    KnownTau(pipeline.workspace, pipeline.tau_key).keep(high)
    found = Trial.of(pipeline, "generate", "one-domain").ask()
    assert [item["reason"] for item in found["items"]] == ["tau", "tau", "no title"]
    assert found["items"][0]["tau"] == 0.999 and not found["notes"]


def test_the_tau_of_a_pilot_is_called_that(pipeline):
    low = {name: dict.fromkeys(("with items", "without"), -1.0) for name in pipeline.dataset.domains.names}
    KnownTau(pipeline.workspace, pipeline.tau_key, 50).keep(low)
    found = Trial.of(pipeline, "generate", "one-domain").ask()
    assert found["items"][0]["tau"] == -1.0 and found["notes"] == ["tau is that of a pilot of 50 users"]


@pytest.mark.parametrize(("name", "calls"), [("reform", 3), ("analyze", 3), ("naive", 1)])
def test_the_steps_of_a_profile(pipeline, name, calls):
    found = Trial.of(pipeline, name, "u003").ask()
    assert [one["prompt"] for one in found["exchanges"]] == [f"{name}@2"]
    assert found["profile"] == "Likes things." and found["calls"] == calls, "u003 has bought in one domain"
    assert any("no augmentation yet" in note for note in found["notes"])


def test_without_asking_the_question_is_shown_with_the_most_that_it_may_cost(pipeline):
    found = Trial.of(pipeline, "generate", "one-domain").shown()
    assert found["most_usd"] > 0 and "reply" not in found["exchanges"][0]
    assert pipeline.chat.requests == []
    after = Trial.of(pipeline, "analyze", "u003").shown()
    assert not after["exchanges"] and any("what other replies say" in note for note in after["notes"])


def test_a_user_of_whom_nothing_is_asked_is_told(pipeline):
    for name in pipeline.dataset.user_ids:
        trial = Trial.of(pipeline, "generate", name)
        try:
            assert trial.requests()
        except UserError as error:
            assert name in str(error) and "--user" in str(error)
            break
    else:
        pytest.fail("the toy has a balanced user")
    with pytest.raises(UserError):
        Trial.of(pipeline, "generate", "nobody")
