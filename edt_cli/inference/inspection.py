"""One user as the augmenter and the profiler see them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from edt_cli.config import UserError
from edt_cli.data.imbalance import imbalance

if TYPE_CHECKING:
    from edt_cli.augmentation.artefact import Augmentation
    from edt_cli.config import TrainOn
    from edt_cli.data.dataset import Dataset
    from edt_cli.pipeline import Pipeline
    from edt_cli.profiling.profiles import Profiles
    from edt_cli.workspace.layout import Workspace

ONE_DOMAIN = "one-domain"


def inspect_user(pipeline: Pipeline, name: str) -> dict[str, Any]:
    """`describe_user` with the artefacts of a pipeline; makes what is missing.

    name: a user's id, or `one-domain`: the first user with r = 1 who was given an item.
    Errors: UserError for an unknown user.
    """
    known = None if name == ONE_DOMAIN else pipeline.dataset.user(name)  # before anything is made, or paid for
    made, profiles = pipeline.augmentation(), pipeline.profiles()
    user = _first_helped(pipeline, made) if known is None else known
    return describe_user(pipeline.dataset, made, profiles, user, pipeline.chat_identity["name"])


def _first_helped(pipeline: Pipeline, made: Augmentation) -> int:
    ratios = imbalance(pipeline.view.prefixes.domain_counts(pipeline.dataset.domains))
    helped = np.flatnonzero((ratios == 1) & np.isin(np.arange(len(ratios)), made.sequences.users[made.inserted]))
    if not len(helped):
        raise UserError(f"no user of {pipeline.dataset.name} with items in one domain only was given one")
    return int(helped[0])


def describe_user(
    dataset: Dataset, made: Augmentation, profiles: Profiles, user: int, llm: str, *, train_on: TrainOn = "train"
) -> dict[str, Any]:
    """The history as one timeline with inserted items, every generated item with its two scores, the profile.

    `train_on`: what the artefacts were made from, as in `Dataset.learned_lengths`.
    """
    length = int(dataset.learned_lengths(train_on)[user])
    counts = dataset.sequences.rows(np.array([user])).prefixes(np.array([length])).domain_counts(dataset.domains)
    names = dataset.domains.names
    domain_of = made.domain_of(dataset.domains)
    titles = pl.concat([dataset.catalogue["title"], made.pseudo["title"]])
    known = len(dataset.catalogue)

    def item(number: int, part: str) -> dict[str, Any]:
        return {
            "part": part,
            "domain": names[int(domain_of[number])],
            "item": dataset.catalogue["id"][number - 1] if number <= known else None,
            "title": titles[number - 1],
        }

    begin, end = (int(made.sequences.offsets[row]) for row in (user, user + 1))
    history = [
        item(int(made.sequences.items[place]), "inserted" if made.inserted[place] else "train")
        for place in range(begin, end)
    ]
    for position in range(length, int(dataset.sequences.lengths[user])):
        held = [split for split, places in dataset.target_positions.items() if places[user] == position]
        history.append(item(int(dataset.sequences.of(user)[position]), held[0] if held else "later"))
    generated = made.generated.filter(pl.col("user") == user)
    return {
        "user": dataset.user_ids[user],
        "data": dataset.name,
        "counts": {domain: int(count) for domain, count in zip(names, counts[0], strict=True)},
        "r": float(imbalance(counts)[0]),
        "llm": llm,
        "history": history,
        "generated": [
            {"domain": names[row["target"]], **{key: row[key] for key in SHOWN}}
            for row in generated.iter_rows(named=True)
        ],
        "profile": profiles.texts[user],
    }


def sent_about(workspace: Workspace, dataset: Dataset, name: str) -> dict[str, Any]:
    """Every question that was ever sent about a user, word for word, and the reply; oldest first.

    Errors: UserError for an unknown user.
    """
    from edt_backends.store import ReplyCache

    user = dataset.user_ids[dataset.user(name)]
    sent: list[dict[str, Any]] = []
    if workspace.cache.is_dir():
        for _, entry in ReplyCache(workspace.cache).asked_about(user):
            asked = entry["asked"]
            sent.append(
                {
                    "prompt": asked["prompt"],
                    "backend": entry["backend"],
                    "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(entry["time"])),
                    "messages": [{"role": role, "content": content} for role, content in asked["messages"]],
                    "max_tokens": asked["max_tokens"],
                    "temperature": asked["temperature"],
                    "seed": asked["seed"],
                    "schema": asked["schema"],
                    "reply": entry["reply"],
                    "finish_reason": entry["finish_reason"],
                    "usage": entry["usage"],
                    "set_aside": bool(entry.get("rejected")),
                }
            )
    return {"user": user, "data": dataset.name, "sent": sent}


SHOWN = ("title", "score_source", "score_target", "tau", "rank", "kept", "reason")
