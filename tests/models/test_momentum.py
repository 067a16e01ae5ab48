from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from raysl.models.momentum import MomentumTeacher


def _student(dtype: torch.dtype = torch.float64) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)).to(dtype)


def _perturb(module: nn.Module) -> None:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter))


def _mean(module: nn.Module) -> Tensor:
    """The running mean of a student's or a teacher's batch normalisation."""
    return next(x for name, x in module.named_buffers() if name.endswith("running_mean")).clone()


def _parameters(module: nn.Module) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in module.parameters()]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("momentum", [0.0, 0.3, 0.996, 1.0])
def test_update_is_the_moving_average_in_the_parameters_dtype(dtype: torch.dtype, momentum: float) -> None:
    student = _student(dtype)
    teacher = MomentumTeacher(student)
    _perturb(student)
    before, after = _parameters(teacher), _parameters(student)
    teacher.update(momentum)
    tolerance = 4 * torch.finfo(dtype).eps
    for ours, t, s in zip(_parameters(teacher), before, after, strict=True):
        assert ours.dtype == dtype
        expected = momentum * t.double() + (1 - momentum) * s.double()
        torch.testing.assert_close(ours.double(), expected, rtol=tolerance, atol=tolerance)
        if momentum in (0.0, 1.0):
            assert torch.equal(ours, s if momentum == 0.0 else t)
    assert all(torch.equal(now, then) for now, then in zip(_parameters(student), after, strict=True))


def test_update_is_in_place() -> None:
    student = _student()
    teacher = MomentumTeacher(student)
    places = [parameter.data_ptr() for parameter in teacher.parameters()]
    _perturb(student)
    teacher.update(0.5)
    assert places == [parameter.data_ptr() for parameter in teacher.parameters()]


def test_batch_statistics_are_the_teachers_own() -> None:
    student = _student()
    student(torch.randn(16, 3, dtype=torch.float64))
    teacher = MomentumTeacher(student.eval())
    assert torch.equal(_mean(teacher), _mean(student))
    student.train()(torch.randn(16, 3, dtype=torch.float64) + 5)
    teacher.update(0.0)
    assert not torch.allclose(_mean(teacher), _mean(student))
    # It is in training mode although its student was not when it was made: its batches move its statistics.
    tracked = _mean(teacher)
    teacher(torch.randn(16, 3, dtype=torch.float64))
    assert not torch.equal(_mean(teacher), tracked)


def test_nothing_of_it_is_trained() -> None:
    student = _student()
    teacher = MomentumTeacher(student)
    output = teacher(torch.randn(4, 3, dtype=torch.float64, requires_grad=True))
    assert not output.requires_grad
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert all(parameter.requires_grad for parameter in student.parameters())
    assert all(name.startswith("network.") for name in teacher.state_dict())
    assert len(teacher.state_dict()) == len(student.state_dict())


def test_a_copied_method_follows_its_own_student() -> None:
    student = _student()
    method = nn.ModuleDict({"student": student, "teacher": MomentumTeacher(student)})
    twin = copy.deepcopy(method)
    _perturb(twin["student"])
    copied = twin["teacher"]
    assert isinstance(copied, MomentumTeacher)
    copied.update(0.0)
    for ours, theirs in zip(_parameters(copied), _parameters(twin["student"]), strict=True):
        assert torch.equal(ours, theirs)


def test_it_moves_with_its_method() -> None:
    student = _student(torch.float32)
    method = nn.ModuleDict({"student": student, "teacher": MomentumTeacher(student)}).double()
    teacher = method["teacher"]
    assert isinstance(teacher, MomentumTeacher)
    _perturb(student)
    teacher.update(0.9)
    assert {parameter.dtype for parameter in teacher.parameters()} == {torch.float64}


@pytest.mark.parametrize("momentum", [-0.1, 1.1, float("nan")])
def test_momentum_outside_the_unit_interval_is_refused(momentum: float) -> None:
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\]"):
        MomentumTeacher(_student()).update(momentum)


def test_a_student_that_changed_is_refused() -> None:
    student = _student()
    teacher = MomentumTeacher(student)
    student.append(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="now has 8 parameters, its teacher 6"):
        teacher.update(0.9)
