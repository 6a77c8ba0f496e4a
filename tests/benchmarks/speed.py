"""How fast training, ranking and starting are, beside other people's code on the same work, in one run.

    python tests/benchmarks/speed.py --data food-kitchen                        this project alone
    python tests/benchmarks/speed.py --data food-kitchen --reference DIR        and the authors' released code
    python tests/benchmarks/speed.py --data food-kitchen --models abxi llm4cdsr      these systems, by their presets
    python tests/benchmarks/speed.py --data food-kitchen --rectools PYTHON      and RecTools, in that interpreter

--data is a prepared dataset of the workspace (EDT_WORKSPACE). DIR is a checkout of ziwliu8/LLM-EDT, PYTHON an
interpreter that has RecTools; nothing is fetched. Every part is a process of its own, the parts take turns, and
each figure is the median over --repeats; memory is the kernel's highest resident size of that process. Beside
an epoch stands how much of it is matrix products, by six of its batches.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from edt_cli.config import TrainingSettings
    from edt_cli.models.phases import Phase

PRODUCTS = {"aten::mm", "aten::bmm", "aten::addmm", "aten::baddbmm", "mkldnn::_linear_pointwise"}
OTHERS = Path(__file__).with_name("others")


def pipeline(data: str, preset: str, **flags: dict):
    from edt_cli.config import load_settings
    from edt_cli.data.open import open_dataset
    from edt_cli.pipeline import Pipeline
    from edt_cli.workspace.layout import Workspace

    place = Workspace.find()
    return Pipeline(place, open_dataset(place, data), load_settings(preset, flags=flags))


def epoch(data: str, preset: str = "paper", **flags: dict) -> dict:
    """One pre-training epoch: every training position once, L_align and a model's own steps included. `before`:
    seconds for an epoch of the model that is trained before it, where there is one."""
    import torch

    from edt_cli.models.kernels import map_large_blocks
    from edt_cli.models.phase_names import PREPARATION, PRETRAINING
    from edt_cli.models.systems import make_model

    made = pipeline(data, preset, **flags)
    s, material = made.settings, made.material()
    map_large_blocks(s.model.max_length)
    torch.manual_seed(42)
    given, found = material.given(s), {}
    for phase in make_model(given).phases(given):
        phase.enter()
        if phase.name == PREPARATION:
            found["before"] = trained(phase, s.training)["seconds"]
        elif phase.name == PRETRAINING:
            found |= trained(phase, s.training)
            break
    return found


def trained(phase: Phase, s: TrainingSettings) -> dict:
    """An epoch of a phase, as the loop runs it."""
    from edt_cli.models.kernels import trim_heap
    from edt_cli.training.loop import optimizer_of, train_step

    optimizer = optimizer_of(phase, s)
    phase.model.train(phase.dropout)

    def one(batches: int | None = None) -> None:
        for batch in islice(phase.batches(), batches):
            train_step(phase, batch, optimizer, s)
            del batch
        trim_heap()

    return timed(one) | {"products": products(partial(one, 6))}


def products(one: Callable[[], None]) -> float:
    """The share of the time that is spent in matrix products, by torch's profiler."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU]) as seen:
        one()
    seconds = {event.key: event.self_cpu_time_total for event in seen.key_averages()}
    return sum(seconds.get(name, 0.0) for name in PRODUCTS) / sum(seconds.values())


def sasrec(data: str) -> dict:
    """The model of RecTools' run: ids, two blocks, d = 128, length 50, BCE against one negative."""
    return epoch(data, "sasrec", model={"max_length": 50, "heads": 2}, training={"batch": 512})


def finetune(data: str) -> dict:
    from edt_cli.models.kernels import map_large_blocks
    from edt_cli.models.systems import make_model

    made = pipeline(data, "paper")
    s, material = made.settings, made.material()
    map_large_blocks(s.model.max_length)
    given = material.given(s)
    phase = make_model(given).phases(given)[-1]
    phase.enter()
    return trained(phase, s.training)


def ranking(data: str) -> dict:
    """All users of the test split: states, item vectors, both protocols, top lists, every metric and group."""
    from edt_cli.evaluation.candidates import candidates
    from edt_cli.evaluation.evaluate import list_figures, rank_figures
    from edt_cli.evaluation.ranking import rank
    from edt_cli.models.systems import make_model

    made = pipeline(data, "paper")
    s, material = made.settings, made.material()
    model = make_model(material.given(s))
    asked = material.queries("test")
    drawn = candidates(made.workspace, made.dataset, "test", 100)

    def one() -> None:
        scorer = model.scorer(asked.inputs, asked.targets.domains)
        ranks = rank(scorer, asked, candidates={"sampled": drawn}, top=10)
        for of_protocol in ranks.by_protocol.values():
            rank_figures(made.dataset, asked, of_protocol)
        list_figures(made.dataset, asked, ranks.top, None)

    return timed(one)


def released(data: str, folder: str, steps: int) -> dict:
    """The released code's own model, dataset and step; its seconds for `steps` steps, for a whole epoch of them."""
    made = pipeline(data, "paper")
    material = made.material()
    names, prefixes = made.view.domains, made.view.prefixes
    texts = material.table.text[1 : names.items + 1].numpy()
    rows = [prefixes.of(user).tolist() for user in range(len(prefixes)) if len(prefixes.of(user)) > 1]
    domains = [names.of(np.array(row)).tolist() for row in rows]
    first = int(names.starts[1]) - 1
    local = [[i - first * d for i, d in zip(*pair, strict=True)] for pair in zip(rows, domains, strict=True)]

    sys.path.insert(0, folder)
    os.chdir(folder)
    import torch
    from torch.utils.data import DataLoader, RandomSampler

    sys.modules["setproctitle"] = SimpleNamespace(setproctitle=lambda name: None)
    from generators.data import CDSRRegSeq2SeqDatasetUser
    from models import one4all

    one4all.pickle = SimpleNamespace(load=lambda file: texts)
    one4all.open = lambda *given: None
    args = SimpleNamespace(
        **{"dataset": "", "llm_emb_file": "", "global_emb": True, "freeze_emb": True, "hidden_size": 128},
        **{"max_len": 200, "dropout_rate": 0.5, "trm_num": 2, "num_heads": 2, "beta": 0.1, "alpha": 0.1},
        **{"aug_seq": False, "aug_seq_len": 0, "num_layers": 1},
    )
    counts = {"0": first, "1": names.items - first}
    model = one4all.One4All(len(rows), counts, torch.device("cpu"), args)
    dataset = CDSRRegSeq2SeqDatasetUser(args, local, domains, counts, 200, 1)
    loader = DataLoader(dataset, sampler=RandomSampler(dataset), batch_size=512)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    model.train()
    began = time.perf_counter()
    for number, batch in enumerate(loader, start=1):
        inputs = dict(zip(dataset.var_name, batch, strict=True))
        model(**inputs).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        if number == min(steps, len(loader)):
            break
    return {"seconds": (time.perf_counter() - began) * len(loader) / number, "mib": memory()}


def rectools(data: str, python: str) -> dict:
    made = pipeline(data, "sasrec")
    prefixes = made.view.prefixes
    position = np.arange(len(prefixes.items)) - prefixes.offsets[prefixes.users]
    table = np.stack([prefixes.users, prefixes.items, position], 1)
    path = made.workspace.root / "speed-rectools.npy"
    np.save(path, table, allow_pickle=False)
    try:
        done = subprocess.run(
            [python, str(OTHERS / "rectools_epoch.py"), str(path)], check=True, stdout=subprocess.PIPE, text=True
        )
    finally:
        path.unlink()
    return json.loads(done.stdout.splitlines()[-1])


def timed(one: Callable[[], None]) -> dict:
    """Once to warm up, then once for the clock."""
    one()
    began = time.perf_counter()
    one()
    return {"seconds": time.perf_counter() - began, "mib": memory()}


def memory() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def starting() -> dict:
    began = time.perf_counter()
    start = "from edt_cli.cli.app import main; main()"
    subprocess.run([sys.executable, "-c", start, "--help"], check=True, stdout=subprocess.DEVNULL)
    return {"seconds": time.perf_counter() - began, "mib": 0.0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="food-kitchen")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--reference", help="checkout of the released code")
    parser.add_argument("--steps", type=int, default=14, help="of the released code; fewer are scaled to an epoch")
    parser.add_argument("--models", nargs="+", help="an epoch of each of these alone")
    parser.add_argument("--rectools", help="interpreter that has RecTools")
    parser.add_argument("--part", help="measure this part alone, in this process, and print it as JSON")
    asked = parser.parse_args()
    parts: dict[str, Callable[[], dict]] = {
        "pre-training epoch": lambda: epoch(asked.data),
        "fine-tuning epoch": lambda: finetune(asked.data),
        "ranking all users": lambda: ranking(asked.data),
        "edt --help": starting,
        "SASRec (ids) epoch": lambda: sasrec(asked.data),
    }
    if asked.models:
        parts = {f"{name} epoch": partial(epoch, asked.data, name) for name in asked.models}
    beside = {}
    if asked.reference:
        reference = str(Path(asked.reference).resolve())
        parts["released code, epoch"] = lambda: released(asked.data, reference, asked.steps)
        beside["released code, epoch"] = "pre-training epoch"
    if asked.rectools:
        parts["RecTools SASRec epoch"] = lambda: rectools(asked.data, asked.rectools)
        beside["RecTools SASRec epoch"] = "SASRec (ids) epoch"
    if asked.part:
        sys.stdout.write(json.dumps(parts[asked.part]()) + "\n")
        return
    for name in asked.models or ["paper"]:
        pipeline(asked.data, name).material()
    found: dict[str, list[dict]] = {name: [] for name in parts}
    for _ in range(asked.repeats):
        for name in parts:
            command = [sys.executable, *sys.argv, "--part", name]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            found[name].append(json.loads(done.stdout.splitlines()[-1]))
    for name, runs in found.items():
        seconds = statistics.median(run["seconds"] for run in runs)
        line = f"{name:24} {seconds:8.2f} s   {statistics.median(run['mib'] for run in runs):6.0f} MiB"
        if name in beside:
            ratios = [
                one["seconds"] / other["seconds"] for one, other in zip(runs, found[beside[name]], strict=True)
            ]
            line += f"   {statistics.median(ratios):.1f} times the {beside[name]}"
        if "before" in runs[0]:
            line += f"   and {statistics.median(run['before'] for run in runs):.2f} s before it"
        if "products" in runs[0]:
            line += f"   {statistics.median(run['products'] for run in runs):.0%} in matrix products"
        sys.stdout.write(line + "\n")


if __name__ == "__main__":
    main()
