"""Compares the weights of a file with those of a module: missing, unknown, of another size or kind."""

import hashlib
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from interp_refiner.core.errors import BadValue

NOT_FINITE = "{} holds NaN or infinity"
NAMED = 3  # how many tensors a message names
PLAIN_FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
COMPILED = "_orig_mod."  # in the names of weights that torch.compile has wrapped
# Tensors and files of Wan2.1's own checkpoints (github.com/Wan-Video/Wan2.1), under names that diffusers has changed.
ORIGINAL = {
    "transformer": ("blocks.0.self_attn.q.weight", "head.modulation", "time_projection.1.weight"),
    "VAE": ("encoder.downsamples.0.residual.0.gamma", "encoder.conv1.weight", "Wan2.1_VAE.pth"),
    "text encoder": ("token_embedding.weight", "blocks.0.attn.q.weight", "models_t5_umt5-xxl-enc-bf16.pth"),
}
DIFFUSERS = "Wan-AI/Wan2.1-T2V-1.3B-Diffusers"


def weight_faults(missing: Iterable[str], left_over: Iterable[str] = (), misfits: Iterable[str] = ()) -> str:
    """The faults of stored weights, in one line that names the first tensors; "" without faults.

    Args:
        missing: expected names that are not stored.
        left_over: stored names that are not expected.
        misfits: messages about tensors of another size or kind.
    """
    missing, left_over, misfits = sorted(missing), sorted(left_over), list(misfits)
    parts = [f"{some(missing)} {_are(missing)} missing"] if missing else []
    parts += [f"{some(left_over)} {_are(left_over)} unknown"] if left_over else []
    parts += [f"{some(misfits)}"] if misfits else []
    if any(COMPILED in name for name in left_over):
        parts.append(f"a compiled model was saved: remove {COMPILED} from the names")
    if (part := original(left_over)) is not None:
        parts.append(f"this is Wan's own {part}, {DIFFUSERS} has it as diffusers names it")
    return "; ".join(parts)


def weights_digest(module: nn.Module) -> str:
    """:func:`tensors_digest` of a module's weights and buffers."""
    return tensors_digest(module.state_dict())


def tensors_digest(tensors: Mapping[str, Tensor]) -> str:
    """A hash of the names and bits of tensors: 16 hexadecimal digits."""
    digest = hashlib.blake2b(digest_size=8)
    for name, value in sorted(tensors.items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def state_faults(own: Mapping[str, Tensor], stored: Mapping[str, Tensor], optional: Iterable[str] = ()) -> str:
    """:func:`weight_faults` of a state dict to be loaded into a module whose state is ``own``.

    NaN and infinity are faults, too, unless the module's own tensor has the same values.

    Args:
        own: the module's state.
        stored: the state dict to load.
        optional: names that need not be stored.
    """
    misfits = [
        f"{name} is {_kind(stored[name])}, not {_kind(own[name])}"
        for name in own
        if name in stored and not _alike(own[name], stored[name])
    ]
    misfits += [
        NOT_FINITE.format(name) for name in own if name in stored and not misfits and _broken(own[name], stored[name])
    ]
    return weight_faults(own.keys() - stored.keys() - set(optional), stored.keys() - own.keys(), misfits)


@contextmanager
def unreported(library: str) -> Iterator[None]:
    """Keeps a library from logging faults that :func:`check_folder` reports in one line."""
    logger = logging.getLogger(library)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def check_folder(
    name: str, value: object, allowed: str, folder: Path, info: Mapping[str, Any], model: nn.Module
) -> None:
    """Refuses a model that ``from_pretrained`` has loaded only in part.

    Args:
        name, value: of the setting that names the folder.
        allowed: what the folder should hold.
        folder: the folder that was loaded.
        info: the loading information of ``from_pretrained(..., output_loading_info=True)``.
        model: the loaded model.

    Raises:
        BadValue: tensors are missing, left over, of another size, not stored as plain floats, or not finite.
    """
    misfits = [f"{entry[0]} has another size" for entry in info.get("mismatched_keys", ())]
    misfits += [f"{tensor} is stored as {kind}" for tensor, kind in stored_kinds(folder).items() if kind not in FLOATS]
    if not misfits:
        weights = [(tensor, weight) for tensor, weight in model.named_parameters() if not weight.is_meta]
        misfits += [NOT_FINITE.format(tensor) for tensor, weight in weights if not weight.isfinite().all()]
    if faults := weight_faults(info["missing_keys"], info["unexpected_keys"], misfits):
        raise BadValue(name, value, f"{allowed}: {faults}")


def check_not_original(name: str, value: object, folder: Path) -> None:
    """Refuses a folder with one of Wan's own checkpoints. diffusers and transformers load it in part or not at all.

    Raises:
        BadValue: the folder has one; names the folder to use instead.
    """
    part = original([*stored_kinds(folder), *(file.name for file in folder.glob("*.pth"))])
    if part is not None:
        allowed = f"a folder as diffusers saves it, such as {DIFFUSERS}; this is Wan's own checkpoint (its {part})"
        raise BadValue(name, value, allowed)


# Names of dtypes: safetensors' and, for .bin files, torch's. Other kinds (F8_E4M3, I8) have a scale stored elsewhere.
FLOATS = ("F64", "F32", "F16", "BF16", *(str(kind).removeprefix("torch.") for kind in PLAIN_FLOATS))


def stored_kinds(path: Path) -> dict[str, str]:
    """The kind of every tensor in a file or a folder, from headers; skips damaged files.

    Args:
        path: a ``.safetensors`` file, a folder of them, or a folder of ``.bin`` files if there is no ``.safetensors``.
    """
    kinds: dict[str, str] = {}
    found = [path] if path.is_file() else sorted(path.glob("*.safetensors")) or sorted(path.glob("*model*.bin"))
    for file in found:
        try:
            if file.suffix == ".bin":
                loaded = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
                kinds |= {name: str(value.dtype).removeprefix("torch.") for name, value in loaded.items()}
                continue
            with safe_open(file, "pt") as content:
                kinds |= {name: content.get_slice(name).get_dtype() for name in content.keys()}  # noqa: SIM118
        except Exception:  # loading the file reports the fault
            continue
    return kinds


def original(names: Iterable[str]) -> str | None:
    """The part of Wan's own checkpoints that these names belong to (a key of :data:`ORIGINAL`); None for none."""
    found = {name.removeprefix("model.").removeprefix("diffusion_model.") for name in names}  # repackaged files
    return next((part for part, own in ORIGINAL.items() if any(name in found for name in own)), None)


def save_tensors(tensors: Mapping[str, Tensor], path: Path | str) -> None:
    """Writes a ``.safetensors`` file with the permissions of any new file; safetensors itself would use 0600."""
    path = Path(path)
    path.unlink(missing_ok=True)
    path.touch()
    mode = path.stat().st_mode & 0o777
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path)
    path.chmod(mode)


def _alike(own: Tensor, stored: Tensor) -> bool:
    kinds = {own.dtype, stored.dtype}
    return own.shape == stored.shape and (len(kinds) == 1 or kinds <= {*PLAIN_FLOATS})


def _broken(own: Tensor, stored: Tensor) -> bool:
    """Whether stored floats are NaN or infinite and differ from ``own``; False if only sizes are known."""
    if stored.is_meta or not stored.is_floating_point() or stored.isfinite().all():
        return False
    return own.is_meta or not stored.equal(own.to(stored))


def _kind(tensor: Tensor) -> str:
    return f"{list(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"


def some(names: Sequence[str], most: int = NAMED, separator: str = ", ") -> str:
    """The first of some names, and how many more there are."""
    more = len(names) - most
    return separator.join(names[:most]) + (f" and {more} more" if more > 0 else "")


def _are(names: list[str]) -> str:
    return "is" if len(names) == 1 else "are"
