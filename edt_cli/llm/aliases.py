"""Names of the user's own for models, with server, price, context and parameters: `models.toml` of a workspace."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from edt_backends.registry import provider_names
from edt_cli.config import LLMSettings, Section, UsageError, UserError, read_toml, validated

FILE = "models.toml"


class Alias(Section):
    """A model under a name of the user's own."""

    model: str = Field(pattern=".+/.+", description="PROVIDER/MODEL, as --provider takes it")
    api_base: str | None = Field(None, description="base URL of its server")
    price: str | None = Field(None, description="`free`, or IN,OUT in USD per million tokens")
    context: int | None = Field(None, ge=256, description="tokens of question and answer that it takes")
    structured: Literal["auto", "off"] = Field("auto", description="as llm.structured")
    extra: dict[str, bool | int | float | str] = Field(default_factory=dict, description="as llm.extra")

    @field_validator("extra")
    @classmethod
    def _checked(cls, value: dict[str, bool | int | float | str]) -> dict[str, bool | int | float | str]:
        return LLMSettings.no_own(value)


def read_aliases(folder: Path) -> dict[str, Alias]:
    """Read the names in a workspace; there may be none.

    Raises:
        UserError: If the file is not valid, or a name in it means something else already.
    """
    path = folder / FILE
    if not path.is_file():
        return {}
    known, aliases = set(provider_names()), {}
    for name, fields in read_toml(path).items():
        if name in known or "/" in name:
            raise UserError(f"{path}: {name!r} is the name of a provider already, so it cannot be one of your own")
        if not isinstance(fields, dict):
            raise UserError(f'{path}: each model is a table, such as [{name}] with model = "openai/served"')
        try:
            aliases[name] = validated(Alias, fields)
        except UsageError as error:
            raise UserError(f"{path}, [{name}]: {error}") from None
    return aliases
