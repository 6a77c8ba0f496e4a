"""Checkpoints in safetensors: a run that was cut off goes on to the same result as an unbroken one."""

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
from edt_cli.workspace.layout import write_atomic


@dataclass
class Progress:
    """Where a phase stands, after `epoch` of `planned_epochs`.

    `best`: the best validation NDCG@10 so far, at `best_epoch`. `validations_since_best`: those from `min_steps`
    on, which patience counts; `validations_since_cut`: since the best or the last of the learning rate's `cuts`,
    the epochs after which there was one. `ended`: "", or by what: "patience", "epochs" or "minutes". `dtype`: of
    the products; a processor may lack what the settings ask for.
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
    """The model's own weights; what artefacts hold already (text vectors, profiles) is not among them."""
    write_atomic(path, save(_contiguous(model.state_dict()), {"notes": json.dumps(notes)}))


def load_weights(path: Path, model: nn.Module) -> dict[str, Any]:
    """Fill `model`; returns the notes. Errors: UserError if the file is missing, damaged or of another model."""
    tensors, notes = _read(path)
    try:
        model.load_state_dict(current_names(tensors))
    except RuntimeError:
        raise UserError(f"{path} does not fit this model; remove its run folder and train again") from None
    found: dict[str, Any] = json.loads(notes["notes"])
    return found


def save_checkpoint(
    path: Path,
    model: nn.Module,
    optimizers: dict[str, torch.optim.Optimizer],
    generators: list[torch.Generator],
    p: Progress,
) -> None:
    """Weights, optimisers by name, random states and progress, as one file that is replaced as a whole."""
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    for kind, optimizer in optimizers.items():
        for number, state in optimizer.state_dict()["state"].items():
            tensors |= {f"{kind}.{number}.{name}": torch.as_tensor(value) for name, value in state.items()}
    tensors |= {f"generator.{i}": generator.get_state() for i, generator in enumerate(generators)}
    tensors["random.cpu"] = torch.get_rng_state()
    if (device := device_of(model)).type == "cuda":
        tensors["random.cuda"] = torch.cuda.get_rng_state(device)
    write_atomic(path, save(_contiguous(tensors), {"progress": json.dumps(asdict(p))}))


def read_progress(path: Path) -> Progress | None:
    """Where the run of this checkpoint stood, or None without one."""
    return Progress(**json.loads(_read(path)[1]["progress"])) if path.is_file() else None


def load_checkpoint(
    path: Path,
    model: nn.Module,
    optimizers: dict[str, torch.optim.Optimizer],
    generators: list[torch.Generator],
) -> Progress:
    """Put everything back as it was. Errors: UserError if the file is damaged."""
    tensors, notes = _read(path)
    model.load_state_dict(current_names(_under(tensors, "model.")))
    for kind, optimizer in optimizers.items():
        states: dict[int, dict[str, Tensor]] = {}
        for name, value in _under(tensors, f"{kind}.").items():
            number, _, key = name.partition(".")
            states.setdefault(int(number), {})[key] = value
        optimizer.load_state_dict({**optimizer.state_dict(), "state": states})
    for i, generator in enumerate(generators):
        generator.set_state(tensors[f"generator.{i}"])
    torch.set_rng_state(tensors["random.cpu"])
    if (device := device_of(model)).type == "cuda" and "random.cuda" in tensors:
        torch.cuda.set_rng_state(tensors["random.cuda"], device)
    return Progress(**json.loads(notes["progress"]))


RENAMED = {"memory.": "side_score.", "before.": "space."}
"""Parts of models that had another name when runs were saved."""


def current_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights by the names that models give them today."""
    for old, new in RENAMED.items():
        tensors = {
            new + name.removeprefix(old) if name.startswith(old) else name: one for name, one in tensors.items()
        }
    return tensors


def device_of(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
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
