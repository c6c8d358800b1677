"""The whole table: every strategy against one process over 20 steps, also with Muon, compiled and in four processes."""

import os
import subprocess
import sys

import pytest
import torch

from tests.training.strategy.groups import difference, fits_together
from tests.training.strategy.twenty_steps import REPLICAS, SHARED, STEPS, fit

# Of losses and of all else; wider for Muon in bfloat16, which a rounding of the gradient may move to another one.
BARS = {"one": (1e-6, 1e-4), "muon": (1e-6, 1e-4), "muon in bfloat16": (1e-4, 5e-3)}
BFLOAT16 = ["optimizer=muon", "optimizer.orthogonalised_in=bfloat16"]
PARTS = ("losses", "ema", "weights", "figures")


def compare(found, single):
    """A line for every run with the largest differences from that of one process; and none of them is large."""
    missed = {}
    print("\n| run | against | loss of a step | average (EMA) | weights | validation |\n|---|---|---|---|---|---|")
    for name, result in found.items():
        kind = name.partition(",")[0]
        against = kind if kind in BARS else "one"
        loss, *others = parts = [difference(result[part], single[against][part]) for part in PARTS]
        print(f"| {name} | {against} | " + " | ".join(f"{value:.1e}" for value in parts) + " |", flush=True)
        assert len(result["losses"]) == STEPS
        of_loss, of_others = BARS[against]
        if not (loss < of_loss and all(other < of_others for other in others)):
            missed[name] = parts
    assert not missed


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("table")


@pytest.fixture(scope="module")
def single(folder):
    micro = fit("one, 4 micro-batches", "auto", 1, micro=4)
    muon = [fit("muon", "auto", 1, "optimizer=muon"), fit("muon in bfloat16", "auto", 1, *BFLOAT16)]
    return fits_together([fit("one", "auto", 1), *muon, micro], folder, 1, 1500.0)


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_twenty_steps_are_those_of_one_process(folder, single):
    two = fits_together(
        [
            fit("ddp, 2 processes", "ddp", 2),
            fit("fsdp2, 2 processes", "fsdp2", 2),
            fit("fsdp2, 2 processes, 2 micro-batches", "fsdp2", 2, micro=2),
            fit("hsdp, 2 replicas of 1 shard", "hsdp", 2, REPLICAS),
            fit("hsdp, 1 replica of 2 shards", "hsdp", 2),
            fit("muon, ddp, 2 processes", "ddp", 2, "optimizer=muon"),
            fit("muon, fsdp2, 2 processes", "fsdp2", 2, "optimizer=muon"),
            fit("muon in bfloat16, ddp, 2 processes", "ddp", 2, *BFLOAT16),
            fit("muon in bfloat16, fsdp2, 2 processes", "fsdp2", 2, *BFLOAT16),
            fit("sequence, 2 processes share a clip", "sequence", 1, *SHARED, "trainer.devices=2"),
        ],
        folder,
        2,
        timeout=3000.0,
    )
    micro = {name: found for name, found in single.items() if "micro" in name}
    compare({**micro, **two}, single)


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_four_processes_train_as_one(folder, single):
    fits = [
        fit("hsdp, 2 replicas of 2 shards", "hsdp", 4, REPLICAS),
        fit("sequence, 2 replicas of 2 processes", "sequence", 2, *SHARED, "trainer.devices=4"),
    ]
    compare(fits_together(fits, folder, 4, timeout=3000.0), single)


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_compiled_blocks_train_as_one_process(folder, single):
    """In a process of its own: shape checks of the tests' import hook are no part of compiled code."""
    command = [sys.executable, "-m", "tests.training.strategy.twenty_steps", str(folder)]
    done = subprocess.run(command, env=dict(os.environ), capture_output=True, text=True, timeout=3000)
    assert done.returncode == 0, done.stderr[-5000:]
    compare(torch.load(folder / "compiled.pt", weights_only=False), single)
