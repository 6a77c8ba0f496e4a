"""Two processes that train together have the losses, gradients and results of one; a killed one ends all."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from pairs import SHARDED, TOGETHER
from safetensors.torch import load_file

from edt_cli.config import UsageError, UserError
from edt_cli.distributed.launch import device_of_process
from edt_cli.models import batches
from edt_cli.models.batches import epoch_batches
from edt_cli.models.systems import check_processes

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("pairs")


@pytest.fixture(scope="module")
def found(folder):
    """What the pairs of processes found, all of them forked from one."""
    script = Path(__file__).parents[2] / "support" / "pairs.py"
    done = subprocess.run([sys.executable, str(script), str(folder)], capture_output=True, text=True, timeout=600)
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads((folder / "found.json").read_text())


@pytest.mark.parametrize("kind", TOGETHER)
def test_two_processes_have_the_losses_and_gradients_of_one(kind, found):
    """In each step of an epoch of each phase; a row: the terms, the sum of the gradient and its norm."""
    alone, together = found["first_pair.0"]["alone"][kind], found["first_pair.0"]["together"][kind]
    assert len(alone) == len(together) >= 3
    for one, two in zip(alone, together, strict=True):
        assert two == pytest.approx(one, rel=1e-4, abs=1e-5)


def test_both_phases_of_llm_edt_run_as_in_one_process(found):
    assert found["first_pair.0"]["ends"] == found["first_pair.1"]["ends"] == ["done", "done"]
    assert len(found["alone"]) == len(found["together"]) == 8
    for one, two in zip(found["alone"], found["together"], strict=True):
        assert two[:2] == one[:2]
        assert two[2] == pytest.approx(one[2], rel=1e-4)
        assert two[3] == pytest.approx(one[3], rel=1e-2)


def test_dropout_and_negatives_are_drawn_apart(found):
    assert found["first_pair.0"]["apart"]
    assert found["dropped"] != found["together"]


def test_a_killed_process_ends_the_training_which_goes_on_to_the_same_result(found):
    assert found["second_pair"] == [0, -9]
    assert found["second_pair.0"] == {"end": "lost"}
    assert found["third_pair.0"]["end"] == found["third_pair.1"]["end"] == "done"
    assert found["killed"] == found["dropped"]


@pytest.mark.parametrize("kind", SHARDED)
def test_shared_out_ids_have_the_losses_and_gradients_of_one_process(kind, found):
    alone, sharded = found["fourth_pair.0"]["alone"][kind], found["fourth_pair.0"]["sharded"][kind]
    assert len(alone) == len(sharded) >= 3
    for one, two in zip(alone, sharded, strict=True):
        assert two == pytest.approx(one, rel=1e-4, abs=1e-5)


def test_a_training_with_shared_out_ids_is_that_of_one_process_and_writes_its_files(found, folder):
    assert found["fourth_pair.0"]["ends"] == found["fourth_pair.1"]["ends"] == ["done", "stopped", "done"]
    assert len(found["ids alone"]) == len(found["ids sharded"]) >= 4
    for one, two in zip(found["ids alone"], found["ids sharded"], strict=True):
        assert two[:2] == one[:2] and two[2] == pytest.approx(one[2], rel=1e-4)
    for name in ("checkpoint.safetensors", "pre-training.safetensors"):
        alone, sharded, resumed = (
            load_file(folder / f"ids {how}" / name) for how in ("alone", "sharded", "resumed")
        )
        both = {key for key in sharded if not key.startswith("process.")}
        assert both == alone.keys()
        for key in both - {"random.cpu", "generator.0", "generator.1"}:
            assert alone[key].shape == sharded[key].shape, key
            assert torch.allclose(alone[key], sharded[key], rtol=1e-3, atol=1e-4), key
            assert torch.equal(sharded[key], resumed[key]), f"{key}: stopped and gone on with, it is another result"


def test_all_stop_after_the_epoch_in_which_the_leader_is_asked_to(found):
    assert found["third_pair.0"]["stopped"] == found["third_pair.1"]["stopped"] == "stopped"
    assert [epoch[1] for epoch in found["stopped"]] == [0, 1, 2]


def shares(monkeypatch, lengths: list[int], size: int, count: int) -> list[list[torch.Tensor]]:
    """The batches of an epoch in each of `count` processes."""
    monkeypatch.setattr(batches, "processes", lambda: count)
    out = []
    for number in range(count):
        monkeypatch.setattr(batches, "process", lambda number=number: number)
        out.append(list(epoch_batches(torch.tensor(lengths), size, torch.Generator().manual_seed(3))))
    return out


@pytest.mark.parametrize("users", [32, 33, 34, 47])
def test_each_user_is_in_one_share_of_one_batch(users, monkeypatch):
    lengths = [1 + user % 9 for user in range(users)]
    of_each = shares(monkeypatch, lengths, 16, 3)
    assert {len(share) for share in of_each} == {-(-users // 16)}
    assert all(len(rows) for share in of_each for rows in share)
    assert sorted(torch.cat([rows for share in of_each for rows in share]).tolist()) == list(range(users))
    for one, *others in zip(*of_each, strict=True):
        mean = torch.tensor(lengths)[one].float().mean()
        assert all(abs(torch.tensor(lengths)[rows].float().mean() - mean) <= 1.5 for rows in others)


def test_fewer_users_than_processes_are_refused(monkeypatch):
    with pytest.raises(UserError, match="2 histories in batches of 16 are too few for 3 processes"):
        shares(monkeypatch, [4, 5], 16, 3)


def test_who_cannot_train_in_several_processes_says_so():
    with pytest.raises(UsageError, match="llmcdsr has a second optimiser"):
        check_processes("llmcdsr")
    with pytest.raises(UsageError, match="popularity has nothing to train"):
        check_processes("popularity")
    check_processes("llm-edt")


def test_devices_of_processes(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [device_of_process("cuda", number, 2) for number in (0, 1)] == ["cuda:0", "cuda:1"]
    assert device_of_process("cpu", 1, 2) == "cpu"
    assert device_of_process("cuda:1", 0, 1) == "cuda:1"
    with pytest.raises(UserError, match="2 GPUs for 3 processes"):
        device_of_process("cuda", 0, 3)
    for name in ("mps", "cuda:1"):
        with pytest.raises(UsageError, match="2 processes train on cpu or cuda"):
            device_of_process(name, 0, 2)
