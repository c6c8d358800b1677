"""Held-out clips of a run, corrupted as validation corrupts them."""

from collections.abc import Container, Iterator

from interp_refiner.core import BadValue, Corrupted
from interp_refiner.evaluation.run.run import Run


def by_level(run: Run, wanted: Container[str] | None = None) -> Iterator[tuple[int, int, Corrupted]]:
    """Yields batches of one level each: (index of the first clip, level, batch), of the keys in ``wanted``.

    Raises:
        BadValue: keyframes that must be replaced have no proposals.
    """
    first = 0
    for clip in run.data.val_dataloader():
        levels = clip.level.tolist() if clip.level is not None else []
        for level in sorted(set(levels)):
            rows = [i for i, s in enumerate(levels) if s == level and (wanted is None or clip.keys[i] in wanted)]
            if rows:
                corrupted = run.data.on_after_batch_transfer(clip.select(rows).to(run.refiner.device), 0)
                run.refiner.corruption.scheduled_sampling.check_shown(corrupted)
                yield first, level, corrupted
        first += len(set(clip.keys))


def held_out(run: Run, clips: int, level: int | None = None) -> Iterator[Corrupted]:
    """The first held-out clips at one level, one per batch, on the run's device.

    Args:
        run: the run of a refiner.
        clips: number of clips.
        level: level of sparsity; None for the sparsest.

    Raises:
        BadValue: no such level.
    """
    if level is not None and not 1 <= level <= run.num_levels:
        raise BadValue("level", level, f"a level from 1 to {run.num_levels}, or null for the sparsest")
    data = run.data.validating(samples=clips)
    for clip in data.val_dataloader():
        levels = clip.level.tolist() if clip.level is not None else []
        for row in [i for i, s in enumerate(levels) if s == (level or run.num_levels)]:
            corrupted = data.on_after_batch_transfer(clip.select([row]).to(run.refiner.device), 0)
            run.refiner.corruption.scheduled_sampling.check_shown(corrupted)
            yield corrupted
