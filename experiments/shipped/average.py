"""Averages the weights of several runs (model soups, Wortsman et al. 2022).

``python experiments/shipped/average.py <run folder> ... <last run folder>`` writes ``checkpoints/averaged.ckpt`` into
the last folder: its last checkpoint, with the mean of the averaged weights (EMA) of all runs.
"""

import sys
from pathlib import Path

import torch

from interp_refiner.core import AVERAGED
from interp_refiner.training.checkpoint import find_checkpoint


def main(*folders: str) -> None:
    """Writes the checkpoint of the mean; the runs have the same network."""
    files = [find_checkpoint(Path(folder))[1] for folder in folders]
    checkpoints = [torch.load(file, map_location="cpu", weights_only=True) for file in files]
    weights = [checkpoint[AVERAGED] for checkpoint in checkpoints]
    mean = {name: torch.stack([one[name] for one in weights]).mean(0) for name in weights[-1]}
    output = files[-1].with_name("averaged.ckpt")
    torch.save({**checkpoints[-1], AVERAGED: mean}, output)
    print(output)


if __name__ == "__main__":
    main(*sys.argv[1:])
