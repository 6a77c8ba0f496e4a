"""Many requests at once get what each would get alone, which is what `recommend` returns."""

from __future__ import annotations

import numpy as np
import pytest
from served import DATA, MADE, served

from edt_cli.config import UserError
from edt_cli.inference.recommend import known_users, new_users, recommend
from edt_cli.serving.answers import Answer, Answers, Query


@pytest.fixture(scope="module")
def answers() -> Answers:
    return served()


def query(answers: Answers, user: str | None = None, *items: str, exclude=(), domain=None, count=9) -> Query:
    return Query(
        user=None if user is None else answers.user(user),
        items=answers.numbers(items).numbers,
        exclude=answers.numbers(exclude).numbers,
        domains=answers.domain_numbers(domain),
        limit=count,
    )


def lists(answer: Answer) -> dict[str, list[str]]:
    return {domain: [row.item for row in rows] for domain, rows in answer.domains.items()}


def test_known_and_new_users_get_what_recommend_returns(answers):
    known = recommend(DATA, answers._trained, known_users(DATA, ["u", "w"]), count=9, domains=[0, 1])
    new = recommend(DATA, answers._trained, new_users(MADE, {"n": ["a1", "b2"]}).users, count=9, domains=[0, 1])
    given = answers.recommend([query(answers, "u"), query(answers, "w"), query(answers, None, "a1", "b2")])
    for frame, user, answer in ((known, "u", given[0]), (known, "w", given[1]), (new, "n", given[2])):
        assert answer.source == "model"
        for domain, rows in answer.domains.items():
            wanted = frame.filter(user=user, domain=domain)
            assert [row.item for row in rows] == wanted["item"].to_list()
            assert [row.title for row in rows] == wanted["title"].to_list()
            assert np.allclose([row.score for row in rows], wanted["score"])


def test_a_batch_in_any_order_is_each_request_alone(answers):
    requests = [
        query(answers, "u", domain="b"),
        query(answers, None, "a3", count=1),
        query(answers, None),
        query(answers, "v", "a2", exclude=["a3"]),
    ]
    alone = [lists(answers.recommend([request])[0]) for request in requests]
    for order in ((3, 2, 1, 0), (1, 3, 0, 2)):
        together = answers.recommend([requests[row] for row in order])
        assert [lists(answer) for answer in together] == [alone[row] for row in order]
    assert list(alone[0]) == ["b"] and [len(rows) for rows in alone[1].values()] == [1, 1]
    assert alone[3] == {"a": [], "b": []} and answers.recommend([]) == []


def test_what_came_since_continues_the_history(answers):
    """v has had b1, b2, a1, b3; with a2 after it, that is one history, of whoever has it."""
    since, whole = answers.recommend(
        [query(answers, "v", "a2"), query(answers, None, "b1", "b2", "a1", "b3", "a2")]
    )
    assert since.domains["a"] == whole.domains["a"] and since.domains["a"][0].item == "a3"


def test_a_user_without_a_history_gets_the_popular_items(answers):
    answer = answers.recommend([query(answers, None, "unknown")])[0]
    assert answer.source == "popular" and lists(answer)["b"][0] == "b1"
    assert answers.numbers(["a1", "gone"]).unknown == 1


def test_similar_items_are_those_with_the_largest_cosine(answers):
    vectors = answers._trained.item_vectors()[1:].detach().numpy().astype(np.float64)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    ids = MADE.catalogue["id"].to_list()
    at = ids.index("a2")
    cosine = dict(zip(ids, vectors @ vectors[at], strict=True))
    given = answers.similar("a2", answers.domain_numbers(None), 2)
    for domain, rows in given.items():
        others = sorted((name for name in ids if name[0] == domain and name != "a2"), key=lambda i: -cosine[i])
        assert [row.item for row in rows] == others[:2]
        assert np.allclose([row.score for row in rows], [cosine[row.item] for row in rows], atol=1e-6)
    with pytest.raises(UserError, match="no item 'gone'"):
        answers.similar("gone", (0,), 2)
