"""Global and domain-specific threads: eq. 10 and 11 over one backbone, or with one for the domains beside it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edt_cli.models.backbones import make_backbone
from edt_cli.models.batch import Batch, last_state
from edt_cli.models.domain_sequences import domain_sequence, shared_domain_positions
from edt_cli.models.encoders import Adapter
from edt_cli.models.inputs import ModelInputs
from edt_cli.models.llm_edt_options import LLMEDTOptions
from edt_cli.models.positions import Positions
from edt_cli.models.profiled import ProfiledModel
from edt_cli.models.typed import Layer, ModuleList


class ThreadedModel(ProfiledModel):
    """A state is u, the global thread's, until the domain threads are `fine_tuned`; then u + u^d.

    With `threads = joint` a second backbone reads the domains' sequences, and its h^d is in the sum from the start.
    """

    def __init__(self, given: ModelInputs) -> None:
        super().__init__(given)
        assert isinstance(given.options, LLMEDTOptions)
        self.options = given.options
        self.threads = DomainThreads(self.domains, given.model.hidden, self.options.adapter)
        self.domain_backbone = make_backbone(given.model) if self.options.threads == "joint" else None
        self.fine_tuned = False

    def training_positions(self, batch: Batch) -> tuple[Positions, Tensor]:
        """With joint threads the next item is learned from u + h^d, and L_align still speaks of u."""
        if self.domain_backbone is None:
            return super().training_positions(batch)
        x = self.encode_items(batch.items)
        states = self.backbone(x, batch.lengths)
        at = self.before_targets(batch, x, states + self.domain_positions(batch, x)[0])
        return at, last_state(states, batch.lengths)

    def encode_positions(self, batch: Batch) -> Tensor:
        """Eq. 11: u + u^d, d the domain asked for at each position."""
        x = self.encode_items(batch.items)
        states = self.backbone(x, batch.lengths)
        if self.domain_backbone is None and not self.fine_tuned:
            return states
        domain_states, present = self.domain_positions(batch, x)
        return self.together(states, domain_states, present, batch.domains)

    def encode_last(self, batch: Batch) -> Tensor:
        if self.domain_backbone is None and not self.fine_tuned:
            return super().encode_last(batch)
        return self.together(*self.last_parts(batch))

    def together(self, states: Tensor, domain_states: Tensor, present: Tensor, domains: Tensor) -> Tensor:
        """Eq. 11 from its parts, [..., D] each: u + u^d. Joint threads have h^d in the sum from the first phase on,
        to which the second adds u^d."""
        if self.domain_backbone is not None:
            states = states + domain_states
        return states + self.threads(domain_states, present, domains) if self.fine_tuned else states

    def last_parts(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What eq. 11 adds up, at each row's last item: u and h^d [B, D], whether h^d exists, and d [B]."""
        states = self.backbone.last(self.encode_items(batch.items), batch.lengths)
        asked = batch.domains[:, 0]
        items, lengths, _ = domain_sequence(batch.items, self.domain_of, asked)
        own = self.domain_backbone or self.backbone
        return states, own.last(self.encode_items(items), lengths), lengths > 0, asked

    def domain_positions(self, batch: Batch, x: Tensor) -> tuple[Tensor, Tensor]:
        """Eq. 10: h^d after the last item of domain d at or before each position, d the domain asked for there.

        x: [B, L, D], the vectors of the batch's items. Returns [B, L, D], zero where no such item exists yet, and
        bool [B, L], False there.
        """
        backbone = self.domain_backbone or self.backbone
        return shared_domain_positions(batch, x, self.domain_of, self.domains, backbone)

    def freeze_global(self) -> None:
        """Section 3.3.2: what pre-training learned stays, and only the threads learn on."""
        self.requires_grad_(False)
        self.threads.requires_grad_(True)
        self.fine_tuned = True


class DomainThreads(Layer):
    """Eq. 10: u^d = W (W' h^d + b') + b for each domain. The outer layer starts at zero, so that fine-tuning
    starts from the pre-trained model."""

    def __init__(self, domains: int, hidden: int, inner: int) -> None:
        super().__init__()
        self.adapters = ModuleList(Adapter(hidden, inner, hidden) for _ in range(domains))
        for adapter in self.adapters:
            nn.init.zeros_(adapter.outer.weight)
            nn.init.zeros_(adapter.outer.bias)

    def forward(self, domain_states: Tensor, present: Tensor, domains: Tensor) -> Tensor:
        """[..., D], bool [...] and long [...] -> u^d [..., D]; zero without an item of the domain."""
        out = torch.zeros_like(domain_states)
        for domain, adapter in enumerate(self.adapters):
            rows = (domains == domain) & present
            out[rows] = adapter(domain_states[rows]).to(out.dtype)
        return out
