"""The model card reports an evaluation's figures, or none if there was no evaluation."""

from interp_refiner.evaluation import Evaluation
from interp_refiner.evaluation.evaluator.methods import NOISE
from interp_refiner.evaluation.measures import Frechet, Record, SquaredError
from interp_refiner.storyboard.saved.card import evaluated, figures


def evaluation():
    """Of two levels: the ratio of the one jump is .5 at level 1 and .7 at level 2."""
    names = {"one_jump": "estimate", "bridge": "estimate", "linear": "baseline", "own": "baseline", NOISE: "control"}

    def record(measure, method, value, level):
        return Record(measure, method, value, value - 0.01, value + 0.01, "own", level=level)

    records = [record("frechet_ratio", NOISE, 1.234, 2)]
    for level in (1, 2):
        records += [record("mse_ratio", "one_jump", 0.3 + level / 5, level), record("mse_ratio", "bridge", 1.05, level)]
        records += [record("mse_better", "one_jump", 0.97, level)]
    measures = [*SquaredError.measures[0].family, *Frechet.measures[0].family]
    about = {"clips": 64, "command": "evaluate 'checkpoint=/home/me/run' sampler=bridge hydra.run.dir=/home/me/out"}
    return Evaluation(about, names, measures=measures, records=records)


def test_every_estimate_stands_beside_baselines_and_noise_at_every_level():
    found = figures(evaluation(), [8, 5])
    assert [row[:2] for row in found["rows"]] == [
        [count, method] for count in ("8", "5") for method in ("one_jump", "bridge", "linear", "own", NOISE)
    ]
    assert all(len(row) == 2 + len(found["headings"]) for row in found["rows"])
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
