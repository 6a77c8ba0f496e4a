"""Alignment of user states with LLM-written profiles: the common part of LLM-EDT and LLM4CDSR."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from edt_cli.config import Section, Settings
from edt_cli.models.batch import Batch
from edt_cli.models.encoders import Adapter, whiten
from edt_cli.models.inputs import ModelInputs, mixed_only
from edt_cli.models.plain import PlainModel


class ProfiledModel(PlainModel):
    """A backbone over mixed sequences whose last state is aligned with the user's profile."""

    @classmethod
    def check(cls, s: Settings, options: Section) -> None:
        mixed_only(s)

    def __init__(self, given: ModelInputs) -> None:
        super().__init__(given)
        profiles = given.profiles
        if profiles is not None:
            profiles = whiten(profiles, profiles.abs().sum(1) > 0)
            self.profile_adapter = Adapter(profiles.shape[1], profiles.shape[1] // 2, given.model.hidden)
        self.register_buffer("profiles", profiles, persistent=False)

    profiles: Tensor | None

    def aligned(self, last: Tensor, batch: Batch, loss: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """Return `loss(states, adapted profiles)` over the users of the batch that have a profile.

        `last` are the states [B, D] after each user's last item.
        """
        assert self.profiles is not None
        profiles = self.profiles[batch.rows]
        known = (profiles.abs().sum(1) > 0) & (batch.lengths > 0)
        return loss(last[known], self.profile_adapter(profiles[known]))
