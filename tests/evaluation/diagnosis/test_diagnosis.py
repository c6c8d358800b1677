"""The effect of a forward process, against direct computation."""

import json

import pytest
import torch
from hydra import compose, initialize_config_dir
from scipy.stats import sem

from interp_refiner.core import BadValue
from interp_refiner.data.codec import PatchDCT
from interp_refiner.diagnose import compared, diagnose
from interp_refiner.evaluation.diagnosis.diagnosis import Diagnosis, clip_figures
from tests.factories import corrupted_clip, make_corruption, random_clip
from tests.helpers import CONF

WRITER = ["data.writer.num_train=2", "data.writer.num_val=5", "data.writer.height=16", "data.writer.width=24"]
COMPARE = ["+schedule@compare.dp=dp", "+schedule@compare.few=random", "compare.few.counts=[9,3]"]


def config(folder, *overrides):
    places = [f"paths.{name}={folder / name}" for name in ("root", "cache", "log_dir", "output_dir")]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("diagnose", [*places, *WRITER, "device=cpu", "batch_size=2", *overrides])


def test_schedules_can_be_added_on_the_command_line(tmp_path):
    """``compare`` is a setting, not a node that only ``+`` made."""
    program = diagnose.program
    program.check_before(program.compose(*WRITER, *COMPARE, f"data.root={tmp_path / 'clips'}"), str(tmp_path))


@pytest.fixture(scope="module")
def diagnosed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("diagnose")
    diagnose(config(folder, *COMPARE))
    return folder / "output_dir", json.loads((folder / "output_dir" / "diagnosis.json").read_text())["rows"]


def test_one_row_per_schedule_and_level(diagnosed):
    folder, rows = diagnosed
    assert [(row["schedule"], row["level"], row["keyframes"]) for row in rows] == [
        ("uniform", 1, 14), ("dp", 1, 14), ("few", 1, 9), ("uniform", 2, 9), ("dp", 2, 9), ("few", 2, 3),
        ("uniform", 3, 6), ("dp", 3, 6), ("uniform", 4, 4), ("dp", 4, 4),
    ]  # fmt: skip
    assert all(row["clips"] == 5 for row in rows)
    table = (folder / "diagnosis.md").read_text()
    assert (folder / "diagnosis.png").read_bytes().startswith(b"\x89PNG")
    assert table.count("\n| ") == len(rows) + 2
    assert "overlap with dp" in table


def test_dp_is_the_bound_and_overlaps_with_itself(diagnosed):
    rows = {(row["schedule"], row["level"]): row for row in diagnosed[1]}
    assert rows["dp", 4]["interpolation_mse"] <= rows["uniform", 4]["interpolation_mse"]
    assert rows["dp", 4]["overlap"] == 1
    assert 0 <= rows["uniform", 4]["overlap"] < 1
    assert rows["few", 1]["overlap"] <= 1  # 9 keyframes, as dp has at level 2
    assert rows["few", 2]["overlap"] is None  # dp has no level of 3
    for row in rows.values():
        assert row["correction_rms"] ** 2 == pytest.approx(row["interpolation_mse"])
        assert row["longest_gap"] >= row["largest_gap"] >= row["mean_gap"]
        # noise is drawn independently of what it is added to
        assert row["corruption_rms"] ** 2 == pytest.approx(row["correction_rms"] ** 2 + row["noise_rms"] ** 2, rel=0.1)
    assert rows["uniform", 4]["mean_gap"] == pytest.approx(20 / 3)
    assert {name: row["sees"] for (name, _), row in rows.items()} == {
        "uniform": "nothing", "dp": "the clean clip", "few": "nothing",
    }  # fmt: skip
    ratio = rows["dp", 4]["mse_ratio"]["uniform"]
    errors = [rows[name, 4]["interpolation_mse"] for name in ("dp", "uniform")]
    assert ratio["value"] == pytest.approx(errors[0] / errors[1])
    assert ratio["low"] <= ratio["value"] <= ratio["high"] <= 1  # no clip is worse under dp
    assert set(rows["uniform", 1]["mse_ratio"]) == {"dp", "few"}
    assert rows["uniform", 4]["longest_gap"] == 7


def test_figures_of_a_batch_are_those_of_a_loop():
    corrupted, _, _ = corrupted_clip("schedule=random", level=torch.tensor([1, 3, 4]))
    reference = make_corruption("schedule=uniform")(random_clip(level=torch.tensor([1, 3, 4])), "val").known
    figures = clip_figures(corrupted, reference)
    for i in range(3):
        known = corrupted.known[i].nonzero().flatten()
        gaps = known.diff()
        assert figures["keyframes"][i] == len(known)
        assert figures["mean_gap"][i] == pytest.approx(gaps.float().mean().item())
        assert figures["largest_gap"][i] == gaps.max()
        weights = (gaps - 1).float()  # missing frames in each gap
        assert figures["missing_gap"][i] == pytest.approx(((weights * gaps).sum() / weights.sum()).item())
        missing = corrupted.missing[i]
        noise = (corrupted.x - corrupted.interpolation)[i][:, missing]
        assert figures["noise"][i] == pytest.approx(noise.square().mean().item(), rel=1e-4)
        inner = set(known.tolist()) - {0, 20}
        both = inner & set(reference[i].nonzero().flatten().tolist())
        assert figures["overlap"][i] == pytest.approx(len(both) / len(inner))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["+schedule@compare.uniform=dp"],
            "compare.uniform=.*: expected another name: schedule=uniform is already in the",
        ),
        (
            ["schedule=dp", "+schedule@compare.dp=dp"],
            "compare.dp=.*: expected another name: schedule=dp is already in the table",
        ),
        (["batch_size=0"], "batch_size=0: expected at least 1"),
        (["schedule=dp", "interpolator=spline"], "interpolator=spline: expected a segment-local one"),
        (
            ["+schedule@compare.l=learned", "compare.l.checkpoint=nowhere"],
            r"compare\.l\.checkpoint=nowhere: expected a",
        ),
        (
            ["+schedule@compare.dp=dp", "compare.dp.gap_ratio=0.5"],
            r"compare\.dp\.gap_ratio=0\.5: expected a number >= 1",
        ),
    ],
)
def test_mistakes_name_their_key(tmp_path, overrides, message):
    with pytest.raises(BadValue, match=message):
        diagnose(config(tmp_path, *overrides))


def test_overlap_is_between_equal_numbers_of_keyframes_with_the_uncapped_dp(tmp_path):
    few = ["schedule.counts=[4]", "+schedule@compare.dp=dp", "compare.dp.counts=[14,2]", "clips=2"]
    capped = ["+schedule@compare.capped=dp", "compare.capped.counts=[4]", "compare.capped.gap_ratio=1.2"]
    diagnose(config(tmp_path, *few, *capped))
    text = (tmp_path / "output_dir" / "diagnosis.json").read_text()
    rows = {(row["schedule"], row["level"]): row for row in json.loads(text, parse_constant=pytest.fail)["rows"]}
    assert rows["uniform", 1]["overlap"] is None  # 4 keyframes are not compared with 14
    assert rows["capped", 1]["overlap"] is None  # nor taken for the bound
    assert rows["dp", 1]["overlap"] == 1
    assert rows["dp", 2]["overlap"] is None  # both of its keyframes are ends
    assert "| - |" in (tmp_path / "output_dir" / "diagnosis.md").read_text()


def test_schedules_share_everything_else(tmp_path):
    corruptions = compared(config(tmp_path, *COMPARE, "corruption.sigma=0.5", "seed=3"), PatchDCT())
    assert list(corruptions) == ["uniform", "dp", "few"]
    assert {(c.sigma, c.seed) for c in corruptions.values()} == {(0.5, 3)}


def test_the_standard_error_is_that_of_a_sample_and_needs_two_clips():
    several = Diagnosis()
    for batch in (1, 3):
        several.update("uniform", batch, corrupted_clip(batch=batch)[0])
    alone, row = several.rows()
    errors = several.figures["uniform", 3]["interpolation"][0].numpy()
    assert alone["interpolation_mse_se"] is None
    assert row["interpolation_mse_se"] == pytest.approx(sem(errors))
