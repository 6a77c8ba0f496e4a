"""Labels of runs in tables: system, preset, ablations, and the settings that differ from the preset."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from edt_cli.config import Settings
from edt_cli.models.llm_edt_options import LLMEDTOptions
from edt_cli.models.systems import OURS, preset_settings, presets_of, systems, title_of
from edt_cli.paper.ablations import ABLATIONS
from edt_cli.workspace.documents import Result, RunResult
from edt_cli.workspace.runs import Run

KEEP_SEEN = "evaluation.keep_seen"
UNLABELLED = (
    "model.name",
    "training.seed",
    "training.train_on",
    "training.schedules",
    "training.side_weights",
    "evaluation.",
    "limits.",
    "llm.concurrency",
)
"""Settings left out of labels: tables show them elsewhere, or they change no run.

KEEP_SEEN is still shown where runs were validated on different candidates.
"""
LLM_NAMES = ("llm.provider", "llm.model")
"""Settings left out when compared with a preset: the LLM's name stands beside the label."""


def preset_of(run: Run) -> str:
    """Return the name of the preset that a run was made with.

    A run that does not record it gets the preset whose settings it has, ablations aside, or "" if there is none.
    """
    preset_name: str | None = run.plan.get("preset")
    if preset_name is not None:
        return preset_name
    settings = run.settings
    for name, preset in presets_of(settings.model.name).items():
        ablated = _ablated_prefixes(ablations(settings, preset))
        if all(setting.startswith(ablated) for setting in changed_settings(all_settings(settings), preset)):
            return name
    return ""


def ablations(settings: Settings, base: Settings) -> list[str]:
    """Return the ablations in `settings` that are not in `base`, named as in table 3."""
    if settings.model.name != OURS:
        return []
    values = all_settings(settings)
    names = [name for name in ABLATIONS if _is_ablated(values, name) and not is_ablated(base, name)]
    return [ABLATIONS[name][0] for name in names]


def is_ablated(settings: Settings, name: str) -> bool:
    """Return whether these settings have the ablation `name`."""
    return _is_ablated(all_settings(settings), name)


def _is_ablated(values: Mapping[str, Any], name: str) -> bool:
    changes = ABLATIONS[name][1]
    return all(
        values[f"{section}.{field}"] == value
        for section, fields in changes.items()
        for field, value in fields.items()
    )


def all_settings(settings: Settings) -> dict[str, Any]:
    """Return settings by flat name (`training.lr`), for LLM-EDT including options left at their default."""
    options = LLMEDTOptions().model_dump() if settings.model.name == OURS else {}
    return {f"options.{name}": value for name, value in options.items()} | settings.flat()


def identity(run: Run, *, first_phase: bool = False) -> dict[str, str]:
    """Return `preset` and `variant` of a run.

    The variant lists the ablations relative to the preset, named as in table 3, and `refit` for a run that also
    trained on held-out items.
    """
    preset, settings = preset_of(run), run.settings
    ablated = ablations(settings, preset_settings(settings.model.name, preset) or Settings())
    first_phase_name = ABLATIONS["dft"][0] if settings.model.name == OURS else "first phase"
    names = [*ablated, *[first_phase_name] * first_phase, *["refit"] * (settings.training.train_on != "train")]
    return {"preset": preset, "variant": ", ".join(dict.fromkeys(names))}


def shown_preset(model: str, preset: str) -> str:
    """Return the preset if a label names it, else "".

    Labels always name LLM-EDT's preset; that of another system only if it is not the default.
    """
    known = systems().get(model)
    return preset if model == OURS or (known is not None and preset != known.preset_name) else ""


def changed_settings(values: Mapping[str, Any], preset: Settings) -> dict[str, Any]:
    """Return the settings (by flat name) that differ from `preset` and belong in a label with it."""
    preset_values = all_settings(preset)
    return {
        name: value
        for name, value in values.items()
        if preset_values.get(name) != value and not name.startswith((*UNLABELLED, *LLM_NAMES))
    }


def label_of(model: str, preset: str, settings: Mapping[str, Any]) -> str:
    """Return a label such as `LLM-EDT (best, lr=0.001)`.

    Args:
        model: The system's name.
        preset: Name of its preset.
        settings: Values to show, by flat name. The section is shown too if two settings share a field name.
    """
    preset_name = shown_preset(model, preset)
    parts = [preset_name] if preset_name else []
    fields = Counter(name.partition(".")[2] for name in settings)
    for name, value in sorted(settings.items()):
        field = name.partition(".")[2]
        parts.append(f"{field if fields[field] == 1 else name}={value}")
    return f"{title_of(model)} ({', '.join(parts)})" if parts else title_of(model)


def name_of(run: Run, *, without: Collection[str] = ()) -> str:
    """Return the name of a run on its own: its label, without some settings by flat name, and its variant."""
    names = identity(run)
    changed = {name: value for name, value in _changed_settings(run, names).items() if name not in without}
    label = label_of(run.settings.model.name, names["preset"], changed)
    return f"{label} {names['variant']}".rstrip()


def labelled(documents: Sequence[RunResult], runs: Sequence[Run]) -> list[Result]:
    """Return result documents with `preset`, `variant` and `label` added.

    The label has the system's name, its preset, the settings that differ from the preset, and those that tell the
    run from others of the same preset and variant. A first phase (`w/o DFT`) that was also trained as a separate
    run is returned once, as that run.
    """
    by_name = {run.name: run for run in runs}
    named: list[RunResult] = []
    for document in documents:
        names = identity(by_name[document["run"]], first_phase=document["first_phase"])
        named.append({**document, "preset": names["preset"], "variant": names["variant"]})
    settings = {run.name: all_settings(run.settings) | _candidates(run) for run in runs}
    kinds: dict[tuple[str, ...], set[str]] = {}
    for document in named:
        kinds.setdefault(_kind(document), set()).add(document["run"])
    labelled_documents: list[Result] = []
    for document in named:
        values = settings[document["run"]]
        others = [settings[run] for run in kinds[_kind(document)]]
        unlabelled = (*UNLABELLED, *_ablated_prefixes(document["variant"].split(", ")))
        # A run made before a setting existed does not have it.
        shown = {
            name: value
            for name, value in values.items()
            if (name == KEEP_SEEN or not name.startswith(unlabelled))
            and any(other.get(name) != value for other in others)
        }
        shown |= _changed_settings(by_name[document["run"]], document)
        labelled_documents.append({**document, "label": label_of(document["model"], document["preset"], shown)})
    separate_runs = {
        (*_kind(document), document["label"], document["seed"])
        for document in labelled_documents
        if not document["first_phase"]
    }
    return [
        document
        for document in labelled_documents
        if not document["first_phase"]
        or (*_kind(document), document["label"], document["seed"]) not in separate_runs
    ]


def _candidates(run: Run) -> dict[str, Any]:
    """Return whether seen items were validation candidates, as it turned out rather than as it was set."""
    return {KEEP_SEEN: run.plan.get("keep_seen", False)}


def _changed_settings(run: Run, names: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a run that differ from the preset its label names, by flat name."""
    s = run.settings
    preset = preset_settings(s.model.name, names["preset"])
    if preset is None or not shown_preset(s.model.name, names["preset"]):
        return {}
    ablated = _ablated_prefixes(names["variant"].split(", "))
    changed = changed_settings(all_settings(s), preset)
    return {name: value for name, value in changed.items() if not name.startswith(ablated)}


def _ablated_prefixes(titles: Sequence[str]) -> tuple[str, ...]:
    """Return the prefixes of the settings that these ablations change.

    They are prefixes so that `options.finetune` also covers the settings that begin with it.
    """
    changed = [changes for title, changes in ABLATIONS.values() if title in titles]
    return tuple(f"{section}.{field}" for changes in changed for section in changes for field in changes[section])


def _kind(document: Mapping[str, Any]) -> tuple[str, ...]:
    """Return data, model, variant and shown preset; runs alike in all four are told apart by their settings."""
    shown = shown_preset(document["model"], document["preset"])
    return document["data"], document["model"], document["variant"], shown
