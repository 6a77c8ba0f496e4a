"""A workspace written file by file: every kind of run there is, hostile titles, a cache. Nothing is trained."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from edt_backends.cache import ReplyCache
from edt_cli.augmentation.artefact import FRAMES, Augmentation, empty_frames
from edt_cli.config import DataSettings, load_settings
from edt_cli.data.assemble import assemble
from edt_cli.data.dataset import Sequences
from edt_cli.data.saved import save
from edt_cli.profiling.profiles import FRAMES as PROFILE_FRAMES
from edt_cli.profiling.profiles import Profiles
from edt_cli.workspace.layout import Workspace, write_json

NOW = 1_790_000_000.0
USERS = 40
HOSTILE = {
    "a1": "[red]not red[/red] [@click=app.exit]click[/]",
    "a2": "\x1b[31mescaped\x1b[0m \x1b]0;title\x07 \x9b2J",
    "a3": "\u202eright to left\u202c \u05e9\u05dc\u05d5\u05dd",
    "a4": "long " * 2000,
    "b1": "\u5e83\u3044\u6587\u5b57 \U0001f9d1\u200d\U0001f373 \u2764\ufe0f caf\u00e9",
    "b2": "two\nlines\tand a tab",
    "b3": "z\u0335\u0321\u0322\u0327\u0328" * 40,
}
SETTINGS: dict[str, Any] = {
    "llm": {"provider": "local", "seed": 42},
    "model": {"name": "llm-edt", "hidden": 128},
    "training": {"seed": 42, "batch": 512, "lr": 0.001, "patience": 20, "train_on": "train"},
}


def histories() -> dict[str, list[str]]:
    rng = np.random.default_rng(3)
    items = [f"{domain}{number}" for domain in "ab" for number in range(1, 9)]
    found = {f"U{user:04d}": list(rng.choice(items, size=rng.integers(3, 9))) for user in range(USERS)}
    found["U0000"] = ["a1", "a2", "a3", "a4", "b1", "b2", "b3"]
    return found


def dataset_of(rows: dict[str, list[str]], names: tuple[str, str] = ("food", "kitchen")):
    frame = pl.DataFrame(
        [{"user": u, "item": i, "time": 1000 + step} for u, items in rows.items() for step, i in enumerate(items)]
    )
    items = sorted({item for row in rows.values() for item in row})
    catalogue = pl.DataFrame(
        {
            "item": items,
            "domain": [int(item[0] == "b") for item in items],
            "title": [HOSTILE.get(item, f"Plain thing {item}") for item in items],
        }
    )
    plain = DataSettings(window=None, k_core=None, ties="file")
    return assemble(frame, catalogue, list(names), plain)


def make_workspace(root: Path) -> Workspace:
    """Datasets `pair` and the damaged `broken`; runs finished, stopped, silent, at work and damaged."""
    workspace = Workspace(root)
    made = dataset_of(histories())
    with workspace.dataset("pair").create(data_key="k1", synthetic=True, made="then") as (folder, manifest):
        manifest |= save(made, folder)
    _fixed(workspace.dataset("pair").path / "manifest.json")
    broken = workspace.dataset("broken").path
    broken.mkdir(parents=True)
    (broken / "manifest.json").write_text("{no json")
    _artefacts(workspace, made)
    full = run(
        workspace, "pair-llm-edt-s42-aaaa", {"epochs": 30, "second": 12}, finished=True, skill=3.0, made=made
    )
    assert full.is_dir()
    run(workspace, "pair-llm-edt-s44-bbbb", {"epochs": 25}, finished=True, skill=3.2, seed=44, made=made)
    run(workspace, "pair-sasrec-s42-cccc", {"epochs": 20}, finished=True, skill=5.0, model="sasrec", made=made)
    run(workspace, "pair-sasrec-s44-dddd", {"epochs": 4, "end": "stopped"}, model="sasrec", seed=44)
    gone = run(workspace, "pair-sasrec-s46-eeee", {"epochs": 6}, model="sasrec", seed=46)
    beat(gone, pid=2**22 + 1)
    live = run(workspace, "pair-llm-edt-s46-ffff", {"epochs": 9, "of": 50}, seed=46)
    beat(live, pid=os.getpid(), time=4e9, stage="pre-training epoch 10", done=3, total=8)
    llm_job(workspace)
    for name, text in (("pair-damaged-1", "{torn"), ("pair-damaged-2", "[]")):
        (workspace.runs / name).mkdir()
        (workspace.runs / name / "run.json").write_text(text)
    for place, folder in enumerate(sorted(workspace.runs.iterdir())):
        for path in (folder / "manifest.json", folder / "events.jsonl", folder / "run.json"):
            if path.exists():
                os.utime(path, (NOW - 3600 * place, NOW - 3600 * place))
    _cache(workspace)
    return workspace


def llm_job(workspace: Workspace) -> Path:
    """A job that asks an LLM, and that this process seems to be."""
    job = workspace.jobs / "20260921-141320-augment-pair-7"
    told = {"calls": 50, "calls_left": 150, "hits": 30, "new": 18, "retries": 4, "failed": {"no JSON": 2}}
    told |= {"calls_per_s": 2.5, "seconds_left": 60.0, "prompt_tokens": 9000, "completion_tokens": 1200}
    money = {"spent_usd": 0.5, "limit_usd": 2.0, "last": {"user": "U7", "text": "\x1b[2J[red]Pan[/red]\nand lid"}}
    events_of(
        job, [{"event": "job", "command": "augment", "data": "pair"}, {"event": "made", "step": "embeddings"}]
    )
    write_json(job / "command.json", {"argv": ["augment", "--data", "pair", "--provider", "cloud"]})
    beat(job, pid=os.getpid(), time=4e9, stage="augment", done=50, total=200, **told, **money)
    return job


def events_of(folder: Path, records: list[dict[str, Any]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"n": n, "time": NOW + n, **record}) for n, record in enumerate(records, start=1)]
    (folder / "events.jsonl").write_text("\n".join(lines) + "\n")


def epochs(phase: str, count: int, of: int, level: float = 0.1) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [{"event": "phase", "phase": phase}]
    for n in range(count + 1):
        food, kitchen = level * (1 - 0.8 ** (n + 1)), level * 0.8 * (1 - 0.85 ** (n + 1))
        ndcg = {"food": food, "kitchen": kitchen, "mean": (food + kitchen) / 2}
        terms = ("L_0", "L_1") if phase == "fine-tuning" else ("next_item", "align")
        losses = {terms[0]: 1.4 * 0.9**n, terms[1]: 8.0 * 0.97**n} if n else {}
        facts = {"phase": phase, "epoch": n, "epochs": of, "step": 8 * n, "losses": losses, "ndcg": ndcg}
        more = {"best_epoch": n, "patience": 20, "seconds": 4.0 * n, "message": f"{phase} epoch {n}/{of}"}
        found.append({"event": "epoch", **facts, **more})
    return found


def run(
    workspace: Workspace,
    name: str,
    told: dict[str, Any],
    *,
    finished: bool = False,
    skill: float = 4.0,
    model: str = "llm-edt",
    seed: int = 42,
    made: Any = None,
) -> Path:
    folder = workspace.runs / name
    folder.mkdir(parents=True)
    ours = model == "llm-edt"
    settings = load_settings("paper" if ours else model, environment={}).document()
    for section, fields in SETTINGS.items():
        settings[section] |= fields
    settings["model"]["name"] = model
    settings["training"]["seed"] = seed
    plan = {"data": "pair", "data_key": "k1", "key": name[-4:], "settings": settings, "device": "cpu"}
    plan["preset"] = "paper" if ours else model
    plan["llm"] = "local (no LLM)" if ours else ""
    plan["artefacts"] = {"augmentation": "a1", "profiles": "p1"} if ours else {}
    write_json(folder / "run.json", plan)
    count = told["epochs"]
    records = [{"event": "run", "run": name, "message": f"training {name} on cpu"}]
    names = ["pre-training", "fine-tuning"] if ours else ["pre-training"]
    records.append({"event": "planned", "phases": names})
    records += epochs("pre-training", count, told.get("of", count))
    if "second" in told:
        records += epochs("fine-tuning", told["second"], told["second"], 0.12)
    if "end" in told:
        records.append({"event": told["end"]})
    if finished:
        records.append({"event": "finished", "run": name, "message": f"run {name} is finished"})
        phases = {"pre-training": {"best_epoch": count, "seconds": 4.0 * count}}
        write_json(folder / "manifest.json", {"plan": plan, "parameters": 1234, "phases": phases})
        _results(folder, name, model, seed, skill, made)
    events_of(folder, records)
    return folder


def beat(folder: Path, **fields: Any) -> None:
    fields = {"time": NOW, "host": socket.gethostname(), "event": "progress", "stage": "", **fields}
    write_json(folder / "heartbeat.json", fields)


def _results(folder: Path, name: str, model: str, seed: int, skill: float, made: Any) -> None:
    (folder / "results").mkdir()
    targets = made.targets("test")
    ranks = 1 + np.random.default_rng(seed).poisson(skill, len(targets.users)).astype(float)
    domains = {}
    for number, domain in enumerate(made.domains.names):
        own = ranks[targets.domains == number]
        gain = 1 / np.log2(1 + own)
        figures = {f"hr@{k}": float((own <= k).mean()) for k in (5, 10, 20)}
        figures |= {f"ndcg@{k}": float((gain * (own <= k)).mean()) for k in (5, 10, 20)}
        domains[domain] = {"users": len(own), **figures, "mrr": float((1 / own).mean())}
        domains[domain] |= {"coverage@10": 0.5, "popularity@10": 12.0}
    document = {
        **{"file": "test-full", "run": name, "data": "pair", "data_key": "k1", "synthetic": True},
        **{"model": model, "variant": "", "first_phase": False, "seed": seed, "parameters": 1234, "seconds": 9.0},
        **{"llm": "local (no LLM)" if model == "llm-edt" else "", "split": "test", "protocol": "full"},
        **{"negatives": None, "keep_seen": False, "domains": domains, "overall": domains["food"]},
        "groups": {"length": {"[0,5)": domains, "[5,10)": domains}},
    }
    write_json(folder / "results" / "test-full.json", document)
    frame = {"user": targets.users, "item": targets.items, "domain": targets.domains.astype(np.int8)}
    pl.DataFrame({**frame, "rank_full": ranks}).write_parquet(folder / "results" / "test-full-ranks.parquet")


def _artefacts(workspace: Workspace, made: Any) -> None:
    prefixes = made.training_view().prefixes
    # One made-up item before the history of user 0.
    items = np.concatenate([[made.domains.items + 1], prefixes.items])
    offsets = np.concatenate([[0], prefixes.offsets[1:] + 1])
    inserted = np.zeros(len(items), bool)
    inserted[0] = True
    pseudo = {"number": made.domains.items + 1, "domain": 1, "title": "Made up [b]pan[/b]"}
    row = {"user": 0, "source": 0, "target": 1, "title": "Made up [b]pan[/b]", "anchor": 0}
    kept = {**row, "item": pseudo["number"], "score_source": 0.9, "score_target": 0.8, "rank": 1, "tau": 0.75}
    out = {**row, "score_source": 0.5, "score_target": 0.1, "rank": 2, "tau": 0.75, "kept": False, "reason": "tau"}
    frames = {
        **empty_frames(FRAMES),
        "pseudo": pl.DataFrame([pseudo], schema=FRAMES["pseudo"]),
        "generated": pl.DataFrame([{**kept, "kept": True, "reason": "kept"}, out], schema=FRAMES["generated"]),
    }
    vectors = np.ones((1, 4), np.float32) / 2
    sequences = Sequences(offsets, items)
    with workspace.artefact("augmentation", "a1").create() as (folder, _):
        Augmentation(sequences, inserted, pseudo_vectors=vectors, **frames).save(folder)
    texts = ["Likes [bold]pans[/bold]\x1b[5m and soup."] + [None] * (USERS - 1)
    with workspace.artefact("profiles", "p1").create() as (folder, _):
        Profiles(texts, np.zeros((USERS, 4), np.float32), **empty_frames(PROFILE_FRAMES)).save(folder)


def _cache(workspace: Workspace) -> None:
    workspace.cache.mkdir(parents=True)
    cache = ReplyCache(workspace.cache)
    usage = {"prompt_tokens": 100, "completion_tokens": 20, "cost_usd": 0.002}
    question = [["system", "You know what goes together."], ["user", "A user bought:\n1. [b]Rice[/b]"]]
    asked = {"identity": {"name": "cloud"}, "prompt": "generate@1", "messages": question, "schema": None}
    replies = ('{"items": [{"title": "Pan"}]}', "\x1b[2J[red]a reply[/red]\nof two lines", "third")
    entries = {
        f"k{n}": {
            **{"backend": "cloud", "model": "cloud/big", "time": NOW + n, "seconds": 1.5},
            **{"users": [f"U{n:04d}", "U0009"][: 1 + n % 2], "asked": {**asked, "seed": n}, "price": None},
            **{"reply": text, "finish_reason": "stop", "usage": usage},
        }
        for n, text in enumerate(replies)
    }
    entries["v"] = {"backend": "local", "time": NOW, "vector": "", "usage": {**usage, "cost_usd": None}}
    cache.put(entries)
    cache.close()


def _fixed(path: Path) -> None:
    """Nothing in it tells when it was made."""
    manifest = json.loads(path.read_text())
    write_json(path, {**manifest, "made": "2026-01-01T00:00:00Z", "seconds": 1.0})
