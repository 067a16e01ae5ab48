"""A sweep's directory as a driver leaves it, made in a moment without one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from raysl.tune.agenda import Answer, propose
from raysl.tune.choice import choose
from raysl.tune.judging.judge import judge
from raysl.tune.judging.rungs import rule_of
from raysl.tune.records.entry import Report, Session
from raysl.tune.records.folder import changeable, claim_directory
from raysl.tune.records.lease import Unshared
from raysl.tune.records.ledger import Ledger
from raysl.tune.records.outputs import write_trials
from raysl.tune.spaces.resolve import Space
from tests.tune.conftest import space


def swept_directory(root: Path, **changes: Any) -> Ledger:
    """Run a sweep of one trial at a time whose objective rises with the epochs and falls with the rate."""
    built = Space(space(**changes))
    root.mkdir(parents=True)
    ledger = Ledger(root / "study.log", claim_directory(root, built), built, Unshared(), lambda: 100.0)
    ledger.open_session(Session(0.0, 1, 1.0, 0.0, changeable(built.config)))
    rule = rule_of(built.config, built.epochs)
    while not isinstance(proposal := propose(built, ledger.trials), Answer):
        entry = ledger.ask(proposal)
        fence, done = ledger.launch(entry.number), False
        while not done:
            epoch = entry.epoch + 1
            value = epoch - 50.0 * float(str(entry.params["optimizer.lr"])) + 0.01 * entry.role.seed
            report = Report(epoch, value, 100.0 + entry.number + epoch, fence, {"eval/knn_top1": value})
            ledger.report(entry.number, judge(built, rule, ledger.trials, entry.number, report))
            done = ledger.conclude(entry.number)
    write_trials(root, ledger.trials, choose(ledger.trials, built.config))
    return ledger
