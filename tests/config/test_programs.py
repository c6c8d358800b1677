"""The small programs as users run them: prepare and benchmark."""

import json
import re
import shlex
import sys
from itertools import product

import pytest
import torch
from hydra import compose, initialize_config_dir

from interp_refiner.config import build
from interp_refiner.core import BadValue
from interp_refiner.data import AnchorShards, DatasetMetadata, Sample, write_shards
from tests.data.shards_on_disk import replace_member, saved, write
from tests.helpers import CONF, group_members

TINY = ["debug=fast_dev_run", "trainer=cpu", "trainer.detect_anomaly=false", "data.batch_size=2"]
TINY += ["backbone.size.num_layers=1"]


def test_prepare_clip_writes_three_splits_and_names_what_comes_next(program, tmp_path):
    torch.save(torch.randn(1, 16, 6, 8, 24).bfloat16(), tmp_path / "clip.pth")
    done = program("prepare", "clip", "source=clip.pth", "output=set", "size=[6,8,8]", "held_out_width=8")
    assert done.returncode == 0, done.stderr
    shapes = {split: DatasetMetadata.load(tmp_path / "set" / split) for split in ("train", "val", "val_heldout")}
    assert {metadata.latent_shape for metadata in shapes.values()} == {(16, 6, 8, 8)}
    assert [metadata.num_samples for metadata in shapes.values()] == [3, 2, 1]
    _, _, module, *overrides = shlex.split(done.stdout.splitlines()[-1].removeprefix("next: "))
    assert {"data=wan_synth", "data.root=set"} < set(overrides)
    trained = program(module.removeprefix("interp_refiner."), *overrides, *TINY, "data.val_split=val_heldout")
    assert trained.returncode == 0, trained.stderr[-2000:]
    in_pixels = program(module.removeprefix("interp_refiner."), *(o for o in overrides if "matching" not in o), *TINY)
    assert in_pixels.returncode == 2
    assert "to train in latents: matching=motion_hypotheses" in in_pixels.stderr.splitlines()[-1]


@pytest.mark.parametrize("frames", ["null", "[0,2,4]"])
def test_the_command_that_prepare_anchors_prints_trains_on_the_same_data(program, tmp_path, frames):
    for split, count in (("train", 4), ("val", 2)):
        write(tmp_path / "my set" / split, count, prefix=split)
    own = ["data=wan_synth", f"data.root='{tmp_path / 'my set'}'", f"data.anchors.source.frames={frames}"]
    done = program("prepare", "anchors", *own)
    assert done.returncode == 0, done.stderr
    _, _, module, *overrides = shlex.split(done.stdout.splitlines()[-1].removeprefix("next: "))
    of_four_channels = ["codec=latent_preview", "codec.latent_channels=4"]
    trained = program(module.removeprefix("interp_refiner."), *overrides, *TINY, *of_four_channels)
    assert trained.returncode == 0, trained.stderr[-2000:]


def test_prepare_anchors_writes_one_for_every_clip_and_names_what_comes_next(program, tmp_path):
    small = ["data.writer.num_train=6", "data.writer.num_val=2", "data.writer.height=16", "data.writer.width=16"]
    done = program("prepare", "anchors", *small, "data.anchors.source.frames=[0,10,20]")
    assert done.returncode == 0, done.stderr
    root = tmp_path / "cache" / "moving_shapes_anchors"
    for split, count in (("train", 6), ("val", 2)):
        anchors = AnchorShards(root / split)
        assert len(anchors.rows) == count
        latents, proposed = torch.randn(16, 21, 4, 4), torch.ones(21, dtype=torch.bool)
        anchors.read_into(f"{split}-000001", latents, proposed)
        assert proposed.nonzero().flatten().tolist() == [0, 10, 20]
    following = done.stdout.splitlines()[-1]
    assert following.startswith(
        f"next: {sys.executable} -m interp_refiner.train +experiment=phase1_keyframes data.writer."
    )
    assert following.endswith(f"data.anchors.root={root} data.anchors.source=null scheduled_sampling.uncovered=truth")
    assert "Warning" not in done.stderr
    other = program("prepare", "anchors", *small, "data.anchors.source.sigma=0.7")
    assert other.returncode == 2
    assert "sigma=0.3 instead of 0.7" in other.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["clp"], "did you mean 'clip'?"),
        (["clip", "source=nowhere.pth", "output=set"], "source=nowhere.pth"),
        (["clip", "source=text.pth", "output=set"], "source=text.pth: expected a tensor file"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_prepare_refuses_with_one_line(program, arguments, message, tmp_path):
    (tmp_path / "text.pth").write_text("no tensor")
    done = program("prepare", *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


# what is run several times, for a median
TIMED = ("linear", "slerp", "spline", "sinkhorn", "motion_compensated", "motion_hypotheses")


RUN = ("linear", "sinkhorn", "straightened", "flow_warp")  # one of every kind that it treats by itself


def timed() -> list[tuple[str, str]]:
    """The interpolators of the benchmark of the corruption, each behind the list that has it."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        node = compose("benchmark", ["benchmark=corruption"]).benchmark
    return [(place, name) for place in ("interpolators", "clip_by_clip", "one_clip") for name in node[place]]


def test_benchmark_corruption_times_every_interpolator():
    """But what is kept costs nothing, and another leader or the linear blend hardly more."""
    left_out = {"remembered", "quadratic_pixels", "two_fields_linear_pixels"}
    assert {name for _, name in timed()} == {*group_members("interpolator")} - left_out


def test_benchmark_corruption_prints_one_json_object(program, tmp_path):
    modes = ["none", "dist"]  # the others take their roads
    small = ["benchmark.shape=[2,16,6,4,6]", f"benchmark.modes=[{','.join(modes)}]"]
    once = [f"benchmark.interpolators.{name}=1" for name in RUN if name in TIMED]
    left_out = [f"~benchmark.{place}.{name}" for place, name in timed() if name not in RUN]
    done = program("benchmark", "benchmark=corruption", *small, *once, *left_out)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    rows, one_clip = result["rows"], {row["interpolator"]: row for row in result["one_clip"]}
    everything = product(modes, RUN, ("float32", "bfloat16"))
    assert {(row["mode"], row["interpolator"], row["dtype"]) for row in rows} == set(everything)
    assert all(row["ms"] > 0 and row["ratio"] > 0 for row in rows)
    assert {row["batch"] for row in rows if row["interpolator"].startswith("flow_warp")} == {1}
    assert {row["batch"] for row in rows if row["interpolator"] == "straightened"} == {2}
    assert one_clip["sinkhorn"]["shape"] == [1, 16, 6, 4, 6]
    assert all(one_clip["sinkhorn"][part] > 0 for part in ("ms", "plan", "splat", "move"))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "benchmark.modes=[gaus]",
            "modes=gaus: expected disagreement | dist | dist_linear | gauss | none; did you mean 'gauss'?",
        ),
        ("+benchmark.interpolators.spln=1", "did you mean 'spline'?"),
        ("benchmark.dtypes=[float8]", "dtypes=float8: expected float32 | bfloat16 | float16 | float64; did you"),
        ("benchmark.shape=[4,16,4,8,8]", "shape=[4, 16, 4, 8, 8]: expected [b, c, t, h, w] with t above 4"),
        ("benchmark.interpolators.linear=0", "linear=0: expected at least 1"),
    ],
)
def test_a_benchmark_of_nothing_is_refused(override, message):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        node = compose("benchmark", ["benchmark=corruption", override]).benchmark
    with pytest.raises(BadValue, match=re.escape(message)):
        build(node)


def test_benchmark_interpolators_prints_markdown_and_writes_json(program, tmp_path):
    small = [f"benchmark.clips.writer.{size}" for size in ("num_train=2", "num_val=2", "height=16", "width=24")]
    small += ["benchmark.gaps=[3]", "benchmark.interpolators.straightened.checkpoint=missing.safetensors"]
    run = [f"hydra.run.dir={tmp_path / 'run'}"]
    refused = program("benchmark", "benchmark=interpolators", *small)
    assert refused.returncode == 2
    assert (
        "benchmark.interpolators.straightened.checkpoint=missing.safetensors: expected a run folder" in refused.stderr
    )
    done = program("benchmark", "benchmark=interpolators", *small[:-1], *run)
    assert done.returncode == 0, done.stderr
    assert "Left out: flow_warp, no checkpoint." in done.stdout
    assert "Left out: rife, not measured: folder=<folder with its weights> is not set." in done.stdout
    rows = json.loads((tmp_path / "run" / "benchmark.json").read_text())["rows"]
    assert {row["interpolator"] for row in rows} == {
        "linear", "slerp", "spline", "sinkhorn", "motion_compensated", "motion_compensated_pixels",
        "minterpolate",
    }  # fmt: skip
    assert all(f"| {row['interpolator']} | {row['ratio']:.3f} |" in done.stdout for row in rows)


def test_benchmark_reader_prints_one_json_object(program, tmp_path):
    size = ["latent_shape=[4,5,4,6]", "text_shape=[3,6]", "num_samples=12", "samples_per_shard=4"]
    small = [*(f"benchmark.samples.{one}" for one in size), "benchmark.repeats=1", "benchmark.indexed_members=300"]
    done = program("benchmark", "benchmark=reader", *small)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["index_members"] == 300
    assert found["raw"]["samples_per_s"] > 0
    assert found["index_s_per_100k"] > 0
    for epoch in ("first_epoch", "later_epoch", "checksums"):
        assert all(found[epoch][name] > 0 for name in ("samples_per_s", "ratio_wall", "ratio_cpu"))


def test_bad_data_met_in_training_is_one_line(program, tmp_path):
    """The index shows nothing wrong: it is found when the sample is read, inside Lightning."""
    metadata, shard = DatasetMetadata((16, 5, 4, 4), text_shape=(3, 6)), tmp_path / "set" / "train" / "shard-00000.tar"
    for split in ("train", "val"):
        samples = (Sample(f"{split}{i}", torch.randn(16, 5, 4, 4), torch.randn(3, 6)) for i in range(4))
        write_shards(tmp_path / "set" / split, samples, metadata)
    replace_member(shard, "train3.latent.pt", saved(torch.full((16, 5, 4, 4), float("nan")).bfloat16()))
    run = ["train", "data=wan_synth", "data.root=set", "trainer=cpu", "logger=none", "data.batch_size=2"]
    run += ["trainer.max_steps=3", "codec=latent_preview", "trainer.num_sanity_val_steps=0"]
    done = program(*run)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.strip().splitlines()[-1] == ("shard-00000.tar: sample 'train3': latent: NaN or infinite numbers")
