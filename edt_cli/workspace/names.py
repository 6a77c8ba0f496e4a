"""Conversion of run plans of older versions to the current names of settings."""

from __future__ import annotations

from typing import Any

from edt_cli.config import OF_LLM_EDT, RENAMED

LEARNED_FROM = {False: "train", True: "all", "test": "train+valid"}


def current_plan(plan: Any) -> Any:
    """Return a run's plan with its settings under their current names.

    Anything but a plan with sections of settings is returned unchanged; its reader reports it as damaged.
    """
    settings = plan.get("settings") if isinstance(plan, dict) else None
    if not isinstance(settings, dict) or not all(isinstance(section, dict) for section in settings.values()):
        return plan
    current: dict[str, dict[str, Any]] = {section: {} for section in settings}
    is_llm_edt = settings.get("model", {}).get("name") == "llm-edt"
    for section, fields in settings.items():
        for field, value in fields.items():
            old = f"{section}.{field}"
            if old in OF_LLM_EDT and not is_llm_edt:
                continue  # the settings of every system had these fields, but only LLM-EDT used them
            new_section, _, name = RENAMED.get(old, old).partition(".")
            current.setdefault(new_section, {})[name] = _value(old, value)
    return {**plan, "settings": current}


def _value(old: str, value: Any) -> Any:
    if old == "training.final":
        return LEARNED_FROM.get(value, value)
    if old == "training.course" and isinstance(value, dict):
        return {
            phase: {("planned_epochs" if name == "of" else name): kept for name, kept in schedule.items()}
            for phase, schedule in value.items()
        }
    return value
