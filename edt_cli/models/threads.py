"""Global and domain-specific threads (eq. 10 and 11).

Both use the same backbone, or the domains use a second one.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edt_cli.models.backbones import make_backbone
from edt_cli.models.batch import Batch, last_state
from edt_cli.models.departures import ResidualAdapter, UnmaskedSASRec
from edt_cli.models.domain_sequences import domain_sequence, shared_domain_positions
from edt_cli.models.encoders import Adapter
from edt_cli.models.inputs import ModelInputs
from edt_cli.models.llm_edt_options import LLMEDTOptions
from edt_cli.models.positions import Positions
from edt_cli.models.profiled import ProfiledModel
from edt_cli.models.typed import Layer, ModuleList


class ThreadedModel(ProfiledModel):
    """A model whose state is u, the global thread, and u + u^d once the domain threads are `fine_tuned`.

    With `threads = joint` a second backbone reads the domains' sequences, and its h^d is part of the sum from the
    start.
    """

    def __init__(self, given: ModelInputs) -> None:
        super().__init__(given)
        assert isinstance(given.options, LLMEDTOptions)
        self.options = given.options
        if self.options.sees_future:
            self.backbone = UnmaskedSASRec(given.model)
        kind = ResidualAdapter if self.options.adapter_residual else Adapter
        self.threads = DomainThreads(self.domains, given.model.hidden, self.options.adapter, kind)
        self.domain_backbone = make_backbone(given.model) if self.options.threads == "joint" else None
        self.fine_tuned = False

    def training_positions(self, batch: Batch) -> tuple[Positions, Tensor]:
        """With joint threads the next item is learned from u + h^d, while L_align still uses u."""
        if self.domain_backbone is None:
            return super().training_positions(batch)
        x = self.encode_items(batch.items)
        states = self.backbone(x, batch.lengths)
        at = self.before_targets(batch, x, states + self.domain_positions(batch, x)[0])
        return at, last_state(states, batch.lengths)

    def encode_positions(self, batch: Batch) -> Tensor:
        """Eq. 11: u + u^d, where d is the domain queried at each position."""
        x = self.encode_items(batch.items)
        states = self.backbone(x, batch.lengths)
        if self.domain_backbone is None and not self.fine_tuned:
            return states
        domain_states, present = self.domain_positions(batch, x)
        return self.add_threads(states, domain_states, present, batch.domains)

    def encode_last(self, batch: Batch) -> Tensor:
        if self.domain_backbone is None and not self.fine_tuned:
            return super().encode_last(batch)
        return self.add_threads(*self.last_parts(batch))

    def add_threads(self, states: Tensor, domain_states: Tensor, present: Tensor, domains: Tensor) -> Tensor:
        """Eq. 11 from its parts: u + u^d, [..., D].

        With joint threads h^d is part of the sum from the first phase on, and the second phase adds u^d. Without
        `options.global_term` the second phase leaves u^d alone.
        """
        if self.domain_backbone is not None:
            states = states + domain_states
        if not self.fine_tuned:
            return states
        of_domains = self.threads(domain_states, present, domains)
        return states + of_domains if self.options.global_term else of_domains

    def last_parts(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the parts of eq. 11 at each row's last item: u and h^d [B, D], whether h^d exists, and d [B]."""
        states = self.backbone.last(self.encode_items(batch.items), batch.lengths)
        domains = batch.domains[:, 0]
        items, lengths, _ = domain_sequence(batch.items, self.domain_of, domains)
        backbone = self.domain_backbone or self.backbone
        return states, backbone.last(self.encode_items(items), lengths), lengths > 0, domains

    def domain_positions(self, batch: Batch, x: Tensor) -> tuple[Tensor, Tensor]:
        """Eq. 10: h^d after the last item of domain d at or before each position.

        d is the domain queried at the position.

        Args:
            batch: The batch.
            x: [B, L, D], the vectors of its items.

        Returns:
            h^d [B, L, D], zero where no such item exists yet, and bool [B, L], whether it exists.
        """
        backbone = self.domain_backbone or self.backbone
        return shared_domain_positions(batch, x, self.domain_of, self.domains, backbone)

    def freeze_global(self) -> None:
        """Section 3.3.2: freeze what pre-training learned, so that only the domain threads are trained."""
        self.requires_grad_(False)
        self.threads.requires_grad_(True)
        self.fine_tuned = True


class DomainThreads(Layer):
    """Eq. 10: u^d = W (W' h^d + b') + b for each domain.

    The outer layer starts at zero, so that fine-tuning starts from the pre-trained model.
    """

    def __init__(self, domains: int, hidden: int, inner: int, kind: type[Adapter] = Adapter) -> None:
        super().__init__()
        self.adapters = ModuleList(kind(hidden, inner, hidden) for _ in range(domains))
        for adapter in self.adapters:
            nn.init.zeros_(adapter.outer.weight)
            nn.init.zeros_(adapter.outer.bias)

    def forward(self, domain_states: Tensor, present: Tensor, domains: Tensor) -> Tensor:
        """Return u^d [..., D] from h^d [..., D], whether it exists (bool [...]) and d (long [...]).

        u^d is zero where the user has no item of the domain.
        """
        out = torch.zeros_like(domain_states)
        for domain, adapter in enumerate(self.adapters):
            rows = (domains == domain) & present
            out[rows] = adapter(domain_states[rows]).to(out.dtype)
        return out
