"""Modules that are trained separately and stay frozen everywhere else."""

from pathlib import Path
from typing import ClassVar

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from interp_refiner.core.errors import BadValue, one_fault
from interp_refiner.core.weights import save_tensors, state_faults

AVERAGED = "ema_state_dict"  # the key of the averaged weights in a checkpoint; validation uses these weights
LAST_CHECKPOINT = "checkpoints/last.ckpt"  # of a run folder


class Freezable(nn.Module):
    """A module that can load its weights from a checkpoint and then stays frozen.

    A corruption is not an ``nn.Module``, so no trainer moves the weights of a module that it uses. They follow the
    device of the batch instead, see :meth:`follow`.

    Frozen means: no weight requires a gradient, and the module stays in evaluation mode.

    Attributes:
        prefix: the prefix of its weights' names in the checkpoint of its training run.
    """

    prefix: ClassVar[str]
    frozen: bool = False

    def freeze(self, checkpoint: str | None) -> None:
        """Loads the weights of ``checkpoint`` and freezes the module; None does nothing, so that it can be trained.

        Args:
            checkpoint: the run folder of its training, a ``.ckpt`` in it (its averaged weights), or a
                ``.safetensors`` file.

        Raises:
            BadValue: no such file, no weights in it, weights of another module, or weights that are not finite.
        """
        if checkpoint is None:
            return
        weights = read_weights(checkpoint, self.prefix)
        if faults := state_faults(self.state_dict(), weights):
            raise BadValue("checkpoint", checkpoint, f"weights of {type(self).__name__} at this size: {faults}")
        self.load_state_dict(weights)
        self.hold()

    def hold(self) -> None:
        """Freezes the current weights."""
        self.requires_grad_(False).eval()
        self.frozen = True

    def train(self, mode: bool = True) -> "Freezable":
        """As in torch, except that a frozen module stays in evaluation mode."""
        return super().train(mode and not self.frozen)

    def follow(self, device: torch.device) -> None:
        """Moves the module to ``device``. A module in training is already there, because its trainer has moved it."""
        move(self, device)


@torch.inference_mode(False)  # weights moved under Lightning's inference mode could not be used outside it
def move(module: nn.Module, device: torch.device) -> None:
    """Moves a module to ``device`` if it is on another one."""
    tensors = [*module.parameters(), *module.buffers()]
    if any(tensor.device != device for tensor in tensors):
        module.to(device)


def read_weights(checkpoint: str, prefix: str) -> dict[str, Tensor]:
    """A state dict from a run folder, a ``.ckpt`` or a ``.safetensors`` file, on the CPU.

    Args:
        checkpoint: where the weights are.
        prefix: only weights with this prefix are read from a run's checkpoint, and the prefix is removed.

    Raises:
        BadValue: no such file, a damaged one, or one without such weights.
    """
    path = Path(checkpoint).expanduser()
    file = path / LAST_CHECKPOINT if path.is_dir() else path
    if not file.is_file():
        raise BadValue("checkpoint", checkpoint, f"a run folder with {LAST_CHECKPOINT} in it, or a .safetensors file")
    with one_fault("checkpoint", checkpoint, f"a complete {file.suffix} file"):
        return load_file(file) if file.suffix == ".safetensors" else of_run(checkpoint, file, prefix)


def of_run(checkpoint: str, file: Path, prefix: str) -> dict[str, Tensor]:
    """A checkpoint's weights with this ``prefix``, which is removed; averaged weights replace raw ones.

    Raises:
        BadValue: with the setting ``checkpoint`` that led to the file, if it has no such weights.
    """
    allowed = "a run folder or a weights file"
    stored = torch.load(file, map_location="cpu", weights_only=True)
    if not isinstance(stored, dict) or not isinstance(stored.get("state_dict"), dict):
        raise BadValue("checkpoint", checkpoint, f"{allowed}: no state_dict in it")
    names = stored["state_dict"] | stored.get(AVERAGED, {})
    weights = {name.removeprefix(prefix): value for name, value in names.items() if name.startswith(prefix)}
    if not weights:
        found = sorted({name.partition(".")[0] for name in names})
        lacking = f"no `{prefix}*` weights in it: a run of {', '.join(found) or 'nothing'}"
        raise BadValue("checkpoint", checkpoint, f"{allowed}: {lacking}")
    return weights


def save_weights(module: nn.Module, path: Path | str) -> None:
    """Writes the weights as a ``.safetensors`` file, for ``checkpoint=<path>``."""
    save_tensors(module.state_dict(), path)
