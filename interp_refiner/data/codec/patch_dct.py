"""A fixed orthonormal transform of 4 x 4 RGB patches: a codec without weights."""

from collections.abc import Sequence
from math import cos, pi, sqrt
from typing import final

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from interp_refiner.core import ClipSpec
from interp_refiner.data.codec.codec import Codec
from interp_refiner.data.codec.still import Still

PATCH = 4
# Highest u + v kept in each colour plane: 10 coefficients of luma, 3 of each chroma, 16 in all. Natural images have
# falling spectra and little chroma detail, so these coefficients hold most of the energy.
HIGHEST_FREQUENCY = (3, 1, 1)


def dct_matrix(size: int) -> Float[Tensor, "{size} {size}"]:
    """Orthonormal DCT-II: ``A[u, x] = s_u cos(pi (2 x + 1) u / (2 N))``, ``s_0^2 = 1 / N``, else ``s_u^2 = 2 / N``."""
    rows = [
        [sqrt((1 if u == 0 else 2) / size) * cos(pi * (2 * x + 1) * u / (2 * size)) for x in range(size)]
        for u in range(size)
    ]
    return torch.tensor(rows, dtype=torch.float64)


def colour_matrix() -> Float[Tensor, "3 3"]:
    """Orthonormal luma and chroma: the mean of R, G, B, then red against blue, then green against both."""
    luma, red_blue, green = [1 / sqrt(3)] * 3, [1 / sqrt(2), 0, -1 / sqrt(2)], [-1 / sqrt(6), 2 / sqrt(6), -1 / sqrt(6)]
    return torch.tensor([luma, red_blue, green], dtype=torch.float64)


def patch_dct_matrix() -> Float[Tensor, "16 48"]:
    """The analysis matrix ``M``: rows are channels, columns a patch flattened as (colour, y, x); ``M M^T = I``.

    It is the Kronecker product of the colour transform and two DCTs, truncated by :data:`HIGHEST_FREQUENCY`. Channels
    are ordered from low to high frequency, first luma, then each chroma.
    """
    dct = dct_matrix(PATCH)
    full = torch.einsum("pc,uy,vx->puvcyx", colour_matrix(), dct, dct)
    return torch.stack([full[index].flatten() for index in channels()]).float()


def channels() -> list[tuple[int, int, int]]:
    """(colour plane, vertical frequency u, horizontal frequency v) of every channel."""
    return [
        (plane, u, v)
        for plane, highest in enumerate(HIGHEST_FREQUENCY)
        for u, v in sorted(((u, v) for u in range(PATCH) for v in range(PATCH)), key=lambda uv: (sum(uv), uv))
        if u + v <= highest
    ]


def channel_scales(deviation: Float[Tensor, " c"], max_gain: float) -> Float[Tensor, " c"]:
    """Divisors of the channels that give a mean variance of 1 without amplifying weak channels too much.

    A DCT's high frequencies are far weaker than its means. Scaled to unit variance, they would dominate every error in
    latents, although they hardly matter in pixels. A trained autoencoder's latents are more even: Wan's declared
    deviations lie within a factor of 2.9. So the amplification of a channel is at most ``max_gain`` times that of the
    strongest channel:

        s_c = a max(d_c, max_c d_c / max_gain),    a such that the mean of (d_c / s_c)^2 is 1

    Args:
        deviation: ``d``, standard deviations of raw latents.
        max_gain: 1 keeps the channels' relative scales; infinity gives each channel unit variance.
    """
    floored = deviation.clamp(min=deviation.max().item() / max_gain)
    return floored * (deviation / floored).square().mean().sqrt()


@final
class PatchDCT(Codec):
    """Every 4 x 4 RGB patch of every frame becomes 16 channels, ``l = M p``; decoding is ``M^T l``.

    The rows of ``M`` are orthonormal. So decoding is the best reconstruction that is linear in the latents, and squared
    errors in raw latents are squared errors in (low-pass) pixels. In the tests, every held-out embedded clip is
    reconstructed with a PSNR of at least 40 dB after storage in bfloat16.

    Args:
        latents_mean, latents_std: per-channel statistics of the data set, see :class:`Codec`.
        still: see :class:`Codec`; it has no effect, because frames are coded one by one.
        spec: of the clips; its declared statistics are used if none are given. None when a data set is made.

    Raises:
        BadValue: another codec made the clips.
    """

    name = "patch_dct"

    def __init__(
        self,
        latents_mean: Sequence[float] | None = None,
        latents_std: Sequence[float] | None = None,
        still: Still | None = None,
        spec: ClipSpec | None = None,
    ):
        matrix = patch_dct_matrix()
        super().__init__(1, PATCH, False, matrix.shape[0], latents_mean, latents_std, still)
        self.matrix: Float[Tensor, "16 48"]
        self.register_buffer("matrix", matrix, persistent=False)
        if spec is not None:
            self.adopt(spec)
            self.set_statistics(latents_mean, latents_std)

    def transform(self, video: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b c n y x"]:
        patches = rearrange(video, "b p t (y i) (x j) -> b t y x (p i j)", i=PATCH, j=PATCH)
        return (patches @ self.matrix.T.to(video.dtype)).permute(0, 4, 1, 2, 3)

    def mirror_signs(self, axis: int) -> Float[Tensor, " c"]:
        """Cosines of even frequency are even functions (sign +1), those of odd frequency odd (-1)."""
        return torch.tensor([1.0 - 2.0 * ((v if axis == -1 else u) % 2) for _, u, v in channels()])

    def inverse(self, latents: Float[Tensor, "b c n y x"]) -> Float[Tensor, "b 3 t h w"]:
        patches = latents.permute(0, 2, 3, 4, 1) @ self.matrix.to(latents.dtype)
        return rearrange(patches, "b t y x (p i j) -> b p t (y i) (x j)", p=3, i=PATCH, j=PATCH)
