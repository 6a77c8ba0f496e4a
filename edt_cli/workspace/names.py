"""What an older version wrote into a run's folder, by the names of today."""

from __future__ import annotations

from typing import Any

from edt_cli.config import OF_LLM_EDT, RENAMED

LEARNED_FROM = {False: "train", True: "all", "test": "train+valid"}


def current_plan(plan: dict[str, Any]) -> dict[str, Any]:
    """A run's plan with its settings by their names of today; as it is where they are no settings at all."""
    settings = plan.get("settings")
    if not isinstance(settings, dict) or not all(isinstance(section, dict) for section in settings.values()):
        return plan
    found: dict[str, dict[str, Any]] = {section: {} for section in settings}
    ours = settings.get("model", {}).get("name") == "llm-edt"
    for section, fields in settings.items():
        for field, value in fields.items():
            old = f"{section}.{field}"
            if old in OF_LLM_EDT and not ours:
                continue  # every system's settings had them, and only LLM-EDT's meant them
            now, _, name = RENAMED.get(old, old).partition(".")
            found.setdefault(now, {})[name] = _value(old, value)
    return {**plan, "settings": found}


def _value(old: str, value: Any) -> Any:
    if old == "training.final":
        return LEARNED_FROM.get(value, value)
    if old == "training.course" and isinstance(value, dict):
        return {
            phase: {("planned_epochs" if name == "of" else name): kept for name, kept in one.items()}
            for phase, one in value.items()
        }
    return value
