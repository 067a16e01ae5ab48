"""Losses: ours against the authors' formulation written as loops, forward and backward.

    python -m benchmarks.losses [NAME ...] [--device cpu|cuda] [--rounds 15]

On a CPU one thread computes. The two are timed in turn, round by round, so that what else the machine does
falls on both; figures are medians, and the ratio is the median of the rounds' ratios. NAME picks the cases
whose name contains it. The exit code is 1 when a required ratio is missed.
"""

from __future__ import annotations

import argparse
import importlib
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.loss_case import Forward, LossCase

_MODULES = ("losses_whitening", "losses_mec", "losses_intl", "losses_mv_mr")
_HEADER = ("loss", "loops ms", "ours ms", "ratio", "required", "aim", "memory ratio", "required", "")


def cases() -> list[LossCase]:
    """Return every case of every `benchmarks/losses_*.py`."""
    found: list[LossCase] = []
    for name in _MODULES:
        found += importlib.import_module(f"benchmarks.{name}").CASES
    return found


def main() -> int:
    """Time the chosen cases and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="parts of the names of the cases to run; all by default")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    torch.set_num_threads(1)
    device = torch.device(args.device)
    chosen = [case for case in cases() if not args.names or any(part in case.name for part in args.names)]
    missed = False
    print("| " + " | ".join(_HEADER) + " |")
    print("| " + " | ".join(["---"] * len(_HEADER)) + " |")
    for case in chosen:
        row, met = measure(case, device, args.rounds)
        missed |= not met
        print("| " + " | ".join(row) + " |", flush=True)
    return int(missed)


def measure(case: LossCase, device: torch.device, rounds: int) -> tuple[list[str], bool]:
    """Time one case; return its row of the table and whether what it requires was met."""
    ours, loops = case.make(device)
    difference = _difference(ours, loops)
    times = [(_seconds(loops, device), _seconds(ours, device)) for _ in range(rounds + 2)][2:]
    ratio = statistics.median(slow / fast for slow, fast in times)
    memory = _peak(case, device, 1) / max(1, _peak(case, device, 0)) if case.memory is not None else None
    met = (case.required is None or ratio >= case.required) and (
        memory is None or case.memory is None or memory >= case.memory
    )
    slow, fast = (1e3 * statistics.median(column) for column in zip(*times, strict=True))
    status = "met" if met else "missed"
    if difference > 1e-3:
        met, status = False, f"the two losses differ by {difference:.2g}"
    row = [case.name, f"{slow:.1f}", f"{fast:.1f}", f"{ratio:.2f}", _shown(case.required), _shown(case.aim)]
    return [*row, _shown(memory), _shown(case.memory), status], met


def _shown(number: float | None) -> str:
    return "" if number is None else f"{number:.3g}"


def _difference(ours: Forward, loops: Forward) -> float:
    """Return how far apart the two losses are, relative: a faster wrong loss is no gain."""
    mine, theirs = float(ours().detach()), float(loops().detach())
    return abs(mine - theirs) / max(abs(theirs), 1e-12)


def _seconds(forward: Forward, device: torch.device) -> float:
    _wait(device)
    began = time.perf_counter()
    forward().backward()  # type: ignore[no-untyped-call]
    _wait(device)
    return time.perf_counter() - began


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _peak(case: LossCase, device: torch.device, which: int) -> int:
    """Return the bytes that one forward and backward adds at its peak: 0 measures ours, 1 the loops."""
    if device.type == "cuda":
        return _peak_on_gpu(case.make(device)[which], device)
    # A fresh process, so that nothing cached by an earlier case is counted for less.
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak_here, (case.name, which))


def _peak_on_gpu(forward: Forward, device: torch.device) -> int:
    forward().backward()  # type: ignore[no-untyped-call]
    _wait(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    forward().backward()  # type: ignore[no-untyped-call]
    _wait(device)
    return torch.cuda.max_memory_allocated(device) - before


def _peak_here(name: str, which: int) -> int:
    torch.set_num_threads(1)
    (case,) = (case for case in cases() if case.name == name)
    forward = case.make(torch.device("cpu"))[which]
    # Linux: writing 5 sets the high-water mark back to what is resident now.
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = _resident("VmHWM")
    forward().backward()  # type: ignore[no-untyped-call]
    return _resident("VmHWM") - before


def _resident(field: str) -> int:
    read: Callable[[str], str] = Path("/proc/self/status").read_text
    (line,) = (line for line in read("ascii").splitlines() if line.startswith(field))
    return 1024 * int(line.split()[1])


if __name__ == "__main__":
    sys.exit(main())
