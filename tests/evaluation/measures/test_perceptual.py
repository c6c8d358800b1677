"""ST-LPIPS against its package, VMAF through ffmpeg, and networks from local files."""

import importlib
import sys
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from interp_refiner.core import BadValue, MissingExtra
from interp_refiner.evaluation.measures import (
    LPIPS,
    STLPIPS,
    VMAF,
    FrechetDistance,
    I3DFeatures,
    InceptionFeatures,
    vmaf,
)
from interp_refiner.training import ShiftTolerantLPIPS
from tests.evaluation.measures.tables import grouped, records

needs_stlpips = pytest.mark.skipif(
    importlib.util.find_spec("stlpips_pytorch") is None, reason="needs the extra metrics"
)
needs_ffmpeg = pytest.mark.skipif(importlib.util.find_spec("imageio_ffmpeg") is None, reason="needs the extra metrics")


def videos(b: int = 2, t: int = 3, h: int = 40, w: int = 48) -> Tensor:
    """A smooth pattern that moves a little from frame to frame, RGB in 0..1."""
    g = torch.Generator().manual_seed(0)
    canvas = F.interpolate(
        torch.rand(b, 3, (h + t) // 4 + 2, (w + 2 * t) // 4 + 2, generator=g), scale_factor=4, mode="bicubic"
    )
    frames = [canvas[:, :, f : f + h, 2 * f : 2 * f + w] for f in range(t)]
    return torch.stack(frames, 2).clamp(0, 1)


def noisy(video: Tensor, sigma: float) -> Tensor:
    return (video + sigma * torch.randn(video.shape, generator=torch.Generator().manual_seed(1))).clamp(0, 1)


def batch_of(estimates: dict[str, Tensor], clean: Tensor, known: Tensor) -> dict:
    """All clips at level 1."""
    n = len(clean)
    clips = {"estimates": estimates, "clean": clean, "known": known}
    return clips | {"level": torch.ones(n, dtype=torch.long), "sample": torch.arange(n)}


@pytest.fixture
def package_network(monkeypatch):
    """The package's own module, with stand-ins for what it imports and does not use here."""
    for name, attribute in (("torchvision", "models"), ("IPython", "embed"), ("torchsummary", "summary")):
        stand_in = ModuleType(name)
        setattr(stand_in, attribute, None)
        monkeypatch.setitem(sys.modules, name, stand_in)
    for name in [name for name in sys.modules if name.startswith("stlpips_pytorch")]:
        monkeypatch.delitem(sys.modules, name)
    stlpips = importlib.import_module("stlpips_pytorch.stlpips")
    return stlpips.LPIPS(net="alex", variant="shift_tolerant", verbose=False)


@needs_stlpips
@pytest.mark.parametrize("size", [(40, 48), (33, 21)])
def test_st_lpips_equals_its_package(package_network, size):
    clean = videos(h=40, w=48)[..., : size[0], : size[1]]
    estimate = noisy(clean, 0.1)
    found = STLPIPS(frames_at_once=4)(estimate, clean)
    for i in range(2):
        for t in range(3):
            with torch.no_grad():
                expected = package_network(2 * estimate[i : i + 1, :, t] - 1, 2 * clean[i : i + 1, :, t] - 1)
            assert found[i, t].item() == pytest.approx(expected.item(), rel=1e-4)


@needs_stlpips
def test_st_lpips_known_values():
    clean = videos(t=5)
    measure = STLPIPS()
    assert (measure(clean, clean) == 0).all()
    little, much = (measure(noisy(clean, sigma), clean) for sigma in (0.03, 0.2))
    assert (little > 0).all()
    assert (little < much).all()
    assert torch.allclose(measure(noisy(clean, 0.1), clean), measure(clean, noisy(clean, 0.1)), rtol=1e-5)


@needs_stlpips
def test_st_lpips_refuses_frames_too_small_for_its_network():
    with pytest.raises(BadValue, match="video size=40x20: expected at least 21x21 pixels for ST-LPIPS"):
        STLPIPS()(videos()[..., :20], videos()[..., :20])


@needs_stlpips
def test_st_lpips_in_a_table():
    clean = videos(t=4)
    known = torch.tensor([[True, False, False, True]] * 2)
    estimates = {"a": noisy(clean, 0.05), "b": noisy(clean, 0.2)}
    values = records(STLPIPS(), batch_of(estimates, clean, known), baselines=["b"])[0]["values"]
    assert values["st_lpips_ratio/a/b"]["high"] < 1
    assert values["st_lpips_better/a/b"]["value"] == 1.0


@needs_ffmpeg
def test_vmaf_ranks_and_is_high_for_the_truth():
    clean = videos(t=1, h=64, w=96).repeat(1, 1, 6, 1, 1)  # motion would hide the noise
    perfect, good, bad = (vmaf(noisy(clean, sigma), clean) for sigma in (0.0, 0.05, 0.3))
    assert perfect.shape == (2, 6)
    assert (perfect > 90).all()
    assert (perfect > good + 5).all()
    assert (good > bad + 5).all()
    known = torch.tensor([[True, False, False, False, False, True]] * 2)
    estimates = {"good": noisy(clean, 0.05), "bad": noisy(clean, 0.3)}
    found = records(VMAF(), batch_of(estimates, clean, known), baselines=["bad"])
    assert found[0]["values"]["vmaf_gain/good/bad"]["low"] > 0


@pytest.mark.parametrize(
    ("build", "package"), [(STLPIPS, "stlpips_pytorch"), (lambda: vmaf(videos(), videos()), "imageio")]
)
def test_missing_extras_are_named(monkeypatch, build, package):
    for module in (ShiftTolerantLPIPS.__module__, vmaf.__module__):
        monkeypatch.setattr(sys.modules[module], "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=rf"needs {package}.*interp_refiner\[metrics\]"):
        build()


class Inception(nn.Module):
    def forward(self, x: Tensor, return_features: bool = False) -> Tensor:
        return x.flatten(1)[:, :2048] * (2.0 if return_features else 0.0)


class I3D(nn.Module):
    def forward(self, x: Tensor, rescale: bool = False, resize: bool = False, return_features: bool = False) -> Tensor:
        return x.flatten(1)[:, :400] * (1.0 if rescale and resize and return_features else 0.0)


class VGG16(nn.Module):
    def forward(self, x: Tensor, resize_images: bool = True, return_lpips: bool = False) -> Tensor:
        return x.flatten(1) / 255 * (1.0 if return_lpips and not resize_images else 0.0)


@pytest.fixture
def weights(tmp_path, request):
    """A stand-in with the call signature of the published file; the real ones cannot be had without a network."""
    path = tmp_path / "network.pt"
    torch.jit.script(request.param()).save(path)
    return path


@pytest.mark.parametrize("weights", [Inception], indirect=True)
def test_fid_features_are_one_vector_a_frame(weights):
    clean = videos()
    features = InceptionFeatures(weights)
    found = features(clean)
    assert found.shape == (2, 3, 2048)
    expected = 2 * (clean[1, :, 2] * 255).round().flatten()[:2048]
    assert torch.equal(found[1, 2], expected)


@pytest.mark.parametrize("weights", [I3D], indirect=True)
def test_fvd_is_the_plain_distance_of_one_vector_a_clip(weights):
    clean = videos(b=12, t=10)
    features = I3DFeatures(weights)
    assert features(clean).shape == (12, 1, 400)
    metric = FrechetDistance(["truth", "noisy"], [], features, standardise=False, num_folds=2)
    metric.update({"truth": clean, "noisy": noisy(clean, 0.1)}, clean, torch.arange(12))
    (found,) = (group["values"] for group in grouped(metric.compute()))
    assert found["frechet/truth"]["value"] == pytest.approx(0, abs=1e-3)
    assert found["frechet/noisy"]["value"] > 100
    with pytest.raises(BadValue, match="clips=9 frames: expected at least 10 frames for I3D"):
        features(clean[:, :, :9])


@pytest.mark.parametrize("weights", [VGG16], indirect=True)
def test_lpips_is_the_squared_distance_of_features(weights):
    clean = videos()
    estimate = (clean + 0.1).clamp(max=1)
    found = LPIPS(weights)(estimate, clean)
    expected = ((estimate * 255).round() - (clean * 255).round()).div(255).square().sum((1, 3, 4))
    assert torch.allclose(found, expected, rtol=1e-5)
    assert (LPIPS(weights)(clean, clean) == 0).all()


@pytest.mark.parametrize("network", [LPIPS, InceptionFeatures, I3DFeatures])
def test_says_which_file_it_needs(network, tmp_path):
    named = r"the path of (vgg16|inception-2015-12-05|i3d_torchscript)\.pt.*not part of this package"
    with pytest.raises(BadValue, match=rf"weights={tmp_path / 'none.pt'}: expected {named}"):
        network(tmp_path / "none.pt")
    (tmp_path / "text.pt").write_text("no archive")
    with pytest.raises(BadValue, match="it is not a TorchScript archive"):
        network(tmp_path / "text.pt")


@pytest.mark.parametrize("weights", [VGG16], indirect=True)
def test_refuses_features_of_another_size(weights):
    class Other(nn.Module):
        def forward(self, x: Tensor, return_features: bool = False) -> Tensor:
            return x.flatten(1)[:, :7]

    torch.jit.script(Other()).save(weights)
    with pytest.raises(BadValue, match=r"weights=\(7,\): expected 2048 features"):
        InceptionFeatures(weights)(videos())
