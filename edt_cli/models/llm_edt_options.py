"""The options of LLM-EDT. This module does not import torch, since labels and ablations read it too."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from edt_cli.config import Section, Settings, UsageError, validated

Unsound = Literal["none", "generated-candidates", "split-after-augmentation"]
"""Departures of the released code that change what is measured."""
UNSOUND: dict[Unsound, str] = {
    "generated-candidates": "generated items are among the candidates",
    "split-after-augmentation": "the augmented sequences are split, so inserted items are targets",
}
"""What makes a run unsound."""


class LLMEDTOptions(Section):
    """Options of LLM-EDT.

    They cover alignment (section 3.4.3), domain-specific threads (3.3.2), and the memory of the preset `best`.
    """

    alpha: float = Field(0.7, ge=0, description="weight of L_align (eq. 14)")
    align_temperature: float = Field(1.0, gt=0, description="temperature of L_align (eq. 13)")
    threads: Literal["adapters", "joint"] = Field(
        "adapters",
        description="`adapters`: trained in a second phase, as in the paper; `joint`: a second backbone",
    )
    adapter: int = Field(64, ge=1, description="inner size of the fine-tuning adapters (eq. 10)")
    finetune: bool = Field(True, description="domain fine-tuning; off: `w/o DFT`")
    finetune_lr: float = Field(1e-5, gt=0, description="learning rate of domain fine-tuning")
    finetune_min_steps: int = Field(2000, ge=0, description="steps of fine-tuning before patience counts")
    finetune_validate_steps: int = Field(
        100, ge=1, description="steps between two validations of fine-tuning, rounded to whole epochs"
    )
    finetune_epochs: int = Field(400, ge=0, description="maximum number of epochs of fine-tuning")
    memory: bool = Field(
        False, description="add co-occurrence, text similarity and counts to the score; needs loss `ce`"
    )
    memory_window: int = Field(10, ge=1, description="number of newest items of a history that the memory uses")
    memory_neighbours: int = Field(50, ge=1, description="neighbours kept for each item, in each domain")
    memory_period: int | None = Field(
        None,
        ge=1,
        description="days; the memory also counts interactions in the newest item's period, and until its end",
    )
    calibrate: bool = Field(
        False, description="after pre-training, fit the weights of the memory's terms on the validation set"
    )

    sees_future: bool = Field(
        False,
        description="departure of the released code: no causal mask, so in training a state sees its own target",
    )
    adapter_residual: bool = Field(
        False, description="departure of the released code: ReLU and a residual in the adapters of eq. 10"
    )
    global_term: bool = Field(
        True, description="off: departure of the released code, fine-tuning scores by u^d alone, without u (eq. 11)"
    )
    profiles_see_validation: bool = Field(
        False, description="departure of the released code: profiles are written of the validation item, too"
    )
    unsound: Unsound = Field(
        "none",
        description="unsound, not a result: generated items among the candidates, or a split of the augmented "
        "sequences; only `edt compare departures` shows such runs",
    )

    def check(self, s: Settings) -> None:
        """Validate the options against each other and against the other settings.

        Raises:
            UsageError: If a combination is not supported.
        """
        causal = s.model.backbone != "bert4rec"
        if self.memory and (s.training.loss != "ce" or not causal):
            raise UsageError("options.memory needs training.loss = ce and a causal backbone")
        if self.calibrate and not self.memory:
            raise UsageError("options.calibrate needs options.memory: it fits the weights of the memory's terms")
        if self.threads == "joint" and not causal:
            raise UsageError("options.threads = joint needs a causal backbone")
        if self.sees_future and (s.model.backbone != "sasrec" or self.memory or self.threads == "joint"):
            raise UsageError("options.sees_future needs model.backbone = sasrec, adapters, and no memory")
        if not self.global_term and not (self.finetune and self.threads == "adapters"):
            raise UsageError("options.global_term = false needs options.finetune and options.threads = adapters")
        if (self.profiles_see_validation or self.unsound != "none") and s.training.train_on != "train":
            raise UsageError(
                "options.profiles_see_validation and options.unsound are of runs that are evaluated: leave out "
                "--refit and --final"
            )


def llm_edt_options(s: Settings) -> LLMEDTOptions:
    """Return the options of LLM-EDT in the settings of a run; for another system their defaults."""
    return validated(LLMEDTOptions, s.options if s.model.name == "llm-edt" else {})
