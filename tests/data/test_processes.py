"""Any number of processes makes the same data set, even if some of them fail."""

import os
import random
import signal
import time
from pathlib import Path

import pytest
import torch
from PIL import Image

from interp_refiner.core import BadValue
from interp_refiner.data import Cut, Process, ShardDataset, VideoEncoder, find_videos
from interp_refiner.data.codec import PatchDCT, write_mp4
from interp_refiner.data.preparation.embed import embed
from interp_refiner.data.shards import ShardWriter
from interp_refiner.data.text import CaptionEncoder
from tests import clean_processes

pytestmark = pytest.mark.xdist_group("processes")  # one worker has their server
CUT = Cut(frame_size=(16, 16), size=(1, 16, 16), stride=(1, 16, 16), held_out_videos=0.3)
TEXT = CaptionEncoder(4, 8)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten pictures, a video, and a file that is neither."""
    folder = tmp_path_factory.mktemp("pictures")
    generator = torch.Generator().manual_seed(0)
    for number in range(10):
        pixels = torch.randint(0, 256, (16, 16, 3), generator=generator).byte().numpy()
        Image.fromarray(pixels).save(folder / f"picture{number}.png")
    write_mp4(folder / "film.mp4", torch.rand(3, 4, 16, 16, generator=generator), fps=8.0)
    (folder / "torn.jpg").write_bytes(b"no picture")
    return folder


def encode(source: Path, output: Path, rank: int = 0, world_size: int = 1) -> int:
    """Encodes one process's share; returns the chunks that are missing."""
    encoder = VideoEncoder(PatchDCT(), TEXT, CUT, videos_per_shard=2, threads=2)
    return encoder.write(find_videos(source, suffixes=CUT.suffixes), output, Process(rank, world_size)).missing


@pytest.fixture(scope="module")
def alone(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What one process makes."""
    output = tmp_path_factory.mktemp("alone") / "set"
    assert encode(source, output) == 0
    clips = [
        data.key(i) for split in ("train", "val") for data in [ShardDataset(output / split)] for i in range(len(data))
    ]
    assert len(clips) == len(set(clips)) == 14
    return contents(output)


def contents(output: Path) -> dict[str, bytes]:
    return {str(file.relative_to(output)): file.read_bytes() for file in sorted(output.rglob("*")) if file.is_file()}


def test_three_processes_make_what_one_makes_and_whoever_is_last_ends_it(
    source: Path, alone: dict[str, bytes], tmp_path: Path
) -> None:
    missing = [encode(source, tmp_path / "set", rank, 3) for rank in (2, 0, 1)]
    assert missing == [4, 2, 0]
    assert contents(tmp_path / "set") == alone
    assert encode(source, tmp_path / "set", 1, 3) == 0  # there is nothing left to do
    assert not (tmp_path / "set.partial").exists()


def stop_in_the_middle(source: Path, output: Path, sign: Path) -> None:
    """Encodes as process 0 of 3, and stops when the first sample of a chunk is on the disk, until it is killed."""

    def stopping(shard, sample):
        add(shard, sample)
        shard._file.flush()
        sign.touch()
        time.sleep(600)

    add = ShardWriter.add
    ShardWriter.add = stopping  # type: ignore[method-assign]
    encode(source, output, 0, 3)


def test_a_killed_process_is_resumed_at_another_world_size_and_nobody_else_gets_in(
    source: Path, alone: dict[str, bytes], tmp_path: Path
) -> None:
    output, sign = tmp_path / "set", tmp_path / "sign"
    process = clean_processes.start(stop_in_the_middle, source, output, sign)
    try:
        deadline = time.monotonic() + 120
        while not sign.exists():
            assert process.is_alive()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        for rank, world_size in ((0, 3), (0, 1), (1, 2)):
            with pytest.raises(BadValue, match=r"output=.*set: expected a folder that no .* process 0 of 3 is writing"):
                encode(source, output, rank, world_size)
        assert encode(source, output, 1, 3) > 0  # its mate may go on
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    half = list((tmp_path / "set.partial").rglob("*.part"))
    assert half
    assert encode(source, output, 1, 2) > 0
    assert encode(source, output, 0, 2) == 0
    assert contents(output) == alone


def test_chunks_of_a_process_that_stopped_are_missing_until_it_goes_on(
    source: Path, alone: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(shard):
        raise OSError("no space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(ShardWriter, "close", full)
        with pytest.raises(OSError, match="no space"):
            encode(source, tmp_path / "set", 0, 2)
    assert encode(source, tmp_path / "set", 1, 2) == 3
    assert encode(source, tmp_path / "set", 0, 2) == 0
    assert contents(tmp_path / "set") == alone


@pytest.mark.parametrize(
    ("environment", "process"),
    [
        ({}, Process()),
        ({"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}, Process(5, 8, 1)),
        ({"SLURM_PROCID": "2", "SLURM_STEP_NUM_TASKS": "4", "SLURM_LOCALID": "0"}, Process(2, 4, 0)),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}, Process()),  # a batch script, which srun has not started
        (
            {"SUBMITIT_LOCAL_GLOBALID": "1", "SUBMITIT_LOCAL_NTASKS": "2", "SUBMITIT_LOCAL_LOCALID": "1"},
            Process(1, 2, 1),
        ),
    ],
)
def test_a_process_knows_its_place(environment: dict[str, str], process: Process) -> None:
    assert Process.here(environment=environment) == process
    assert Process.here(1, 3, environment) == Process(1, 3, 1)  # settings count before


@pytest.mark.parametrize(
    ("rank", "world_size", "said"),
    [
        (3, 3, "rank=3: expected 0 to 2"),
        (-1, 3, "rank=-1: expected 0 to 2"),
        (0, 0, "world_size=0: expected at least 1"),
        (1, None, "rank=1: expected world_size=<number>, too"),
        (None, 2, "world_size=2: expected rank=<number>, too"),
    ],
)
def test_places_that_cannot_be_are_refused(rank: int | None, world_size: int | None, said: str) -> None:
    with pytest.raises(BadValue, match=said):
        Process.here(rank, world_size, {})


@pytest.mark.parametrize("world_size", [1, 2, 5])
def test_every_piece_of_work_is_dealt_once(world_size: int) -> None:
    shares = [Process(rank, world_size).share(13) for rank in range(world_size)]
    assert sorted(number for share in shares for number in share) == list(range(13))


def test_prompts_are_embedded_by_several_processes_once_each(tmp_path: Path) -> None:
    class Counting(CaptionEncoder):
        def encode(self, prompts):
            asked.extend(prompts)
            return super().encode(prompts)

    asked: list[str] = []
    prompts = {f"{number:05d}": f"prompt {number}" for number in range(5)}
    assert embed(Counting(4, 8), prompts, tmp_path / "out", Process(1, 2)) == 3
    (tmp_path / "out" / "00000.part").write_bytes(b"half a tensor")  # as a process that is killed leaves it
    assert embed(Counting(4, 8), prompts, tmp_path / "out", Process(0, 3)) == 2
    assert embed(Counting(4, 8), prompts, tmp_path / "out") == 0
    assert sorted(asked) == sorted(prompts.values())
    for name, prompt in prompts.items():
        assert torch.equal(torch.load(tmp_path / "out" / f"{name}.pt"), TEXT.encode([prompt])[0])
    with pytest.raises(
        BadValue, match=r"output=.*out: expected a new folder.*prompts\.00000=prompt 0 instead of other"
    ):
        embed(Counting(4, 8), {**prompts, "00000": "other"}, tmp_path / "out")


@pytest.mark.soak
def test_processes_that_are_killed_again_and_again_end_with_the_same_bytes(
    source: Path, alone: dict[str, bytes], tmp_path: Path
) -> None:
    chance, kills = random.Random(0), 0
    for trial in range(50):
        if kills >= 10:
            break
        output = tmp_path / f"set{trial}"
        while not output.exists():
            world_size = chance.choice([1, 2, 3])
            group = [clean_processes.start(encode, source, output, rank, world_size) for rank in range(world_size)]
            time.sleep(chance.uniform(0.0, 0.4))
            victim = chance.choice(group)
            kills += victim.is_alive()
            victim.kill()  # nothing, if it has ended
            for process in group:
                process.join()
        assert contents(output) == alone
    print(f"{kills} processes killed, {trial} data sets equal")
    assert kills >= 10
