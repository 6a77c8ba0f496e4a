"""The server over HTTP, in process: its answers, its errors, its token, and a newer run."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
from fastapi.testclient import TestClient
from served import served

from edt_cli.config import UserError
from edt_cli.serving.app import make_app
from edt_cli.serving.batches import Batches


@pytest.fixture(scope="module")
def answers():
    return served()


@pytest.fixture(scope="module")
def client(answers):
    with TestClient(make_app(answers)) as client:
        yield client


def test_recommendations_for_known_and_new_users(client):
    known = client.post("/recommend", json={"user": "u", "domain": "b", "count": 2}).json()
    assert known["run"] == "a-run" and known["source"] == "model" and list(known["domains"]) == ["b"]
    assert {row["item"] for row in known["domains"]["b"]} == {"b2", "b3"}
    new = client.post("/recommend", json={"history": ["a1", "gone"], "exclude": ["a2"]}).json()
    assert new["unknown_items"] == 1 and [row["item"] for row in new["domains"]["a"]] == ["a3"]
    assert new["domains"]["a"][0]["title"] == "three"


def test_similar_items_health_and_metrics(client):
    assert len(client.post("/similar", json={"item": "a1", "count": 1}).json()["domains"]["b"]) == 1
    health = client.get("/health").json()
    assert (health["run"], health["domains"], health["items"], health["users"]) == ("a-run", ["a", "b"], 6, 3)
    text = client.get("/metrics").text
    assert 'edt_requests_total{path="/similar",status="200"}' in text
    assert 'edt_run_loaded_timestamp_seconds{run="a-run"}' in text
    assert "/recommend" in client.get("/openapi.json").json()["paths"]


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        ("/recommend", {}, 422, "say for whom"),
        ("/recommend", {"user": "nobody"}, 404, "no user 'nobody'"),
        ("/recommend", {"user": "u", "domain": "c"}, 422, "c"),
        ("/recommend", {"user": "u", "count": 0}, 422, "count: "),
        ("/recommend", {"user": "u", "k": 0}, 422, "k: "),
        ("/recommend", {"user": "u", "history": [1]}, 422, "history.0: "),
        ("/recommend", {"user": "u", "histroy": []}, 422, "histroy: "),
        ("/recommend", {"user": "u", "exclude": ["x"] * 10_001}, 422, "exclude: "),
        ("/similar", {"item": "gone"}, 422, "no item 'gone'"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(client, path, body, status, said):
    response = client.post(path, json=body)
    detail = response.json()["detail"]
    assert response.status_code == status and said in detail and "\n" not in detail


def test_rubbish_is_no_request(client):
    response = client.post("/recommend", content=b'{"cou', headers={"content-type": "application/json"})
    assert response.status_code == 422 and "\n" not in response.json()["detail"]
    assert client.get("/../../etc/passwd").status_code == 404
    assert 'path="other",status="404"' in client.get("/metrics").text


def test_with_a_token_only_health_is_open(answers):
    with TestClient(make_app(answers, token="s3cret")) as client:
        assert client.get("/health").status_code == 200
        assert client.get("/metrics").status_code == 401
        wrong = client.post("/recommend", json={"user": "u"}, headers={"authorization": "Bearer s3cre"})
        assert wrong.status_code == 401 and "s3cret" not in wrong.text
        right = client.post("/recommend", json={"user": "u"}, headers={"authorization": "Bearer s3cret"})
        assert right.status_code == 200


def test_a_newer_run_takes_over_and_a_broken_one_does_not(answers):
    found = [UserError("its weights are gone"), OSError("no such disk"), served("newer", seed=1)]
    told: list[str] = []

    def newer(current):
        if not found:
            return None
        following = found.pop(0)
        if isinstance(following, Exception):
            raise following
        return following

    with TestClient(make_app(answers, newer=newer, seconds=0.01, tell=told.append)) as client:
        before = client.post("/recommend", json={"user": "u"}).json()
        deadline = time.monotonic() + 5
        while client.get("/health").json()["run"] != "newer" and time.monotonic() < deadline:
            assert client.post("/recommend", json={"user": "u"}).status_code == 200
        after = client.post("/recommend", json={"user": "u"}).json()
    assert after["run"] == "newer" and after["domains"] != before["domains"]
    cannot = "a newer run cannot be served: "
    assert told == [f"{cannot}its weights are gone", f"{cannot}OSError: no such disk", "now serving newer"]


def test_requests_that_wait_are_answered_together_and_an_error_is_theirs_alone():
    first, sizes = threading.Event(), []

    def answer(requests):
        sizes.append(len(requests))
        if len(sizes) == 1:
            first.wait(5)
        if "bad" in requests:
            raise UserError("bad")
        return [request * 2 for request in requests]

    async def ask():
        batches = Batches(answer, size=3)
        batches.start()
        lone = asyncio.create_task(batches.ask("a"))
        while not sizes:
            await asyncio.sleep(0.001)
        others = [asyncio.create_task(batches.ask(text)) for text in ("b", "c", "d", "e")]
        await asyncio.sleep(0)
        assert batches.waiting == 4
        first.set()
        replies = await asyncio.gather(lone, *others)
        with pytest.raises(UserError):
            await batches.ask("bad")
        assert await batches.ask("f") == "ff"
        await batches.stop()
        return replies

    assert asyncio.run(ask()) == ["aa", "bb", "cc", "dd", "ee"] and sizes == [1, 3, 1, 1, 1]
