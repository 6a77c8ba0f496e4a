"""LLM-EDT (SIGIR '26): a global thread, aligned with LLM profiles, and domain-specific threads upon it.

Section 3.3.1 is `SequentialModel` over augmented sequences, 3.4.3 the alignment term, 3.3.2 `threads.py` and
`fine_tuning.py`. The augmenter (3.2) and the profiles (3.4.1, 3.4.2) are made before, in packages of their own.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor

from edt_cli.models.batch import Batch
from edt_cli.models.fine_tuning import FineTuning
from edt_cli.models.inputs import ModelInputs
from edt_cli.models.losses import alignment, mean
from edt_cli.models.phases import Phase
from edt_cli.models.positions import Objective
from edt_cli.models.threads import ThreadedModel


class LLMEDT(ThreadedModel):
    """Without profiles: `w/o Profiling`."""

    def __init__(self, given: ModelInputs) -> None:
        super().__init__(given)
        self.alpha = given.training.alpha
        self.align_temperature = given.training.align_temperature

    def phases(self, given: ModelInputs) -> list[Phase]:
        """Section 3.3: global pre-training, then domain fine-tuning, unless that is off (`w/o DFT`)."""
        first = super().phases(given)
        return [*first, FineTuning(self, given)] if given.training.finetune else first

    def loss(self, batch: Batch, objective: Objective) -> dict[str, Tensor]:
        """Eq. 14: L_pre + alpha L_align, over the users of the batch that have a profile."""
        at, last = self.training_positions(batch)
        terms = {"next_item": mean(objective(at, self.encode_items))}
        if self.profiles is not None:
            terms["align"] = self.alpha * self.aligned(
                last, batch, partial(alignment, temperature=self.align_temperature)
            )
        return terms
