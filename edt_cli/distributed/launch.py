"""Starting the processes that follow, and telling them what to train."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import torch

from edt_cli.config import UsageError, UserError
from edt_cli.distributed.environment import under_torchrun
from edt_cli.distributed.group import LOST, is_lost, joined, value_of_leader

LEASH = "EDT_LEASH"
"""Set for a process whose standard input ends with its leader."""
SECONDS = 20
"""Time that a process gets to end by itself."""


def device_of_process(name: str, number: int, count: int) -> str:
    """Return the device of the process `number` of `count` on a machine: a GPU each, or the CPU for all.

    Args:
        name: The device of a single process, `auto` resolved.
        number: Number of the process among those of this machine.
        count: How many there are on this machine.

    Raises:
        UsageError: If the device is one that processes cannot share.
        UserError: If there are fewer GPUs than processes.
    """
    device = torch.device(name)
    if device.type == "cpu" or count == 1:
        return name
    if device.type != "cuda" or device.index is not None:
        raise UsageError(f"{count} processes train on cpu or cuda, a GPU each; got --device {name}")
    if torch.cuda.device_count() < count:
        raise UserError(f"there are {torch.cuda.device_count()} GPUs for {count} processes")
    return f"cuda:{number}"


def device_of_place(name: str) -> str:
    """Return `device_of_process` for the place among processes that the environment gives to this one."""
    count = int(os.environ.get("LOCAL_WORLD_SIZE") or os.environ["WORLD_SIZE"])
    return device_of_process(name, int(os.environ.get("LOCAL_RANK", 0)), count)


@contextmanager
def led(devices: int | None, device: str) -> Iterator[str]:
    """Train in several processes within this context, which this process leads; yield its device.

    Under torchrun the others are there already; else they are started here, and end with this process.

    Args:
        devices: How many processes; None for one, or for those of torchrun.
        device: Name of the device of a single process.

    Raises:
        UsageError: If both torchrun and `devices` say how many there are.
    """
    if under_torchrun():
        if devices is not None:
            raise UsageError("torchrun says how many processes there are: leave out --devices")
        with _leading(own := device_of_place(device)):
            yield own
        return
    if devices is None or devices == 1:
        yield device
        return
    own = device_of_process(device, 0, devices)
    group = _environment(devices)
    others = [_start(number, devices, device, group) for number in range(1, devices)]
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, threads // devices))
    before = {name: os.environ.get(name) for name in (*group, "RANK", "LOCAL_RANK")}
    os.environ |= {**group, "RANK": "0", "LOCAL_RANK": "0"}
    try:
        with _leading(own):
            yield own
    except BaseException:
        for other in others:
            _let_go(other)
        raise
    finally:
        torch.set_num_threads(threads)
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})
        for other in others:
            _end(other)


@contextmanager
def _leading(device: str) -> Iterator[None]:
    """Lead the group, and let the others go at the end.

    Raises:
        UserError: If one of them is gone.
    """
    try:
        with joined(device):
            yield
            value_of_leader(None)
    except RuntimeError as error:
        if not is_lost(error):
            raise
        raise UserError(LOST) from None


class Order(NamedTuple):
    """A run to train.

    Attributes:
        run: Its folder.
        workspace: Root of its workspace.
        compiled: Whether backbones are compiled.
        sharded: Whether the processes share out the rows of the id table.
    """

    run: Path
    workspace: Path
    compiled: bool
    sharded: bool


def order(run: Path, workspace: Path, *, compiled: bool, sharded: bool) -> None:
    """Tell the others, if there are any, to train a run together with this process."""
    value_of_leader({"run": str(run), "workspace": str(workspace), "compiled": compiled, "sharded": sharded})


def orders(device: str) -> Iterator[Order]:
    """Follow the leader: yield the runs that it trains, until it lets go."""
    if os.environ.get(LEASH):
        threading.Thread(target=_end_with_leader, daemon=True).start()
    with joined(device):
        while told := value_of_leader(None):
            yield Order(Path(told["run"]), Path(told["workspace"]), bool(told["compiled"]), bool(told["sharded"]))


def _end_with_leader() -> None:
    """End this process once nobody holds the other end of its standard input."""
    with suppress(OSError):
        os.read(0, 1)
    os._exit(1)


def _environment(devices: int) -> dict[str, str]:
    """Return what torchrun would set for each process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    interface = {"GLOO_SOCKET_IFNAME": os.environ.get("GLOO_SOCKET_IFNAME", "lo")} if _has_loopback() else {}
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(devices)}
    return where | interface | {"LOCAL_WORLD_SIZE": str(devices)}


def _has_loopback() -> bool:
    """Return whether the loopback interface has the name that it has on Linux."""
    return any(name == "lo" for _, name in socket.if_nameindex())


def _start(number: int, count: int, device: str, group: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start a process that follows. Ctrl-C does not reach it: the leader decides when to stop."""
    threads = {"OMP_NUM_THREADS": str(max(1, torch.get_num_threads() // count))}
    place = {"RANK": str(number), "LOCAL_RANK": str(number), LEASH: "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "edt_cli", "train", "--device", device],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        env={**os.environ, **group, **threads, **place},
        start_new_session=True,
    )


def _end(other: subprocess.Popen[bytes]) -> None:
    """Wait for a process that follows; kill it if it does not end."""
    try:
        other.wait(SECONDS)
    except subprocess.TimeoutExpired:
        other.kill()
    finally:
        other.wait()
        _let_go(other)


def _let_go(other: subprocess.Popen[bytes]) -> None:
    """Close the standard input of a process that follows, which ends it."""
    assert other.stdin is not None
    other.stdin.close()
