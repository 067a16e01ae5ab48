"""`raysl` answers at once: nothing heavy is imported before it is needed."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

HEAVY = ("torch", "torchvision", "ray", "optuna", "sklearn", "scipy", "matplotlib", "pyarrow", "tensorboard")


def modules_after(program: str) -> set[str]:
    program = f"import sys\n{program}\nsys.stderr.write(' '.join(sys.modules))"
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in told.stderr.split()}


@pytest.mark.parametrize(
    "program",
    [
        "import raysl, raysl.errors, raysl.config",
        "from raysl.cli.main import build_parser; build_parser().print_help()",
        "from raysl.cli.main import main; main(['config', 'list'])",
    ],
)
def test_no_heavy_import(program: str) -> None:
    assert not modules_after(program) & set(HEAVY)


def test_help_takes_well_under_a_second_of_processor_time() -> None:
    """Processor time, because the machine of a test may be busy; wall time is in docs/BENCHMARKS.md."""
    import resource

    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.monotonic()
    told = subprocess.run(
        [sys.executable, "-m", "raysl", "--help"], capture_output=True, text=True, check=True
    )
    wall = time.monotonic() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"\nraysl --help: {used:.2f} s of processor, {wall:.2f} s of wall time")
    assert used < 1.0
    assert told.stdout.startswith("usage: raysl ")
    for part in (
        "exit codes: 0 done",
        "1 failure",
        "2 bad input",
        "3 collapsed or diverged",
        "75 interrupted",
    ):
        assert part in told.stdout


@pytest.mark.parametrize(
    "command",
    ["quickstart", "sweep", "pretrain", "evaluate", "compare", "verify", "ls", "show", "data", "config"],
)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    from raysl.cli.main import main

    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    assert f"usage: raysl {command}" in capsys.readouterr().out
