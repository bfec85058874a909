"""The command line from typed settings: ours beside four libraries, by what our users need.

Each library gets the settings of `train` (the largest: 78 options, some in groups) in the way
that its documentation shows, in a process of its own. Looked at: how long `--help` takes, as a
ratio to `python -c "import torch"` in the same run, the memory of it, its lines; and whether what a
user meets is there: one line that names a wrong value, the line of a file, the right name of a
mistyped option, an option's old name. A library that is not installed is left out, and said.

Command: python benchmarks/command_line.py [--quick]
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]

_CONFIG = """
import sys, yaml
from rayapp.train.settings import TrainSettings as S
argv, given = sys.argv[1:], {}
if "--config" in argv:
    at = argv.index("--config")
    given = yaml.safe_load(open(argv[at + 1]))
    del argv[at : at + 2]
"""
_ADAPTERS = {
    "ours": """
import sys
from rayapp.train.settings import TrainSettings as S
from rayapp.config.command_line import run_job
sys.argv[0] = "train"
run_job(S, lambda s: print(s.model_dump_json()))
""",
    "pydantic-settings": """
import sys
from pydantic_settings import BaseSettings, SettingsConfigDict, YamlConfigSettingsSource
from rayapp.train.settings import TrainSettings
argv, file = sys.argv[1:], None
if "--config" in argv:
    at = argv.index("--config")
    file = argv[at + 1]
    del argv[at : at + 2]
class S(TrainSettings, BaseSettings):
    model_config = SettingsConfigDict(
        yaml_file=file, cli_parse_args=argv, cli_kebab_case=True, cli_prog_name="train"
    )
    @classmethod
    def settings_customise_sources(cls, settings_cls, **_):
        return (YamlConfigSettingsSource(settings_cls),)
print(S().model_dump_json())
""",
    "tyro": _CONFIG
    + """
import tyro
default = tyro.MISSING if not given else S.model_validate(given)
print(tyro.cli(S, args=argv, default=default, prog="train").model_dump_json())
""",
    "cyclopts": """
import sys
from pathlib import Path
from typing import Annotated
import cyclopts
from rayapp.train.settings import TrainSettings as S
argv, config = sys.argv[1:], ()
if "--config" in argv:
    at = argv.index("--config")
    config = (cyclopts.config.Yaml(argv[at + 1]),)
    del argv[at : at + 2]
app = cyclopts.App(name="train", config=config)
@app.default
def run(settings: Annotated[S, cyclopts.Parameter(name="*", consume_multiple=True)]) -> None:
    print(settings.model_dump_json())
app(argv)
""",
    "jsonargparse": """
import json, sys
from jsonargparse import ArgumentParser
from rayapp.train.settings import TrainSettings
parser = ArgumentParser(prog="train")
parser.add_argument("--config", action="config")
parser.add_class_arguments(TrainSettings)
argv = [a.replace("-", "_").replace("__", "--", 1) if a[:2] == "--" else a for a in sys.argv[1:]]
print(json.dumps(parser.instantiate(parser.parse_args(argv)).as_dict(), default=str))
""",
}
_PACKAGES = {name: name.replace("-", "_") for name in _ADAPTERS if name != "ours"}

_STAGE = "{perturbation: demo-train, epochs: 1, batch_size: 16, learning_rate: 0.1}"
_FILE = f"""output: out
annotations: [a.txt]
root: images
architecture: {{backbone: resnet18.fb_swsl_ig1b_ft_in1k}}
stage1: {_STAGE}
stage2: {_STAGE}
temperature: 0.5
"""


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str
    seconds: float
    megabytes: float


def run(script: str, *arguments: str) -> Ended:
    """One command in a process of its own."""
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-c", f"{script}\n", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    out, err = process.communicate()
    seconds = time.perf_counter() - started
    return Ended(process.returncode, out, err, seconds, 0.0)


def peak_mb(script: str, *arguments: str) -> float:
    """The most memory of one command."""
    code = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], capture_output=True); "
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e3)"
    )
    command = [sys.executable, "-c", code, sys.executable, "-c", script, *arguments]
    return float(subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout)


def one_line(ended: Ended, *words: str) -> bool:
    """Whether it ended as wrong use, in one line that has all the words."""
    lines = (ended.err or ended.out).strip().splitlines()
    said = " ".join(lines)
    return ended.code == 2 and len(lines) == 1 and all(re.search(word, said) for word in words)


def names(ended: Ended) -> bool:
    """Whether it ended as wrong use and names the option that was meant, in however many lines."""
    text = ended.err + ended.out
    return bool(ended.code and re.search(r"(?is)(mean|similar|perhaps).{0,200}num.workers", text))


def needs(script: str, folder: Path) -> dict[str, bool]:
    """Which of our needs a command line meets."""
    good, bad, old = folder / "good.yaml", folder / "bad.yaml", folder / "old.yaml"
    good.write_text(_FILE)
    bad.write_text(_FILE.replace("temperature: 0.5", "temperature: warm"))
    old.write_text(_FILE + "gpu: true\n")

    def with_file(*arguments: str, file: Path = good) -> Ended:
        return run(script, "--config", str(file), *arguments)

    def value(ended: Ended, name: str) -> object:
        return json.loads(ended.out).get(name) if not ended.code else None

    shown = run(script, "--help").out
    checks: dict[str, Callable[[], bool]] = {
        "an option wins over the file": lambda: (
            value(with_file("--temperature", "0.7"), "temperature") == 0.7
        ),
        "a partial file and options": lambda: (
            run(script, "--config", str(part(folder)), "--output", "o", "--root", "r").code == 0
        ),
        "several values: --annotations a b": lambda: (
            len(list(value(with_file("--annotations", "a.txt", "b.txt"), "annotations") or [])) == 2  # type: ignore[call-overload]
        ),
        "a group: --stage1.learning-rate": lambda: (
            with_file("--stage1.learning-rate", "0.2").code == 0
        ),
        "a wrong value: one line, field, what it takes": lambda: one_line(
            with_file("--num-workers", "many"), "num.workers", "integer|int", "many"
        ),
        "a wrong value in the file: its line": lambda: one_line(
            with_file(file=bad), r"bad\.yaml:7", "temperature", "number|float"
        ),
        "a mistyped option: the right one": lambda: names(with_file("--num-wrokers", "2")),
        "an old option, with one line": lambda: (
            (ended := with_file("--gpu")).code == 0 and ended.err.count("\n") == 1
        ),
        "an old key, with one line": lambda: (
            (ended := with_file(file=old)).code == 0 and ended.err.count("\n") == 1
        ),
        "help: an option in at most three lines, with default": lambda: bool(
            re.search(r"--temperature [^\n]*(\n[^-\n]*){0,2}default: 0\.07", shown)
        ),
        "help: free mappings are in files only": lambda: "architecture.options" not in shown,
    }
    found = {}
    for name, check in checks.items():
        try:
            found[name] = check()
        except Exception:  # noqa: BLE001 - no answer is none
            found[name] = False
    return found


def part(folder: Path) -> Path:
    """A recipe: what its user adds is on the command line."""
    path = folder / "part.yaml"
    path.write_text("\n".join(_FILE.split("\n")[1:2] + _FILE.split("\n")[3:]))
    return path


def main() -> None:
    """Print the table, and the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="each once")
    times = 1 if parser.parse_args().quick else 5
    torch_s = statistics.median(run("import torch").seconds for _ in range(times))
    figures: dict[str, dict[str, float | bool]] = {}
    for name, script in _ADAPTERS.items():
        if name in _PACKAGES and run(f"import {_PACKAGES[name]}").code:
            print(f"{name}: not installed, left out")
            continue
        seconds = statistics.median(run(script, "--help").seconds for _ in range(times))
        figures[name] = {
            "help_ratio": round(seconds / torch_s, 3),
            "help_mb": round(peak_mb(script, "--help"), 1),
            "help_lines": run(script, "--help").out.count("\n"),
        }
        with tempfile.TemporaryDirectory() as folder:
            figures[name] |= needs(script, Path(folder))
    width = max(map(len, next(iter(figures.values()))))
    print(f"{'':<{width}}  " + "  ".join(f"{name:>17}" for name in figures))
    for key in next(iter(figures.values())):
        cells = [figures[name][key] for name in figures]
        texts = [("yes" if c else "no") if isinstance(c, bool) else f"{c:g}" for c in cells]
        print(f"{key:<{width}}  " + "  ".join(f"{text:>17}" for text in texts))
    print(json.dumps({"import_torch_s": round(torch_s, 2), **figures}))


if __name__ == "__main__":
    main()
