"""Forward warping: moves every position of a picture along its own vector."""

import torch
from jaxtyping import Float
from torch import Tensor


def splat(
    values: Float[Tensor, "n c h w"], flow: Float[Tensor, "n 2 h w"], weight: Float[Tensor, "n 1 h w"]
) -> tuple[Float[Tensor, "n c h w"], Float[Tensor, "n 1 h w"]]:
    """Softmax splatting (Niklaus and Liu 2020), before its division:

        S(q) = sum_p w(p) B(p + f(p) - q) values(p),    W(q) = sum_p w(p) B(p + f(p) - q)

    with ``f`` the flow (x, y) in positions, ``w`` the weight and ``B`` the bilinear kernel. ``S / W`` is the moved
    picture. If several positions move to one place, those with a larger weight cover the others. W is 0 in holes.

    Returns:
        S and W.
    """
    n, _, h, w = values.shape
    y = torch.arange(h, device=flow.device, dtype=flow.dtype).view(-1, 1) + flow[:, 1]
    x = torch.arange(w, device=flow.device, dtype=flow.dtype) + flow[:, 0]
    left, top = x.floor(), y.floor()
    weighted = torch.cat([values, torch.ones_like(weight)], 1) * weight
    channels = weighted.shape[1]
    total = values.new_zeros(n, channels, h * w)
    for row, in_y in ((top, 1 - (y - top)), (top + 1, y - top)):
        for col, in_x in ((left, 1 - (x - left)), (left + 1, x - left)):
            inside = (row >= 0) & (row < h) & (col >= 0) & (col < w)
            kernel = (in_x * in_y * inside).unsqueeze(1)
            place = (row.clamp(0, h - 1) * w + col.clamp(0, w - 1)).long().flatten(1).unsqueeze(1)
            total = total.scatter_add(2, place.expand(-1, channels, -1), (weighted * kernel).flatten(2))
    return tuple(total.unflatten(2, (h, w)).split([channels - 1, 1], 1))  # type: ignore[return-value]
