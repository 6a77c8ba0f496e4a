"""`import edt_cli as edt`: what a notebook does, and that what is public is there and said."""

from __future__ import annotations

import inspect
import subprocess
import sys

import numpy as np
import pytest

import edt_cli as edt
from edt_cli.config import UsageError
from edt_cli.data.prepare import ensure_demo
from edt_cli.workspace.layout import Workspace

pytestmark = pytest.mark.e2e

SMALL = {"model": {"hidden": 8, "blocks": 1, "heads": 2}, "training": {"epochs": 1, "negatives": 32}}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("api")
    ensure_demo(Workspace(place))
    return place


@pytest.fixture(scope="module")
def run(place):
    told = []
    made = edt.train(
        "demo", edt.settings("sasrec", "sasrec-ce", **SMALL), device="cpu", workspace=place, listener=told.append
    )
    assert {"epoch", "finished"} <= {event["event"] for event in told}
    return made


def test_all_that_is_public_is_there_and_documented():
    for name in edt.__all__:
        thing = getattr(edt, name)
        if callable(thing):
            assert inspect.getdoc(thing), name
    assert dir(edt) == edt.__all__ == sorted(edt.__all__)
    with pytest.raises(AttributeError, match="nothing"):
        edt.nothing  # noqa: B018


def test_it_costs_nothing_to_import():
    code = "import sys, edt_cli; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert not {"torch", "numpy", "polars", "pydantic"} & set(done.stdout.split())


def test_a_run_is_evaluated_and_read_as_a_frame(run, place):
    frame = run.evaluate()
    assert frame["domain"].to_list() == ["garden", "kitchen"]
    assert frame["label"].to_list() == ["SASRec"] * 2 or "SASRec" in frame["label"][0]
    for row in frame.iter_rows(named=True):
        ranks = run.ranks()
        data = edt.load_data("demo", place)
        own = ranks.filter(ranks["domain"] == data.domains.number(row["domain"]))["rank"].to_numpy()
        assert row["users"] == len(own)
        assert row["hr@10"] == pytest.approx((own <= 10).mean())
    (again,) = edt.runs("demo", place, "cpu")
    assert again.name == run.name
    assert edt.results([again], protocol="sampled", negatives=20)["hr@10"].min() > 0


def test_it_scores_and_recommends(run, place):
    data = edt.load_data("demo", place)
    users = list(data.user_ids[:3])
    scores = run.scores("garden", users)
    items = data.domains.range(0)
    assert scores.shape == (3, len(items)) and np.isfinite(scores).all()
    best = run.recommend(users, count=4, domain="garden", keep_seen=True)
    names = data.catalogue["id"].to_list()
    for number, user in enumerate(users):
        expected = [names[items.start - 1 + column] for column in np.argsort(-scores[number])[:4]]
        assert best.filter(best["user"] == user)["item"].to_list() == expected
    new = run.recommend(histories={"new": names[:2]}, count=2)
    assert new["user"].unique().to_list() == ["new"] and len(new) == 4
    assert not set(run.recommend(users, exclude=names[:300], count=5)["item"]) & set(names[:300])
    with pytest.raises(edt.UserError, match="not both"):
        run.recommend(users, {"new": names[:2]})


def test_a_system_without_training_is_one_too(place):
    run = edt.train("demo", edt.settings("popularity"), device="cpu", workspace=place)
    assert run.evaluate()["ndcg@10"].to_list() == pytest.approx([0.0310, 0.0365], abs=5e-4)


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda place: edt.settings("sasrek"), UsageError, "unknown model"),
        (lambda place: edt.settings("sasrec", training={"lr": -1}), UsageError, "lr"),
        (lambda place: edt.load_data("nowhere", place), edt.UserError, "nowhere"),
        (lambda place: edt.runs("nowhere", place), edt.UserError, "nowhere"),
    ],
)
def test_a_mistake_is_an_error_of_one_line(call, error, says, place):
    with pytest.raises(error, match=says) as raised:
        call(place)
    assert len(str(raised.value).splitlines()) == 1


def test_a_run_for_use_trains_as_long_as_was_best_with_a_validation(run, place):
    training = {**SMALL["training"], "train_on": "all"}
    final = edt.train(
        "demo",
        edt.settings("sasrec", "sasrec-ce", model=SMALL["model"], training=training),
        device="cpu",
        workspace=place,
    )
    best = run.run.manifest()["phases"]["pre-training"]["best_epoch"]
    assert final.settings.training.schedules["pre-training"].epochs == best
    assert {run.name, final.name} <= {one.name for one in edt.runs("demo", place, "cpu")}
    assert len(final.recommend(histories={"new": [edt.load_data("demo", place).catalogue["id"][0]]}, count=3)) == 6
    with pytest.raises(edt.UserError, match="nothing held out"):
        final.evaluate()
