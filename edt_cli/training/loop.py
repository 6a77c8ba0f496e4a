"""The training loop: epochs, validation, early stopping, the best weights, and checkpoints."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from edt_cli.config import PhaseSchedule, TrainingSettings, UserError
from edt_cli.distributed.group import process, processes, value_of_leader
from edt_cli.distributed.losses import averaged
from edt_cli.distributed.replicas import Loss, replicated
from edt_cli.distributed.sharded import exchange_of, gather_tables, gathered_states, whole_size
from edt_cli.evaluation.ranking import Diverged
from edt_cli.models.kernels import trim_heap
from edt_cli.models.phases import Phase
from edt_cli.training.checkpoint import (
    Progress,
    device_of,
    load_checkpoint,
    load_weights,
    random_states,
    read_progress,
    save_checkpoint,
    save_weights,
)
from edt_cli.workspace.event_types import EpochEnded, PhaseBegun, Precision, Resumed
from edt_cli.workspace.events import Events

CHECKPOINT = "checkpoint.safetensors"


Validate = Callable[[], dict[str, float]]
"""Returns NDCG@10 by domain name, and "mean" over the domains with a target, which early stopping follows."""


def run_phase(
    phase: Phase, s: TrainingSettings, folder: Path, events: Events, validate: Validate | None
) -> Progress:
    """Train one phase to its end, resuming from its checkpoint in `folder` if there is one.

    Afterwards the best weights by validation are in `<folder>/<phase>.safetensors` and in the model. Without
    `validate` (nothing is held out) the phase runs for all its epochs, or for as many as `s.schedules` gives it,
    and the last weights are used.

    Of several processes that train together, the leader alone validates and writes, and the others take over its
    progress.

    Raises:
        Diverged: If a loss is not finite.
        UserError: If all parameters of the model are frozen, or several processes would have a second optimiser.
        events.Stopped: If a stop was requested.
    """
    checkpoint = folder / CHECKPOINT
    weights = folder / weights_file(phase)
    trained = [parameter for parameter in phase.model.parameters() if parameter.requires_grad]
    if not trained:
        raise UserError(f"phase {phase.name!r} has nothing to train: its enter() must leave parameters unfrozen")
    if phase.own is not None and processes() > 1:
        raise UserError(f"phase {phase.name!r} has a second optimiser, so that it is trained in one process")
    optimizer = optimizer_of(phase, s)
    optimizers = {"optimizer": optimizer} | ({} if phase.own is None else {"own": phase.own})
    p = read_progress(checkpoint)
    fresh = p is None or p.phase != phase.name
    if p is not None and not fresh:
        p = load_checkpoint(checkpoint, phase.model, optimizers, phase.generators)
        message = f"{phase.name}: goes on after epoch {p.epoch}"
        events.emit(Resumed(phase=phase.name, epoch=p.epoch, message=message))
    else:
        p = Progress(phase.name)
        events.emit(PhaseBegun(phase=phase.name, parameters=sum(map(whole_size, trained))))
    p.dtype = working_dtype(phase.model, s)
    if p.dtype != s.dtype:
        message = f"this processor has no {s.dtype}: trained in {p.dtype}"
        events.emit(Precision(dtype=p.dtype, message=message))
    schedule = s.schedules.get(phase.name) or PhaseSchedule(epochs=phase.epochs, planned_epochs=phase.epochs)
    p.planned_epochs = schedule.planned_epochs
    total_steps = schedule.planned_epochs * phase.steps_per_epoch
    between = max(1, round(phase.validate_steps / phase.steps_per_epoch))
    loss = replicated(phase.model, phase.loss)

    def end_epoch(losses: dict[str, float]) -> None:
        """Let the leader validate and save; the other processes take over its progress."""
        states = random_states(phase.model, phase.generators) | gathered_states("optimizer", optimizer)
        gather_tables(phase.model.parameters())
        if not process():
            validate_and_save(losses, states)
        vars(p).update(value_of_leader(asdict(p)))

    def validate_and_save(losses: dict[str, float], states: dict[str, Tensor]) -> None:
        """Validate, keep the best weights, count patience, and save a checkpoint."""
        ndcg = validate() if validate is not None else {}
        better = validate is None or ndcg["mean"] > p.best
        if better:
            p.best, p.best_epoch = ndcg.get("mean", p.best), p.epoch
            p.validations_since_best, p.validations_since_cut = 0, 0
            save_weights(weights, phase.model, phase=phase.name, epoch=p.epoch, ndcg=ndcg)
        else:
            p.validations_since_best += p.step >= phase.min_steps
            p.validations_since_cut += 1
        cut = p.epoch in schedule.cuts if validate is None else p.validations_since_cut > s.plateau_patience
        if s.schedule == "plateau" and cut:
            p.cuts.append(p.epoch)
            p.validations_since_cut = 0
        p.notes = phase.notes()
        p.seconds += time.perf_counter() - clock
        p.ended = _ended(p, schedule, s)
        save_checkpoint(checkpoint, phase.model, optimizers, states, p)
        epoch = EpochEnded(
            phase=phase.name,
            epoch=p.epoch,
            epochs=schedule.epochs,
            step=p.step,
            losses=losses,
            ndcg=ndcg,
            best_epoch=p.best_epoch,
            patience=s.patience - p.validations_since_best,
            seconds=round(p.seconds, 3),
            message=_line(schedule, p, losses, ndcg, s.patience),
            **p.notes,
        )
        events.emit(epoch)

    clock = time.perf_counter()
    if fresh:
        end_epoch({})
        clock = time.perf_counter()
    while not p.ended:
        sums: dict[str, Tensor] = {}
        phase.model.train(phase.dropout)
        cut = s.plateau_factor ** len(p.cuts)
        for number, batch in enumerate(phase.batches(), start=1):
            clock += events.obey()
            for group in optimizer.param_groups:
                group["lr"] = group["pace"] * cut * learning_rate(phase.lr, p.step, total_steps, s)
            terms = train_step(phase, batch, optimizer, s, loss)
            p.step += 1
            sums = {name: sums.get(name, 0) + term for name, term in terms.items()}
            del batch
            stage = f"{phase.name} epoch {p.epoch + 1}"
            events.progress(stage, number, phase.steps_per_epoch, phase=phase.name, step=p.step)
        trim_heap()
        p.epoch += 1
        losses = {name: float(value) / phase.steps_per_epoch for name, value in averaged(sums).items()}
        if not all(math.isfinite(value) for value in losses.values()):
            raise Diverged(f"the loss of {phase.name} is not finite after epoch {p.epoch}: lower the learning rate")
        if p.epoch % between == 0 or p.epoch >= schedule.epochs:
            end_epoch(losses)
            clock = time.perf_counter()
            if not p.ended:
                events.obey(epoch_ended=True)
    load_weights(weights, phase.model)
    return p


def weights_file(phase: Phase) -> str:
    """Return the name of the file with the best weights of a phase, in the run's folder."""
    return f"{phase.name}.safetensors"


def optimizer_of(phase: Phase, s: TrainingSettings) -> torch.optim.Optimizer:
    """Return AdamW over the phase's parameter groups, which leave out those of its second optimiser `own`."""
    return torch.optim.AdamW(phase.parameter_groups(weight_decay(phase, s)), lr=phase.lr)


def weight_decay(phase: Phase, s: TrainingSettings) -> float:
    """Return AdamW's coefficient of weight decay.

    AdamW multiplies weights by 1 - lr * decay at each step. The value that suits small and large datasets alike is
    the time scale of this decay in epochs (Wang and Aitchison, arXiv 2405.13698): `decay_epochs`, if set.
    """
    if s.decay_epochs is None:
        return s.weight_decay
    return 1 / (s.decay_epochs * phase.steps_per_epoch * phase.lr)


def train_step(
    phase: Phase, batch: Any, optimizer: torch.optim.Optimizer, s: TrainingSettings, loss: Loss | None = None
) -> dict[str, Tensor]:
    """Take a step of the second optimiser `phase.own`, if there is one, then one of `optimizer`.

    Args:
        phase: The phase.
        batch: Its batch, or this process's share of it.
        optimizer: The optimiser of `loss`.
        s: Settings of the training.
        loss: The loss of the phase, with gradients averaged over the processes. Default: `phase.loss`.

    Returns:
        The detached terms of both losses by name.
    """
    terms: dict[str, Tensor] = {}
    if phase.own is not None:
        with _precision(phase.model, s):
            terms = phase.own_loss(batch)
        _minimise(terms, phase.own, s.clip_norm, only=_parameters(phase.own))
    with _precision(phase.model, s):
        shared = (loss or phase.loss)(batch)
    _minimise(shared, optimizer, s.clip_norm)
    return {name: term.detach() for name, term in (shared | terms).items()}


def _parameters(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _minimise(
    terms: dict[str, Tensor],
    optimizer: torch.optim.Optimizer,
    clip_norm: float | None,
    *,
    only: list[nn.Parameter] | None = None,
) -> None:
    """Take one step on the sum of the terms.

    Args:
        terms: The terms of the loss by name.
        optimizer: The optimiser.
        clip_norm: Norm that the gradient of the optimiser's parameters is scaled down to if it is larger; or None.
        only: Compute gradients for these parameters alone, so that none are left in the others.
    """
    torch.stack(list(terms.values())).sum().backward(inputs=only)
    exchange = exchange_of(_parameters(optimizer))
    if exchange is not None:
        exchange.collect()
    if clip_norm is not None:
        nn.utils.clip_grad_norm_(_parameters(optimizer), clip_norm)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def _ended(p: Progress, schedule: PhaseSchedule, s: TrainingSettings) -> str:
    """Return why the phase ends now ("patience", "minutes" or "epochs"), or an empty string if it goes on."""
    if p.validations_since_best >= s.patience:
        return "patience"
    if s.minutes is not None and p.seconds >= 60 * s.minutes:
        return "minutes"
    return "epochs" if p.epoch >= schedule.epochs else ""


def learning_rate(base: float, step: int, total: int, s: TrainingSettings) -> float:
    """Return the learning rate at a step: linear warm-up, then constant, or a cosine to zero at step `total`.

    The cuts of the schedule `plateau` are not included; the progress of the phase counts them.
    """
    if step < s.warmup:
        return base * (step + 1) / s.warmup
    if s.schedule != "cosine":
        return base
    share = (step - s.warmup) / max(1, total - s.warmup)
    return base * 0.5 * (1 + math.cos(math.pi * min(1.0, share)))


def working_dtype(model: nn.Module, s: TrainingSettings) -> Literal["float32", "bfloat16"]:
    """Return the type of matrix products: bfloat16 if the settings say so and the device supports it."""
    kind = device_of(model).type
    if s.dtype == "bfloat16" and (cpu_multiplies_bfloat16() if kind == "cpu" else kind != "mps"):
        return "bfloat16"
    return "float32"


def cpu_multiplies_bfloat16() -> bool:
    """Return whether oneDNN has bfloat16 products for this processor, which on x86 need AVX-512.

    Otherwise they are emulated, ten to sixty times slower than those of float32.
    """
    supported = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    return supported is not None and bool(supported())


def _precision(model: nn.Module, s: TrainingSettings) -> AbstractContextManager[Any]:
    if working_dtype(model, s) == "float32":
        return nullcontext()
    return torch.autocast(device_of(model).type, torch.bfloat16)


def _line(
    schedule: PhaseSchedule, p: Progress, losses: dict[str, float], ndcg: dict[str, float], patience: int
) -> str:
    """Return the log line of a validation."""
    parts = [f"{p.phase} epoch {p.epoch}/{schedule.epochs}"]
    parts += [f"{name} {value:.4f}" for name, value in losses.items()]
    parts += [f"NDCG@10 {name} {value:.4f}" for name, value in ndcg.items() if name != "mean"]
    if ndcg:
        parts.append(f"best at {p.best_epoch}, patience {patience - p.validations_since_best}")
    return "  ".join(parts)
