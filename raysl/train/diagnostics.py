"""What is measured at the end of an epoch beside the loss: is the encoder learning, and has it collapsed?

All of it is read on the student, on the selection split or on the last batch; the test split is never
touched.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from raysl.data.decoded import Decoded, labelled
from raysl.data.grid import views_grid
from raysl.data.memory import plain
from raysl.errors import InputError
from raysl.metrics.collapse import collapse_cause
from raysl.metrics.knn import knn_accuracy
from raysl.metrics.spectra import effective_rank, embedding_std, singular_values
from raysl.train.config import RunConfig
from raysl.train.events import EventWriter
from raysl.train.session import Session, TrainData

_KNN = "eval/knn_top1"
Measured = tuple[dict[str, float], tuple[str, str] | None]


def wants_knn(config: RunConfig, data: TrainData) -> bool:
    """Return whether online k-NN is measured.

    Raises:
        InputError: it was asked for (`diagnostics.knn: true`) and there are no labels or no selection split,
            or fewer images than neighbours.
    """
    possible = data.train.labels is not None and bool(labelled(data.selection.labels).any())
    if config.diagnostics.knn and not possible:
        why = "there are no labels" if data.train.labels is None else "data.selection.fraction is 0"
        raise InputError(f"diagnostics.knn = true: {why}; remove the key or give what k-NN accuracy needs")
    wanted = possible and config.diagnostics.knn is not False
    bank = min(int(labelled(data.train.labels).sum()), config.diagnostics.knn_bank)
    if wanted and config.diagnostics.knn_k > bank:
        raise InputError(
            f"diagnostics.knn_k = {config.diagnostics.knn_k}: more than the {bank} images that vote; "
            "lower it or raise diagnostics.knn_bank"
        )
    return wanted


def check_best(config: RunConfig, data: TrainData) -> None:
    """Refuse to keep the best checkpoint by a metric that the run will not measure.

    Without k-NN accuracy the default finds no best; the latest are kept.

    Raises:
        InputError: names the metrics there are.
    """
    best = config.checkpoint.best
    known = ["diag/rankme", "diag/embedding_std"]
    if wants_knn(config, data):
        known.insert(0, _KNN)
    if best is not None and best not in {*known, _KNN}:
        raise InputError(
            f"checkpoint.best = {best}: not measured as a metric whose highest is best; "
            f"use {', '.join(known)} or null"
        )


def broken_weights(session: Session) -> tuple[str, str] | None:
    """Return the cause and description when a weight or buffer is not finite, None when all are."""
    if _finite(session.method.state_dict().values()):
        return None
    return "nan", "the last step left weights that are not finite; lower the learning rate"


class Diagnostics:
    """Measures a run at the end of its epochs, on the first worker.

    Args:
        config: the run.
        data: its images.
        session: its training.
    """

    def __init__(self, config: RunConfig, data: TrainData, session: Session) -> None:
        self.config, self.session = config, session
        self.knn = wants_knn(config, data)
        self.data = data
        self.bank: Decoded | None = None
        self.query = data.selection
        if self.knn:
            rows = np.flatnonzero(labelled(data.train.labels))
            order = np.argsort(data.train.ids[rows], kind="stable")[: config.diagnostics.knn_bank]
            self.bank = data.train.rows(np.sort(rows[order]))
            judges = labelled(data.selection.labels)
            if not judges.all():
                self.query = data.selection.rows(judges)

    def introduce(self, events: EventWriter) -> None:
        """Write what a run looks like before its first step: a grid of images and their views."""
        if self.config.diagnostics.images:
            events.image(
                "views", views_grid(self.data.train, self.session.views, seed=self.config.train.seed)
            )

    def measure(self, epoch: int, embeddings: Tensor, events: EventWriter | None) -> Measured:
        """Measure the end of an epoch.

        Args:
            epoch: completed epochs.
            embeddings: (N, D) embeddings of the last global batch.
            events: where the spectrum's histogram goes.

        Returns:
            Scalars by tag, and the named cause and description of a collapse, if there is one.
        """
        spectrum = singular_values(embeddings)
        std, rank = embedding_std(embeddings), effective_rank(spectrum)
        metrics = {"diag/embedding_std": std, "diag/rankme": rank}
        if events is not None:
            events.histogram("diag/spectrum", epoch, np.log10(spectrum.cpu().numpy() + 1e-12))
        if (broken := broken_weights(self.session)) is not None:
            return metrics, broken
        cause = collapse_cause(std=std, rank=rank) if self.config.diagnostics.collapse else None
        if cause is not None:
            return metrics, cause
        due = epoch % self.config.diagnostics.every == 0 or epoch == self.config.train.epochs
        if self.bank is not None and due:
            accuracy = self._knn_top1(self.bank)
            if accuracy is None:
                return metrics, ("inf", "features of held-out images are not finite; lower the learning rate")
            metrics[_KNN] = accuracy
        return metrics, None

    def _knn_top1(self, bank: Decoded) -> float | None:
        backbone = self.session.method.backbone
        backbone.eval()
        try:
            train, query = (self._features(part) for part in (bank, self.query))
        finally:
            backbone.train()
        if not _finite((train, query)):
            return None
        labels = (
            torch.as_tensor(np.asarray(bank.labels)),
            torch.as_tensor(np.asarray(self.query.labels)),
        )
        return 100.0 * knn_accuracy(train, labels[0], query, labels[1], k=self.config.diagnostics.knn_k)

    @torch.no_grad()
    def _features(self, part: Decoded) -> Tensor:
        session = self.session
        batches = plain(part, session.views, device=session.device, dtype=session.dtype)
        return torch.cat([session.method.backbone(images).cpu() for images in batches])


def _finite(tensors: Iterable[Tensor]) -> bool:
    return all(bool(torch.isfinite(tensor).all()) for tensor in tensors)
