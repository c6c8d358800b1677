"""The perceptual loss: its windows, its gradient, what it refuses, and a run that is trained with it."""

import importlib

import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv2d
from torch.utils.flop_counter import FlopCounterMode

from interp_refiner.assemble import assemble, load_run
from interp_refiner.core import BadValue, Draws
from interp_refiner.data.codec import LatentPreview, PatchDCT
from interp_refiner.model.objective import Preconditioned
from interp_refiner.model.sampler import Bridge, OneJump
from interp_refiner.storyboard import RefinerPipeline, as_pipeline
from interp_refiner.train import train
from interp_refiner.training import ImageDistance, Perceptual, Refiner, ShiftTolerantLPIPS, Windows
from interp_refiner.training.optimizer import AdamW
from interp_refiner.training.step_memory import check_step_memory
from tests.config.small import small_config
from tests.factories import corrupted_clip, make_corruption, spec_of
from tests.model.backbone.small_wan import small_wan
from tests.training.students import BRIDGE

needs_stlpips = pytest.mark.skipif(
    importlib.util.find_spec("stlpips_pytorch") is None, reason="needs the extra metrics"
)
SIZES = ["interpolator=linear", "backbone.size.dim=16", "backbone.size.num_layers=1", "backbone.size.num_heads=1"]
LARGE = ["data.writer.height=24", "data.writer.width=32"]  # enough for the network
CHOSEN = ["+experiment=gt_keyframes", *SIZES, "training/perceptual=st_lpips", *LARGE]
TRAINED = {"batch": 2, "channels": 16, "stream": "train"}
SHORT = ["debug=limit", "trainer.max_epochs=-1", "trainer.max_steps=1", "logger=none", "log_book=null"]
SHORT += [f"callback.{name}=null" for name in ("progress", "throughput", "validation_table", "validation_video")]


class MeanSquare(ImageDistance):
    """The squared error as a distance of images."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return (x - y).square().mean((1, 2, 3))


def cut(windows: Windows, clips: Tensor, free: Tensor, epoch: int = 0) -> Tensor:
    keys = [f"clip_{i}" for i in range(clips.shape[1])]
    return windows.cut(clips, free, Draws(0, "train", keys, [epoch] * len(keys)))


def places(b: int, t: int, h: int, w: int) -> Tensor:
    """Clips whose channels are the position of every latent: clip, frame, y, x."""
    axes = torch.meshgrid(*(torch.arange(size) for size in (b, t, h, w)), indexing="ij")
    return torch.stack(axes, 1).float()


@pytest.mark.parametrize(
    "windows", [Windows(5), Windows(4, length=3), Windows(6, length=2, side=3), Windows(2, side=99)]
)
def test_windows_are_pieces_of_their_clip_that_end_at_a_free_frame(windows):
    b, t, h, w = 3, 7, 5, 8
    clips, free = places(b, t, h, w), torch.rand(b, t) < 0.4
    free[:, 4] = True
    found = cut(windows, torch.stack([clips, -clips]), free)
    rows, columns = windows.sides(h, w)
    assert found.shape == (2, b * windows.count, 4, windows.length, rows, columns)
    assert torch.equal(found[1], -found[0])  # the same windows of every version
    for number, piece in enumerate(found[0].long()):
        i = number // windows.count
        assert (piece[0] == i).all()
        first, up, left = (int(piece[axis].min()) for axis in (1, 2, 3))
        expected = clips[i, :, first : first + windows.length, up : up + rows, left : left + columns]
        assert torch.equal(piece, expected.long())
        ends = free[i, : windows.length].any() if first == 0 else free[i, first + windows.length - 1]
        assert ends


def test_windows_depend_on_key_and_epoch_alone_and_reach_every_free_frame():
    windows, clips = Windows(64), places(2, 6, 4, 4)[None]
    free = torch.tensor([[0, 1, 1, 0, 1, 0], [0, 0, 0, 1, 0, 0]]).bool()
    both = cut(windows, clips, free)
    alone = windows.cut(clips[:, 1:], free[1:], Draws(0, "train", ["clip_1"], [0]))
    assert torch.equal(both[:, 64:], alone)
    assert not torch.equal(both, cut(windows, clips, free, epoch=1))
    assert set(both[0, :64, 1].flatten().int().tolist()) == {1, 2, 4}
    assert set(both[0, 64:, 1].flatten().int().tolist()) == {3}


def test_the_distance_of_whole_clips_is_the_squared_error_of_pixels():
    """With one free frame, every window is that frame."""
    corrupted, _, _ = corrupted_clip(**TRAINED)
    free = torch.zeros_like(corrupted.given)
    free[:, 9] = True
    corrupted.given = ~free
    codec = PatchDCT()
    loss = Perceptual(spec_of(16), codec, MeanSquare(), windows=Windows(2))
    estimate = corrupted.clean + 0.1 * torch.randn_like(corrupted.clean)
    made, truth = codec.decode(estimate), codec.decode(corrupted.clean)
    torch.testing.assert_close(loss(estimate, corrupted), (made - truth)[:, :, 9].square().mean())


def test_given_frames_and_the_truth_get_no_gradient():
    corrupted, _, _ = corrupted_clip("corruption/given=frames", "corruption.drawn.given.frames=[3,4]", **TRAINED)
    loss = Perceptual(spec_of(16), PatchDCT(), MeanSquare(), windows=Windows(40, length=3))
    estimate = (corrupted.clean + 0.1).requires_grad_()
    (gradient,) = torch.autograd.grad(loss(estimate, corrupted), estimate)
    of_frames = gradient.abs().amax((1, 3, 4))
    assert (of_frames[corrupted.given] == 0).all()
    assert (of_frames[~corrupted.given] > 0).any()
    assert loss(corrupted.clean, corrupted) == 0


def test_its_operations_are_those_of_its_passes():
    """Of codec and network, forward and backward; counted once for a size."""

    class OneConvolution(ImageDistance):
        def __init__(self):
            super().__init__()
            self.weight, self.calls = torch.nn.Parameter(torch.randn(7, 3, 1, 1)), 0

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            self.calls += 1
            return (conv2d(x, self.weight) - conv2d(y, self.weight)).square().mean((1, 2, 3))

    state, objective = corrupted_clip(**TRAINED)[0], Preconditioned(spec_of(), 2)
    model = Refiner(small_wan(num_layers=1), objective, AdamW(), OneJump(), make_corruption(*BRIDGE))
    alone = model.step_flops(state)
    loss = model.perceptual = Perceptual(spec_of(16), PatchDCT(), OneConvolution(), windows=Windows(3))
    with FlopCounterMode(display=False) as counter:
        loss(state.x.clone().requires_grad_(), state).backward()
    places = 3 * state.clip.batch_size * state.x.shape[3] * state.x.shape[4]
    forward = 2 * places * (16 * 48 + 16 * 3 * 7)  # a place is a patch of 4 x 4 pixels
    assert loss.flops == 3 * forward  # estimate, truth and the gradient of the estimate
    assert counter.get_total_flops() == loss.flops + 2 * forward  # and once more, to count
    assert model.step_flops(state) == alone + loss.flops
    loss(state.x, state)
    assert loss.network.calls == 3


@needs_stlpips
def test_st_lpips_is_differentiable_and_falls_along_its_gradient():
    network = ShiftTolerantLPIPS()
    truth = torch.rand(2, 3, 24, 32)
    image = (truth + 0.1 * torch.randn_like(truth)).requires_grad_()
    before = network(image, truth).sum()
    (gradient,) = torch.autograd.grad(before, image)
    after = network(image.detach() - 0.02 * gradient / gradient.norm(), truth).sum()
    assert after < before
    assert not list(network.parameters())


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: Windows(0), "count=0"),
        (lambda: Windows(side=0), "side=0"),
        (lambda: Perceptual(spec_of(16), PatchDCT(), MeanSquare(), weight=-1.0), "weight=-1.0"),
        (lambda: Perceptual(spec_of(16), PatchDCT(), MeanSquare(), weight=float("inf")), "weight=inf"),
        (lambda: Perceptual(spec_of(16), LatentPreview(16), MeanSquare()), "codec=.*decodes the clips to video"),
    ],
)
def test_values_without_a_meaning_are_refused(build, said):
    with pytest.raises(BadValue, match=said):
        build()


@needs_stlpips
def test_a_run_trains_with_it_and_is_loaded_exported_and_refused_as_a_teacher(tmp_path):
    cfg = small_config(tmp_path, *CHOSEN, *SHORT, "data.batch_size=2", "training.perceptual.windows.count=1")
    run = assemble(cfg)
    assert not any("perceptual" in name for name in run.module.state_dict())
    train(cfg)
    loaded = load_run(cfg.paths.output_dir)
    assert loaded.refiner.perceptual is None  # of training alone: the network is not needed to use the model
    made = as_pipeline(loaded)
    assert made.config.trained["perceptual loss"] == "ShiftTolerantLPIPS"
    folder = made.save_pretrained(tmp_path / "saved")
    assert "ShiftTolerantLPIPS" in (folder / "README.md").read_text()
    assert isinstance(RefinerPipeline.from_pretrained(folder), RefinerPipeline)
    for place in (cfg.paths.output_dir, folder):
        with pytest.raises(BadValue, match="without training/perceptual"):
            assemble(small_config(tmp_path, "+experiment=consistency", *SIZES, *LARGE, f"training.teacher={place}"))


@needs_stlpips
def test_frames_too_small_for_the_network_and_an_estimate_that_is_no_video_are_refused(tmp_path):
    with pytest.raises(BadValue, match=r"video size=.*at least 21x21"):
        assemble(small_config(tmp_path, *CHOSEN, "training.perceptual.windows.side=2"))
    other = ["~objective.variance", "objective=adjacent", "sampler=hierarchical"]
    with pytest.raises(BadValue, match=r"perceptual.*null with objective=adjacent"):
        assemble(small_config(tmp_path, *CHOSEN, *other))


def test_a_sampler_of_several_steps_warns(caplog):
    loss, objective = Perceptual(spec_of(16), PatchDCT(), MeanSquare()), Preconditioned(spec_of(), 2)
    for sampler in (OneJump(), Bridge(steps=3)):
        network, corruption = small_wan(num_layers=1), make_corruption(*BRIDGE)
        Refiner(network, objective, AdamW(), sampler, corruption, perceptual=loss).on_fit_start()
    assert [record.message for record in caplog.records] == [
        "sampler: its steps assume that every estimate is the mean; with training/perceptual it is not"
    ]


def test_the_memory_check_says_that_it_leaves_the_windows_out(caplog):
    objective, losses = Preconditioned(spec_of(), 2), (None, Perceptual(spec_of(16), PatchDCT(), MeanSquare()))
    for loss in losses:
        model = Refiner(
            small_wan(num_layers=1), objective, AdamW(), OneJump(), make_corruption(*BRIDGE), perceptual=loss
        )
        check_step_memory(model, spec_of(16), batch_size=1, gpu_gb=80.0)
    (record,) = caplog.records
    assert record.message.startswith("training/perceptual: the check of gpu_gb leaves out")


def test_the_network_is_frozen():
    class Weighted(MeanSquare):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Conv2d(3, 4, 3)

    network = Perceptual(spec_of(16), PatchDCT(), Weighted().train()).network
    assert not network.training
    assert not any(weight.requires_grad for weight in network.parameters())
