"""`lbfgs`: multinomial logistic regression on the features, solved to its optimum."""

from __future__ import annotations

import warnings

from pydantic import Field
from torch import Tensor

from raysl.evaluation.protocols import base
from raysl.evaluation.protocols.base import Measured

COMPARES = False


class Options(base.Options):
    """scikit-learn's `LogisticRegression`, with its defaults but for the number of iterations."""

    c: float = Field(1.0, gt=0.0)
    """`C`, the inverse strength of the L2 penalty on the weights."""

    max_iter: int = Field(1000, ge=1)
    """Most iterations."""

    tol: float = Field(1e-4, gt=0.0)
    """Largest gradient at which it has converged."""


def measure(train_x: Tensor, train_y: Tensor, test_x: Tensor, test_y: Tensor, options: Options) -> Measured:
    """Return top-1 accuracy in percent and the iterations it took; a note tells when it has not converged.

    Args:
        train_x: features `(N, F)` to train on.
        train_y: their labels `(N,)`.
        test_x: features to classify `(M, F)`.
        test_y: their true labels `(M,)`.
        options: see `Options`.

    Source: W-MSE's authors, `eval/lbfgs.py`.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=options.c, max_iter=options.max_iter, tol=options.tol)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        model.fit(train_x.double().cpu().numpy(), train_y.cpu().numpy())
    accuracy = model.score(test_x.double().cpu().numpy(), test_y.cpu().numpy())
    metrics = {"top1": 100.0 * float(accuracy), "iterations": float(model.n_iter_[0])}
    unfinished = any(issubclass(warning.category, ConvergenceWarning) for warning in caught)
    note = f"lbfgs stopped after {options.max_iter} iterations before it converged; raise max_iter"
    return Measured(metrics, notes=(note,) if unfinished else ())
