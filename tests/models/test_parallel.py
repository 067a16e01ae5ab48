"""Collectives and synchronised normalisation over gloo, against one process with the whole batch."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from copy import deepcopy
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.multiprocessing.spawn import start_processes
from torch.nn.parallel import DistributedDataParallel

from raysl.losses.contrastive import nt_xent_loss
from raysl.losses.matrix_ssl import matrix_ssl_loss
from raysl.models.momentum import MomentumTeacher
from raysl.models.parallel import (
    SynchronisedBatchNorm,
    all_reduce,
    gather,
    rank,
    synchronise_batch_norm,
    world_size,
)

ROWS = 8
"""Of the global batch."""


def _randn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def _mine(x: Tensor) -> Tensor:
    """This worker's rows of a global tensor, as a leaf."""
    return x.detach().chunk(world_size())[rank()].clone().requires_grad_()


def _close(ours: Tensor | None, expected: Tensor | None, tolerance: float) -> None:
    assert ours is not None
    assert expected is not None
    error = (ours.detach() - expected.detach()).abs().max() / expected.abs().max()
    assert error <= tolerance, f"relative error {error:.2e} above {tolerance:.0e}"


def check_gather() -> None:
    x = _randn(ROWS, 3).requires_grad_()
    expected = (x.T @ x).sin().sum()
    torch.autograd.backward(expected)
    mine = _mine(x)
    joined = gather(mine.T.contiguous().T)
    assert torch.equal(joined, x)
    torch.autograd.backward((joined.T @ joined).sin().sum())
    _close(mine.grad, world_size() * _mine(x.grad if x.grad is not None else x), 1e-12)
    assert torch.equal(gather(torch.tensor([rank()])), torch.arange(world_size()))


def check_all_reduce() -> None:
    x = _randn(ROWS, 3).requires_grad_()
    torch.autograd.backward(x.sum(0).sin().sum())
    mine = _mine(x)
    total = all_reduce(mine.sum(0))
    _close(total, x.sum(0), 1e-12)
    torch.autograd.backward(total.sin().sum())
    _close(mine.grad, world_size() * _mine(x.grad if x.grad is not None else x), 1e-12)


def check_batch_norm() -> None:
    kinds: list[tuple[nn.Module, tuple[int, ...]]] = [
        (nn.BatchNorm1d(5), (ROWS, 5)),
        (nn.BatchNorm1d(5, affine=False, momentum=None), (ROWS, 5, 3)),
        (nn.BatchNorm2d(5, momentum=0.3), (ROWS, 5, 4, 3)),
        (nn.BatchNorm2d(5, track_running_stats=False), (ROWS, 5, 4, 3)),
    ]
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        for norm, shape in kinds:
            _compare_batch_norm(nn.Sequential(norm).to(dtype), shape, dtype, tolerance)


def _compare_batch_norm(
    reference: nn.Sequential, shape: tuple[int, ...], dtype: torch.dtype, tolerance: float
) -> None:
    for seed, parameter in enumerate(reference.parameters()):
        parameter.data = _randn(*parameter.shape, seed=seed, dtype=dtype)
    synchronised = synchronise_batch_norm(deepcopy(reference))
    weights = _randn(*shape, seed=9, dtype=dtype)
    for step in range(2):
        # Far from the origin, where sums of squares would cancel.
        x = (_randn(*shape, seed=10 + step, dtype=dtype) * (1 + step) + 20).requires_grad_()
        expected = reference(x)
        ours = gather(synchronised(mine := _mine(x)))
        _close(ours, expected, tolerance)
        reference.zero_grad()
        synchronised.zero_grad()
        torch.autograd.backward((expected.sin() * weights).sum())
        torch.autograd.backward((ours.sin() * weights).sum())
        assert x.grad is not None
        _close(mine.grad, world_size() * _mine(x.grad), 10 * tolerance)
        for p, q in zip(synchronised.parameters(), reference.parameters(), strict=True):
            assert p.grad is not None
            _close(all_reduce(p.grad) / world_size(), q.grad, 10 * tolerance)
    for b, c in zip(synchronised.buffers(), reference.buffers(), strict=True):
        _close(b.double(), c.double(), tolerance)
    x = _randn(*shape, seed=20, dtype=dtype)
    if isinstance(reference[0], nn.BatchNorm1d):
        _close(synchronised.eval()(x), reference.eval()(x), tolerance)


def check_batch_norm_of_unequal_batches() -> None:
    sizes = [2 + 3 * worker for worker in range(world_size())]
    x = _randn(sum(sizes), 5)
    mine = slice(sum(sizes[: rank()]), sum(sizes[: rank() + 1]))
    norm = synchronise_batch_norm(nn.Sequential(nn.BatchNorm1d(5)).double())
    _close(norm(x[mine]), nn.BatchNorm1d(5).double()(x)[mine], 1e-12)


def check_batch_norm_in_bfloat16() -> None:
    x = _randn(ROWS, 5, 4, 4, dtype=torch.bfloat16)
    reference = nn.Sequential(nn.BatchNorm2d(5))
    norm = synchronise_batch_norm(deepcopy(reference))
    mine, whole = _mine(x), x.clone().requires_grad_()
    ours, expected = norm(mine), reference(whole)
    assert ours.dtype == torch.bfloat16
    _close(ours, _mine(expected), 1e-2)
    torch.autograd.backward(ours.float().sin().sum())
    torch.autograd.backward(expected.float().sin().sum())
    assert mine.grad is not None
    assert whole.grad is not None
    assert mine.grad.dtype == torch.bfloat16
    _close(mine.grad.float(), _mine(whole.grad).float(), 3e-2)


def check_conversion_keeps_parameters_and_buffers() -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.Sequential(nn.BatchNorm1d(4), nn.BatchNorm1d(4, affine=False)))
    tensors = {name: id(x) for name, x in module.state_dict(keep_vars=True).items()}
    converted = synchronise_batch_norm(module.eval())
    assert {name: id(x) for name, x in converted.state_dict(keep_vars=True).items()} == tensors
    norms = [layer for layer in converted.modules() if isinstance(layer, SynchronisedBatchNorm)]
    assert len(norms) == 2
    assert not any(norm.training for norm in norms)
    assert isinstance(synchronise_batch_norm(nn.BatchNorm1d(3)), SynchronisedBatchNorm)


def check_unequal_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="equally many rows on every worker, got"):
        gather(torch.zeros(3 + rank(), 2))


def check_whole_methods_under_ddp() -> None:
    images = [_randn(ROWS, 1, 6, 6, seed=seed) for seed in (1, 2)]
    torch.manual_seed(0)
    student = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5), nn.BatchNorm1d(5)
    ).double()

    def loss(network: nn.Module, teacher: nn.Module, views: list[Tensor]) -> Tensor:
        z = [gather(network(view)) for view in views]
        p = [gather(teacher(view)) for view in views]
        return nt_xent_loss(z) + matrix_ssl_loss(p, z).total

    reference = deepcopy(student)
    z = [reference(view) for view in images]
    expected = nt_xent_loss(z) + matrix_ssl_loss([MomentumTeacher(reference)(v) for v in images], z).total
    torch.autograd.backward(expected)

    teacher = synchronise_batch_norm(MomentumTeacher(student))
    parallel = DistributedDataParallel(synchronise_batch_norm(student))
    value = loss(parallel, teacher, [_mine(view).detach() for view in images])
    torch.autograd.backward(value)
    _close(value, expected, 1e-12)
    for p, q in zip(student.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-10, atol=1e-10)


CHECKS: list[Callable[[], None]] = [
    check_gather,
    check_all_reduce,
    check_batch_norm,
    check_batch_norm_of_unequal_batches,
    check_batch_norm_in_bfloat16,
    check_conversion_keeps_parameters_and_buffers,
    check_unequal_rows_are_refused,
    check_whole_methods_under_ddp,
]


def _worker(index: int, workers: int, rendezvous: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=rendezvous, rank=index, world_size=workers, timeout=timedelta(seconds=35)
    )
    assert (rank(), world_size()) == (index, workers)
    for check in CHECKS:
        check()
    dist.destroy_process_group()


@pytest.mark.parametrize("workers", [2, 4])
def test_workers_equal_one_process_with_the_whole_batch(workers: int, tmp_path: Path) -> None:
    """One start of the workers serves all checks; a failure names the check in its trace."""
    rendezvous = f"file://{tmp_path}/rendezvous"
    # A fork server imports torch once for all workers of both tests; spawning them would import it six times.
    multiprocessing.set_forkserver_preload([__name__])
    context = start_processes(  # type: ignore[no-untyped-call]
        _worker, (workers, rendezvous), nprocs=workers, join=False, start_method="forkserver"
    )
    assert context is not None
    deadline = time.monotonic() + 40
    try:
        while not context.join(timeout=1):
            assert time.monotonic() < deadline, "the workers did not finish in 40 s"
    finally:
        for process in context.processes:
            if process.is_alive():
                process.kill()


def test_one_worker_needs_no_process_group() -> None:
    x = torch.randn(4, 3, requires_grad=True)
    module = nn.Sequential(nn.BatchNorm1d(3))
    assert (rank(), world_size()) == (0, 1)
    assert gather(x) is x
    assert all_reduce(x) is x
    assert synchronise_batch_norm(module) is module
    assert type(module[0]) is nn.BatchNorm1d


def test_one_worker_with_a_process_group(tmp_path: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1)
    try:
        test_one_worker_needs_no_process_group()
        norm, plain = SynchronisedBatchNorm(3).double(), nn.BatchNorm1d(3).double()
        x = _randn(6, 3)
        assert torch.equal(norm(x), plain(x))
        _close(norm.running_var, plain.running_var, 0.0)
    finally:
        dist.destroy_process_group()


def test_an_input_without_channels_is_refused() -> None:
    with pytest.raises(ValueError, match="expected an input"):
        SynchronisedBatchNorm(3)(torch.zeros(3))
