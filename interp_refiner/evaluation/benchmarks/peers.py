"""Frame interpolation methods of other projects, for comparison on the same keyframes. They work in pixels."""

import subprocess
from collections import defaultdict
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import ClassVar, Literal, final

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from interp_refiner.core import BadValue, MissingExtra, Neighbours, at_least, choice
from interp_refiner.forward.interpolator import Interpolation, Interpolator
from interp_refiner.forward.interpolator.interpolator import no_confidence

ESTIMATION = ("bidir", "bilat")
NETWORK = "flownet.pt"
Gap = tuple[int, int, int]
"""Sample, left keyframe, right keyframe."""


def gaps(near: Neighbours) -> dict[int, list[Gap]]:
    """The gaps with missing frames, by the distance between their keyframes."""
    found: dict[int, list[Gap]] = defaultdict(list)
    for row, known in enumerate(near.known.cpu()):
        frames = known.nonzero().flatten().tolist()
        for left, right in pairwise(frames):
            if right - left > 1:
                found[right - left].append((row, left, right))
    return found


class Peer(Interpolator):
    """An interpolator of RGB frames ``[b, 3, t, H, W]`` in 0..1 that sees two keyframes at a time."""

    segment_local: ClassVar[bool] = True

    @property
    def absent(self) -> str | None:
        """Why it cannot run here; None if it can."""
        return None

    def between(self, pairs: Float[Tensor, "n 2 3 H W"], gap: int) -> Float[Tensor, "n _m 3 H W"]:
        """The ``gap - 1`` frames between two keyframes."""
        raise NotImplementedError

    def fill(self, values: Float[Tensor, "b 3 t H W"], near: Neighbours) -> Interpolation:
        held = near.left.view(*near.left.shape[:1], 1, -1, 1, 1).expand_as(values)
        filled = values.gather(2, held).clone()  # outside the outermost keyframes, the nearest keyframe is held
        for gap, found in gaps(near).items():
            pairs = torch.stack([values[row, :, [left, right]].transpose(0, 1) for row, left, right in found])
            for (row, left, right), made in zip(found, self.between(pairs, gap), strict=True):
                filled[row, :, left + 1 : right] = made.transpose(0, 1).to(values)
        return Interpolation(filled, no_confidence(values))


@final
class Minterpolate(Peer):
    """ffmpeg's filter ``minterpolate``: overlapped blocks, bidirectional motion, 8 bits per colour.

    Args:
        estimation: ffmpeg's ``me_mode``, the kind of motion search.
        block: side of its blocks in pixels, 4 to 16.
        radius: search radius in pixels.

    Raises:
        BadValue: a value that ffmpeg does not accept.
    """

    def __init__(self, estimation: Literal["bidir", "bilat"] = "bidir", block: int = 8, radius: int = 16):
        super().__init__()
        self.estimation = choice("estimation", estimation, ESTIMATION)
        if block not in (4, 8, 16):
            raise BadValue("block", block, "4 | 8 | 16")
        at_least(4, radius=radius)
        self.block, self.radius = block, radius

    @property
    def absent(self) -> str | None:
        return None if find_spec("imageio_ffmpeg") else "not measured: imageio-ffmpeg is not installed"

    def between(self, pairs: Float[Tensor, "n 2 3 H W"], gap: int) -> Float[Tensor, "n _m 3 H W"]:
        """Sends each pair three times, a b a b a b, so that ffmpeg's neighbouring frames come from the same pair."""
        n, _, _, height, width = pairs.shape
        frames = (pairs.repeat(1, 3, 1, 1, 1).flatten(0, 1).clamp(0, 1) * 255).round().byte().cpu()
        sent = frames.permute(0, 2, 3, 1).contiguous().numpy().tobytes()
        made = np.frombuffer(self.ffmpeg(sent, gap, height, width), np.uint8).reshape(-1, height, width, 3)
        first = 6 * np.arange(n)[:, None] + 2  # from the third of six frames, a, to the fourth, b
        chosen = torch.from_numpy(made[first * gap + np.arange(1, gap)])
        return chosen.permute(0, 1, 4, 2, 3).float() / 255

    def ffmpeg(self, frames: bytes, gap: int, height: int, width: int) -> bytes:
        """Returns ``gap`` frames for every input frame; raises :class:`MissingExtra` if there is no ffmpeg."""
        if self.absent:
            raise MissingExtra("peer=minterpolate", "imageio-ffmpeg", "metrics")
        from imageio_ffmpeg import get_ffmpeg_exe

        motion = f"me=esa:me_mode={self.estimation}:mb_size={self.block}:search_param={self.radius}:scd=none"
        chain = f"format=yuv444p,minterpolate=fps={gap}:mi_mode=mci:mc_mode=aobmc:vsbmc=1:{motion},format=rgb24"
        raw = ["-f", "rawvideo", "-pix_fmt", "rgb24"]
        command = [get_ffmpeg_exe(), "-v", "error", *raw, "-s", f"{width}x{height}", "-r", "1", "-i", "-", "-vf", chain]
        command += ["-fps_mode", "passthrough", "-f", "rawvideo", "-"]
        return subprocess.run(command, input=frames, capture_output=True, check=True).stdout


@final
class TwoFrameNetwork(Peer):
    """A pretrained interpolation network such as RIFE (Huang et al. 2022); no package contains its weights.

    Args:
        folder: holds ``flownet.pt``, TorchScript of ``f(first, last, time) -> frame`` with frames ``[n, 3, H, W]`` in
            0..1 and ``time`` ``[n, 1, 1, 1]`` in 0..1. None: it is not measured.
        multiple: heights and widths must be multiples of it; frames are padded by replicating borders.

    Raises:
        BadValue: no such file in the folder.
    """

    def __init__(self, folder: str | None = None, multiple: int = 32):
        super().__init__()
        self.multiple, self.network = multiple, None
        if folder is not None:
            file = Path(folder).expanduser() / NETWORK
            if not file.is_file():
                raise BadValue("folder", folder, f"a folder with {NETWORK}, TorchScript of f(first, last, time)")
            self.network = torch.jit.load(file, map_location="cpu").eval()

    @property
    def absent(self) -> str | None:
        return "not measured: folder=<folder with its weights> is not set" if self.network is None else None

    @torch.no_grad()
    def between(self, pairs: Float[Tensor, "n 2 3 H W"], gap: int) -> Float[Tensor, "n _m 3 H W"]:
        if self.network is None:
            raise BadValue("folder", None, f"a folder with {NETWORK}, because no package contains its weights")
        height, width = pairs.shape[-2:]
        right, below = -width % self.multiple, -height % self.multiple
        first, last = (F.pad(frame, (0, right, 0, below), mode="replicate") for frame in pairs.unbind(1))
        times = [pairs.new_full((len(pairs), 1, 1, 1), step / gap) for step in range(1, gap)]
        return torch.stack([self.network(first, last, time)[..., :height, :width] for time in times], 1)
