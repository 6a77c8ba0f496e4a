"""Form of an entry of the reply cache, held to when one is read."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field


class UsageForm(BaseModel):
    """Form of the usage in an entry."""

    model_config = ConfigDict(strict=True, extra="forbid")

    prompt_tokens: int = Field(0, ge=0, lt=2**53)
    completion_tokens: int = Field(0, ge=0, lt=2**53)
    cost_usd: float | None = Field(0.0, ge=0, allow_inf_nan=False)
    cached_tokens: int = Field(0, ge=0, lt=2**53)


class AskedForm(BaseModel):
    """Form of the question in an entry, as far as it is read."""

    model_config = ConfigDict(strict=True)

    prompt: str
    messages: list[Annotated[list[str], Field(min_length=2, max_length=2)]]
    schema_: dict[str, Any] | None = Field(alias="schema")
    identity: dict[str, Any] = {}
    max_tokens: int | None = None


class EntryForm(BaseModel):
    """Form of an entry; the texts in it may be anything."""

    model_config = ConfigDict(strict=True)

    backend: str
    time: float = Field(ge=0, allow_inf_nan=False)
    seconds: float = Field(0.0, ge=0, allow_inf_nan=False)
    usage: UsageForm
    users: list[str] = []
    model: str = ""
    reply: str = ""
    finish_reason: str = ""
    vector: str = ""
    asked: AskedForm | None = None
    max_tokens: int | None = None
    address: str | None = None
    imported: bool = False
