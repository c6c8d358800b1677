"""Every mistake of a user is reported in one line on stderr, with exit code 2; a bug keeps its stack trace."""

import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from tests.config.toy_program import toy

ROOT = Path(__file__).resolve().parents[2]
Run = Callable[..., tuple[int, str, str]]

# arguments, then what the one line says, whole
REFUSED = {
    "unknown key": ("trainer.max_step=3", "trainer.max_step=3: no such key; did you mean 'trainer.max_steps'?"),
    "key that the target has": ("trainer.max_time=1", "trainer.max_time=1: no such key yet; use +trainer.max_time=1"),
    "key without its group": ("max_steps=3", "max_steps=3: no such key; did you mean 'trainer.max_steps'?"),
    "unknown key like none": ("zzzz=3", "zzzz=3: no such key"),
    "unknown option": (
        "corruption=gaus",
        "corruption=gaus: expected dist | dist_linear | gauss | needs_extra | none; did you mean 'gauss'?",
    ),
    "unknown group": ("corrupton=dist", "corrupton=dist: no such key; did you mean 'corruption'?"),
    "bare experiment": (
        "experiment=short",
        "experiment=short: the defaults list has no experiment that could be replaced; use +experiment=short",
    ),
    "unknown experiment": (
        "+experiment=shrt",
        "+experiment=shrt: expected broken | noisy | short; did you mean 'short'?",
    ),
    "experiment that names an unknown option": (
        "+experiment=broken",
        "corruption=gaus: expected dist | dist_linear | gauss | needs_extra | none; did you mean 'gauss'?",
    ),
    "plus where there is one already": (
        "+corruption=gauss",
        "+corruption=gauss: already in the config; to replace it, use corruption=gauss",
    ),
    "plus on a key that is there": ("+seed=1", "+seed=1: already in the config; to replace it, use seed=1"),
    "group set to null": (
        "corruption=null",
        "corruption=null: expected dist | dist_linear | gauss | needs_extra | none",
    ),
    "sweep without multirun": ("seed=1,2", "seed=1,2: a sweep needs --multirun"),
    "list without brackets": (
        "corruption.counts=1,2",
        "corruption.counts=1,2: a sweep needs --multirun; a list is written corruption.counts=[1,2]",
    ),
    "comma in a path": (
        "data.root=a,b",
        "data.root=a,b: a sweep needs --multirun; a value with a comma is written data.root=\"'a,b'\"",
    ),
    "comma in a run folder": (
        "hydra.run.dir=new/a,b",
        "hydra.run.dir=new/a,b: a sweep needs --multirun; a value with a comma is written hydra.run.dir=\"'new/a,b'\"",
    ),
    "comma in a group": ("corruption=dist,gauss", "corruption=dist,gauss: a sweep needs --multirun"),
    "spaces around the sign": (
        "corruption.sigma = 0.5",
        "corruption.sigma: expected key=value without spaces around =, +key=value, ~key or group=option",
    ),
    "range without multirun": (
        "seed=range(3)",
        "seed=range(3): a sweep needs --multirun",
    ),
    "no value": (
        "seed",
        "seed: expected key=value without spaces around =, +key=value, ~key or group=option",
    ),
    "group set to a number": (
        "corruption=3",
        "corruption=3: expected dist | dist_linear | gauss | needs_extra | none",
    ),
    "string for a number": ("corruption.sigma=abc", "corruption.sigma=abc: expected a number"),
    "quoted number": ("corruption.sigma='0.3'", "corruption.sigma=0.3: expected a number"),
    "null for a number": ("corruption.sigma=null", "corruption.sigma=null: expected a number"),
    "number for a list": ("corruption.counts=3", "corruption.counts=3: expected a list of integers"),
    "wrong item": ("corruption.counts=[21,x]", 'corruption.counts=[21, "x"]: expected a list of integers'),
    "literal": (
        "corruption.profile=dists",
        "corruption.profile=dists: expected none | dist | dist_linear | gauss; did you mean 'dist'?",
    ),
    "literal at the top": (
        "mode=runs",
        "mode=runs: expected run | crash | late | exit75 | bad_data | no_answer; did you mean 'run'?",
    ),
    "float for an integer": ("seed=0.5", "seed=0.5: expected an integer"),
    "union": ("+trainer.max_time=[1]", "trainer.max_time=[1]: expected a string or null"),
    "out of range": ("corruption.sigma=-1", "corruption.sigma=-1: expected a number >= 0"),
    "out of range, nested": (
        "trainer.callbacks.0.every_n_steps=0",
        "trainer.callbacks.0.every_n_steps=0: expected an integer >= 1",
    ),
    "out of range, found late": (
        "mode=late",
        "data.batch_size=4: expected at most the number of clips, 2",
    ),
    "added argument that is none": (
        "+corruption.sigm=0.3",
        "corruption.sigm: unknown argument of tests.config.toys.Noise; did you mean 'corruption.sigma'?",
    ),
    "added key at the top that is none": ("+sead=1", "sead: unknown key; did you mean 'seed'?"),
    "added node at the top that is none": (
        "+corruptoin.sigma=1",
        "corruptoin: unknown key; did you mean 'corruption'?",
    ),
    "the same as a dict": ("+corruptoin={sigma:1}", "corruptoin: unknown key; did you mean 'corruption'?"),
    "added node that reads only itself": ("+zzzz.a=1 +zzzz.b=${zzzz.a}", "zzzz: unknown key"),
    "never an argument of the program alone": (
        "+data.corruptio=1",
        "data.corruptio: unknown argument of tests.config.toys.Data",
    ),
    "value taken away": (
        "~corruption.sigma",
        "corruption.sigma has no value: tests.config.toys.Noise needs it, set +corruption.sigma=<value>",
    ),
    "value to be filled in": ("corruption.sigma=???", "corruption.sigma has no value: set corruption.sigma=<value>"),
    "interpolation to nowhere": (
        "corruption.sigma=${nowhere}",
        "corruption.sigma=${nowhere}: cannot be resolved: Interpolation key 'nowhere' not found",
    ),
    "missing folder": ("data.root=/no/such", "data.root=/no/such: No such file or directory"),
    "missing extra": (
        "corruption=needs_extra",
        "corruption: flash attention needs flash-attn, which is not installed: pip install 'interp_refiner[flash]'",
    ),
    "another package's own refusal": (
        "trainer.net.p=2",
        "trainer.net: dropout probability has to be between 0 and 1, but got 2",
    ),
    "target misspelled": (
        "corruption._target_=tests.config.toys.Noize",
        "corruption._target_=tests.config.toys.Noize: expected the dotted path of a class or function; "
        "did you mean 'tests.config.toys.Noise'?",
    ),
    "target in no module": (
        "corruption._target_=no_such_module.Noise",
        "corruption: No module named 'no_such_module'; no_such_module.Noise belongs to another package: install it, "
        "or put its folder on PYTHONPATH",
    ),
    "target in no module of this package": (
        "corruption._target_=interp_refiner.no_such.Noise",
        "corruption._target_=interp_refiner.no_such.Noise: expected the dotted path of a class or function",
    ),
    "target forbidden by Hydra": (
        "corruption._target_=os.system",
        "corruption._target_=os.system: Target 'os.system' is blocklisted because it allows config data to control "
        "executable behavior or belongs to an execution-capable target family. It cannot be authorized with "
        "HYDRA_INSTANTIATE_ALLOWLIST_OVERRIDE.",
    ),
    "scale that the experiment refuses": (
        "+experiment=short scale=large",
        "scale=large: expected small with +experiment=short",
    ),
    "two commands": (
        "--run --multirun",
        "Only one of --run, --multirun, --cfg, --info and --shell_completion can be specified",
    ),
    "a setting with dashes": (
        "--corruption=gauss",
        "--corruption=gauss: no such option; a setting has no dashes: corruption=gauss",
    ),
    "unknown option with dashes": ("--help-me", "--help-me: no such option; did you mean '--help'?"),
    "option without its value": ("--config-dir", "argument --config-dir/-cd: expected one argument"),
    "no such folder of groups": ("--config-dir=/nope", "--config-dir=/nope: expected a folder of config groups"),
    "unknown primary config": ("--config-name=toi", "--config-name=toi: expected toy; did you mean 'toy'?"),
    "sweep, one value refused by its type": (
        "--multirun corruption.sigma=0.1,abc",
        "corruption.sigma=abc: expected a number",
    ),
    "sweep, one option unknown": (
        "--multirun corruption=dist,gaus",
        "corruption=gaus: expected dist | dist_linear | gauss | needs_extra | none; did you mean 'gauss'?",
    ),
    "sweep, unknown key": (
        "--multirun trainer.max_step=1,2",
        "trainer.max_step=1: no such key; did you mean 'trainer.max_steps'?",
    ),
}


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs the toy program in this process, in an empty directory: (exit code, stdout, stderr)."""

    def run_toy(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["toy", *arguments])
        logging.root.handlers.clear()  # Hydra's last handlers write to the stdout of the test before
        capfd.readouterr()
        try:
            toy()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0
        else:
            code = 0
        out, err = capfd.readouterr()
        return code, out, err

    return run_toy


@pytest.mark.parametrize("case", REFUSED)
def test_one_line_and_exit_code_2(case: str, run: Run) -> None:
    arguments, line = REFUSED[case]
    code, out, err = run(*arguments.split(" "))
    assert (err, code) == (line + "\n", 2)
    assert "done" not in out


def test_a_refused_run_leaves_no_folder(run: Run, tmp_path: Path) -> None:
    for arguments in (["corruption.sigma=abc"], ["--multirun", "corruption.sigma=0.1,abc"]):
        assert run(*arguments)[0] == 2
        assert not (tmp_path / "runs").exists()
        assert not list((tmp_path).glob("sweeps/[0-9]*"))


def test_a_sweep_is_checked_before_its_first_job(run: Run) -> None:
    code, out, _ = run("--multirun", "corruption.sigma=0.1,0.2,abc")
    assert code == 2
    assert "done" not in out


def test_success(run: Run, tmp_path: Path) -> None:
    code, out, err = run("corruption=gauss", "corruption.sigma=1")  # an integer serves as a number
    assert (code, err) == (0, "")
    assert out == "done: sigma 1, 3 steps\n"
    assert (tmp_path / "runs/toy_program/.hydra/config.yaml").exists()


def test_multirun(run: Run) -> None:
    code, out, err = run("--multirun", "corruption.sigma=0.1,0.2", "corruption=dist,none")
    assert (code, err) == (0, "")
    assert [line for line in out.splitlines() if line.startswith("done")] == [
        f"done: sigma {sigma}, 3 steps" for sigma in (0.1, 0.1, 0.2, 0.2)
    ]


def test_scale_and_experiment(run: Run) -> None:
    assert run("scale=large", "+experiment=noisy")[1] == "done: sigma 0.3, 3000 steps\n"
    assert run("+experiment=short")[1] == "done: sigma 0.3, 5 steps\n"  # an experiment is appended after scale


def test_an_added_node_that_another_value_reads(run: Run) -> None:
    assert run("+mine.sigma=0.7", "corruption.sigma=${mine.sigma}")[:2] == (0, "done: sigma 0.7, 3 steps\n")
    assert run("+mine.name=there", "hydra.run.dir=${mine.name}")[0] == 0
    assert run("+mine.sigma=0.7", "corruption.sigma='${oc.select:mine.sigma,0.3}'")[1] == "done: sigma 0.7, 3 steps\n"


def test_the_exit_code_of_the_task_is_kept(run: Run) -> None:
    assert run("mode=exit75") == (75, "", "")
    assert run("--multirun", "mode=exit75,run")[0] == 75


@pytest.mark.parametrize(("mode", "code"), [("bad_data", 2), ("no_answer", 74)])
def test_bad_data_and_a_source_that_does_not_answer_are_told_in_one_line(mode: str, code: int, run: Run) -> None:
    assert run(f"mode={mode}") == (code, "", "shard-00000.tar: sample 'clip-7': why\n")


def test_a_bug_is_raised_with_its_trace(run: Run) -> None:
    with pytest.raises(ValueError, match="a bug of the program") as caught:
        run("mode=crash")
    names = [entry.name for entry in caught.traceback]
    assert names[-1] == "toy"
    assert not any("hydra" in str(entry.path) for entry in caught.traceback)  # nothing of Hydra's between user and bug


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ("mode=crash,run,run", "ValueError: a bug of the program"),
        ("mode=bad_data,run,run", "shard-00000.tar: sample 'clip-7': why"),
        ("corruption.sigma=-1,0.1,0.2", "corruption.sigma=-1: expected a number >= 0"),
    ],
)
def test_the_rest_of_a_sweep_runs_after_a_failed_job(values: str, told: str, run: Run) -> None:
    code, out, err = run("--multirun", values)
    assert (code, out.count("done")) == (4, 2)
    assert told in err.splitlines()
    assert err.splitlines()[-1] == (
        "sweep sweeps: not all jobs finished, job 0 is the first that did not; the same command runs the missing jobs"
    )


@pytest.mark.soak
def test_joblib_runs_the_jobs_of_a_sweep_in_processes_of_their_own(tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    joblib = ["--multirun", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    done = _process([*joblib, "mode=bad_data,run"], tmp_path, timeout=900)
    assert (done.returncode, done.stdout.count("done")) == (4, 1)
    assert "clip-7" in done.stderr
    assert _process([*joblib, "corruption.sigma=0.1,0.2"], tmp_path, timeout=900).returncode == 0


def test_optuna_minimises_what_the_task_returns(run: Run) -> None:
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    optuna = [
        "hydra/sweeper=optuna",
        "hydra.sweeper.n_trials=3",
        "hydra.sweeper.n_jobs=1",
        "hydra.sweeper.sampler.seed=0",
    ]
    code, out, _ = run("--multirun", *optuna, "corruption.sigma=choice(0.1,0.4)")
    sigmas = [float(line.split()[2].rstrip(",")) for line in out.splitlines() if line.startswith("done")]
    assert (code, len(sigmas)) == (0, 3)
    best = OmegaConf.load("sweeps/optimization_results.yaml")
    assert best.best_value == min(sigmas)


@pytest.mark.parametrize("how", ["debug=default", "HYDRA_FULL_ERROR"])
def test_stack_traces_are_kept_on_request(how: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = [how] if "=" in how else []
    if not arguments:
        monkeypatch.setenv(how, "1")
    code, _, err = run("corruption.sigma=-1", *arguments)
    assert code == 2
    assert err.startswith("Traceback")
    assert "toys.py" in err
    assert err.splitlines()[-1] == "corruption.sigma=-1: expected a number >= 0"
    assert os.environ.get("HYDRA_FULL_ERROR") == (None if arguments else "1")


def test_hydras_switch_is_not_seen_by_the_task(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    seen = []
    monkeypatch.setattr(
        "tests.config.toys.Noise.__init__", lambda self, sigma, counts, profile: seen.append(dict(os.environ))
    )
    with pytest.raises(AttributeError, match="sigma"):
        run()
    assert "HYDRA_FULL_ERROR" not in seen[0]


def test_later_processes_of_a_run_say_who_they_are(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "3")
    assert run("seed=x")[2] == "RANK=3: seed=x: expected an integer\n"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("--help", "trainer: default"),
        ("--cfg job", "_target_: tests.config.toys.Noise"),
        ("--cfg hydra", "dir: runs/${hydra.job.name}"),
        ("--cfg job --resolve", "batch_size: 4"),
        ("--cfg job --package corruption corruption=gauss", "profile: gauss"),
        ("--info defaults", "corruption/dist"),
        ("--hydra-help", "Hydra"),
        ("--version", "Hydra 1.3"),
        ("--shell-completion install=bash", "hydra_bash_completion"),
    ],
)
def test_hydras_own_commands(arguments: str, expected: str, run: Run) -> None:
    code, out, err = run(*arguments.split(" "))
    assert (code, err) == (0, "")
    assert expected in out


def test_shell_completion(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMP_LINE", "toy corruption=dist_")
    monkeypatch.setenv("COMP_POINT", "20")
    assert run("--shell-completion", "query=bash") == (0, "corruption=dist_linear\n", "")


def test_called_with_a_config_it_is_the_function_itself(tmp_path: Path) -> None:
    with initialize_config_dir(str(Path(__file__).parent / "conf"), version_base="1.3"):
        cfg = compose("toy", ["corruption.sigma=0.25", "trainer.default_root_dir=.", f"data.root={tmp_path}"])
    assert toy(cfg) == 0.25


@pytest.mark.soak  # in this process above; that a fresh one prints nothing else: tests/packaging/test_wheel.py
def test_a_refusal_as_a_process(tmp_path: Path) -> None:
    done = _process(["corruption=gaus"], tmp_path)
    assert (done.returncode, done.stderr.splitlines()) == (2, [REFUSED["unknown option"][1]])


@pytest.mark.soak  # a bug in this process is tested above
def test_a_bug_as_a_process(tmp_path: Path) -> None:
    done = _process(["mode=crash"], tmp_path)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert done.stderr.endswith("ValueError: a bug of the program\n")


def _process(arguments: list[str], folder: Path, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.config.toy_program", *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=timeout)


@pytest.mark.parametrize("name", ["josé", "a=b,c", "runs (1) [2]"])
def test_a_folder_may_have_any_name(name: str, run: Run, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    assert run(f"data.root={name}") == (0, "done: sigma 0.3, 3 steps\n", "")
