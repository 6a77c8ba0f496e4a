"""Inspection of one user: history, generated items, profile, and what was sent to an LLM about them."""

from __future__ import annotations

import time
from collections.abc import Collection
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
    """Describe one user with the artefacts of a pipeline, making those that are missing.

    Args:
        pipeline: The pipeline whose augmentation and profiles are shown.
        name: A user's id, or `one-domain` for the first user with r = 1 who got an inserted item.

    Returns:
        The document of `describe_user`.

    Raises:
        UserError: If there is no such user.
    """
    wanted = None if name == ONE_DOMAIN else pipeline.dataset.user(name)  # fail before anything is made or paid for
    augmentation, profiles = pipeline.augmentation(), pipeline.profiles()
    user = _first_augmented(pipeline, augmentation) if wanted is None else wanted
    return describe_user(pipeline.dataset, augmentation, profiles, user, pipeline.chat_identity["name"])


def _first_augmented(pipeline: Pipeline, augmentation: Augmentation) -> int:
    """Return the first user with r = 1 who got an inserted item."""
    ratios = imbalance(pipeline.view.prefixes.domain_counts(pipeline.dataset.domains))
    users = np.flatnonzero(
        (ratios == 1) & np.isin(np.arange(len(ratios)), augmentation.sequences.users[augmentation.inserted])
    )
    if not len(users):
        raise UserError(f"no user of {pipeline.dataset.name} with items in only one domain got an inserted item")
    return int(users[0])


def describe_user(
    dataset: Dataset,
    augmentation: Augmentation,
    profiles: Profiles,
    user: int,
    llm: str,
    *,
    train_on: TrainOn = "train",
) -> dict[str, Any]:
    """Return a user's history with inserted items, all generated items with their scores, and the profile.

    Args:
        dataset: The dataset the user belongs to.
        augmentation: Augmentation of the dataset.
        profiles: Profiles of its users.
        user: The user's number in the dataset.
        llm: Name of the LLM that wrote the texts.
        train_on: Part of each history that the artefacts were made from, as in `Dataset.learned_lengths`.

    Returns:
        A document that can be written as JSON; `history` is one timeline, oldest first. Inserted items have `why`,
        and generated items `anchor`: the item of the history that they are most like, and are inserted after.
    """
    length = int(dataset.learned_lengths(train_on)[user])
    counts = dataset.sequences.rows(np.array([user])).prefixes(np.array([length])).domain_counts(dataset.domains)
    names = dataset.domains.names
    domain_of = augmentation.domain_of(dataset.domains)
    titles = pl.concat([dataset.catalogue["title"], augmentation.pseudo["title"]])
    real_items = len(dataset.catalogue)

    def item(number: int, part: str) -> dict[str, Any]:
        return {
            "part": part,
            "domain": names[int(domain_of[number])],
            "item": dataset.catalogue["id"][number - 1] if number <= real_items else None,
            "title": titles[number - 1],
        }

    generated = augmentation.generated.filter(pl.col("user") == user)
    verdicts = [
        {
            "domain": names[row["target"]],
            **{key: row[key] for key in SHOWN},
            "anchor": _anchor(dataset, user, row["anchor"]),
        }
        for row in generated.iter_rows(named=True)
    ]
    why = {
        number: verdict
        for number, verdict in zip(generated["item"].to_list(), verdicts, strict=True)
        if verdict["kept"]
    }
    begin, end = (int(augmentation.sequences.offsets[row]) for row in (user, user + 1))
    history = []
    for index in range(begin, end):
        number = int(augmentation.sequences.items[index])
        inserted = bool(augmentation.inserted[index])
        shown = item(number, "inserted" if inserted else "train")
        history.append({**shown, "why": why.get(number)} if inserted else shown)
    for position in range(length, int(dataset.sequences.lengths[user])):
        held = [split for split, positions in dataset.target_positions.items() if positions[user] == position]
        history.append(item(int(dataset.sequences.of(user)[position]), held[0] if held else "later"))
    return {
        "user": dataset.user_ids[user],
        "data": dataset.name,
        "counts": {domain: int(count) for domain, count in zip(names, counts[0], strict=True)},
        "r": float(imbalance(counts)[0]),
        "llm": llm,
        "history": history,
        "generated": verdicts,
        "profile": profiles.texts[user],
    }


def _anchor(dataset: Dataset, user: int, position: int | None) -> str | None:
    """Return the title, or else the id, of an item of a history; None without a position."""
    if position is None or position >= dataset.sequences.lengths[user]:
        return None
    number = int(dataset.sequences.of(user)[position])
    title: str | None = dataset.catalogue["title"][number - 1]
    return title or str(dataset.catalogue["id"][number - 1])


def sent_about(workspace: Workspace, dataset: Dataset, name: str) -> dict[str, Any]:
    """Return every prompt ever sent about a user with its reply, word for word, oldest first.

    Args:
        workspace: The workspace, whose cache has the prompts.
        dataset: The dataset of the user.
        name: A user's id, or `one-domain` for one with r = 1, about whom something was sent if there is such.

    Raises:
        UserError: If there is no such user.
    """
    from edt_backends.store import ReplyCache

    cache = ReplyCache(workspace.cache) if workspace.cache.is_dir() else None
    if name == ONE_DOMAIN:
        asked = {about for _, entry in cache.entries() for about in entry.get("users", ())} if cache else set()
        user = _first_of_one_domain(dataset, asked)
    else:
        user = dataset.user_ids[dataset.user(name)]
    sent: list[dict[str, Any]] = []
    if cache is not None:
        for _, entry in cache.asked_about(user):
            request = entry["asked"]
            sent.append(
                {
                    "prompt": request["prompt"],
                    "backend": entry["backend"],
                    "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(entry["time"])),
                    "messages": [{"role": role, "content": content} for role, content in request["messages"]],
                    "max_tokens": request.get("max_tokens", entry.get("max_tokens")),
                    "temperature": request["temperature"],
                    "seed": request["seed"],
                    "schema": request["schema"],
                    "reply": entry["reply"],
                    "finish_reason": entry["finish_reason"],
                    "usage": entry["usage"],
                    "set_aside": bool(entry.get("rejected")),
                }
            )
    return {"user": user, "data": dataset.name, "sent": sent}


def _first_of_one_domain(dataset: Dataset, preferred: Collection[str]) -> str:
    """Return the first user with r = 1, one of `preferred` if there is one."""
    ratios = imbalance(dataset.training_view().prefixes.domain_counts(dataset.domains))
    names = [dataset.user_ids[user] for user in np.flatnonzero(ratios == 1).tolist()]
    if not names:
        raise UserError(f"every user of {dataset.name} has items in several domains")
    return next((name for name in names if name in preferred), names[0])


SHOWN = ("title", "score_source", "score_target", "tau", "rank", "kept", "reason")
"""Fields of a generated item that `describe_user` returns."""
