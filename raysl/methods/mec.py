"""MEC: maximum entropy coding, the longest lossy code of two views' embeddings (arXiv 2210.11464)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field, field_validator
from torch import Tensor

from raysl.config import Duration
from raysl.losses.mec import mec_loss
from raysl.methods.base import Change, LossReport, Plan, Scaling, Step
from raysl.methods.student_teacher import StudentTeacher, StudentTeacherConfig, TaylorWatch
from raysl.models.backbones import Backbone


class Config(StudentTeacherConfig):
    """Hyperparameters of MEC."""

    name: Literal["mec"] = "mec"
    """The method."""

    eps: float = Field(64.0, gt=0.0, le=1e6)
    """Square of the bound on the decoding error. The similarities are divided by lamda_inv = batch * eps / d,
    d the projector's outputs."""

    order: int = Field(4, ge=1, le=32)
    """K, terms of the Taylor series of log det(I + c)."""

    lamda_warmup: Duration = 10
    """How long lamda_inv falls to its value, on a line: epochs, `"5%"` of the horizon, or `"500 steps"`."""

    lamda_warmup_factor: float = Field(8.0, ge=1.0, le=1000.0)
    """What lamda_inv starts at, in units of its later value, so that the series converges at the start."""

    @field_validator("lamda_warmup")
    @classmethod
    def _warmup_begins_at_the_start(cls, value: Duration) -> Duration:
        if not isinstance(value, str) and value < 0:
            raise ValueError("a warm-up cannot be negative; only milestones count back from the end")
        return value

    def rescale(self, scaling: Scaling) -> list[Change]:
        """Keep eps, with which lamda_inv follows the batch; the teacher's momentum follows the steps."""
        changes = super().rescale(scaling)
        warmup, (epochs, horizon) = self.lamda_warmup, scaling.epochs
        if epochs != horizon and not isinstance(warmup, str) and warmup >= horizon:
            why = f"fills the horizon of {horizon:g} epochs; shorten it"
            changes.append(Change("method.lamda_warmup", warmup, warmup, "unsafe", why))
        before, after = scaling.batch_size
        if before == after:
            return changes
        why = "batch * eps / d, so that eigenvalues of c, and with them the loss, do not depend on the batch"
        return [
            *changes,
            Change("method.eps", self.eps, self.eps, "transferred", "it is per sample and dimension"),
            Change("lamda_inv", self._lamda_inv(before), self._lamda_inv(after), "rescaled", why, True),
        ]

    def _lamda_inv(self, batch: int) -> float | str:
        if self.projector.out is None:
            return f"{batch * self.eps:g} / features"
        return lamda_inv(batch, self.projector.out, self.eps)


def lamda_inv(batch: int, dimension: int, eps: float) -> float:
    """Return what similarities are divided by after the warm-up: 1 / lamda = m eps / d.

    Args:
        batch: rows m of the global batch.
        dimension: embedding size d.
        eps: square of the bound on the decoding error.

    Source: arXiv 2210.11464, section 3.2, where lamda = d / (m eps^2); `eps` here is that square, as in the
    authors' code.
    """
    return batch * eps / dimension


def warmed_up(final: float, step: int, warmup_steps: int, factor: float = 8.0) -> float:
    """Return lamda_inv at a step: on a line from factor * final to final, both ends included, then constant.

    Args:
        final: the value after the warm-up.
        step: optimizer steps taken before.
        warmup_steps: steps of the line; with none it is `final` from the start.
        factor: the first value, in units of `final`.

    Source: the MEC authors' `lamda_scheduler`, with 10 epochs and factor 8.
    """
    if step >= warmup_steps:
        return final
    return final * (factor + (1.0 - factor) * step / max(1, warmup_steps - 1))


class Method(StudentTeacher):
    """A student that predicts, from one view, the embedding its momentum teacher gives the other view.

    Source: arXiv 2210.11464, section 3 and appendix A; the authors' `builder` and `main_pretrain`.
    """

    def __init__(self, config: Config, backbone: Backbone, plan: Plan) -> None:
        super().__init__(config, backbone, plan)
        self.config = config
        self.lamda_inv = lamda_inv(plan.batch_size, self.dimension, config.eps)
        self.warmup_steps = plan.steps(config.lamda_warmup)
        self._watch = TaylorWatch(
            "mec: |eigenvalue of c| is %.3g, where the Taylor series of log det(I + c) does not converge; "
            "raise method.eps or method.lamda_warmup_factor"
        )

    def forward(self, views: Sequence[Tensor], step: Step) -> LossReport:
        """Return the loss of two views, each (N_local, C, H, W)."""
        teacher, student = self.embed(views)
        loss = mec_loss(
            teacher,
            student,
            lamda_inv=self.lamda_inv_at(step),
            order=self.config.order,
            with_radius=step.starts_epoch,
        )
        parts = {"coding_length": loss.coding_length, **self._watch(loss.radius)}
        return LossReport(loss.total, parts, student[0].detach())

    def lamda_inv_at(self, step: Step) -> float:
        """Return what the similarities of a step are divided by."""
        return warmed_up(self.lamda_inv, step.index, self.warmup_steps, self.config.lamda_warmup_factor)

    def after_step(self, step: Step) -> dict[str, float]:
        """Move the teacher after the student."""
        return {**super().after_step(step), "lamda_inv": self.lamda_inv_at(step)}

    def describe(self) -> list[str]:
        """Return lamda_inv, its warm-up and the teacher's resolved momentum."""
        first = warmed_up(self.lamda_inv, 0, self.warmup_steps, self.config.lamda_warmup_factor)
        told = f"lamda_inv {first:g} at the start, {self.lamda_inv:g} from step {self.warmup_steps} on"
        return [told, *super().describe()]
