"""LLM-EDT (SIGIR '26): a global thread aligned with LLM profiles, and domain threads on top.

Section 3.3.1 is `SequentialModel` over augmented sequences, 3.4.3 the alignment term, 3.3.2 `threads.py` and
`fine_tuning.py`. The augmenter (3.2) and the profiles (3.4.1, 3.4.2) run before training: `edt_cli/augmentation`
and `edt_cli/profiling`.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor

from edt_cli.config import Section, Settings
from edt_cli.models.batch import Batch
from edt_cli.models.fine_tuning import FineTuning
from edt_cli.models.inputs import ModelInputs
from edt_cli.models.llm_edt_options import LLMEDTOptions
from edt_cli.models.losses import alignment, mean
from edt_cli.models.memory import Memory
from edt_cli.models.phases import Phase
from edt_cli.models.positions import Objective
from edt_cli.models.threads import ThreadedModel


class LLMEDT(ThreadedModel):
    """The model of the paper; without profiles it is the ablation `w/o Profiling`."""

    Options = LLMEDTOptions
    options: LLMEDTOptions

    @classmethod
    def check(cls, s: Settings, options: Section) -> None:
        super().check(s, options)
        assert isinstance(options, LLMEDTOptions)
        options.check(s)

    @classmethod
    def limit_epochs(cls, options: Section, epochs: int) -> dict[str, int]:
        assert isinstance(options, LLMEDTOptions)
        return {"finetune_epochs": epochs} if options.finetune and options.finetune_epochs > epochs else {}

    def __init__(self, given: ModelInputs) -> None:
        super().__init__(given)
        if self.options.memory and given.view is not None:
            self.side_score = Memory(given.view, given.table, given.model, self.options)

    def phases(self, given: ModelInputs) -> list[Phase]:
        """Return global pre-training, then domain fine-tuning unless it is off (`w/o DFT`); section 3.3."""
        first = super().phases(given)
        return [*first, FineTuning(self, given)] if self.options.finetune else first

    def loss(self, batch: Batch, objective: Objective) -> dict[str, Tensor]:
        """Eq. 14: L_pre + alpha L_align, the latter over the users of the batch that have a profile."""
        at, last = self.training_positions(batch)
        terms = {"next_item": mean(objective(at, self.encode_items))}
        if self.profiles is not None:
            contrast = partial(alignment, temperature=self.options.align_temperature)
            terms["align"] = self.options.alpha * self.aligned(last, batch, contrast)
        return terms
