"""Motion compensation follows motion and is linear elsewhere."""

import pytest
import torch
import torch.nn.functional as F
from scipy.stats import spearmanr

from interp_refiner.core import BadValue
from interp_refiner.data.codec import PatchDCT
from interp_refiner.data.moving_shapes import MovingShapes
from interp_refiner.forward.interpolator import InPixels, Linear, MotionCompensated
from interp_refiner.forward.interpolator.motion_compensated import compensate, windows
from tests.helpers import build

GAP = 4
KNOWN = torch.tensor([[True, False, False, False, True]])


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def smooth(*shape, seed=0):
    """Unit variance, correlated over a few positions."""
    sharp = noise(*shape[:-2], shape[-2] + 4, shape[-1] + 4, seed=seed)
    blurred = F.avg_pool2d(sharp.flatten(0, -4), 5, stride=1).view(shape)
    return blurred / blurred.std()


def pan(height, width, dx, dy, frames=GAP + 1):
    """A picture that moves by whole (dx, dy) a frame, ``[1, 3, t, h, w]``; new content comes in at the edges."""
    margin = 4 * GAP
    world = smooth(1, 3, height + 2 * margin, width + 2 * margin)
    views = [
        world[..., margin - t * dy : margin - t * dy + height, margin - t * dx : margin - t * dx + width]
        for t in range(frames)
    ]
    return torch.stack(views, 2)


def share_of_linear(interpolator, clip, known=KNOWN, margin=0):
    """Squared error relative to that of linear interpolation, away from the edges."""
    inside = (..., slice(margin, clip.shape[-2] - margin), slice(margin, clip.shape[-1] - margin))
    error, linear = (
        (method(clip, known).latents - clip)[inside].square().mean() for method in (interpolator, Linear())
    )
    return error / linear


@pytest.mark.parametrize(("height", "width"), [(32, 48), (40, 28), (33, 30)])
@pytest.mark.parametrize(("dx", "dy"), [(2, 0), (0, -1), (-1, 2)])
@pytest.mark.parametrize(("block", "pooling"), [(2, 1), (4, 2), (3, 1)])
def test_a_pan_is_followed(height, width, dx, dy, block, pooling):
    interpolator = MotionCompensated(radius=8, block=block, pooling=pooling)
    assert share_of_linear(interpolator, pan(height, width, dx, dy), margin=10) < 0.05


def test_vectors_are_those_of_the_motion():
    clip = pan(32, 48, 2, -1)
    left, right = clip[:, :, 0], clip[:, :, -1]
    vectors = MotionCompensated(radius=8).motion(
        left, right, torch.tensor([0, 0]), torch.tensor([0.25, 0.5]).view(2, 1, 1, 1)
    )
    assert vectors.shape == (2, 2, 16, 24)
    inner = vectors[:, :, 5:-5, 5:-5]
    torch.testing.assert_close(inner, torch.tensor([8.0, -4.0]).view(1, 2, 1, 1).expand_as(inner), atol=0.15, rtol=0)


def test_an_object_is_not_lost_before_a_flat_background():
    """It moves further than it is wide: where it passes both keyframes show background, which fits perfectly."""
    clip = torch.full((1, 3, GAP + 1, 24, 48), 0.3)
    patch = smooth(1, 3, 8, 8)
    for t in range(GAP + 1):
        clip[:, :, t, 8:16, 6 + 3 * t : 14 + 3 * t] = patch
    interpolator = MotionCompensated(radius=12, block=4)
    assert share_of_linear(interpolator, clip) < 0.3


def test_unrelated_keyframes_are_interpolated_nearly_linearly():
    clip = smooth(2, 16, GAP + 1, 24, 32)
    known = KNOWN.expand(2, -1)
    result, linear = MotionCompensated()(clip, known), Linear()(clip, known)
    assert (result.latents - linear.latents).square().mean() < 0.1 * linear.latents.square().mean()
    assert share_of_linear(MotionCompensated(), clip, known) < 1
    assert result.confidence[:, 1:-1].mean() < 0.5


def test_confidence_tells_where_the_error_is():
    """The left part pans, the right part is another picture in every frame."""
    clip = pan(32, 64, 0, 2)
    clip[..., 40:] = smooth(1, 3, GAP + 1, 32, 24, seed=5)
    result = MotionCompensated(radius=8)(clip, KNOWN)
    error, confidence = (result.latents - clip).square().mean(1)[:, 1:-1], result.confidence[:, 1:-1]
    assert confidence[..., 10:-10, 4:32].mean() > 0.9 > 0.65 > confidence[..., 44:].mean()
    assert spearmanr(confidence.flatten(), error.flatten()).statistic < -0.5


def test_a_batch_of_mixed_levels_equals_a_loop_and_is_repeatable():
    clip, known = smooth(3, 4, 9, 12, 16), torch.zeros(3, 9, dtype=torch.bool)
    known[0, [0, 8]], known[1, [0, 2, 4, 6, 8]], known[2, [1, 2, 5]] = True, True, True
    interpolator = MotionCompensated()
    together, again = interpolator(clip, known), interpolator(clip, known)
    assert torch.equal(together.latents, again.latents)
    for b in range(3):
        alone = interpolator(clip[b : b + 1], known[b : b + 1])
        torch.testing.assert_close(together.latents[b : b + 1], alone.latents, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(together.confidence[b : b + 1], alone.confidence, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("size", "block"), [(8, 1), (13, 4), (30, 3), (2, 4)])
def test_windows_of_all_blocks_add_up_to_1(size, block):
    around = windows(size, block, torch.zeros((), dtype=torch.float64))
    torch.testing.assert_close(sum(weight for _, weight in around), torch.ones(size).double())
    for position in range(size):
        own = min(position // block, -(-size // block) - 1)
        heaviest = max(around, key=lambda window: window[1][position].item())
        assert heaviest[0][position] == own


@pytest.mark.parametrize("alpha", [0.25, 0.5])
def test_one_motion_of_all_blocks_is_a_shift(alpha):
    world, (dx, dy) = noise(1, 3, 24, 40), (2, 1)  # from the left keyframe to the frame at alpha

    def view(moments):
        return world[..., 8 - moments * dy : 20 - moments * dy, 10 - moments * dx : 26 - moments * dx]

    left, middle, right = view(0), view(1), view(int(1 / alpha))
    vectors = torch.tensor([dx / alpha, dy / alpha]).view(1, 2, 1, 1).expand(1, 2, 3, 4)
    change, difference = compensate(left, right, vectors, torch.full((1, 1, 1, 1), alpha), 4)
    inside = (..., slice(3, -3), slice(6, -6))
    found = torch.lerp(left, right, alpha) + change
    torch.testing.assert_close(found[inside], middle[inside], atol=1e-4, rtol=1e-4)
    assert difference[inside].max() < 1e-6


def test_standing_still_changes_nothing():
    left, right, vectors = noise(2, 3, 12, 16), noise(2, 3, 12, 16, seed=1), torch.zeros(2, 2, 3, 4)
    change, difference = compensate(left, right, vectors, torch.tensor([0.2, 0.7]).view(2, 1, 1, 1), 4)
    assert torch.equal(change, torch.zeros_like(left))
    torch.testing.assert_close(difference, (left - right).square(), atol=1e-4, rtol=1e-4)


@pytest.fixture(scope="module")
def shapes():
    """Moving shapes as normalised latents, and the codec with their statistics."""
    _, _, video = next(MovingShapes().clips("train", 12))
    raw = PatchDCT().transform(video)
    codec = PatchDCT(raw.mean((0, 2, 3, 4)).tolist(), raw.std((0, 2, 3, 4)).tolist())
    return codec.encode(video), codec


@pytest.mark.parametrize(("gap", "bar"), [(2, 0.45), (4, 0.45), (5, 0.5), (7, 0.65)])
def test_moving_shapes_in_pixels(shapes, gap, bar):
    """Error relative to linear interpolation; block-transform latents themselves do not shift."""
    latents, codec = shapes
    interpolator = build("interpolator", "motion_compensated_pixels").with_codec(codec)
    known = torch.arange(21).remainder(gap).eq(0)
    clip = latents[:, :, : 20 // gap * gap + 1]
    known = known[: clip.shape[2]].expand(12, -1)
    assert share_of_linear(interpolator, clip, known) < bar
    assert share_of_linear(interpolator, clip, known) < share_of_linear(MotionCompensated(), clip, known)


def test_what_the_codec_loses_is_kept_on_stills(shapes):
    _, codec = shapes
    still = 3 * noise(1, 16, 1, 8, 14).expand(-1, -1, GAP + 1, -1, -1)  # out of the pixels' range
    interpolator = InPixels(MotionCompensated(radius=4, block=4), codec)
    assert torch.equal(interpolator(still, KNOWN).latents, still)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"radius": 0}, "radius=0: expected a finite number > 0"),
        ({"block": -2}, "block=-2: expected a finite number > 0"),
        ({"smoothness": 0.0}, "smoothness=0.0: expected a finite number > 0"),
        ({"radius": 5, "block": 4, "pooling": 2}, "pooling=2: expected a divisor of radius=5 and block=4"),
        ({"radius": 6, "block": 3, "pooling": 2}, "pooling=2: expected a divisor of radius=6 and block=3"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, message):
    with pytest.raises(BadValue, match=message):
        MotionCompensated(**arguments)


def test_paths_are_refused():
    with pytest.raises(BadValue, match=r"latents=\(1, 2, 5\): expected video \[b, c, t, h, w\]"):
        MotionCompensated()(noise(1, 2, 5), KNOWN)
