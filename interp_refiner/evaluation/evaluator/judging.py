"""Runs an evaluator over held-out clips, until the end or Ctrl-C."""

from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from interp_refiner.config import option_name, terminal
from interp_refiner.core import BadValue
from interp_refiner.evaluation.evaluator.evaluator import Evaluator
from interp_refiner.evaluation.evaluator.methods import Methods
from interp_refiner.evaluation.evaluator.replaced import ReplacedKeyframes
from interp_refiner.evaluation.run.held_out import by_level
from interp_refiner.evaluation.run.run import Run

QUICK = 16  # clips; takes about two minutes on 2 cores for all levels of the shipped weights


def clips_to_judge(clips: int | None, full: bool) -> int | None:
    """The number of held-out clips to evaluate; None for all."""
    if full and clips is not None:
        raise BadValue("full", True, f"false with clips={clips}")
    return None if full else clips or QUICK


def labels_of(checkpoints: Sequence[str]) -> list[str]:
    """The shortest ends of paths that are unique, as labels.

    Raises:
        BadValue: a path is listed twice.
    """
    parts = [Path(checkpoint).parts for checkpoint in checkpoints]
    if len(set(parts)) < len(parts):
        raise BadValue("checkpoint", list(checkpoints), "different runs")
    depth = next(d for d in range(1, 99) if len({path[-d:] for path in parts}) == len(parts))
    return ["/".join(path[-depth:]) for path in parts]


def judge(run: Run, evaluator: Evaluator) -> ReplacedKeyframes:
    """Passes every held-out clip at every level to the evaluator; Ctrl-C stops it and keeps the results so far.

    Returns:
        The numbers of keyframes that were proposals.
    """
    replaced, pairs = ReplacedKeyframes(), run.held_out_pairs
    try:
        with tqdm(total=pairs, desc="clips at all levels", unit="clip") as progress:
            for first, level, corrupted in by_level(run):
                evaluator.update(corrupted, level, first)
                replaced.update(corrupted, level)
                progress.update(corrupted.clip.batch_size)
    except KeyboardInterrupt:
        if not evaluator.ratios:
            raise
        done = sum(len(keys) for _, keys, _ in evaluator.ratios)
        terminal().print(f"interrupted: the figures cover {done} of {pairs} pairs of clip and level", soft_wrap=True)
    return replaced


def scope(run: Run) -> str:
    """One line with the number of evaluated clips and of all held-out clips."""
    clips, of = (one.held_out_pairs // run.num_levels for one in (run, run.showing(None)))
    more = "" if clips >= of else "; full=true evaluates all"
    return f"{clips} of {of} held-out clips at {run.num_levels} levels{more}"


def compared(runs: dict[str, Run], num_samples: int) -> Methods:
    """The methods of the first run, with the other runs as rivals.

    Raises:
        BadValue: several samples of several runs.
    """
    if num_samples > 1 and len(runs) > 1:
        raise BadValue("num_samples", num_samples, "1 with several checkpoints")
    made: list[Methods] = []
    for label, run in reversed(runs.items()):
        name = option_name("interpolator", run.config.interpolator)
        made.append(Methods(run.refiner, run.medium, num_samples, name, label if len(runs) > 1 else ""))
    made[-1].rivals = made[-2::-1]
    return made[-1]
