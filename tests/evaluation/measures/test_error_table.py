"""Tables by (level, gap, offset): a slow loop, agreement with validation's figures, controls."""

import json
import math

import pytest
import torch
from torch import Tensor

from interp_refiner.core import BadValue
from interp_refiner.evaluation.measures import (
    PSNR,
    SSIM,
    Batch,
    Bootstrap,
    MissingFrameError,
    SquaredError,
    psnr,
    ssim,
)
from tests.evaluation.measures import tables
from tests.evaluation.measures.tables import FEW, records

METHODS = ["refined", "interpolation", "linear"]


def batch(b: int = 12, t: int = 8, space: tuple[int, ...] = (3, 2), seed: int = 0) -> dict[str, object]:
    """Clips at random levels 1..3 with random keyframes, among them open ends and neighbouring keyframes."""
    g = torch.Generator().manual_seed(seed)
    known = torch.rand(b, t, generator=g) < 0.4
    known[:, 2] = True
    known[:, 5] = False
    clean = torch.randn(b, 4, t, *space, generator=g)
    scales = {"refined": 0.5, "interpolation": 0.8, "linear": 1.0}
    noise = {m: scale * torch.randn(clean.shape, generator=g) for m, scale in scales.items()}
    return {
        "estimates": {m: clean + error for m, error in noise.items()},
        "clean": clean,
        "known": known,
        "level": torch.randint(1, 4, (b,), generator=g),
        "sample": torch.randperm(b, generator=g),
    }


def table(*batches: dict[str, object], bootstrap: Bootstrap = FEW) -> list[dict]:
    return records(SquaredError(), *batches, baselines=["interpolation", "linear"], bootstrap=bootstrap)


def gap_and_offset(known: Tensor, frame: int) -> tuple[int, int]:
    left = [f for f in range(frame) if known[f]]
    right = [f for f in range(frame + 1, len(known)) if known[f]]
    if not left:
        return 0, right[0] - frame
    return (right[0] - left[-1] if right else 0), frame - left[-1]


def test_equals_the_definition():
    one = batch()
    errors: dict[tuple, dict[int, dict[str, list[float]]]] = {}
    for i in range(12):
        for f in range(8):
            if one["known"][i, f]:
                continue
            gap, offset = gap_and_offset(one["known"][i], f)
            level = one["level"][i].item()
            groups = (("level", level),), (("gap", gap),), (("gap", gap), ("offset", offset))
            for group in (*groups, (("level", level), ("gap", gap), ("offset", offset))):
                clip = errors.setdefault(group, {}).setdefault(i, {m: [] for m in METHODS})
                for m in METHODS:
                    clip[m].append((one["estimates"][m][i, :, f] - one["clean"][i, :, f]).pow(2).mean().item())
    found = {tuple((k, r[k]) for k in ("level", "gap", "offset") if k in r): r for r in table(one)}
    assert found.keys() == errors.keys()
    for group, clips in errors.items():
        record, values = found[group], {k: v["value"] for k, v in found[group]["values"].items()}
        assert record["clips"] == len(clips)
        mean = {m: [sum(clip[m]) / len(clip[m]) for clip in clips.values()] for m in METHODS}
        for m in METHODS:
            assert values[f"mse/{m}"] == pytest.approx(sum(mean[m]) / len(clips), rel=1e-5)
        if ("offset", dict(group).get("offset")) in group:
            assert not any(name.count("/") == 2 for name in values)  # no comparison by offset
            continue
        assert values["mse_ratio/refined/linear"] == pytest.approx(sum(mean["refined"]) / sum(mean["linear"]), rel=1e-5)
        better = sum(x < y for x, y in zip(mean["refined"], mean["interpolation"], strict=True))
        assert values["mse_better/refined/interpolation"] == pytest.approx(better / len(clips))
        assert values["mse_worse/refined/interpolation"] == pytest.approx(1 - better / len(clips))


def test_agrees_with_validation():
    one = batch()
    metric = MissingFrameError(3)
    metric.update(one["estimates"]["refined"], one["estimates"]["linear"], one["clean"], ~one["known"], one["level"])
    expected = {name: value.item() for name, value in metric.compute().items()}
    for record in table(one):
        if set(record) & {"level", "gap", "offset"} == {"level"}:
            values, level = record["values"], f"level_{record['level']}"
            assert values["mse/refined"]["value"] == pytest.approx(expected[f"{level}/refined_mse"], rel=1e-5)
            assert values["mse/linear"]["value"] == pytest.approx(expected[f"{level}/interpolation_mse"], rel=1e-5)
            assert values["mse_ratio/refined/linear"]["value"] == pytest.approx(expected[f"{level}/ratio"], rel=1e-5)
            share = values["mse_better/refined/linear"]["value"]
            assert share == pytest.approx(expected[f"{level}/improved_share"], rel=1e-5)


def test_is_the_same_in_any_batches_and_order():
    one = batch()
    parts = [
        {k: {m: x[i : i + 5] for m, x in v.items()} if isinstance(v, dict) else v[i : i + 5] for k, v in one.items()}
        for i in (10, 0, 5)
    ]
    assert table(*parts) == table(one)


def test_intervals_contain_their_figures_and_shrink_with_clips():
    small, large = (
        next(r for r in table(batch(b=b), bootstrap=Bootstrap(num_resamples=200)) if "gap" not in r) for b in (9, 900)
    )
    for name in ("mse/linear", "mse_ratio/refined/linear", "mse_better/refined/linear"):
        s, big = small["values"][name], large["values"][name]
        assert s["low"] <= s["value"] <= s["high"]
        assert big["low"] <= big["value"] <= big["high"]
    width = [
        x["values"]["mse_ratio/refined/linear"]["high"] - x["values"]["mse_ratio/refined/linear"]["low"]
        for x in (small, large)
    ]
    assert width[1] < 0.5 * width[0]


def whole_gaps(groups: list[dict]) -> list[dict]:
    """The groups in which methods are compared."""
    found = [group for group in groups if "offset" not in group]
    assert found
    return found


def test_zero_output_is_exactly_the_interpolation():
    one = batch()
    one["estimates"]["refined"] = one["estimates"]["interpolation"]
    for record in whole_gaps(table(one)):
        assert record["values"]["mse_ratio/refined/interpolation"] == {"value": 1.0, "low": 1.0, "high": 1.0}
        assert record["values"]["mse_better/refined/interpolation"]["high"] == 0.0


def test_the_truth_has_no_error():
    one = batch()
    one["estimates"]["refined"] = one["clean"]
    for record in whole_gaps(table(one)):
        assert record["values"]["mse/refined"] == {"value": 0.0, "low": 0.0, "high": 0.0}
        assert record["values"]["mse_ratio/refined/linear"]["high"] == 0.0
        assert record["values"]["mse_better/refined/linear"]["low"] == 1.0


def test_known_frames_are_never_read():
    one = batch()
    poison = one["known"].view(12, 1, 8, 1, 1)
    estimates = {m: x.masked_fill(poison, float("nan")) for m, x in one["estimates"].items()}
    assert table(one | {"estimates": estimates, "clean": one["clean"].masked_fill(poison, float("nan"))}) == table(one)


def test_paths_without_space():
    found = table(batch(space=()))
    assert all(math.isfinite(v["value"]) for record in found for v in record["values"].values())


def test_records_are_plain_json():
    found = table(batch())
    assert json.loads(json.dumps(found)) == found


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_nothing_missing_gives_no_record():
    one = batch()
    assert table(one | {"known": torch.ones_like(one["known"])}) == []
    assert tables.table(SquaredError(), ["linear"]).compute() == []


def test_refuses_other_estimates():
    with pytest.raises(
        BadValue, match=r"estimates=\['interpolation', 'linear', 'refined'\]: expected also \['truth'\]"
    ):
        tables.table(SquaredError(), ["truth", "linear"]).update(Batch(**batch()))
    with pytest.raises(BadValue, match=r"baselines=liner: .*did you mean 'linear'"):
        tables.table(SquaredError(), METHODS, ["liner"])


def pixel_batch(b: int = 6) -> dict[str, object]:
    g = torch.Generator().manual_seed(0)
    clean = torch.rand(b, 3, 9, 12, 13, generator=g)
    videos = {m: (clean + s * torch.randn(clean.shape, generator=g)).clamp(0, 1) for m, s in (("a", 0.05), ("b", 0.2))}
    known = torch.tensor([[True, False, True], [True, False, False]]).repeat(b // 2, 1)
    return {
        "estimates": videos,
        "clean": clean,
        "known": known,
        "level": torch.ones(b, dtype=torch.long),
        "sample": torch.arange(b),
        "latent_frame": torch.tensor([0, 1, 1, 1, 1, 2, 2, 2, 2]),  # Wan: the first frame alone, then four by four
    }


def test_pixel_frames_belong_to_their_latent_frames():
    one = pixel_batch()
    merged = zip(*(records(metric, one, baselines=["b"]) for metric in (PSNR(), SSIM())), strict=True)
    found = [a | {"values": a["values"] | b["values"]} for a, b in merged]
    expected = {
        name: f(one["estimates"][m], one["clean"])
        for m in "ab"
        for name, f in ((f"psnr/{m}", psnr), (f"ssim/{m}", ssim))
    }
    frames = {2: ([0, 2, 4], [1, 2, 3, 4]), 0: ([1, 3, 5], [1, 2, 3, 4, 5, 6, 7, 8])}  # by gap: clips, pixel frames
    for record in (r for r in found if set(r) & {"level", "gap", "offset"} == {"gap"}):
        clips, pixels = frames[record["gap"]]
        assert record["clips"] == 3
        for name, value in expected.items():
            assert record["values"][name]["value"] == pytest.approx(value[clips][:, pixels].mean().item(), rel=1e-5)
        gain = expected["psnr/a"][clips][:, pixels].mean() - expected["psnr/b"][clips][:, pixels].mean()
        assert record["values"]["psnr_gain/a/b"]["value"] == pytest.approx(gain.item(), rel=1e-4)
        assert record["values"]["ssim_gain/a/b"]["low"] > 0
