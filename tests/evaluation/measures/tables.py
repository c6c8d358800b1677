"""Short ways to make tables and to read their records."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from interp_refiner.evaluation.measures import Batch, Bootstrap, Design, Metric, Record, Table

FEW = Bootstrap(num_resamples=20)


def table(metric: Metric, methods: Sequence[str], baselines: Sequence[str] = (), bootstrap: Bootstrap = FEW) -> Table:
    """An empty table of a metric; every method is an estimate."""
    return metric.table(Design(dict.fromkeys(methods, "estimate"), baselines, bootstrap))


def records(metric: Metric, *batches: dict[str, Any], baselines: Sequence[str] = (), bootstrap: Bootstrap = FEW):
    """What a metric says of batches, whose keys are those of :class:`Batch`."""
    found = table(metric, list(batches[0]["estimates"]), baselines, bootstrap)
    for one in batches:
        found.update(Batch(**one))
    return grouped(found.compute())


def grouped(found: Sequence[Record]) -> list[dict[str, Any]]:
    """One group of frames each: its keys, ``clips`` and ``values``, ``{"mse/a": {...}, "mse_ratio/a/b": {...}}``."""
    groups: dict[tuple, dict[str, Any]] = {}
    for r in found:
        keys = {name: getattr(r, name) for name in ("level", "gap", "offset") if getattr(r, name) is not None}
        group = groups.setdefault(tuple(keys.items()), keys | {"clips": r.clips, "values": {}})
        name = "/".join(filter(None, [r.measure, r.method, r.against]))
        assert name not in group["values"]
        group["values"][name] = {"value": r.value, "low": r.low, "high": r.high}
    return list(groups.values())


def rows(batch: dict[str, Any], part: slice) -> dict[str, Any]:
    """Some of the clips of a batch."""

    def cut(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: cut(one) for key, one in value.items()}
        return value[part] if isinstance(value, Tensor) else value

    return cut(batch)
