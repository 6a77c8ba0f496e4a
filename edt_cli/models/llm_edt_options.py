"""What LLM-EDT can be told and no other system. Imports no torch: labels and ablations read it, too."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from edt_cli.config import Section, Settings, UsageError


class LLMEDTOptions(Section):
    """Alignment (section 3.4.3), domain-specific threads (3.3.2), and the memory of the preset `best`."""

    alpha: float = Field(0.7, ge=0, description="weight of L_align (eq. 14)")
    align_temperature: float = Field(1.0, gt=0, description="of eq. 13")
    threads: Literal["adapters", "joint"] = Field(
        "adapters", description="the paper's second phase, or a backbone for domains learned in the first"
    )
    adapter: int = Field(64, ge=1, description="inner size of the fine-tuning adapters (eq. 10)")
    finetune: bool = Field(True, description="off: `w/o DFT`")
    finetune_lr: float = Field(1e-5, gt=0, description="learning rate of domain fine-tuning")
    finetune_min_steps: int = Field(2000, ge=0, description="before patience counts")
    finetune_validate_steps: int = Field(100, ge=1, description="steps between two validations, whole epochs")
    finetune_epochs: int = Field(400, ge=0, description="at most")
    memory: bool = Field(False, description="add to the score what pairs, texts and counts tell; with loss `ce`")
    memory_window: int = Field(10, ge=1, description="the newest items of a history that the memory looks at")
    memory_neighbours: int = Field(50, ge=1, description="kept for each item, in each domain")
    memory_period: int | None = Field(
        None, ge=1, description="days; the memory tells counts of the newest item's period and until then, too"
    )
    calibrate: bool = Field(False, description="after pre-training, weigh the memory's terms by the validation set")

    def check(self, s: Settings) -> None:
        """Errors: UsageError for options that do not go with each other or with other settings."""
        causal = s.model.backbone != "bert4rec"
        if self.memory and (s.training.loss != "ce" or not causal):
            raise UsageError("options.memory needs training.loss = ce and a causal backbone")
        if self.calibrate and not self.memory:
            raise UsageError("options.calibrate needs options.memory: what it weighs are the memory's terms")
        if self.threads == "joint" and not causal:
            raise UsageError("options.threads = joint needs a causal backbone")
