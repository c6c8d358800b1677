"""The model card says what an evaluation found, and nothing where there was none."""

from interp_refiner.evaluation import Evaluation
from interp_refiner.evaluation.methods import NOISE
from interp_refiner.storyboard.card import FIGURES, evaluated, figures


def interval(value):
    return {"value": value, "low": value - 0.01, "high": value + 0.01}


def evaluation():
    """Of two levels: the ratio of the one jump is .5 at level 1 and .7 at level 2."""
    names = {"one_jump": "estimate", "bridge": "estimate", "linear": "baseline", "own": "baseline", NOISE: "control"}
    errors = [
        {
            "level": level,
            "values": {
                "mse_ratio/one_jump/own": interval(0.3 + level / 5),
                "mse_ratio/bridge/own": interval(1.05),
                "mse_better/one_jump/own": interval(0.97),
            },
        }
        for level in (1, 2)
    ]
    frechet = [{"level": 2, "values": {f"frechet/{NOISE}": interval(1.234)}}]
    about = {"clips": 64, "command": "evaluate 'checkpoint=/home/me/run' sampler=bridge hydra.run.dir=/home/me/out"}
    return Evaluation(about, names, errors=errors, frechet=frechet)


def test_every_estimate_stands_beside_baselines_and_noise_at_every_level():
    found = figures(evaluation(), [8, 5])
    assert [row[:2] for row in found["rows"]] == [
        [count, method] for count in ("8", "5") for method in ("one_jump", "bridge", "linear", "own", NOISE)
    ]
    assert all(len(row) == 2 + len(FIGURES) for row in found["rows"])
    assert found["own"] == "own"
    text = evaluated(found)
    assert "64 held-out clips" in text
    assert "`evaluate checkpoint=<run> sampler=bridge`" in text
    assert "| 8 | one_jump | 0.500 (0.490..0.510) | 97% (96..98%) |" in text
    assert "| 5 | one_jump | 0.700 (0.690..0.710) |" in text
    assert "| 5 | bridge | 1.050 (1.040..1.060) | – |" in text
    assert "1.234" in next(line for line in text.splitlines() if line.startswith(f"| 5 | {NOISE} |"))


def test_a_model_that_was_not_evaluated_has_no_such_section():
    assert evaluated(None) == ""
