"""Requests and responses of the HTTP server."""

from __future__ import annotations

from typing import Annotated

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, model_validator

Id = Annotated[str, Field(min_length=1, max_length=500)]
Count = Annotated[
    int,
    Field(
        ge=1, le=1000, validation_alias=AliasChoices("count", "k"), description="Number of items per domain; or k."
    ),
]
LONGEST = 10_000
"""Maximum number of items of a history, or to exclude."""


class Body(BaseModel):
    """A request; a field that is not known is an error."""

    model_config = ConfigDict(extra="forbid")


class RecommendRequest(Body):
    """For whom, and what. Ids are those of the dataset."""

    user: Id | None = Field(None, description="A user of the dataset, with the history that it has there.")
    history: list[Id] = Field(
        default_factory=list,
        max_length=LONGEST,
        description="Item ids, oldest first: of a new user the whole history, of a known one what came since.",
    )
    domain: Id | None = Field(None, description="Only items of this domain. Default: a list for each.")
    count: Count = 10
    exclude: list[Id] = Field(default_factory=list, max_length=LONGEST, description="Items not to recommend.")

    @model_validator(mode="after")
    def _somebody(self) -> RecommendRequest:
        if self.user is None and "history" not in self.model_fields_set:
            raise ValueError("say for whom: user, history, or both")
        return self


class SimilarRequest(Body):
    """An item, and what to compare it with."""

    item: Id
    domain: Id | None = Field(None, description="Only items of this domain. Default: a list for each.")
    count: Count = 10


class Item(BaseModel):
    """An item of a list, the best first."""

    item: str
    title: str | None
    score: float


class RecommendResponse(BaseModel):
    """Lists by domain."""

    run: str
    source: str = Field(description="`model`, or `popular` for a user without a known item.")
    unknown_items: int = Field(description="Items of the history that the catalogue does not have.")
    domains: dict[str, list[Item]]


class SimilarResponse(BaseModel):
    """Lists by domain."""

    run: str
    domains: dict[str, list[Item]]


class Health(BaseModel):
    """What is served."""

    status: str
    run: str
    data: str
    domains: list[str]
    items: int
    users: int
    loaded: float = Field(description="Unix seconds at which the run was loaded.")
    version: str
