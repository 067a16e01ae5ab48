"""The certificate of a method: equal to its authors' code, to any number of workers, and in bf16.

Three questions, each answered with the largest error and what is allowed:

- reference: every stored case of the method, value and gradient, in float64 and in float32;
- workers: the method's digits recipe on several workers against one (see `raysl.verify.workers`);
- precision: the same recipe under bf16 autocast against float32 (see `raysl.verify.precision`).
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata, resources
from pathlib import Path
from typing import Any

import torch

from raysl import __version__, methods
from raysl.config import nearest
from raysl.errors import InputError
from raysl.train.config import RunConfig
from raysl.verify.compare import Outcome, Unmapped, check
from raysl.verify.precision import LEAST_COSINE, compare_precisions
from raysl.verify.reference import Case, covered_by, load_cases
from raysl.verify.sample import run_of, sample_config
from raysl.verify.workers import STEPS, TOLERANCE, Backend, Difference, compare_workers, one_line

_ALL = "all"
_VECTORS = "raysl.verify.vectors"


@dataclass(frozen=True)
class Check:
    """One line of a certificate.

    Args:
        kind: reference, workers or precision.
        what: what was compared.
        passed: whether it is within what is allowed.
        errors: the largest errors by name; those of references in units of what each case allows.
        allowed: what is allowed of them.
        detail: where it is worst, or what went wrong.
    """

    kind: str
    what: str
    passed: bool
    errors: dict[str, float]
    allowed: str
    detail: str = ""


@dataclass(frozen=True)
class Certificate:
    """What was found of one method.

    Args:
        method: its name, or where a method of one's own is.
        checks: what was compared.
        notes: what was not, and why.
    """

    method: str
    checks: tuple[Check, ...]
    notes: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether nothing failed."""
        return all(check.passed for check in self.checks)


@dataclass(frozen=True)
class Verification:
    """Certificates of some methods and where they were made.

    Args:
        certificates: one for each method.
        environment: versions and hardware.
        notes: what could not be run here.
    """

    certificates: tuple[Certificate, ...]
    environment: dict[str, str]
    notes: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether every method passed."""
        return all(certificate.passed for certificate in self.certificates)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        made = [asdict(one) | {"passed": one.passed} for one in self.certificates]
        return {
            "passed": self.passed,
            "environment": self.environment,
            "notes": self.notes,
            "certificates": made,
        }

    def to_text(self) -> str:
        """Return the certificates for people."""
        lines = [", ".join(f"{name} {value}" for name, value in self.environment.items())]
        for one in self.certificates:
            lines += ["", f"{one.method}: {_word(one.passed)}"]
            for found in one.checks:
                errors = ", ".join(f"{name} {value:.3g}" for name, value in found.errors.items())
                parts = [found.what, errors and f"{errors} ({found.allowed})", found.detail]
                lines.append(f"  {_word(found.passed)}  {found.kind:<9}  {': '.join(filter(None, parts))}")
            lines += [f"        {note}" for note in one.notes]
        failed = [one.method for one in self.certificates if not one.passed]
        lines += [
            "",
            *self.notes,
            f"failed: {', '.join(failed)}" if failed else f"all {len(self.certificates)} passed",
        ]
        return "\n".join(lines)


def verify(
    names: Sequence[str],
    *,
    overrides: Sequence[str] = (),
    workers: Sequence[int] = (1, 2, 4),
    vectors: Path | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Verification:
    """Verify methods.

    Args:
        names: methods by name, `all` of the installed ones, or one's own as `./my_loss.py:MyMethod`.
        overrides: `key=value` strings for the run that is compared across workers and precisions.
        workers: numbers of workers; each is compared with one.
        vectors: directory of reference vectors; those that ship with raysl when not given.
        say: told what is being done.

    Raises:
        InputError: no such method, overrides it cannot take, workers that do not divide the batch, or no
            vectors.
    """
    wanted = _wanted(names)
    configs = {name: sample_config(name, overrides) for name in wanted}
    for name, config in configs.items():
        _require_division(name, config.train.batch_size, workers)
    cases = load_cases(vectors or shipped())
    checks: dict[str, list[Check]] = {name: [] for name in wanted}
    notes = {name: [f"run: {run_of(name, config)}"] for name, config in configs.items()}
    for name in wanted:
        say(f"{name}: stored vectors")
        checks[name] += _references(covered_by(name, cases))
        if not checks[name]:
            notes[name].append("reference: no stored vectors")
    gpus = torch.cuda.device_count()
    _add_workers(checks, configs, workers, "gloo", say)
    if gpus >= 2:
        _add_workers(checks, configs, [size for size in workers if size <= gpus], "nccl", say)
    devices = [torch.device("cpu"), *([torch.device("cuda")] if gpus else [])]
    for name, config in configs.items():
        say(f"{name}: bf16")
        checks[name] += [_precision(config, device) for device in devices]
    certificates = tuple(Certificate(name, tuple(checks[name]), tuple(notes[name])) for name in wanted)
    missing = [] if gpus >= 2 else [f"GPU: {'one, workers over nccl' if gpus else 'not present,'} not run"]
    return Verification(certificates, _environment(), tuple(missing))


def _word(passed: bool) -> str:
    return "PASS" if passed else "FAIL"


def _wanted(names: Sequence[str]) -> list[str]:
    known = methods.method_names()
    for name in names:
        if name != _ALL:
            methods.config_class(name)
    if not names:
        raise InputError(f"no method given; {nearest('', [*known, _ALL])}")
    return list(dict.fromkeys(name for given in names for name in (known if given == _ALL else [given])))


def _require_division(name: str, batch_size: int, workers: Sequence[int]) -> None:
    for size in workers:
        if size < 1 or batch_size % size:
            raise InputError(
                f"--workers {size}: {name} is verified with a batch of {batch_size}, which does not divide "
                "among them; use other numbers, or another train.batch_size"
            )


def shipped() -> Path:
    """Return the directory of the reference vectors that ship with raysl."""
    return Path(str(resources.files(_VECTORS)))


def _references(cases: Sequence[Case]) -> list[Check]:
    if not cases:
        return []
    return [_reference(cases, dtype) for dtype in (torch.float64, torch.float32)]


def _reference(cases: Sequence[Case], dtype: torch.dtype) -> Check:
    outcomes: list[Outcome] = []
    unmapped: list[str] = []
    for case in cases:
        try:
            outcomes.append(check(case, dtype))
        except Unmapped as error:
            unmapped.append(str(error))
    values, gradients = sum(one.values for one in outcomes), sum(one.gradients for one in outcomes)
    counts = {"stored case": len(cases), "value": values, "gradient": gradients}
    what = ", ".join(f"{count} {noun}{'s' * (count != 1)}" for noun, count in counts.items())
    failures = [*unmapped, *(line for one in outcomes for line in one.failures or _empty(one))]
    worst = max((one.worst for one in outcomes), default=0.0)
    return Check(
        "reference",
        f"{what}, {str(dtype)[6:]}",
        not failures,
        {"worst": worst},
        "1 is what each case allows",
        "; ".join(failures),
    )


def _empty(outcome: Outcome) -> list[str]:
    return [] if outcome.passed else [f"{outcome.case.id}: nothing to compare"]


def _add_workers(
    checks: dict[str, list[Check]],
    configs: Mapping[str, RunConfig],
    workers: Sequence[int],
    backend: Backend,
    say: Callable[[str], None],
) -> None:
    if any(size > 1 for size in workers):
        say(f"{', '.join(map(str, workers))} workers over {backend}: {', '.join(configs)}")
    for name, differences in compare_workers(configs, workers, backend).items():
        checks[name] += [_workers(found, backend) for found in differences]


def _workers(found: Difference, backend: Backend) -> Check:
    what = f"{found.workers} against 1 over {backend}, {found.precision}"
    allowed = f"allowed {TOLERANCE[found.precision]:.0e}"
    if found.error is not None:
        return Check("workers", what, False, {}, allowed, found.error)
    errors = {"loss": found.loss, "gradients": found.gradients}
    if found.state is not None:
        errors[f"state after {STEPS} steps"] = found.state
    detail = "" if found.passed else f"worst in {found.where or 'the loss'}"
    return Check("workers", what, found.passed, errors, allowed, detail)


def _precision(config: RunConfig, device: torch.device) -> Check:
    what = f"bf16 against float32 on {device.type}"
    try:
        found = compare_precisions(config, device)
    except Exception as error:
        return Check("precision", what, False, {}, "", one_line(error))
    allowed = f"allowed {found.tolerance:g}, at least {LEAST_COSINE:g}"
    errors = {"loss": found.loss, "gradient cosine": found.cosine}
    return Check("precision", what, found.passed, errors, allowed)


def _environment() -> dict[str, str]:
    gpus = [torch.cuda.get_device_name(place) for place in range(torch.cuda.device_count())]
    return {
        "raysl": __version__,
        "torch": torch.__version__,
        "numpy": metadata.version("numpy"),
        "Python": platform.python_version(),
        "on": f"{platform.system()} {platform.machine()}",
        "GPU": ", ".join(gpus) or "not present",
    }
