"""How much each part of the motion estimation gains: ``python experiments/motion_hypotheses/table.py table.json``.

One row per variant of ``interpolator=motion_hypotheses_pixels`` and number of keyframes, by ``benchmark=patch_oracle``.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir

from interp_refiner.config import build, conf_dir
from interp_refiner.evaluation.benchmarks.interpolators import HeldOutClips
from interp_refiner.evaluation.benchmarks.patch_oracle import ORACLE
from interp_refiner.forward.schedule.uniform import evenly_spaced

CLIPS, SEEDS = 128, (0, 1, 2)
FIELDS = "benchmark.interpolators.hypotheses.inner.fields"
VARIANTS: dict[str, list[str]] = {  # changes to the default
    "as it is": [],
    "no forward-backward check": [f"{FIELDS}.tolerance=null"],
    "a strict check": [f"{FIELDS}.tolerance=1.0"],
    "blocks only, no Gauss-Newton": [f"+{FIELDS}.steps=0"],
    "hardly any smoothness": [f"{FIELDS}.smoothness=0.01"],
    "three times the smoothness": [f"{FIELDS}.smoothness=0.3"],
    "matched at full resolution": [f"{FIELDS}.pooling=1"],
}


def variant(overrides: list[str], seed: int) -> Any:
    """The oracle of one variant, on the embedded world of a seed."""
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose(
            "benchmark",
            overrides=[
                "benchmark=patch_oracle",
                "+interpolator@benchmark.interpolators.hypotheses=motion_hypotheses_pixels",
                "~benchmark.interpolators.spline",
                f"benchmark.clips.count={CLIPS}",
                f"benchmark.clips.writer.seed={seed}",
                "benchmark.clips.writer.num_train=512",  # for the latents' statistics
                f"benchmark.clips.root=cache/motion_hypotheses_{seed}",
                *overrides,
            ],
        )
    return build(config.benchmark)


def milliseconds(oracle: Any, count: int) -> float:
    """CPU milliseconds per clip: the median of three batches of eight."""
    clean, codec = HeldOutClips(oracle.root, oracle.split, 8).read()
    interpolator = oracle.interpolators["hypotheses"].with_codec(codec)
    known = torch.zeros(8, clean.shape[2], dtype=torch.bool)
    known[:, evenly_spaced(clean.shape[2], count)] = True
    times = []
    for _ in range(4):
        start = time.process_time()
        interpolator(clean, known)
        times.append(time.process_time() - start)
    return 1e3 * sorted(times[1:])[1] / 8


def main(path: str) -> None:
    """Writes and prints the table row by row."""
    torch.set_num_threads(1)
    table = []
    for name, overrides in VARIANTS.items():
        for seed in SEEDS if not overrides else SEEDS[:1]:
            oracle = variant(overrides, seed)
            with torch.no_grad():
                rows = oracle.run("cpu")["rows"]
                cost = {count: milliseconds(oracle, count) for count in oracle.counts}
            for count in oracle.counts:
                figures = {r["interpolation"]: r for r in rows if r["keyframes"] == count}
                row = {"variant": name, "seed": seed, "keyframes": count, "ms": cost[count], "figures": figures}
                table.append(row)
                print(name, seed, count, {n: round(f["ratio"], 3) for n, f in figures.items()}, flush=True)
            Path(path).write_text(json.dumps(table, indent=1))
    assert all(ORACLE in row["figures"] for row in table)


if __name__ == "__main__":
    main(*sys.argv[1:])
