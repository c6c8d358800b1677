"""Finds the tensor in a ``.pt`` file without executing its pickle.

``torch.save`` writes a zip of uncompressed members: ``data.pkl`` holds dtype, shape and strides, ``data/0`` the
numbers. The position of the numbers is parsed from the zip's directory, never assumed. The pickle is read by an
unpickler that accepts only plain tensors. All other files are read by ``torch.load(weights_only=True)``.
"""

import io
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from interp_refiner.core.stored import special
from interp_refiner.data.shards.zip_file import STORED, Unreadable, ZipMember, zip_members

MAX_PICKLE = 4096  # bytes; a plain tensor's is about 170
STORAGES = {
    "BFloat16Storage": torch.bfloat16,
    "HalfStorage": torch.float16,
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "BoolStorage": torch.bool,
}


class NotPlain(Exception):
    """The file is not one plain tensor as ``torch.save`` writes it."""


@dataclass(frozen=True)
class StoredTensor:
    """Layout and position of a tensor in its file.

    Attributes:
        dtype, shape, stride: of the tensor, strides in elements.
        start: position of its first element in the file, in bytes.
    """

    dtype: torch.dtype
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    start: int

    @property
    def extent(self) -> int:
        """Bytes from the first element to the end of the last."""
        last = sum((n - 1) * s for n, s in zip(self.shape, self.stride, strict=True))
        return 0 if 0 in self.shape else (last + 1) * self.dtype.itemsize

    def view(self, content: bytearray) -> Tensor:
        """The tensor as a view of the file's bytes (a copy if they are not aligned for its dtype)."""
        if self.extent == 0:
            return torch.empty(self.shape, dtype=self.dtype)
        flat = torch.frombuffer(content, dtype=torch.uint8, offset=self.start, count=self.extent)
        if self.start % self.dtype.itemsize:
            flat = flat.clone()
        return flat.view(self.dtype).as_strided(self.shape, self.stride)


def load_weights(content: bytearray) -> Tensor:
    """The tensor in a ``.pt`` file of any kind, by ``torch.load(weights_only=True)``; raises :class:`Unreadable`."""
    try:
        value = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # untrusted bytes can cause any error
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise Unreadable(f"not a tensor file: {reason}") from None
    if not isinstance(value, Tensor):
        raise Unreadable(f"holds a {type(value).__name__}, expected a tensor")
    if (kind := special(value)) is not None:
        raise Unreadable(f"holds a {kind} tensor, expected a dense one")
    return value.detach()  # a Parameter would require gradients


def read_tensor(content: bytearray) -> Tensor:
    """The tensor in a ``.pt`` file of any kind, without a copy if possible; raises :class:`Unreadable`."""
    stored = plain_tensor(content)
    return stored.view(content) if stored is not None else load_weights(content)


def plain_tensor(content: bytearray) -> StoredTensor | None:
    """Finds the tensor of a ``.pt`` file; None if the file is not one plain tensor.

    Raises:
        Unreadable: the file is a zip whose parts contradict one another.
    """
    if (members := zip_members(content)) is None:
        return None
    try:
        return _plain_tensor(content, members)
    except NotPlain:
        return None


def _plain_tensor(content: bytearray, members: dict[str, ZipMember]) -> StoredTensor:
    name = next((name for name in members if name.endswith("/data.pkl")), None)
    if name is None:
        raise NotPlain("no data.pkl")
    folder = name.removesuffix("data.pkl")
    if any(member.method != STORED for member in members.values()):
        raise NotPlain("compressed")
    order = members.get(f"{folder}byteorder")
    if order is not None and content[order.start : order.stop] != b"little":
        raise NotPlain("not little-endian")
    description = _describe(bytes(content[members[name].start : members[name].stop]))
    dtype = description.storage.dtype
    if (data := members.get(f"{folder}data/{description.storage.key}")) is None:
        raise NotPlain("no data")
    start = data.start + description.offset * dtype.itemsize
    tensor = StoredTensor(dtype, description.shape, description.stride, start)
    if start + tensor.extent > data.stop:
        raise NotPlain("a tensor beyond its storage")
    return tensor


class _Storage(NamedTuple):
    key: str
    dtype: torch.dtype


class _Description(NamedTuple):
    """The arguments of ``torch._utils._rebuild_tensor_v2``."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    requires_grad: bool
    hooks: dict


@lru_cache(maxsize=64)
def _describe(pickled: bytes) -> _Description:
    if len(pickled) > MAX_PICKLE:
        raise NotPlain("a pickle that is too long for a plain tensor")
    try:
        described = _PlainUnpickler(io.BytesIO(pickled)).load()
    except Exception as error:  # untrusted bytes can cause any error
        raise NotPlain(str(error)) from None
    if not isinstance(described, _Description) or not isinstance(described.storage, _Storage):
        raise NotPlain("not a tensor")
    if not isinstance(described.shape, Sequence) or not isinstance(described.stride, Sequence):
        raise NotPlain("not a tensor's shape")
    numbers: Sequence[Any] = [described.offset, *described.shape, *described.stride]
    if len(described.shape) != len(described.stride) or not all(isinstance(n, int) and n >= 0 for n in numbers):
        raise NotPlain("not a tensor's shape")
    return described._replace(shape=tuple(described.shape), stride=tuple(described.stride))


class _PlainUnpickler(pickle.Unpickler):
    """Accepts only the names that a plain tensor's pickle uses, and executes none of them."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _Description
        if (module, name) == ("collections", "OrderedDict"):  # holds backward hooks
            return dict
        if module == "torch" and name in STORAGES:
            return STORAGES[name]
        raise NotPlain(f"a pickle that names {module}.{name}")

    def persistent_load(self, reference: Any) -> _Storage:
        kind, dtype, key, _, _ = reference
        if kind != "storage" or not isinstance(dtype, torch.dtype) or not isinstance(key, str):
            raise NotPlain("not a storage")
        return _Storage(key, dtype)
