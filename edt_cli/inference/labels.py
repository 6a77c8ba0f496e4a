"""What a run is called: its system, its preset, what was taken out of it, and what was set otherwise."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from edt_cli.config import Settings
from edt_cli.models.llm_edt_options import LLMEDTOptions
from edt_cli.models.systems import OURS, preset_settings, presets_of, systems, title_of
from edt_cli.paper.ablations import ABLATIONS
from edt_cli.workspace.runs import Run

KEEP_SEEN = "evaluation.keep_seen"
UNTOLD = (
    "model.name",
    "training.seed",
    "training.train_on",
    "training.schedules",
    "training.side_weights",
    "evaluation.",
    "limits.",
    "llm.concurrency",
)
"""Settings that a label does not tell: what a row already says, or what changes no run, KEEP_SEEN excepted where
it came to different candidates."""
WRITERS = ("llm.provider", "llm.model")
"""Nor these against a preset: who wrote stands beside the label."""


def preset_of(run: Run) -> str:
    """The preset that a run was made with. A run that does not tell has the name of the preset whose settings it
    has, ablations aside; "" where there is none."""
    told: str | None = run.plan.get("preset")
    if told is not None:
        return told
    settings = run.settings
    for name, preset in presets_of(settings.model.name).items():
        taken = _taken(ablations(settings, preset))
        if all(other.startswith(taken) for other in otherwise(all_settings(settings), preset)):
            return name
    return ""


def ablations(settings: Settings, base: Settings) -> list[str]:
    """What is out of `settings` and not of `base`, as table 3 names it."""
    if settings.model.name != OURS:
        return []
    taken = [name for name in ABLATIONS if is_ablated(settings, name) and not is_ablated(base, name)]
    return [ABLATIONS[name][0] for name in taken]


def is_ablated(settings: Settings, name: str) -> bool:
    """Whether that part of the method is out of these settings."""
    values = all_settings(settings)
    changes = ABLATIONS[name][1]
    return all(
        values[f"{section}.{field}"] == value
        for section, fields in changes.items()
        for field, value in fields.items()
    )


def all_settings(settings: Settings) -> dict[str, Any]:
    """By flat name; of LLM-EDT also the options that nobody gave."""
    options = LLMEDTOptions().model_dump() if settings.model.name == OURS else {}
    return {f"options.{name}": value for name, value in options.items()} | settings.flat()


def identity(run: Run, *, first_phase: bool = False) -> dict[str, str]:
    """`preset` and `variant` of a run: its ablations as table 3 has them, against its preset, and `refit`."""
    preset, settings = preset_of(run), run.settings
    taken = ablations(settings, preset_settings(settings.model.name, preset) or Settings())
    first = ABLATIONS["dft"][0] if settings.model.name == OURS else "first phase"
    names = [*taken, *[first] * first_phase, *["refit"] * (settings.training.train_on != "train")]
    return {"preset": preset, "variant": ", ".join(dict.fromkeys(names))}


def shown_preset(model: str, preset: str) -> str:
    """The preset where a label names it: LLM-EDT's always, of another system one that is not its default."""
    known = systems().get(model)
    return preset if model == OURS or (known is not None and preset != known.preset_name) else ""


def otherwise(values: Mapping[str, Any], preset: Settings) -> dict[str, Any]:
    """Of settings by flat name those that a label with this preset tells."""
    there = all_settings(preset)
    return {
        name: value
        for name, value in values.items()
        if there.get(name) != value and not name.startswith((*UNTOLD, *WRITERS))
    }


def label_of(model: str, preset: str, told: Mapping[str, Any]) -> str:
    """`LLM-EDT (best, lr=0.001)`. told: settings by flat name, and their values. A section is named where a field
    alone would stand for two."""
    shown = shown_preset(model, preset)
    parts = [shown] if shown else []
    fields = Counter(name.partition(".")[2] for name in told)
    for name, value in sorted(told.items()):
        field = name.partition(".")[2]
        parts.append(f"{field if fields[field] == 1 else name}={value}")
    return f"{title_of(model)} ({', '.join(parts)})" if parts else title_of(model)


def name_of(run: Run) -> str:
    """What a run is called by itself: its label, and what was taken out of it."""
    who = identity(run)
    label = label_of(run.settings.model.name, who["preset"], _otherwise(run, who))
    return f"{label} {who['variant']}".rstrip()


def labelled(documents: list[dict[str, Any]], runs: Sequence[Run]) -> list[dict[str, Any]]:
    """With `preset`, `variant` and `label`: the system's name, the preset where it is named and what differs from
    it, and what sets this run apart from others of the same preset and variant.

    A first phase (`w/o DFT`) that was also trained as a run of its own is shown once, as that run.
    """
    by_name = {run.name: run for run in runs}
    named = [
        {**document, **identity(by_name[document["run"]], first_phase=document["first_phase"])}
        for document in documents
    ]
    settings = {run.name: all_settings(run.settings) | _candidates(run) for run in runs}
    kinds: dict[tuple[str, ...], set[str]] = {}
    for document in named:
        kinds.setdefault(_kind(document), set()).add(document["run"])
    found = []
    for document in named:
        mine = settings[document["run"]]
        others = [settings[run] for run in kinds[_kind(document)]]
        silent = (*UNTOLD, *_taken(document["variant"].split(", ")))
        # A run of before a setting was there does not have it.
        told = {
            name: value
            for name, value in mine.items()
            if (name == KEEP_SEEN or not name.startswith(silent))
            and any(other.get(name) != value for other in others)
        }
        told |= _otherwise(by_name[document["run"]], document)
        found.append({**document, "label": label_of(document["model"], document["preset"], told)})
    own = {
        (*_kind(document), document["label"], document["seed"]) for document in found if not document["first_phase"]
    }
    return [
        document
        for document in found
        if not document["first_phase"] or (*_kind(document), document["label"], document["seed"]) not in own
    ]


def _candidates(run: Run) -> dict[str, Any]:
    """Which candidates validation had: not what was asked for counts, but what came of it."""
    return {KEEP_SEEN: run.plan.get("keep_seen", False)}


def _otherwise(run: Run, who: Mapping[str, Any]) -> dict[str, Any]:
    """What a run has otherwise than the preset that its label names, by flat name."""
    s = run.settings
    preset = preset_settings(s.model.name, who["preset"])
    if preset is None or not shown_preset(s.model.name, who["preset"]):
        return {}
    taken = _taken(who["variant"].split(", "))
    found = otherwise(all_settings(s), preset)
    return {name: value for name, value in found.items() if not name.startswith(taken)}


def _taken(titles: Sequence[str]) -> tuple[str, ...]:
    """The settings that ablations stand for, and with `options.finetune` those that begin like it."""
    taken = [changes for title, changes in ABLATIONS.values() if title in titles]
    return tuple(f"{section}.{field}" for changes in taken for section in changes for field in changes[section])


def _kind(document: Mapping[str, Any]) -> tuple[str, ...]:
    shown = shown_preset(document["model"], document["preset"])
    return document["data"], document["model"], document["variant"], shown
