"""Settings from YAML and the command line; one line for what is wrong; exit codes."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest
from pydantic import Field, field_validator

from rayapp.config.command_line import parse_settings, run_job
from rayapp.config.errors import JobFailed, UserError
from rayapp.config.settings import JobSettings, Settings
from rayapp.config.yaml_files import parse_yaml

ROOT = Path(__file__).parents[2]


class Head(Settings):
    """A part with settings of its own."""

    lr: float = Field(0.1, gt=0, description="learning rate")
    sizes: tuple[int, ...] = Field((), description="widths, from input to output")


class Job(JobSettings):
    """What the job does."""

    epochs: int = Field(3, ge=1, description="passes over the data; 100 % of it")
    loss: Literal["selfcon", "ce"] = Field("selfcon", description="loss")
    stride: Literal[1, 2, 4] = Field(2, description="first stride, pixels")
    lists: list[str] = Field([], description="annotation lists")
    head: Head = Field(Head(), description="the head")
    codes: dict[str, int] = Field({}, description="free mapping")

    @field_validator("lists")
    @classmethod
    def _texts(cls, lists: list[str]) -> list[str]:
        if not all(name.endswith(".txt") for name in lists):
            raise ValueError("Lists end in .txt")
        return lists


def parse(*arguments: str) -> Job:
    return parse_settings(Job, arguments, "job.py")


def refused(*arguments: str) -> str:
    with pytest.raises(UserError) as caught:
        parse(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def config(tmp_path: Path) -> Callable[[str], str]:
    def write(text: str) -> str:
        (tmp_path / "my.yaml").write_text(text)
        return str(tmp_path / "my.yaml")

    return write


def test_defaults() -> None:
    assert parse("--output", "o") == Job(output="o")


def test_options_of_every_kind() -> None:
    job = parse(
        *("--output", "o", "--epochs", "7", "--loss", "ce", "--stride", "4", "--overwrite"),
        *("--lists", "a.txt", "b.txt", "--head.lr", "1e-3", "--head.sizes", "128", "1"),
        *("--no-verbose", "--wait-s", "2.5", "--cpus", "2"),
    )
    assert (job.epochs, job.loss, job.stride, job.cpus, job.wait_s) == (7, "ce", 4, 2, 2.5)
    assert (job.overwrite, job.verbose) == (True, False)
    assert job.lists == ["a.txt", "b.txt"]
    assert (job.head.lr, job.head.sizes) == (0.001, (128, 1))


def test_options_win_over_the_file(config: Callable[[str], str]) -> None:
    path = config(
        "output: from/file\nepochs: 5\nlists: [a.txt]\nhead:\n  lr: 0.5\n  sizes: [4, 1]\n"
        "codes: {real: 0}\noverwrite: true\n"
    )
    job = parse("--config", path, "--epochs", "9", "--head.lr", "0.25", "--no-overwrite")
    assert job.output == os.path.abspath("from/file")
    assert (job.epochs, job.head.lr, job.head.sizes) == (9, 0.25, (4, 1))
    assert (job.overwrite, job.codes, job.lists) == (False, {"real": 0}, ["a.txt"])


def test_part_named_but_empty_in_the_file(config: Callable[[str], str]) -> None:
    assert parse("--config", config("output: o\nhead:\n"), "--head.lr", "2").head.lr == 2.0


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "output: o\n\nepoch: 5\n",
            ":3: unknown key 'epoch', did you mean 'epochs'? (known: output,",
        ),
        (
            "output: o\nhead:\n  lr: 1\n  rate: 2\n",
            ":4: unknown key 'head.rate' (known: lr, sizes)",
        ),
        ("output: o\nepochs: many\n", ":2: epochs: input should be a valid integer"),
        ("output: o\nepochs: many\n", ", got 'many'"),
        ("output: o\nepochs: 0\n", ":2: epochs: input should be greater than or equal to 1, got 0"),
        ("output: o\nhead:\n  lr: -1\n", ":3: head.lr: input should be greater than 0, got -1"),
        ("output: o\nhead: 3\n", ":2: head: "),
        ("output: o\nloss: mse\n", ":2: loss: input should be 'selfcon' or 'ce', got 'mse'"),
        ("output: o\nlists:\n- a.txt\n- 5\n", ":4: lists.1: input should be a valid string"),
        ("output: o\nlists: [a.csv]\n", ":2: lists: lists end in .txt, got ['a.csv']"),
        ("epochs: 2\n", "output: is missing"),
        ("outptu: o\n", ":1: unknown key 'outptu', did you mean 'output'?"),
        ("output: o\nepochs: x\nloss: y\n", ":2: epochs: "),
        ("output: o\nepochs: x\nloss: y\n", "(and 1 more)"),
        ("output: o\nepochs: 1\noutput: p\n", ":3: key 'output' stands twice"),
        ("output: o\nhead: {lr: 1, lr: 2}\n", ":2: key 'lr' stands twice"),
        ("output: [o\n", "not YAML: "),
        ("output: o\n\tepochs: 3\n", ":2: not YAML: "),
        ("output: 'o\n", "not YAML: "),
        ("output: \x00\n", "not YAML: "),
        ("output: o\ncodes: &x {a: *x}\n", "not YAML: "),
        ("- output\n", "`key: value` lines are wanted"),
        ("just text", "`key: value` lines are wanted"),
        ("output: o\n1: x\n", "`key: value` lines are wanted"),
    ],
)
def test_faults_of_a_file_are_named(config: Callable[[str], str], text: str, reason: str) -> None:
    path = config(text)
    said = refused("--config", path)
    assert said.startswith(path)
    assert reason in said


def test_file_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "latin.yaml"
    path.write_bytes("output: é\n".encode("latin-1"))
    assert refused("--config", str(path)) == f"{path}: not UTF-8 text (byte 8)"


@pytest.mark.parametrize("name", ["absent.yaml", "nope", ".", "~nobody/x", "x" * 5000, ""], ids=len)
def test_missing_file_is_named(name: str) -> None:
    assert refused("--config", name).startswith(f"{name}: no such file")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (
            ["--epoch", "3"],
            "unrecognized arguments: --epoch 3, did you mean --epochs? (see --help)",
        ),  # no abbreviations
        (["--epochs", "x"], "epochs: input should be a valid integer"),
        (["--epochs"], "argument --epochs: expected one argument"),
        (["--stride", "3"], "stride: input should be 1, 2 or 4, got '3'"),
        (["--head.lr", "0"], "head.lr: input should be greater than 0"),
        (["--head.rate", "0"], "unrecognized arguments: --head.rate"),
        (["--lists"], "argument --lists: expected at least one argument"),
        (["--lists", "a.txt", "b"], "lists: lists end in .txt"),
        (["--overwrite=maybe"], "argument --overwrite"),
        (["stray"], "stray: belongs to no option; if the shell made it of a pattern"),
        (["a.jpg", "b.jpg", "--x"], "a.jpg and 1 more: belongs to no option; if the shell made it"),
        (["--codes", "a"], "unrecognized arguments: --codes a"),
    ],
)
def test_faults_of_the_command_line_are_named(arguments: list[str], reason: str) -> None:
    said = refused("--output", "o", *arguments)
    assert said.startswith("job.py: ")
    assert reason in said


def test_missing_option_is_named() -> None:
    assert refused() == "job.py: output: is missing"


def test_wrong_option_beside_a_file_is_not_blamed_on_the_file(config: Callable[[str], str]) -> None:
    path = config("output: o\nhead: {lr: 1}\n")
    assert refused("--config", path, "--head.lr", "-1").startswith("job.py: head.lr: ")
    assert refused("--config", path, "--lists", "a").startswith("job.py: lists: ")


def test_file_and_option_disagree_on_the_kind(config: Callable[[str], str]) -> None:
    path = config("output: o\nhead: 3\n")
    assert refused("--config", path, "--head.lr", "1").startswith(f"{path}:2: head: ")


def test_settings_are_frozen_and_travel() -> None:
    job = parse("--output", "o", "--head.sizes", "1")
    with pytest.raises(ValueError, match="frozen"):
        job.epochs = 4  # type: ignore[misc]
    assert Job.model_validate_json(job.model_dump_json()) == job


def test_help_gives_meaning_and_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse("--help")
    assert caught.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "What the job does." in text
    assert "--output OUTPUT folder or bucket prefix (s3://, gs://, az://) for the results" in text
    assert "--epochs EPOCHS passes over the data; 100 % of it (default: 3)" in text
    assert "--loss selfcon|ce loss (default: selfcon)" in text
    assert "--stride 1|2|4 first stride, pixels (default: 2)" in text
    assert "--head.lr LR learning rate (default: 0.1)" in text
    assert "--overwrite, --no-overwrite replace an output that belongs to another run" in text
    assert "--codes" not in text  # free mappings stand in the file
    switches = [f for f in Job.model_fields.values() if f.default is False]
    assert text.count("(default: False)") == len(switches)  # said once an option


def test_every_job_setting_is_described() -> None:
    assert all(field.description for field in JobSettings.model_fields.values())


def test_parse_yaml_names_file_line_and_key(tmp_path: Path) -> None:
    path = tmp_path / "head.yaml"
    path.write_text("# a head\nlr: fast\n")
    with pytest.raises(UserError, match=r"head\.yaml:2: lr: .* got 'fast'"):
        parse_yaml(path, Head)
    path.write_text("")
    assert parse_yaml(path, Head) == Head()


# --- run_job ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (UserError("no such detector"), 2, "error: no such detector\n"),
        (JobFailed("all images failed"), 1, "error: all images failed\n"),
        (
            PermissionError(13, "Permission denied", "/root/x"),
            2,
            "error: /root/x: permission denied",
        ),
        (OSError(28, "No space left on device", "/full/x"), 1, "/full/x: No space left on device"),
        (OSError("connection lost"), 1, "connection lost"),
        (KeyboardInterrupt(), 130, "interrupted; the same command goes on from here"),
    ],
)
def test_foreseen_errors_are_one_line(
    error: BaseException, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def job(_: Job) -> int:
        raise error

    with pytest.raises(SystemExit) as caught:
        run_job(Job, job, ["--output", "o"])
    assert caught.value.code == code
    shown = capsys.readouterr().err
    assert said in shown
    assert shown.strip().count("\n") == 0


def test_unforeseen_errors_keep_their_traceback() -> None:
    def job(_: Job) -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_job(Job, job, ["--output", "o"])


SCRIPT = """
import sys, time
from pydantic import Field
from rayapp.config.errors import JobFailed
from rayapp.config.settings import EXIT_MISSES, JobSettings
from rayapp.config.command_line import run_job

class Job(JobSettings):
    end: str = Field("done", description="how to end")

def job(settings):
    if settings.end == "failed":
        raise JobFailed("nothing worked")
    if settings.end == "lines":
        for number in range(100_000):
            print(number)
    print("working", flush=True)
    while settings.end == "never":
        time.sleep(0.05)
    return EXIT_MISSES if settings.end == "misses" else None

run_job(Job, job)
"""


@pytest.fixture
def script(tmp_path: Path) -> list[str]:
    (tmp_path / "job.py").write_text(SCRIPT)
    return [sys.executable, str(tmp_path / "job.py")]


def started(script: list[str], *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [*script, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        # A shell's background jobs ignore it, and so would theirs.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def test_exit_codes_of_real_processes(script: list[str]) -> None:
    cases = {
        ("--output", "o"): (0, "working\n", ""),
        ("--output", "o", "--end", "failed"): (1, "", "error: nothing worked\n"),
        ("--output", "o", "--ends", "x"): (2, "", "error: job.py: unrecognized arguments: --ends"),
        ("--output", "o", "--end", "misses"): (3, "working\n", ""),
    }
    running = {arguments: started(script, *arguments) for arguments in cases}
    for arguments, (code, out, err) in cases.items():
        shown_out, shown_err = running[arguments].communicate(timeout=60)
        assert (running[arguments].returncode, shown_out) == (code, out)
        assert shown_err.startswith(err)
        assert shown_err.count("\n") == (1 if err else 0)


def test_ctrl_c_ends_with_130_and_one_line(script: list[str]) -> None:
    process = started(script, "--output", "o", "--end", "never")
    assert process.stdout is not None
    assert process.stdout.readline() == "working\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.strip() == "interrupted; the same command goes on from here"


def test_a_reader_that_leaves_gets_no_traceback(script: list[str]) -> None:
    process = started(script, "--output", "o", "--end", "lines")
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(timeout=60) == 1
    assert process.stderr is not None
    assert process.stderr.read() == ""
    process.stderr.close()


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("--epoch", "--epochs"),
        ("--epcohs=3", "--epochs"),
        ("--head.lrs", "--head.lr"),
        ("--no-overwriet", "--no-overwrite"),
        ("--on_ray", "--on-ray"),
        ("--outp", "--output"),
    ],
)
def test_a_mistyped_option_is_answered_with_the_right_one(typed: str, meant: str) -> None:
    assert f"unrecognized arguments: {typed} 3, did you mean {meant}?" in refused(typed, "3")


def test_what_is_like_nothing_is_not_guessed_at() -> None:
    assert "did you mean" not in refused("--zzz", "3")
    assert "did you mean" not in refused("stray")
    for unrelated in ("--colour", "--reset", "--chops"):
        assert "did you mean" not in refused(unrelated, "3")
