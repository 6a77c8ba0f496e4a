"""Pairs of processes that train together, forked from one that has loaded torch; run as `python pairs.py FOLDER`.

What they find is FOLDER/found.json: losses and gradients of both, losses of whole trainings, ends of killed ones.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import socket
import sys
from functools import partial
from pathlib import Path
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "training"))

import torch
from test_training import data_of, settings_of
from toy import KINDS, random_dataset

from edt_cli.distributed.group import is_lost, joined, of_all_processes, process, processes
from edt_cli.distributed.losses import averaged
from edt_cli.distributed.replicas import SharedEvents, replicated
from edt_cli.distributed.sharded import exchange_of, rows_of
from edt_cli.models.systems import make_model
from edt_cli.training.fit import train
from edt_cli.workspace.events import Events, Stopped, read_events

ALIKE = {"syncrec with partitioned gates", "text and id", "c2dsr with a deep graph", "llm4cdsr on bert4rec"}
ALIKE |= {"llm-edt with a memory", "llm-edt on gru4rec", "llm-edt on bert4rec", "llm-edt started from its text"}
TOGETHER = [kind for kind in KINDS if not kind.startswith("llmcdsr") and kind not in ALIKE]
SHARDED = ["sasrec", "gru4rec", "llm4cdsr", "llm-edt with joint threads"]
"""Kinds with one table of ids, two, one that is frozen, and one beside text."""
WITH_IDS = "llm-edt with joint threads"
EXACT = {"loss": "ce", "negatives": 64, "alpha": 0.1}
"""All items are negatives, so that nothing of the loss is drawn."""
LONGER = {"epochs": 3, "finetune_epochs": 3, "train_on": "train"}


def constant_draws():
    """Masks, noise and permutations that do not depend on which process draws them."""

    def rand(*shape, device=None, generator=None):
        sizes = shape[0] if shape and not isinstance(shape[0], int) else shape
        return torch.full(tuple(sizes), 0.5)

    def randint(low, high=None, size=None, device=None, generator=None):
        return torch.full(tuple(size), low)

    stable = partial(torch.argsort, stable=True)  # SyNCRec permutes by it
    return patch.multiple(torch, rand=rand, randint=randint, randn_like=torch.zeros_like, argsort=stable)


def phases_of(kind: str, sharded: bool = False):
    torch.manual_seed(0)
    data, s = data_of(random_dataset(users=34)), settings_of(kind, EXACT)
    given = data.given(s)
    model = make_model(given, sharded=sharded)
    for phase in model.phases(given):
        phase.enter()
        phase.model.train(phase.dropout)
        yield phase


def losses_and_gradients(kind: str, sharded: bool = False) -> list[list[float]]:
    """Of each step of an epoch of each phase, without steps in between: the terms, then the sum and norm of all."""
    out = []
    for phase in phases_of(kind, sharded):
        loss = replicated(phase.model, phase.loss)
        for batch in phase.batches():
            phase.model.zero_grad()
            terms = loss(batch)
            torch.stack(list(terms.values())).sum().backward()
            learned = [p for p in phase.model.parameters() if p.requires_grad]
            if exchange := exchange_of(learned):
                exchange.collect()
            wholes = [p.grad if (rows := rows_of(p)) is None else rows.gathered(p.grad) for p in learned]
            gradients = [gradient.flatten() for gradient in wholes if gradient is not None]
            mean = averaged({name: term.detach() for name, term in terms.items()})
            whole = torch.cat(gradients)
            out.append([*map(float, mean.values()), float(whole.sum()), float(whole.norm())])
    return out


def trained(
    folder: Path,
    dropout: float,
    killed: int | None = None,
    stop: int | None = None,
    kind: str = "llm-edt",
    sharded: bool = False,
) -> str:
    """Train LLM-EDT's two phases; the second process may be killed, or all asked to stop, in an epoch."""
    torch.manual_seed(1)  # of the profiles
    data = data_of(random_dataset(users=34))
    s = settings_of(kind, {**EXACT, **LONGER}, dropout=dropout)
    folder.mkdir(exist_ok=True)

    class Watched(SharedEvents if processes() > 1 else Events):
        def progress(self, stage, done, total, **fields):
            if process() and killed is not None and stage == f"fine-tuning epoch {killed}":
                os.kill(os.getpid(), signal.SIGKILL)
            if not process() and stage == f"pre-training epoch {stop}":
                (folder / "control.json").write_text('{"request": "stop-after-epoch"}')

    try:
        train(data, s, folder, Watched(None if process() else folder), sharded=sharded)
    except Stopped:
        return "stopped"
    except RuntimeError as error:
        return "lost" if is_lost(error) else repr(error)
    return "done"


def epochs(folder: Path) -> list[dict]:
    return [[e.phase, e.epoch, e.losses, e.ndcg] for e in read_events(folder) if e.event == "epoch"]


def first_pair(folder: Path) -> dict:
    found = {"alone": {}, "together": {}}
    if os.environ["RANK"] == "0":
        with constant_draws():
            for kind in TOGETHER:
                found["alone"][kind] = losses_and_gradients(kind)
        trained(folder / "alone", 0.0)
    with joined("cpu"):
        with constant_draws():
            for kind in TOGETHER:
                found["together"][kind] = losses_and_gradients(kind)
        found["ends"] = [trained(folder / "together", 0.0), trained(folder / "dropped", 0.3)]
        drawn = of_all_processes({"drawn": torch.rand(4)})
        found["apart"] = not bool((drawn[0]["drawn"] == drawn[1]["drawn"]).any())
    return found


def second_pair(folder: Path) -> dict:
    with joined("cpu"):
        return {"end": trained(folder / "killed", 0.3, killed=2)}


def third_pair(folder: Path) -> dict:
    with joined("cpu"):
        return {"end": trained(folder / "killed", 0.3), "stopped": trained(folder / "stopped", 0.3, stop=2)}


def fourth_pair(folder: Path) -> dict:
    """With the rows of id tables shared out: losses and gradients, a whole training, one that is stopped."""
    found = {"alone": {}, "sharded": {}}
    if os.environ["RANK"] == "0":
        with constant_draws():
            for kind in SHARDED:
                found["alone"][kind] = losses_and_gradients(kind)
        trained(folder / "ids alone", 0.0, kind=WITH_IDS)
    with joined("cpu"):
        with constant_draws():
            for kind in SHARDED:
                found["sharded"][kind] = losses_and_gradients(kind, sharded=True)
        found["ends"] = [
            trained(folder / "ids sharded", 0.0, kind=WITH_IDS, sharded=True),
            trained(folder / "ids resumed", 0.0, kind=WITH_IDS, sharded=True, stop=1),
            trained(folder / "ids resumed", 0.0, kind=WITH_IDS, sharded=True),
        ]
    return found


def main(folder: Path, works=(first_pair, second_pair, third_pair, fourth_pair)) -> None:
    fork = multiprocessing.get_context("fork")
    found = {}
    for number, work in enumerate(works):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]

        def run(rank: int, work=work, number=number, port=port) -> None:
            torch.set_num_threads(1)
            os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
            os.environ |= {"MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo"}
            (folder / f"{number}.{rank}.json").write_text(json.dumps(work(folder)))

        pair = [fork.Process(target=run, args=(rank,)) for rank in (0, 1)]
        for one in pair:
            one.start()
        for one in pair:
            one.join(200)
            one.kill()
        found[work.__name__] = [one.exitcode for one in pair]
        for rank in (0, 1):
            if (out := folder / f"{number}.{rank}.json").is_file():
                found[f"{work.__name__}.{rank}"] = json.loads(out.read_text())
    for name in [path.name for path in folder.iterdir() if path.is_dir()]:
        found[name] = epochs(folder / name)
    (folder / "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
