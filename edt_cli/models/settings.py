"""Every setting with its type, default, value and description: for `edt settings` and for docs/settings.md."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from edt_cli.config import Section, Settings, UsageError, alternatives, did_you_mean, similar_settings
from edt_cli.models.systems import options_of, title_of

BOUNDS = {"exclusiveMinimum": ">", "minimum": ">=", "exclusiveMaximum": "<", "maximum": "<="}
WORDS = {"number": "float", "integer": "int", "string": "text", "null": "none", "array": "list", "object": "table"}


@dataclass(frozen=True)
class Setting:
    """A setting as a list shows it.

    Attributes:
        name: Dotted name, as `--set` takes it.
        kind: Values that it takes, such as `float > 0` or `full | sampled`.
        default: Its default.
        value: Its value in the listed settings.
        about: What it does.
    """

    name: str
    kind: str
    default: Any
    value: Any
    about: str

    @property
    def changed(self) -> bool:
        """Whether the value differs from the default."""
        return bool(self.value != self.default)


@dataclass(frozen=True)
class Listed:
    """A section with its settings."""

    name: str
    about: str
    settings: list[Setting]


def list_settings(s: Settings, name: str | None = None) -> list[Listed]:
    """Return every section with all its settings, the options of the system as the last.

    Args:
        s: All settings.
        name: Only this section, or only this setting, such as `training.lr`.

    Raises:
        UsageError: If there is no such section or setting.
    """
    wanted = (name or "").partition(".")[0]
    if name and wanted not in Settings.model_fields:
        raise _unknown(name, "the sections are", Settings.model_fields)
    sections = [_listed(s, section) for section in ([wanted] if name else Settings.model_fields)]
    if name is None or name == wanted:
        return [section for section in sections if section.settings or name]
    (section,) = sections
    named = [setting for setting in section.settings if setting.name == name]
    if not named:
        raise _unknown(name, f"{wanted} has", [setting.name for setting in section.settings])
    return [Listed(section.name, section.about, named)]


def settings_of(prefix: str, values: Section) -> list[Setting]:
    """Return the settings of a section, named with a prefix such as `training.`."""
    schemas = type(values).model_json_schema()["properties"] if type(values).model_fields else {}
    return [
        Setting(
            name=prefix + name,
            kind=_kind(schemas[name]),
            default=None if field.is_required() else field.get_default(call_default_factory=True),
            value=getattr(values, name),
            about=field.description or "",
        )
        for name, field in type(values).model_fields.items()
    ]


def written(value: Any) -> str:
    """Return a value as `--set` takes it."""
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _unknown(name: str, otherwise: str, known: Iterable[str]) -> UsageError:
    hint = did_you_mean(similar_settings(name, Settings)) or alternatives(name, known, otherwise)
    return UsageError(f"there is no setting {name}; {hint}")


def _listed(s: Settings, section: str) -> Listed:
    if section == "options":
        about = f"Options of {title_of(s.model.name)}."
        return Listed(section, about, settings_of("options.", options_of(s.model.name, s.options)))
    values: Section = getattr(s, section)
    return Listed(section, type(values).__doc__ or "", settings_of(f"{section}.", values))


def _kind(schema: Mapping[str, Any]) -> str:
    """Return the values that a JSON schema allows, in words."""
    if "anyOf" in schema:
        return " | ".join(map(_kind, schema["anyOf"]))
    if "enum" in schema or "const" in schema:
        return " | ".join(schema.get("enum", [schema.get("const")]))
    if schema["type"] == "boolean":
        return "true | false"
    bounds = [f"{sign} {schema[bound]}" for bound, sign in BOUNDS.items() if bound in schema]
    return " ".join([WORDS[schema["type"]], ", ".join(bounds)]).rstrip()
