"""How the cost of training, fine-tuning and ranking grows with users and items, on generated data.

    python tests/benchmarks/growth.py                          10^4, 10^5 and 10^6 users
    python tests/benchmarks/growth.py --users 10000 100000

LLM-EDT, preset `paper`, every part included; two domains, items of heavy tails, an item for five users and at most
2 * 10^5, 13 interactions a user on average. Ranking is of --ranked users against the full catalogue of a domain.
Each size is a process of its own; memory is the kernel's highest resident size of it.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

WIDTH = 1024


def measure(users: int, ranked: int) -> dict:
    import torch

    from edt_cli.config import ModelSettings, TrainingSettings
    from edt_cli.data.dataset import Domains, Sequences
    from edt_cli.evaluation.metrics import ranking_metrics
    from edt_cli.models.batch import item_table
    from edt_cli.models.inputs import ModelInputs
    from edt_cli.models.kernels import map_large_blocks
    from edt_cli.models.phases import Phase
    from edt_cli.models.systems import make_model, options_of

    draw = np.random.default_rng(0)
    items = min(200_000, users // 5)
    domains = Domains(("a", "b"), np.array([1, 1 + items // 2, 1 + items]))
    lengths = 5 + draw.geometric(1 / 8, users).clip(max=195)
    popular = (items * draw.random(int(lengths.sum())) ** 2).astype(np.int64)
    order = draw.permutation(items)
    sequences = Sequences(np.concatenate([[0], np.cumsum(lengths)]), 1 + order[popular])
    vectors = draw.standard_normal((items + 1, WIDTH), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[0] = 0
    profiles = torch.nn.functional.normalize(
        torch.from_numpy(draw.standard_normal((users, WIDTH), dtype=np.float32))
    )
    table = item_table(domains, sequences, vectors=vectors)
    s, t = ModelSettings(), TrainingSettings()
    map_large_blocks(s.max_length)
    torch.manual_seed(42)

    def epoch(phase: Phase) -> float:
        learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(learned, lr=phase.lr)
        began = time.perf_counter()
        for batch in phase.batches():
            torch.stack(list(phase.loss(batch).values())).sum().backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return time.perf_counter() - began

    found = {"users": users, "items": items, "interactions": len(sequences.items)}
    with tempfile.TemporaryDirectory() as folder:
        given = ModelInputs(table, s, t, options_of(s.name, {}), sequences, profiles=profiles, folder=Path(folder))
        model = make_model(given)
        first, second = model.phases(given)
        model.train()
        found["pre-training"] = epoch(first)
        began = time.perf_counter()
        second.enter()
        assert len(second.frozen.targets)
        found["states"] = time.perf_counter() - began
        model.eval()
        found["fine-tuning"] = epoch(second)
    some = np.sort(draw.choice(users, min(ranked, users), replace=False))
    asked = np.arange(len(some)) % 2
    began = time.perf_counter()
    scorer = model.scorer(sequences.rows(some), asked)
    for domain in range(2):
        for rows in np.array_split(np.flatnonzero(asked == domain), max(1, len(some) // 1000)):
            scores = scorer.scores(torch.from_numpy(rows), domain)
            own = scores[:, :1].clone()
            ranking_metrics((1 + (scores > own).sum(1)).numpy())
    found["ranking"] = time.perf_counter() - began
    found["ranked"] = len(some)
    found["mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--ranked", type=int, default=10_000)
    parser.add_argument("--one", type=int, help="measure this size alone, in this process, and print it as JSON")
    asked = parser.parse_args()
    if asked.one:
        sys.stdout.write(json.dumps(measure(asked.one, asked.ranked)) + "\n")
        return
    names = ("users", "items", "interactions", "pre-training", "states", "fine-tuning", "ranking", "ranked", "mib")
    sys.stdout.write("  ".join(f"{name:>12}" for name in names) + "\n")
    for users in asked.users:
        command = [sys.executable, __file__, "--ranked", str(asked.ranked), "--one", str(users)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        found = json.loads(done.stdout.splitlines()[-1])
        cells = (
            f"{found[name]:12.2f}" if isinstance(found[name], float) else f"{found[name]:12}" for name in names
        )
        sys.stdout.write("  ".join(cells) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
