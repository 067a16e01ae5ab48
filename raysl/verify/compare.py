"""One reference case against ours: every value and every gradient within the case's own tolerance."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from raysl.errors import RayslError
from raysl.verify.reference import Case, Values, compute_for

# How far the authors' own float32 run was from their float64 one: a note on the case, not a value of ours.
_NOISE = "max_abs_err_f32"
_VANISHING = 1e-10
_ATOL = {torch.float64: 1e-12, torch.float32: 1e-7}


class Unmapped(RayslError):
    """Nothing of ours computes a case."""


@dataclass(frozen=True)
class Outcome:
    """How a case came out.

    Args:
        case: it.
        dtype: the precision it was computed in.
        values: output roles compared.
        gradients: gradients compared.
        worst: the largest error in units of what is allowed; it passed up to 1.
        failures: what is outside its tolerance, a line each.
    """

    case: Case
    dtype: torch.dtype
    values: int
    gradients: int
    worst: float
    failures: list[str]

    @property
    def passed(self) -> bool:
        """Whether everything was within its tolerance, and something was compared."""
        return not self.failures and self.values > 0


def check(case: Case, dtype: torch.dtype) -> Outcome:
    """Compute a case and compare.

    The stored gradient belongs to the one differentiable output: to the scalar itself, else to
    sum(output * W) with W from -1 to 1 in equal steps. A compute function that answers with the key
    `objective` names that scalar itself.

    Args:
        case: the case.
        dtype: torch.float64 or torch.float32.

    Raises:
        Unmapped: no `COMPUTE` table has an entry for it.
    """
    compute = compute_for(case)
    if compute is None:
        raise Unmapped(f"{case.id}: nothing of ours computes this case; add it to raysl/verify/cases")
    gradients = case.tensors("gradient")
    inputs = inputs_of(case, dtype)
    outputs = compute(case, inputs)
    expected = {role: x for role, x in case.tensors("output").items() if role != _NOISE}
    ratios = {role: _value_error(case, dtype, outputs, role, value) for role, value in expected.items()}
    if gradients:
        objective = _objective(outputs, expected)
        ours = torch.autograd.grad(
            objective, [inputs[name.removeprefix("grad_")] for name in gradients], allow_unused=True
        )
        largest = max(float(theirs.abs().nan_to_num(0.0).max()) for theirs in gradients.values())
        for (name, theirs), mine in zip(gradients.items(), ours, strict=True):
            mine = torch.zeros_like(theirs) if mine is None else mine
            ratios[name] = _gradient_error(case, dtype, mine, theirs, largest)
    failures = [f"{case.id}: {role} is {ratio:.3g} times what is allowed" for role, ratio in ratios.items()
                if not ratio <= 1.0]  # fmt: skip
    return Outcome(case, dtype, len(expected), len(gradients), max(ratios.values(), default=0.0), failures)


def inputs_of(case: Case, dtype: torch.dtype) -> Values:
    """Return a case's inputs in a precision; those that a gradient is stored for require one."""
    wanted = {name.removeprefix("grad_") for name in case.tensors("gradient")}
    return {
        role: x.to(dtype).requires_grad_(role in wanted) if x.is_floating_point() else x
        for role, x in case.tensors("input").items()
    }


def _kind(dtype: torch.dtype) -> str:
    return "float64" if dtype == torch.float64 else "float32"


def _value_error(case: Case, dtype: torch.dtype, outputs: Values, role: str, expected: Tensor) -> float:
    if role not in outputs:
        return float("inf")
    ours, tolerance = outputs[role].detach(), case.tolerance
    if not expected.is_floating_point() or tolerance.get("exact"):
        # Means that the authors took in float32 are not exact, though what they average is.
        if expected.dim() == 0:
            return _ratio(ours, expected, 1e-6, 0.0)
        return 0.0 if torch.equal(ours.to(expected.dtype), expected) else float("inf")
    if "float32_abs" in tolerance:
        given = tolerance["float32_abs"]
        return _ratio(
            ours, expected, tolerance.get("float32_rtol", 0.0), 1e-5 if isinstance(given, str) else given
        )
    rtol = tolerance.get(f"{_kind(dtype)}_value_rtol", 1e-6)
    atol = _ATOL[dtype] if dtype == torch.float64 else tolerance.get("float32_value_atol", _ATOL[dtype])
    if expected.dim() > 0:
        # A float32 matrix is judged as a whole: entries near zero have no relative accuracy.
        atol = max(atol, rtol * float(expected.abs().max())) if dtype == torch.float32 else atol
    return _ratio(ours, expected, rtol, atol)


def _ratio(ours: Tensor, expected: Tensor, rtol: float, atol: float) -> float:
    ours, expected = ours.double(), expected.double()
    if ours.shape != expected.shape:
        return float("inf")
    both_nan = ours.isnan() & expected.isnan()
    ratio = (ours - expected).abs() / (atol + rtol * expected.abs())
    worst = torch.where(both_nan, 0.0, ratio).amax() if ratio.numel() else torch.zeros(())
    return float("inf") if worst.isnan() else float(worst)


def _objective(outputs: Values, expected: Values) -> Tensor:
    if "objective" in outputs:
        return outputs["objective"]
    for role in ("loss", "dcor"):
        if role in expected:
            return outputs[role]
    (role,) = expected
    weights = torch.linspace(-1, 1, outputs[role].numel(), dtype=torch.float64).to(outputs[role].dtype)
    return (outputs[role] * weights.view_as(outputs[role])).sum()


def _gradient_error(case: Case, dtype: torch.dtype, ours: Tensor, theirs: Tensor, largest: float) -> float:
    allowed = case.tolerance.get(f"{_kind(dtype)}_grad_rel_to_max", 1e-3 if dtype == torch.float32 else 1e-7)
    ours, theirs = ours.double(), theirs.double()
    if theirs.isnan().all():
        return 0.0 if ours.isnan().all() else float("inf")
    size = float(theirs.abs().max())
    if size < _VANISHING:
        # Zero but for rounding: judged absolutely, in float32 against the largest gradient of the case.
        size = _VANISHING / allowed if dtype == torch.float64 else max(largest, _VANISHING)
    error = (ours - theirs).abs().max() / size
    return float("inf") if error.isnan() else float(error / allowed)
