"""Settings from all their sources: presets, files, the environment and flags.

Precedence, strongest first: flag, environment (`EDT_TRAINING_LR=1e-4`), `--config FILE`, preset, default.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edt_cli.config.sections import Settings
from edt_cli.config.validation import (
    Section,
    UsageError,
    UserError,
    alternatives,
    did_you_mean,
    merged,
    similar_settings,
    validated,
)

PRESETS = Path(__file__).parent.parent / "presets"
ENVIRONMENT_OPTION = "EDT_OPTIONS_"


def load_settings(
    preset: str | Path,
    *,
    config: Path | None = None,
    flags: Mapping[str, Mapping[str, Any]] | None = None,
    environment: Mapping[str, str] | None = None,
    over: Mapping[str, Mapping[str, Any]] | None = None,
) -> Settings:
    """Load settings from all sources, in order of precedence.

    Args:
        preset: Name of a preset, or the file of a system that is not built in.
        config: TOML file of the user.
        flags: {section: {field: value}} of the command line.
        environment: Environment variables; those of this process by default.
        over: {section: {field: value}} that replace values of the preset.

    Raises:
        UserError: If the preset is unknown, a file cannot be read, a field is unknown or a value is out of range.
    """
    values = merged(read_toml(preset if isinstance(preset, Path) else preset_path(preset)), over or {})
    if config is not None:
        values = merged(values, read_toml(config))
    values = merged(values, _from_environment(os.environ if environment is None else environment))
    values = merged(values, flags or {})
    return validated(Settings, values)


def preset_name(preset: str | Path) -> str:
    """Return the name of a preset, which may be the file of a system that is not built in."""
    return preset if isinstance(preset, str) else preset.stem


def preset_names() -> list[str]:
    """Return the names of the built-in presets, sorted."""
    return sorted(path.stem for path in PRESETS.glob("*.toml"))


def preset_path(name: str) -> Path:
    """Return the file of a built-in preset.

    Raises:
        UsageError: If there is no such preset.
    """
    if name not in preset_names():
        raise UsageError(f"unknown preset {name!r}; {alternatives(name, preset_names())}")
    return PRESETS / f"{name}.toml"


def parse_assignments(assignments: list[str]) -> dict[str, dict[str, Any]]:
    """Parse the arguments of `--set`, such as "training.lr=1e-4", to {section: {field: text}}.

    Values stay text; pydantic converts them. `none` becomes None.

    Raises:
        UsageError: If an argument is not of the form section.field=value.
    """
    values: dict[str, dict[str, Any]] = {}
    for assignment in assignments:
        match = re.fullmatch(r"([a-z_]+)\.([a-z_][a-z0-9_]*)=(.*)", assignment)
        if not match:
            meant = similar_settings(assignment.partition("=")[0], Settings)
            hint = did_you_mean(meant) or "edt settings lists them"
            raise UsageError(
                f"--set takes section.field=value, such as training.lr=1e-4; got {assignment!r}; {hint}"
            )
        section, field, value = match.groups()
        values.setdefault(section, {})[field] = None if value == "none" else value
    return values


def model_named(config: Path | None, assignments: list[str]) -> str | None:
    """Return `model.name` as set by --set, the environment or --config, or None if none of them sets it."""
    values = merged(read_toml(config) if config else {}, _from_environment(os.environ))
    model = merged(values, parse_assignments(assignments)).get("model")
    return model.get("name") if isinstance(model, dict) else None


def _from_environment(environment: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    values: dict[str, dict[str, Any]] = {}
    for section, field in Settings.model_fields.items():
        kind = field.annotation
        for name in kind.model_fields if isinstance(kind, type) and issubclass(kind, Section) else ():
            value = environment.get(f"EDT_{section}_{name}".upper())
            if value is not None:
                values.setdefault(section, {})[name] = None if value == "none" else value
    for name, value in environment.items():
        if name.startswith(ENVIRONMENT_OPTION):
            option = name.removeprefix(ENVIRONMENT_OPTION).lower()
            values.setdefault("options", {})[option] = None if value == "none" else value
    return values


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        UserError: If the file cannot be read or is not valid TOML.
    """
    try:
        return tomllib.loads(path.read_text("utf-8-sig"))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid TOML: {error}") from None
