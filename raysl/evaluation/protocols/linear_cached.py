"""`linear-cached`: one linear layer trained on features that are computed once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from raysl.evaluation.protocols import base
from raysl.evaluation.protocols.base import Measured

COMPARES = False
_TOP = 5


class Options(base.Options):
    """How the layer is trained."""

    epochs: int = Field(500, ge=1)
    """Passes over the training features. The last one is judged."""

    batch_size: int = Field(1000, ge=1)
    """Images in a step; the last step of an epoch takes what is left."""

    lr: float = Field(1e-2, gt=0.0)
    """Learning rate of the first epoch."""

    final_lr: float = Field(1e-6, gt=0.0)
    """What the learning rate falls to, by the same factor after each epoch."""

    weight_decay: float = Field(5e-6, ge=0.0)
    """L2 penalty, in the gradient."""

    seed: int = Field(0, ge=0)
    """Seed of the first weights and of the order."""


def measure(train_x: Tensor, train_y: Tensor, test_x: Tensor, test_y: Tensor, options: Options) -> Measured:
    """Return top-1 accuracy in percent, and top-5 where there are more than five classes.

    Args:
        train_x: features `(N, F)` to train on.
        train_y: their labels `(N,)`, 0 .. C-1.
        test_x: features to classify `(M, F)`.
        test_y: their true labels `(M,)`.
        options: see `Options`.

    Source: W-MSE's authors, `eval/sgd.py`; theirs leaves a partial last batch out.
    """
    classes = int(torch.cat([train_y, test_y]).max()) + 1
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        head = nn.Linear(train_x.shape[1], classes, dtype=train_x.dtype)
    head.to(train_x.device)
    train_head(head, train_x, train_y, _orders(len(train_x), options), options)
    return Measured(accuracies(head, test_x, test_y))


def train_head(head: nn.Linear, x: Tensor, y: Tensor, orders: Iterable[Tensor], options: Options) -> None:
    """Train a linear layer with cross-entropy, in place.

    Adam with L2 in the gradient; learning rate of epoch e: lr (final_lr / lr)^(e / E), e = 0 .. E-1.

    Args:
        head: from F features to C scores.
        x: features `(N, F)`.
        y: labels `(N,)`.
        orders: a permutation of the N rows for each epoch.
        options: see `Options`.
    """
    optimizer = torch.optim.Adam(head.parameters(), lr=options.lr, weight_decay=options.weight_decay)
    factor = (options.final_lr / options.lr) ** (1 / options.epochs)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=factor)
    for order in orders:
        for rows in torch.split(order.to(x.device), options.batch_size):
            optimizer.zero_grad(set_to_none=True)
            F.cross_entropy(head(x[rows]), y[rows]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        schedule.step()


@torch.no_grad()
def accuracies(head: nn.Linear, x: Tensor, y: Tensor) -> dict[str, float]:
    """Return the percentage of rows whose label scores best (`top1`) or is among the five best (`top5`)."""
    scores = head(x)
    classes = scores.shape[1]
    ranked = scores.topk(min(_TOP, classes), dim=1).indices
    hit = ranked == y[:, None]
    metrics = {"top1": 100.0 * float(hit[:, 0].double().mean())}
    if classes > _TOP:
        metrics["top5"] = 100.0 * float(hit.any(dim=1).double().mean())
    return metrics


def _orders(rows: int, options: Options) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(options.seed)
    for _ in range(options.epochs):
        yield torch.randperm(rows, generator=generator)
