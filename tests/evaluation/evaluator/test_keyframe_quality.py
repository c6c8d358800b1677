"""The table of the quality of generated keyframes."""

from interp_refiner.evaluation.evaluator.keyframe_quality import quality_table


def test_the_quality_of_keyframes_is_a_table_of_these_figures():
    names = ("own_caption", "other_caption", "brightness", "no_other_brightness", "shape", "direction_within_one")
    names += ("background_within_between", "frechet", "nearest_5th_percentile")
    rows = {"real": dict(zip(names, (-1.469, -8.254, 0.9, 0.81, 1.0, 0.5, 0.0084, 1.034, 1.0), strict=True))}
    result = {"keyframes": 5, "clips": 64, "rows": rows, "caption_gap_of_real": 0.873, "frechet_of_mixed": 0.25}
    assert quality_table(result) == (
        "64 held-out captions.\n\n"
        "| K = 5 | log P(caption) | of another's | brightness right | no other brightness | shape right |"
        " direction within 1 of 8 | background within / between | Frechet | nearest training clip, 5% |\n"
        f"| --- |{' ---: |' * 9}\n| real | -1.47 | -8.25 | 90% | 81% | 100% | 50% | 0.008 | 1.03 | 1.00 |\n\n\n"
        "Gap between own and another's caption: 87% of the real clips'."
        " Frechet distance above the floor: 25% of that of mixed clips.\n"
    )
