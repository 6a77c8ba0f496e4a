"""Checkpoints in safetensors: an interrupted run resumes and ends with the same result as an uninterrupted one."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from edt_cli.config import UserError
from edt_cli.distributed.group import of_all_processes, process
from edt_cli.distributed.sharded import own_states
from edt_cli.workspace.files import write_atomic


@dataclass
class Progress:
    """Progress of a phase.

    Attributes:
        phase: Name of the phase.
        epoch: Number of finished epochs.
        planned_epochs: Epochs that the learning-rate schedule is planned for.
        step: Number of finished steps.
        best: Best validation NDCG@10 so far.
        best_epoch: Epoch of the best value.
        validations_since_best: Validations since then, from `min_steps` on; patience counts them.
        validations_since_cut: Validations since the best value or the last cut of the learning rate.
        cuts: Epochs after which the learning rate was cut.
        ended: Why the phase ended: "patience", "epochs" or "minutes"; empty while it goes on.
        dtype: Type of matrix products; the processor may not support the one in the settings.
        seconds: Time spent.
        notes: Further values from the last validation.
    """

    phase: str
    epoch: int = 0
    planned_epochs: int = 0
    step: int = 0
    best: float = -1.0
    best_epoch: int = 0
    validations_since_best: int = 0
    validations_since_cut: int = 0
    cuts: list[int] = field(default_factory=list)
    ended: str = ""
    dtype: str = ""
    seconds: float = 0.0
    notes: dict[str, Any] = field(default_factory=dict)


def save_weights(path: Path, model: nn.Module, **notes: Any) -> None:
    """Save the model's weights together with `notes`.

    The contents of artefacts (text vectors, profiles) are not saved.
    """
    write_atomic(path, save(_contiguous(model.state_dict()), {"notes": json.dumps(notes)}))


def load_weights(path: Path, model: nn.Module) -> dict[str, Any]:
    """Load weights into `model` and return the notes saved with them.

    Raises:
        UserError: If the file is missing, damaged, or from another model.
    """
    tensors, notes = _read(path)
    try:
        model.load_state_dict(current_names(tensors))
    except RuntimeError:
        raise UserError(f"{path} does not fit this model; remove its run folder and train again") from None
    saved: dict[str, Any] = json.loads(notes["notes"])
    return saved


def save_checkpoint(
    path: Path,
    model: nn.Module,
    optimizers: dict[str, torch.optim.Optimizer],
    states: dict[str, Tensor],
    p: Progress,
) -> None:
    """Save weights, optimisers by name and progress in one file, replaced atomically.

    `states` are `random_states`, and what optimisers keep of sharded tables in place of this process's part.
    """
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    for kind, optimizer in optimizers.items():
        for number, state in optimizer.state_dict()["state"].items():
            tensors |= {f"{kind}.{number}.{name}": torch.as_tensor(value) for name, value in state.items()}
    tensors |= states
    write_atomic(path, save(_contiguous(tensors), {"progress": json.dumps(asdict(p))}))


def random_states(model: nn.Module, generators: list[torch.Generator]) -> dict[str, Tensor]:
    """Return the states of all random generators, those of further processes with the prefix `process.N.`."""
    own = {f"generator.{i}": generator.get_state() for i, generator in enumerate(generators)}
    own["random.cpu"] = torch.get_rng_state()
    if (device := device_of(model)).type == "cuda":
        own["random.cuda"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        own["random.mps"] = torch.mps.get_rng_state()
    leader, *others = of_all_processes(own)
    further = {f"process.{n}.{name}": state for n, part in enumerate(others, 1) for name, state in part.items()}
    return leader | further


def read_progress(path: Path) -> Progress | None:
    """Return the progress saved in a checkpoint, or None if there is no file."""
    return Progress(**json.loads(_read(path)[1]["progress"])) if path.is_file() else None


def load_checkpoint(
    path: Path,
    model: nn.Module,
    optimizers: dict[str, torch.optim.Optimizer],
    generators: list[torch.Generator],
) -> Progress:
    """Restore everything that `save_checkpoint` saved, and return the progress.

    A process that had no part in the checkpoint takes over the order of epochs alone, and draws anew otherwise.

    Raises:
        UserError: If the file is damaged.
    """
    tensors, notes = _read(path)
    model.load_state_dict(current_names(_under(tensors, "model.")))
    for kind, optimizer in optimizers.items():
        states: dict[int, dict[str, Tensor]] = {}
        for name, value in _under(tensors, f"{kind}.").items():
            number, _, key = name.partition(".")
            states.setdefault(int(number), {})[key] = value
        own_states(optimizer, states)
        optimizer.load_state_dict({**optimizer.state_dict(), "state": states})
    drawn = _under(tensors, f"process.{process()}.") if process() else tensors
    if "random.cpu" not in drawn:
        generators[0].set_state(tensors["generator.0"])
        return Progress(**json.loads(notes["progress"]))
    for i, generator in enumerate(generators):
        generator.set_state(drawn[f"generator.{i}"])
    torch.set_rng_state(drawn["random.cpu"])
    if (device := device_of(model)).type == "cuda" and "random.cuda" in drawn:
        torch.cuda.set_rng_state(drawn["random.cuda"], device)
    elif device.type == "mps" and "random.mps" in drawn:
        torch.mps.set_rng_state(drawn["random.mps"])
    return Progress(**json.loads(notes["progress"]))


RENAMED = {"memory.": "side_score.", "before.": "space."}
"""Old prefixes of weight names, as in saved runs, and the current ones."""


def current_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename weights saved under old names to the current ones."""
    for old, new in RENAMED.items():
        tensors = {
            new + name.removeprefix(old) if name.startswith(old) else name: tensor
            for name, tensor in tensors.items()
        }
    return tensors


def device_of(model: nn.Module) -> torch.device:
    """Return the device of a model's weights."""
    return next(model.parameters()).device


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose names start with `prefix`, without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _contiguous(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().cpu().contiguous() for name, value in tensors.items()}


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"cannot read {path} ({type(error).__name__}); remove the folder {path.parent} and train again"
        ) from None
