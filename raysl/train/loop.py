"""The training loop, pulled: a generator of reports that knows nothing of Ray.

A plain `for` runs it in this process, a Tune trial calls `next` on it, a Ray Train worker loops over it and
reports. To stop, do not ask for the next report. On every worker the same lines run; the first one also
records.

The order within an epoch's end is fixed, because crashes fall between its parts: the report is recorded
durably, then the checkpoint is written, then the report is yielded. An epoch that is on record already is
trained again only to reach the state after it; its record stays as it is, and it is not reported a second
time.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator, Mapping

from torch import Tensor

from raysl.errors import Fenced, InputError, Interrupted, RayslError, TrainingStopped
from raysl.models.parallel import rank
from raysl.train import checkpoint
from raysl.train.checkpoint import Position
from raysl.train.config import RunConfig
from raysl.train.context import Context, Report, StepNews
from raysl.train.control import Control
from raysl.train.diagnostics import Diagnostics, broken_weights
from raysl.train.events import EventWriter
from raysl.train.fingerprint import changed_data
from raysl.train.means import Means
from raysl.train.session import Session

log = logging.getLogger("raysl")


def epochs(config: RunConfig, context: Context) -> Iterator[Report]:
    """Train, from the run's last good checkpoint if it has one, and yield a report after each epoch.

    Args:
        config: the run.
        context: this worker's surroundings. With several workers torch.distributed is initialised already.

    Yields:
        One report per epoch, contiguous; nothing when the run is complete.

    Raises:
        TrainingStopped: the loss is NaN or infinite, the method says why it cannot go on (a singular
            covariance), or the embeddings have collapsed.
        Interrupted: `context.stop` said yes; the state is saved.
        Fenced: a newer attempt has taken the run over.
        InputError: the run began on other images.
    """
    loop = _Loop(config, context)
    try:
        yield from loop.run()
    except GeneratorExit:
        if loop.complete:
            loop.finish("completed")
        else:
            loop.finish("stopped", cause="not continued")
        raise
    except TrainingStopped as error:
        loop.finish("stopped", cause=error.cause, detail=error.detail)
        raise
    except (Interrupted, KeyboardInterrupt) as error:
        loop.finish("interrupted", detail=str(error))
        raise
    except Fenced:
        loop.close()
        raise
    except BaseException as error:
        loop.finish("failed", detail=f"{type(error).__name__}: {error}")
        raise
    loop.finish("completed")


class _Loop:
    def __init__(self, config: RunConfig, context: Context) -> None:
        self.config, self.context, self.run_dir = config, context, context.run
        self.first = rank() == 0
        self.control = Control()
        self.fence = context.run.claim(context.fence) if self.first else 0
        self.events: EventWriter | None = None
        self.session = Session(config, context.data, context.device)
        self.diagnostics = Diagnostics(config, context.data, self.session)
        self.means = Means()
        self.position = Position(0)
        self.recorded = 0
        self.saved: Position | None = None
        self.last_save = time.monotonic()
        self.first_step_time: float | None = None
        self.looked_at = math.nan
        self.last_metrics: dict[str, float] = {}
        # All together, so that no worker waits for one that has left.
        changed = changed_data(context.run, self.fence, context.data) if self.first else None
        if (changed := self.control.from_first(changed)) is not None:
            raise InputError(changed)

    @property
    def complete(self) -> bool:
        return self.position.epoch >= self.config.train.epochs

    def run(self) -> Iterator[Report]:
        self._resume()
        if self.first:
            with self.run_dir.writing(self.fence):
                self.run_dir.set_status("running")
            self.events = EventWriter(self.run_dir.tensorboard, self.recorded + 1)
            if self.recorded == 0:
                self.diagnostics.introduce(self.events)
        while not self.complete:
            metrics = self._epoch()
            self.position = Position(self.position.epoch + 1)
            self.means = Means()
            self.last_metrics = metrics
            fresh = self.position.epoch > self.recorded
            if self.first and fresh:
                self._record(metrics)
            interval, _ = self.config.checkpoint.interval()
            every = interval is not None and self.position.epoch % interval == 0
            if self.complete or every or self.control.any(self._save_is_due())[0]:
                self._save()
            if fresh:
                yield Report(self.position.epoch, metrics)
            if not self.complete and self.control.any(self.context.stop())[0]:
                self._interrupt()

    def _resume(self) -> None:
        state = None
        if self.first:
            self.recorded = self.run_dir.recorded()
            with self.run_dir.writing(self.fence):
                found = checkpoint.recover(self.run_dir.checkpoints)
            state = checkpoint.load(found) if found else None
        self.recorded, state = self.control.from_first((self.recorded, state))
        if state is not None:
            self.session.restore(state)
            self.position, self.last_metrics = state.position, dict(state.metrics)
            self.saved = state.position
            self.means = Means(state.partial)

    def _epoch(self) -> dict[str, float]:
        epoch, plan = self.position.epoch, self.session.plan
        began, waited, steps_done = time.monotonic(), 0.0, 0
        batches = self.session.feed.epoch(epoch, start_step=self.position.step)
        pending: Tensor | None = None
        while True:
            asked = time.monotonic()
            batch = next(batches, None)
            waited += time.monotonic() - asked
            if batch is None:
                break
            report, scalars = self.session.step(batch, epoch * plan.steps_per_epoch + self.position.step)
            # The loss is looked at one step late, so that a GPU need not be waited for.
            self._check(pending)
            pending = report.loss.detach()
            self.means.add(scalars)
            self.position = Position(epoch, self.position.step + 1)
            steps_done += 1
            if math.isnan(self.looked_at):
                self._check(pending)
                self.first_step_time = time.time()
            if self.first and self.context.on_step is not None:
                speed = steps_done * plan.batch_size / (time.monotonic() - began)
                news = StepNews(epoch + 1, self.position.step, plan.steps_per_epoch, self.looked_at, speed)
                self.context.on_step(news)
            if self.position.step == plan.steps_per_epoch:
                continue
            stop, save = self.control.any(self.context.stop(), self._save_is_due())
            if stop or save:
                self._check(pending)
            if stop:
                self._interrupt()
            if save:
                self._save()
        self._check(pending)
        seconds = time.monotonic() - began
        metrics = {f"train/{name}": value for name, value in self.means.values().items()}
        found = self.diagnostics.measure(epoch + 1, report.embeddings, self.events) if self.first else None
        measured: dict[str, float]
        measured, cause = self.control.from_first(found)
        if cause is not None:
            raise TrainingStopped(cause[0], cause[1], epoch)
        if steps_done:
            metrics["perf/images_per_s"] = steps_done * plan.batch_size / seconds
            metrics["perf/data_wait"] = waited / seconds
        return metrics | measured

    def _check(self, loss: Tensor | None) -> None:
        if loss is None:
            return
        value = float(loss)
        if math.isfinite(value):
            self.looked_at = value
            return
        cause = "nan" if math.isnan(value) else "inf"
        at = f"epoch {self.position.epoch + 1}, step {self.position.step}"
        hint = "lower the learning rate, lengthen the warm-up or clip gradients (train.grad_clip)"
        raise TrainingStopped(cause, f"the loss became {value} by {at}; {hint}", self.position.epoch)

    def _record(self, metrics: Mapping[str, float]) -> None:
        epoch, row = self.position.epoch, dict(metrics)
        if self.first_step_time is not None:
            row["time/first_step"], self.first_step_time = self.first_step_time, None
        if self.events is not None:
            self.events.scalars(epoch, row)
        self.run_dir.append_metrics(self.fence, {"epoch": epoch, "time": time.time(), "metrics": row})
        self.recorded = epoch

    def _save_is_due(self) -> bool:
        """Ask the clock, the first worker's alone: with clocks of their own, workers would part ways."""
        _, seconds = self.config.checkpoint.interval()
        return self.first and seconds is not None and time.monotonic() - self.last_save >= seconds

    def _save(self) -> None:
        if (broken := broken_weights(self.session)) is not None:
            raise TrainingStopped(*broken, self.position.epoch)
        if self.first:
            folder, keep = self.run_dir.checkpoints, self.config.checkpoint
            state = self.session.state(self.position, self.means.sums, self.last_metrics)
            with self.run_dir.writing(self.fence):
                checkpoint.save(folder, state)
                checkpoint.prune(folder, keep=keep.keep, best=keep.best)
        self.saved, self.last_save = self.position, time.monotonic()

    def _interrupt(self) -> None:
        if self.saved != self.position:
            self._save()
        raise Interrupted(f"saved at {self.position.name}; the same command continues")

    def finish(self, state: str, **details: str) -> None:
        if not self.first:
            return
        try:
            self.close()
            with self.run_dir.writing(self.fence):
                self.run_dir.set_status(state, **details)
        except Fenced:
            raise
        except RayslError as error:
            # On a full disk the error that is on its way says more than this one.
            log.warning("the run's state, %s, is not recorded: %s", state, error)

    def close(self) -> None:
        events, self.events = self.events, None
        if events is not None:
            events.close()
