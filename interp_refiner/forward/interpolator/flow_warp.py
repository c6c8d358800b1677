"""Bilateral flow at the target frame, from a small network."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from interp_refiner.core import BadValue, Neighbours, at_least, take_frames
from interp_refiner.forward.interpolator.interpolator import Interpolation
from interp_refiner.forward.interpolator.learned import Conv2d, Learned
from interp_refiner.forward.interpolator.linear import lerp_frames

NUM_FIELDS = 6  # displacement (2), bend (2), visibility, confidence
SLOPE = 0.1  # of leaky ReLUs
SHARPNESS = 20.0  # of the softmax over displacements at the start; cosines of neighbours differ by about 0.1
GAIN = 10.0  # an optimizer step changes the weight of the best match by about this many learning rates


class FlowWarp(Learned):
    """Warps both keyframes to the target frame and blends them (bilateral motion: Park et al. 2020, BMBC).

    For every position x of a frame at ``a`` of its gap, a network estimates from the two keyframes: the displacement
    ``d`` from left to right, the bend ``e`` of the path, and the visibility ``c0 = 1 - c1`` and ``c1`` in the left and
    right keyframe:

        f0 = -a d + a (1-a) e        f1 = (1-a) d + a (1-a) e
        w0 ~ (1-a) c0, w1 ~ a c1     w0 + w1 = 1
        zbar = w0 z_l(x + f0) + w1 z_r(x + f1)

    With ``d = e = 0`` and ``c0 = c1`` this is linear interpolation. All three are zero-initialised residuals, so an
    untrained network is linear interpolation bit for bit. On a coarse grid, the appearance of both keyframes and their
    features are matched over all displacements (cost volume). ``d`` starts as the best match times a learned weight,
    initially 0. The network corrects it on the coarse grid and then on a fine one.

    The confidence is the network's estimate of ``1 / (1 + q)`` at every position, with q the squared error of ``zbar``,
    averaged over channels.

    Args:
        channels: channels of the warped values: c for latents, 3 for pixels.
        width: features per position.
        stride: positions of the input per position of the fine grid; the coarse grid has half its resolution.
        radius: largest displacement between keyframes that is matched, in positions of the coarse grid.
        checkpoint: weights to load and freeze, see :meth:`Freezable.freeze`; None to train it.

    Raises:
        BadValue: a size below 1, a checkpoint that does not fit; on use, values of another shape.
    """

    segment_local: ClassVar[bool] = True
    penalised = ("roughness",)

    def __init__(
        self, channels: int = 16, width: int = 24, stride: int = 1, radius: int = 3, checkpoint: str | None = None
    ):
        super().__init__()
        at_least(1, channels=channels, width=width, stride=stride, radius=radius)
        self.channels, self.stride, self.radius = channels, stride, radius
        self.encode_fine = nn.Sequential(
            Conv2d(channels, width, stride), nn.LeakyReLU(SLOPE), Conv2d(width, width), nn.LeakyReLU(SLOPE)
        )
        self.encode_coarse = nn.Sequential(Conv2d(width, width, 2), nn.LeakyReLU(SLOPE), Conv2d(width, width))
        matches = (2 * radius + 1) ** 2
        self.coarse_hidden = nn.Sequential(
            Conv2d(matches + 2 * width + 2, 2 * width), nn.LeakyReLU(SLOPE), Conv2d(2 * width, width),
            nn.LeakyReLU(SLOPE), Conv2d(width, width), nn.LeakyReLU(SLOPE),
        )  # fmt: skip
        self.coarse_field = Conv2d(width, NUM_FIELDS).zero()
        self.sharpness = nn.Parameter(torch.tensor(SHARPNESS).log())
        self.follow_match = nn.Parameter(torch.zeros(()))
        self.fine_hidden = nn.Sequential(
            Conv2d(3 * width + NUM_FIELDS + 2, width), nn.LeakyReLU(SLOPE), Conv2d(width, width), nn.LeakyReLU(SLOPE)
        )
        self.fine_field = Conv2d(width, NUM_FIELDS).zero()
        self.freeze(checkpoint)

    def rebuild(self, values: Float[Tensor, "b c t *space"], near: Neighbours) -> Interpolation:
        if values.ndim != 5 or values.shape[1] != self.channels:
            expected = f"video [b, {self.channels}, t, h, w]: flow_warp warps positions, of channels={self.channels}"
            raise BadValue("latents", tuple(values.shape), expected)
        b, _, t = values.shape[:3]
        inside = (~near.known & ~near.one_sided).flatten().view(-1, 1, 1, 1)
        alpha = near.alpha.flatten().view(-1, 1, 1, 1).to(values.dtype)
        alpha = torch.where(inside, alpha, 0.5)  # frames that are not inside a gap are computed and discarded
        left, right = (take_frames(values, side).transpose(1, 2).flatten(0, 1) for side in (near.left, near.right))
        fields = self.fields(left, near.right, alpha, near.gap.flatten().view(-1, 1, 1, 1))
        # the difference to the same blend of unmoved keyframes, which is exactly 0 where the fields are 0
        moved = blend(left, right, fields, alpha) - blend(left, right, torch.zeros_like(fields), alpha)
        moved = torch.where(inside, moved, 0.0).unflatten(0, (b, t)).transpose(1, 2)
        confidence = (fields[:, 5:].sigmoid() * inside).squeeze(1).unflatten(0, (b, t))
        return Interpolation(lerp_frames(values, near) + moved, confidence, roughness(fields[:, :4], inside))

    def penalties(
        self, clean: Float[Tensor, "b c t *space"], known: Bool[Tensor, "b t"], filled: Interpolation
    ) -> dict[str, Tensor]:
        assert filled.roughness is not None
        return {"roughness": filled.roughness}

    def fields(
        self,
        left: Float[Tensor, "n c h w"],
        right_frame: Int[Tensor, "b t"],
        alpha: Float[Tensor, "n 1 1 1"],
        gap: Int[Tensor, "n 1 1 1"],
    ) -> Float[Tensor, "n 6 h w"]:
        """Displacement and bend (x, y), logits of visibility and confidence, for all ``n = b t`` frames.

        ``left`` holds every frame's left keyframe. A keyframe is its own left one, so ``left`` at ``right_frame`` is
        the right keyframe.
        """
        h, w = left.shape[2:]
        multiple = 2 * self.stride
        left = F.pad(left, (0, -w % multiple, 0, -h % multiple), mode="replicate")
        fine_left = self.encode_fine(left)
        coarse_left = self.encode_coarse(fine_left)
        first = torch.arange(right_frame.shape[0], device=left.device).unsqueeze(1) * right_frame.shape[1]
        row = (first + right_frame).flatten()
        fine_right, coarse_right = fine_left.index_select(0, row), coarse_left.index_select(0, row)
        time = torch.cat([alpha, 1 - 4 / (gap.to(alpha.dtype) + 4)], 1)  # place in the gap, and its length, in 0..1

        looks = torch.cat([F.normalize(centred(coarse_left)), appearance(left, coarse_left)], 1)
        match = matching(looks, looks.index_select(0, row), alpha, self.radius)
        hidden = self.coarse_hidden(torch.cat([match, coarse_left, coarse_right, planes(time, match)], 1))
        found = best_match(match, self.sharpness.exp().to(match.dtype), self.radius)
        found = F.pad(GAIN * self.follow_match.to(found.dtype) * found, (0, 0, 0, 0, 0, NUM_FIELDS - 2))
        field = enlarge(found + self.coarse_field(hidden), 2)

        from_left, from_right = flows(field, alpha)
        seen = [warp(fine_left, from_left), warp(fine_right, from_right), F.interpolate(hidden, scale_factor=2)]
        hidden = self.fine_hidden(torch.cat([*seen, field, planes(time, field)], 1))
        return enlarge(field + self.fine_field(hidden), self.stride)[..., :h, :w]


def flows(
    fields: Float[Tensor, "n 6 h w"], alpha: Float[Tensor, "n 1 1 1"]
) -> tuple[Float[Tensor, "n 2 h w"], Float[Tensor, "n 2 h w"]]:
    """``f0 = -a d + a (1-a) e`` and ``f1 = (1-a) d + a (1-a) e``: the flows to the left and the right keyframe."""
    displacement, bend = fields[:, :2], alpha * (1 - alpha) * fields[:, 2:4]
    return bend - alpha * displacement, bend + (1 - alpha) * displacement


def blend(
    left: Float[Tensor, "n c h w"],
    right: Float[Tensor, "n c h w"],
    fields: Float[Tensor, "n 6 h w"],
    alpha: Float[Tensor, "n 1 1 1"],
) -> Float[Tensor, "n c h w"]:
    """``w0 left(x + f0) + w1 right(x + f1)``, see :class:`FlowWarp`."""
    from_left, from_right = flows(fields, alpha)
    visibility = fields[:, 4:5].sigmoid()
    weight = alpha * visibility / (alpha * visibility + (1 - alpha) * (1 - visibility))
    return torch.lerp(warp(left, from_left), warp(right, from_right), weight)


def warp(image: Float[Tensor, "n c h w"], flow: Float[Tensor, "n 2 k w"]) -> Float[Tensor, "n c k w"]:
    """``image(x + flow)``, bilinear, with replicated edges; ``k = m h`` samples with m flows, one below the other."""
    h, w = image.shape[2:]
    y = torch.arange(h, device=image.device, dtype=image.dtype).repeat(flow.shape[2] // h).unsqueeze(1)
    x = torch.arange(w, device=image.device, dtype=image.dtype)
    grid = torch.stack([(x + flow[:, 0] + 0.5) * (2 / w) - 1, (y + flow[:, 1] + 0.5) * (2 / h) - 1], -1)
    return F.grid_sample(image, grid, padding_mode="border", align_corners=False)


def matching(
    left: Float[Tensor, "n c h w"], right: Float[Tensor, "n c h w"], alpha: Float[Tensor, "n 1 1 1"], radius: int
) -> Float[Tensor, "n k h w"]:
    """Cost volume ``<left(x - a d), right(x + (1-a) d)>`` over all ``k`` displacements d of up to ``radius``."""
    h, w = left.shape[2:]
    steps = torch.arange(-radius, radius + 1, device=left.device, dtype=left.dtype)
    dy, dx = torch.meshgrid(steps, steps, indexing="ij")
    # [2, k h, w]: k constant flows, one below the other
    displacement = torch.stack([dx, dy]).flatten(1).repeat_interleave(h, 1).unsqueeze(2).expand(2, -1, w)
    from_left, from_right = warp(left, -alpha * displacement), warp(right, (1 - alpha) * displacement)
    return (from_left * from_right).sum(1).unflatten(1, (-1, h))


def best_match(scores: Float[Tensor, "n k h w"], sharpness: Float[Tensor, ""], radius: int) -> Float[Tensor, "n 2 h w"]:
    """The soft argmax of the scores: the mean displacement (x, y) under ``softmax(sharpness scores)``."""
    steps = torch.arange(-radius, radius + 1, device=scores.device, dtype=scores.dtype)
    share = (sharpness * scores).softmax(1).unflatten(1, (len(steps), len(steps)))
    return torch.stack([torch.einsum("nyxhw,x->nhw", share, steps), torch.einsum("nyxhw,y->nhw", share, steps)], 1)


def appearance(image: Float[Tensor, "n c h w"], grid: Float[Tensor, "n _ y x"]) -> Float[Tensor, "n d y x"]:
    """The 3 x 3 cells around every cell of the coarse grid as a unit vector, which can be matched without training."""
    cells = centred(F.adaptive_avg_pool2d(image, (grid.shape[2], grid.shape[3])))
    around = F.unfold(F.pad(cells, (1, 1, 1, 1), mode="replicate"), 3)
    return F.normalize(around.unflatten(2, cells.shape[2:]))


def centred(features: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """The features minus their mean over space; with the mean, all of them would be similar."""
    return features - features.mean((2, 3), keepdim=True)


def enlarge(fields: Float[Tensor, "n 6 h w"], factor: int) -> Float[Tensor, "n 6 y x"]:
    """The fields on a grid that is ``factor`` times finer, with displacements in positions of that grid."""
    scale = torch.ones(NUM_FIELDS, device=fields.device, dtype=fields.dtype)
    scale[:4] = factor
    return F.interpolate(fields, scale_factor=factor, mode="bilinear", align_corners=False) * scale.view(-1, 1, 1)


def planes(numbers: Float[Tensor, "n k 1 1"], like: Float[Tensor, "n _ h w"]) -> Float[Tensor, "n k h w"]:
    """One constant plane per number."""
    return numbers.expand(-1, -1, *like.shape[2:])


def roughness(flow: Float[Tensor, "n 4 h w"], inside: Tensor) -> Float[Tensor, ""]:
    """Total variation: the mean absolute difference of neighbouring positions, over frames ``inside`` gaps."""
    total = flow.diff(dim=2).abs().mean((1, 2, 3)) + flow.diff(dim=3).abs().mean((1, 2, 3))
    inside = inside.flatten()
    return (total * inside).sum() / inside.sum().clamp(min=1)
