"""Users' states beside what an LLM wrote of them: the part that LLM-EDT and LLM4CDSR have in common."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from edt_cli.config import Section, Settings
from edt_cli.models.batch import Batch
from edt_cli.models.encoders import Adapter, whiten
from edt_cli.models.inputs import ModelInputs, mixed_only
from edt_cli.models.plain import PlainModel


class ProfiledModel(PlainModel):
    """A backbone over mixed sequences, whose state after a user's last item is to agree with their profile."""

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
        """`loss` of the states `last` [B, D] and the adapted profiles of the batch's users that have one."""
        assert self.profiles is not None
        profiles = self.profiles[batch.rows]
        known = (profiles.abs().sum(1) > 0) & (batch.lengths > 0)
        return loss(last[known], self.profile_adapter(profiles[known]))
