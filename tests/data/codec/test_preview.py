import pytest
import torch

from interp_refiner.data.codec import LatentPreview


def test_colours_are_the_projections_onto_the_leading_singular_vectors():
    latents = torch.randn(1, 6, 3, 4, 5) * torch.tensor([5.0, 3, 2, 1, 0.5, 0.1]).view(1, -1, 1, 1, 1)
    points = latents[0].flatten(1).T
    centred = points - points.mean(0)
    _, values, rows = torch.linalg.svd(centred, full_matrices=False)
    expected = 0.5 + centred @ rows[:3].T / (values[0] / len(points) ** 0.5) / 6
    colours = LatentPreview(latent_channels=6).decode(latents)[0].flatten(1).T
    for k in range(3):  # singular vectors have no sign
        flipped = 1 - expected[:, k]
        error = torch.stack([colours[:, k] - e.clamp(0, 1) for e in (expected[:, k], flipped)]).abs().amax(1)
        assert error.min() < 1e-4


def test_one_basis_for_truth_and_reconstruction():
    truth, offset = torch.randn(2, 16, 3, 4, 4), 0.1 * torch.randn(2, 16, 1, 1, 1)
    preview = LatentPreview().fitted_to(truth)
    own = LatentPreview().decode(truth + offset)
    torch.testing.assert_close(preview.decode(truth), LatentPreview().decode(truth))
    torch.testing.assert_close(own, LatentPreview().decode(truth), atol=1e-4, rtol=0)  # its own mean hides the offset
    assert (preview.decode(truth + offset) - preview.decode(truth)).abs().max() > 1e-3


def test_clips_of_a_batch_do_not_mix():
    latents = torch.randn(3, 16, 2, 4, 4)
    together = LatentPreview().decode(latents)
    alone = torch.cat([LatentPreview().decode(clip) for clip in latents.split(1)])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=0)


def test_statistics_are_undone_before_the_projection():
    raw, std = torch.randn(1, 16, 2, 4, 4), torch.rand(16) + 0.5
    normalised = raw / std.view(-1, 1, 1, 1)
    preview = LatentPreview(latents_std=std.tolist())
    expected = LatentPreview().decode(raw)
    torch.testing.assert_close(preview.decode(normalised), expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(preview.fitted_to(normalised).decode(normalised), expected, atol=1e-4, rtol=0)


def test_is_labelled_and_does_not_encode():
    assert "not a decoded video" in LatentPreview().caveat
    with pytest.raises(NotImplementedError, match="cannot encode"):
        LatentPreview().encode(torch.rand(1, 3, 2, 4, 4))
