import pytest
import torch
from scipy.fft import dctn

from interp_refiner.core import BadValue
from interp_refiner.data.codec.patch_dct import PatchDCT, colour_matrix, patch_dct_matrix
from interp_refiner.data.moving_shapes import MovingShapes


def random_statistics(seed: int = 0) -> tuple[list[float], list[float]]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(16, generator=generator).tolist(), (0.1 + torch.rand(16, generator=generator)).tolist()


def test_rows_are_orthonormal():
    matrix = patch_dct_matrix().double()
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(16).double(), atol=1e-6, rtol=0)


def test_agrees_with_scipys_transform():
    patch = torch.rand(3, 4, 4, dtype=torch.float64)
    planes = torch.einsum("pc,cyx->pyx", colour_matrix(), patch)
    expected = torch.from_numpy(dctn(planes.numpy(), axes=(1, 2), norm="ortho"))
    coefficients = patch_dct_matrix().double() @ patch.flatten()
    luma = expected[0, [0, 0, 1, 0, 1, 2, 0, 1, 2, 3], [0, 1, 0, 2, 1, 0, 3, 2, 1, 0]]
    chroma = expected[1:, [0, 0, 1], [0, 1, 0]]
    torch.testing.assert_close(coefficients, torch.cat([luma, chroma.flatten()]), atol=1e-6, rtol=0)


def test_encoding_undoes_decoding():
    codec = PatchDCT(*random_statistics())
    raw = torch.randn(2, 16, 3, 2, 5)
    torch.testing.assert_close(codec.transform(codec.inverse(raw)), raw, atol=1e-5, rtol=0)


def test_patches_stay_in_their_place():
    video = torch.rand(1, 3, 2, 8, 12)
    latents = PatchDCT().encode(video)
    moved = PatchDCT().encode(video.roll((4, 8), (3, 4)))
    torch.testing.assert_close(moved, latents.roll((1, 2), (3, 4)))


def test_smooth_video_comes_back_exactly():
    y, x = torch.arange(8).float().view(-1, 1), torch.arange(12).float()
    colours = torch.rand(2, 3, 3, 1, 1)
    video = (colours * 0.5).expand(2, 3, 3, 8, 12)  # constant in space: only DC coefficients
    codec = PatchDCT(*random_statistics(1))
    torch.testing.assert_close(codec.decode(codec.encode(video)), video, atol=1e-5, rtol=0)
    wave = 0.5 + 0.2 * torch.cos(torch.pi * (2 * x + 1) / 8).expand(1, 3, 1, 8, 12) + 0 * y  # luma (0, 1)
    torch.testing.assert_close(codec.decode(codec.encode(wave)), wave, atol=1e-5, rtol=0)


def test_statistics_normalise_every_channel():
    video = torch.rand(4, 3, 3, 16, 16)
    raw = PatchDCT().encode(video)
    mean, std = raw.mean((0, 2, 3, 4)), raw.std((0, 2, 3, 4))
    latents = PatchDCT().set_statistics(mean.tolist(), std.tolist()).encode(video)
    torch.testing.assert_close(latents.mean((0, 2, 3, 4)), torch.zeros(16), atol=1e-4, rtol=0)
    torch.testing.assert_close(latents.std((0, 2, 3, 4)), torch.ones(16), atol=1e-4, rtol=0)


def test_embedded_clips_survive_the_codec_and_the_shards_precision():
    shapes = MovingShapes(num_train=16, num_val=16)
    codec = PatchDCT(*[values.tolist() for values in shapes.statistics])
    _, _, video = next(shapes.clips("val", 16))
    decoded = codec.decode(codec.encode(video).bfloat16().float())
    psnr = -10 * (decoded - video).square().mean((1, 2, 3, 4)).log10()
    assert psnr.min() >= 40


def test_gradients_reach_the_pixels():
    video = torch.rand(1, 3, 1, 4, 4, requires_grad=True)
    codec = PatchDCT(*random_statistics(2))
    codec.encode(video).square().sum().backward()
    assert video.grad is not None
    assert video.grad.abs().sum() > 0
    assert not codec.state_dict()


@pytest.mark.parametrize(("height", "width"), [(30, 56), (32, 55)])
def test_refuses_sizes_that_are_not_whole_patches(height: int, width: int):
    with pytest.raises(BadValue, match=rf"video size={height}x{width}: expected .* divisible by 4"):
        PatchDCT().encode(torch.rand(1, 3, 2, height, width))


def test_refuses_statistics_that_do_not_fit():
    with pytest.raises(BadValue, match="latents_mean=3 numbers: expected 16 numbers"):
        PatchDCT(latents_mean=[0.0, 1.0, 2.0])
    with pytest.raises(BadValue, match=r"latents_std=.*expected positive"):
        PatchDCT(latents_std=[1.0] * 15 + [0.0])


def test_geometry():
    codec = PatchDCT()
    assert codec.latent_size(21, 32, 56) == (16, 21, 8, 14)
    assert codec.latent_frame(3) == [0, 1, 2]
    assert codec.describe() == {
        "name": "patch_dct",
        "temporal_factor": 1,
        "spatial_factor": 4,
        "first_frame_alone": False,
    }
    assert codec.fitted_to(torch.randn(1, 16, 2, 2, 2)) is codec
