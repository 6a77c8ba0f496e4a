"""Stages in shards: what each asks lands in the cache, and the ordinary command makes the same artefact of it."""

from __future__ import annotations

import shutil

import pytest
from test_providers import TWINS, at, bill, edt, place, prepared, served

from edt_backends.ledger import Ledger
from edt_cli.config import UsageError
from edt_cli.llm.shards import Shard
from edt_cli.workspace.layout import content_digest, read_json

__all__ = ["place", "prepared", "served"]  # fixtures
pytestmark = pytest.mark.e2e

SOME = 24
PLACES = [6, 1, 8, 8, 6, 2, 5, 3]
"""Shards of the first eight users, of eight; another hash would pay for replies again that are elsewhere."""


def content(place, kind: str, key: str) -> str:
    return content_digest(read_json(place / "artefacts" / kind / key / "manifest.json")["files"])


def test_every_user_is_in_one_shard_and_on_each_machine_in_the_same():
    names = [f"U{number}" for number in range(400)]
    shards = [{name for name in names if Shard(number, 8).holds(name)} for number in range(9)]
    assert not shards[0] and set.union(*shards) == set(names) and sum(map(len, shards)) == 400
    assert all(20 < len(shard) < 90 for shard in shards[1:])
    assert [next(n for n in range(1, 9) if Shard(n, 8).holds(f"U{user}")) for user in range(8)] == PLACES
    for text in ("3", "9/8", "-1/8", "0/0", "1/8/2", "a/b"):
        with pytest.raises(UsageError, match="such as 3/8"):
            Shard.parse(text)


def test_shards_of_both_stages_merge_into_what_one_command_makes(place, tmp_path, served):
    """Two shards share a disk; the third has one of its own, and brings its replies."""
    far, whole, replies = tmp_path / "far", tmp_path / "whole", tmp_path / "replies.jsonl"
    for other in (far, whole):
        shutil.copytree(place, other)

    def carry(source, target) -> None:
        edt("cache", "export", str(replies), workspace=source)
        edt("cache", "import", str(replies), workspace=target)

    def stage(command: str, where, *more: str):
        done = edt(command, *at(served, "--yes", "--limit-users", str(SOME), *more), workspace=where)
        assert done.code == 0, done.error
        return done.json

    plain = stage("profile", whole)
    once, users = len(served.asked), []
    for command, kind in (("augment", "augmentation"), ("profile", "profiles")):
        if command == "profile":  # what all users share is asked once, and the far machine gets it
            assert stage("profile", place, "--shard", "0/3")["users"] == 0
            carry(place, far)
            sent = len(served.asked)
            stage("augment", far)
            assert len(served.asked) == sent, "it is made of the replies of all"
        for number, where in ((1, place), (2, place), (3, far)):
            part = stage(command, where, "--shard", f"{number}/3")
            assert part["shard"] == f"{number}/3" and not part["failed"]
            users.append(part["users"])
        carry(far, place)
        sent = len(served.asked)
        merged = stage(command, place)
        assert len(served.asked) == sent, "all replies are there"
        assert merged["llm"]["cached"] == merged["llm"]["replies"] > 0
        assert content(place, kind, merged["key"]) == content(whole, kind, merged["key"])
    assert merged["key"] == plain["key"] and sum(users[:3]) == sum(users[3:]) == SOME and min(users) > 2
    assert once <= len(served.asked) - once <= once + 3 * TWINS, "but for users whose questions are the same"


def test_one_budget_is_over_all_shards(place, served):
    limit = ("--yes", "--max-cost", "0.02")
    ends = [edt("augment", *at(served, *limit, "--shard", f"{number}/2"), workspace=place) for number in (1, 2)]
    assert ends[1].code == 1 and "the limit of 0.02 USD is reached" in ends[1].error
    assert "by all that share 'augment shop by openai/served in 2 shards'" in ends[1].error
    assert 0 < bill(served) <= 0.02
    held = Ledger(place / "ledger.db").held("augment shop by openai/served in 2 shards")
    assert held.reserved == 0 and held.spent / 1e12 == pytest.approx(bill(served))
    sent = len(served.asked)
    more = ("--yes", "--set", "limits.budget=more", "--max-cost", "1", "--shard", "2/2")
    assert edt("augment", *at(served, *more), workspace=place).code == 0 and len(served.asked) > sent


def test_the_estimate_is_of_the_shard(place, served):
    def calls(*more: str) -> float:
        (stage,) = edt("augment", *at(served, "--dry-run", *more), workspace=place).json["stages"]
        return stage["calls"][1]

    parts = [calls("--shard", f"{number}/3") for number in (1, 2, 3)]
    assert calls() <= sum(parts) <= calls() + TWINS and min(parts) > 10 and not served.asked


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("augment", "--shard", "3"), "--shard takes NUMBER/OF, such as 3/8"),
        (("augment", "--shard", "0/3"), "`augment` has no such questions: begin with 1"),
        (("augment", "--shard", "1/3", "--provider", "local"), "without --provider nobody is asked"),
        (("augment", "--shard", "1/3", "--batch-api"), "--batch-api sends all questions as one job"),
        (
            ("augment", "--batch-api", "--set", "limits.budget=ours"),
            "batch jobs share no budget with other commands",
        ),
        (("profile", "--shard", "1/3"), "the augmentation is not made: first `edt augment`"),
    ],
)
def test_what_cannot_be_asked_in_shards_is_said_in_one_line(place, served, monkeypatch, arguments, said):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-nobody")
    command, *more = arguments
    done = edt(command, *at(served, "--yes", *more), workspace=place)
    assert done.code and said in done.error and "\n" not in done.error.strip() and not served.asked
