"""Missing-frame error: a slow loop, known values, several processes."""

import pytest
import torch
from torch import Tensor

from interp_refiner.core import BadValue
from interp_refiner.evaluation.measures import MissingFrameError, error_ratio, missing_frame_mse
from interp_refiner.training.missing_frame import validated_clips


def batch(b: int = 24, num_levels: int = 4, space: tuple[int, ...] = (3, 2), seed: int = 0) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(seed)
    t = 7
    missing = torch.rand(b, t, generator=g) < 0.6
    missing[:, 3] = True
    return {
        "estimate": torch.randn(b, 2, t, *space, generator=g),
        "interpolation": torch.randn(b, 2, t, *space, generator=g),
        "clean": torch.randn(b, 2, t, *space, generator=g),
        "missing": missing,
        "level": torch.randint(1, num_levels + 1, (b,), generator=g),
    }


def measured(num_levels: int, *batches: dict[str, Tensor]) -> dict[str, float]:
    metric = MissingFrameError(num_levels)
    for one in batches:
        metric.update(**one)
    return {name: value.item() for name, value in metric.compute().items()}


def slow(num_levels: int, one: dict[str, Tensor]) -> dict[str, float]:
    """The definition, one sample and one frame at a time."""
    result, per_level = {}, []
    for s in range(1, num_levels + 1):
        pairs = []
        for i in range(len(one["level"])):
            if one["level"][i] != s:
                continue
            errors = []
            for name in ("estimate", "interpolation"):
                frames = [
                    (one[name][i, :, f] - one["clean"][i, :, f]).double().pow(2).mean().item()
                    for f in range(one["missing"].shape[1])
                    if one["missing"][i, f]
                ]
                errors.append(sum(frames) / len(frames))
            pairs.append(errors)
        if not pairs:
            continue
        refined, interpolation = (sum(column) for column in zip(*pairs, strict=True))
        share = sum(r < i for r, i in pairs) / len(pairs)
        per_level.append((interpolation / len(pairs), refined / len(pairs), share))
        result |= {
            f"level_{s}/interpolation_mse": interpolation / len(pairs),
            f"level_{s}/refined_mse": refined / len(pairs),
            f"level_{s}/ratio": refined / interpolation,
            f"level_{s}/improved_share": share,
        }
    interpolation, refined, share = (sum(column) / len(per_level) for column in zip(*per_level, strict=True))
    return result | {
        "mean/interpolation_mse": interpolation,
        "mean/refined_mse": refined,
        "mean/ratio": refined / interpolation,
        "mean/improved_share": share,
    }


@pytest.mark.parametrize("space", [(3, 2), ()])
def test_equals_the_definition(space):
    one = batch(space=space)
    assert measured(4, one) == pytest.approx(slow(4, one), rel=1e-5)


def test_is_the_same_however_the_samples_are_batched():
    one = batch()
    parts = [{name: value[i : i + 5] for name, value in one.items()} for i in range(0, 24, 5)]
    assert measured(4, *parts) == pytest.approx(measured(4, one), rel=1e-6)


def test_zero_output_has_ratio_one_exactly_and_improves_nothing():
    one = batch()
    result = measured(4, one | {"estimate": one["interpolation"]})
    assert {v for k, v in result.items() if k.endswith("ratio")} == {1.0}
    assert {v for k, v in result.items() if k.endswith("improved_share")} == {0.0}


def test_the_truth_has_ratio_zero_and_improves_everything():
    one = batch()
    result = measured(4, one | {"estimate": one["clean"]})
    assert {v for k, v in result.items() if k.endswith(("ratio", "refined_mse"))} == {0.0}
    assert {v for k, v in result.items() if k.endswith("improved_share")} == {1.0}


def test_half_the_distance_is_a_quarter_of_the_error():
    one = batch()
    halfway = (one["interpolation"] + one["clean"]) / 2
    result = measured(4, one | {"estimate": halfway})
    assert all(v == pytest.approx(0.25, rel=1e-5) for k, v in result.items() if k.endswith("ratio"))


def test_known_frames_are_never_read():
    one = batch()
    known = ~one["missing"].view(24, 1, 7, 1, 1)
    poisoned = {k: v.masked_fill(known, float("nan")) if v.ndim == 5 else v for k, v in one.items()}
    assert measured(4, poisoned) == measured(4, one)


def test_levels_without_a_sample_are_left_out():
    one = batch() | {"level": torch.tensor([2, 4]).repeat(12)}
    result = measured(6, one)
    assert {name.split("/")[0] for name in result} == {"level_2", "level_4", "mean"}
    assert result["mean/refined_mse"] == pytest.approx(
        (result["level_2/refined_mse"] + result["level_4/refined_mse"]) / 2
    )


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_samples_without_a_missing_frame_do_not_count():
    one = batch()
    full = one | {"missing": torch.zeros_like(one["missing"]), "level": torch.zeros_like(one["level"])}
    assert measured(4, one, full) == measured(4, one)
    assert MissingFrameError(4).compute() == {}


def test_a_diverged_sample_spoils_its_own_level_only():
    one = batch() | {"level": torch.tensor([1, 2]).repeat(12)}
    one["estimate"][0, 0, 3] = float("nan")
    result = measured(2, one)
    assert result["level_1/ratio"] != result["level_1/ratio"]
    assert result["level_2/ratio"] == pytest.approx(slow(2, one)["level_2/ratio"], rel=1e-5)


def test_bfloat16_is_measured_in_float32():
    one = {k: v.bfloat16() if v.is_floating_point() else v for k, v in batch().items()}
    widened = {k: v.float() if v.is_floating_point() else v for k, v in one.items()}
    assert measured(4, one) == measured(4, widened)


def test_reset_forgets():
    metric = MissingFrameError(4)
    metric.update(**batch(seed=1))
    metric.reset()
    metric.update(**batch())
    assert {k: v.item() for k, v in metric.compute().items()} == measured(4, batch())


def test_ratio_of_zeros():
    assert error_ratio(torch.tensor([0.0, 1.0, 0.0]), torch.tensor([0.0, 0.0, 2.0])).tolist() == [1, float("inf"), 0]


def test_rounding_is_no_improvement():
    one = batch()
    close = one["clean"] + (one["interpolation"] - one["clean"]) * (1 - 1e-7)
    assert measured(4, one | {"estimate": close})["mean/improved_share"] == 0
    better = one["clean"] + (one["interpolation"] - one["clean"]) * (1 - 1e-4)
    assert measured(4, one | {"estimate": better})["mean/improved_share"] == 1


def test_error_is_zero_where_nothing_is_missing():
    one = batch()
    error = missing_frame_mse(one["estimate"], one["clean"], torch.zeros_like(one["missing"]))
    assert error.tolist() == [0.0] * 24


def test_refuses_levels_it_has_no_room_for():
    with pytest.raises(BadValue, match="num_levels=0: expected at least 1"):
        MissingFrameError(0)
    metric = MissingFrameError(2)
    metric.update(**batch() | {"level": torch.tensor([1, 2, 3]).repeat(8)})
    with pytest.raises(BadValue, match=r"level=outside 1\.\.2 in 8 samples"):
        metric.compute()


@pytest.mark.parametrize(
    ("limit", "said"),
    [
        (None, "all held-out clips"),
        (1.0, "all held-out clips"),
        (1, "held-out clips within trainer.limit_val_batches=1"),
        (0.25, "held-out clips within trainer.limit_val_batches=0.25"),
    ],
)
def test_a_limited_validation_is_not_called_one_of_all_clips(limit, said):
    assert validated_clips(limit) == said
