"""The oracle that chooses between interpolations at every position."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from interp_refiner.core import BadValue, Neighbours
from interp_refiner.evaluation import HeldOutClips, PatchOracle
from interp_refiner.evaluation.benchmarks.patch_oracle import ORACLE, candidates, choose
from interp_refiner.forward.interpolator import Interpolation, Interpolator, Linear, Sinkhorn, Spline
from tests.evaluation.benchmarks.test_interpolators import shards
from tests.helpers import group_config


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Shifted(Interpolator):
    """Linear interpolation, and two hypotheses that are it plus 1 and plus 2."""

    segment_local = True
    num_hypotheses = 3

    def fill(self, values: Tensor, near: Neighbours) -> Interpolation:
        filled = Linear().fill(values, near)
        more = torch.stack([filled.latents + k for k in range(3)], 1)
        return replace(filled, hypotheses=more, present=torch.ones(*more.shape[:2], more.shape[3], 1, 1))


def rows_of(folder: Any, interpolators: dict[str, Interpolator], **options: Any) -> tuple[dict[Any, Any], str]:
    oracle = PatchOracle(interpolators, HeldOutClips(str(folder)), **{"counts": [3, 5], **options})
    result = oracle.run("cpu")
    return {(row["interpolation"], row["keyframes"]): row for row in result["rows"]}, oracle.markdown(result)


def test_the_choice_is_the_least_error_at_every_position():
    offered, truth = noise(2, 3, 4, 5, 2, 3), noise(2, 4, 5, 2, 3, seed=1)
    best, choice = choose(offered, truth)
    for b in range(2):
        for t in range(5):
            for y in range(2):
                for x in range(3):
                    errors = [(offered[b, k, :, t, y, x] - truth[b, :, t, y, x]).square().sum() for k in range(3)]
                    k = min(range(3), key=lambda k: errors[k])
                    assert choice[b, t, y, x] == k
                    assert torch.equal(best[b, :, t, y, x], offered[b, k, :, t, y, x])


def test_figures_are_those_of_the_clips(tmp_path):
    latents = shards(tmp_path)
    members = {"linear": Linear(), "spline": Spline(), "sinkhorn": Sinkhorn(patch=1)}
    rows, text = rows_of(tmp_path, members)
    assert set(rows) == {(name, count) for name in (*members, ORACLE) for count in (3, 5)}
    known = torch.arange(9) % 4 == 0
    filled = torch.stack([member(latents, known.expand(3, -1)).latents for member in members.values()])
    error = (filled - latents).square().mean(2)[:, :, ~known]
    assert rows["spline", 3]["ratio"] == pytest.approx((error[1].mean() / error[0].mean()).item(), rel=1e-5)
    assert rows[ORACLE, 3]["ratio"] == pytest.approx((error.amin(0).mean() / error[0].mean()).item(), rel=1e-5)
    assert rows["linear", 5]["ratio"] == rows["linear", 5]["pixels"] == 1
    assert rows[ORACLE, 5]["ratio"] < min(rows[name, 5]["ratio"] for name in members)
    assert rows[ORACLE, 5]["pixels"] < 1
    assert sum(rows[name, 5]["chosen"] for name in members) == pytest.approx(1)
    assert f"| {ORACLE} | {rows[ORACLE, 3]['ratio']:.3f} |" in text


def test_alone_the_base_is_its_own_oracle(tmp_path):
    shards(tmp_path)
    rows, _ = rows_of(tmp_path, {"linear": Linear()})
    assert rows[ORACLE, 3]["ratio"] == rows["linear", 3]["chosen"] == 1


def test_errors_are_relative_to_the_base_that_is_chosen(tmp_path):
    shards(tmp_path)
    members = {"linear": Linear(), "spline": Spline()}
    (first, _), (second, text) = (rows_of(tmp_path, members, base=base) for base in (None, "spline"))
    assert second["spline", 3]["ratio"] == second["spline", 3]["pixels"] == 1
    expected = first[ORACLE, 3]["ratio"] / first["spline", 3]["ratio"]
    assert second[ORACLE, 3]["ratio"] == pytest.approx(expected, rel=1e-5)
    assert "MSE relative to spline" in text


def test_all_hypotheses_are_offered():
    values, known = noise(2, 4, 5, 2, 3), torch.tensor([[True, False, False, False, True]]).expand(2, -1)
    offers = candidates({"spline": Spline(), "shifted": Shifted()}, values, known)
    assert list(offers) == ["spline", "shifted", "shifted 2", "shifted 3"]
    torch.testing.assert_close((offers["shifted 3"] - offers["shifted"])[:, :, 1:4], torch.full((2, 4, 3, 2, 3), 2.0))
    assert torch.equal(offers["shifted 2"][:, :, ::4], values[:, :, ::4])


def test_bad_settings_are_named(tmp_path):
    with pytest.raises(BadValue, match="interpolators=None: expected at least one, the base"):
        PatchOracle({}, HeldOutClips(str(tmp_path)))
    with pytest.raises(BadValue, match=r"base=splin: expected linear \| spline"):
        PatchOracle({"linear": Linear(), "spline": Spline()}, HeldOutClips(str(tmp_path)), base="splin")
    with pytest.raises(BadValue, match=r"counts=\[1\]: expected numbers of keyframes of at least 2"):
        PatchOracle({"linear": Linear()}, HeldOutClips(str(tmp_path)), counts=[1])
    shards(tmp_path)
    with pytest.raises(BadValue, match="expected numbers of keyframes below 9, the frames of a clip"):
        PatchOracle({"linear": Linear()}, HeldOutClips(str(tmp_path)), counts=[9]).run("cpu")


@pytest.mark.parametrize("world", ["gliding", "bouncing"])
def test_its_options_compose(world):
    of_world = f"data/world@benchmark.clips.writer.world={world}"
    config = group_config("benchmark", "patch_oracle", of_world, "+paths=default")
    assert world in config.clips.writer.world._target_.lower()
    assert next(iter(config.interpolators)) == "motion_compensated_pixels"
