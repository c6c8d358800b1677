"""One run of an identity at a time, whatever happens to its process."""

import multiprocessing
import os
import signal
import time
from contextlib import suppress

import pytest

from interp_refiner.training.record import Claimed, RunRecord, claim, write_record

FORK = multiprocessing.get_context("fork")


def finish(run, status="finished"):
    write_record(run, RunRecord("x", status=status))


def try_to_claim(folder, run, wins, at):
    time.sleep(max(0.0, at - time.time()))
    with suppress(Claimed), claim(folder, "x", run):
        finish(run, "running")
        (wins / run.name).touch()
        time.sleep(0.3)
        finish(run)


def test_of_many_launchers_at_once_one_makes_the_run(tmp_path):
    (tmp_path / "wins").mkdir()
    at = time.time() + 0.2
    tries = [(tmp_path / "claims", tmp_path / str(i), tmp_path / "wins", at) for i in range(6)]
    processes = [FORK.Process(target=try_to_claim, args=arguments) for arguments in tries]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 6
    assert len(list((tmp_path / "wins").iterdir())) == 1


def test_a_claim_says_whose_it_is(tmp_path):
    with claim(tmp_path, "x", tmp_path / "first"):
        with pytest.raises(Claimed, match=r"^duplicate of .*/first$"), claim(tmp_path, "x", tmp_path / "second"):
            pass
        with claim(tmp_path, "y", tmp_path / "another job"):
            pass
        with claim(tmp_path, "x", tmp_path / "again", repeat=True):
            pass


def hold(folder, run, holding):
    with claim(folder, "x", run):
        finish(run, "running")
        holding.set()
        time.sleep(60)


def test_the_claim_of_a_killed_process_is_free(tmp_path):
    holding = FORK.Event()
    process = FORK.Process(target=hold, args=(tmp_path / "claims", tmp_path / "killed", holding))
    process.start()
    assert holding.wait(20)
    with pytest.raises(Claimed, match="killed"), claim(tmp_path / "claims", "x", tmp_path / "next"):
        pass
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    with claim(tmp_path / "claims", "x", tmp_path / "next"):
        finish(tmp_path / "next")
    with pytest.raises(Claimed, match=r"/next$"), claim(tmp_path / "claims", "x", tmp_path / "late"):
        pass


@pytest.mark.parametrize("status", ["failed", "interrupted"])
def test_a_run_that_did_not_finish_is_made_again_and_a_finished_one_is_not(tmp_path, status):
    with claim(tmp_path, "x", tmp_path / "0"):
        finish(tmp_path / "0", status)
    with claim(tmp_path, "x", tmp_path / "1"):
        finish(tmp_path / "1")
    with pytest.raises(Claimed, match=r"/1$"), claim(tmp_path, "x", tmp_path / "2"):
        pass


def test_a_finished_run_keeps_the_claim_until_another_one_has_finished(tmp_path):
    with claim(tmp_path, "x", tmp_path / "0"):
        finish(tmp_path / "0")
    with claim(tmp_path, "x", tmp_path / "1", repeat=True):
        finish(tmp_path / "1", "failed")
    with pytest.raises(Claimed, match=r"/0$"), claim(tmp_path, "x", tmp_path / "2"):
        pass
    with claim(tmp_path, "x", tmp_path / "3", repeat=True):
        finish(tmp_path / "3")
    with pytest.raises(Claimed, match=r"/3$"), claim(tmp_path, "x", tmp_path / "4"):
        pass


def test_a_sweep_restarted_in_its_own_folder_makes_nothing_again(tmp_path):
    with claim(tmp_path, "x", tmp_path / "0"):
        finish(tmp_path / "0")
    with pytest.raises(Claimed, match=r"/0$"), claim(tmp_path, "x", tmp_path / "0"):
        pass
    with claim(tmp_path, "x", tmp_path / "0", repeat=True):
        pass
