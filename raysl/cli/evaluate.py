"""`raysl evaluate`: judge an encoder."""

from __future__ import annotations

import argparse
from typing import Any

from raysl.cli.options import add_job, emit, sayer, words
from raysl.errors import InputError


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "evaluate",
        help="judge a run by k-NN or a linear probe",
        description="Judge a run's encoder on the test split, which nothing else reads. Overrides set the "
        "protocol's options; the result is written into the run with its full protocol.",
        epilog="examples: raysl evaluate runs/digits-simclr\n"
        "          raysl evaluate runs/digits-simclr --protocol knn k=20 metric=cosine",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "words", nargs="+", metavar="RUN|key=value", help="run directories, and options of the protocol"
    )
    parser.add_argument(
        "--protocol", default="knn", help="knn, knn-few, linear-cached or lbfgs (default: knn)"
    )
    parser.add_argument(
        "--checkpoint", default="last", help="last, best, or a checkpoint's name (default: last)"
    )
    parser.add_argument("--split", default="test", help="test or selection (default: test)")
    parser.add_argument(
        "--baselines", action="store_true", help="judge raw pixels and the untrained encoder too"
    )
    add_job(parser, _run)


def _run(args: argparse.Namespace) -> int:
    from raysl import api

    runs, options = words(args)
    if not runs:
        raise InputError("raysl evaluate takes a run directory; raysl ls shows the runs there are")
    say = sayer(args)
    say(api.describe_here(args.cluster))
    results = []
    for run in runs:
        settings: dict[str, Any] = {
            "overrides": options,
            "checkpoint": args.checkpoint,
            "split": args.split,
            "baselines": args.baselines,
            "name": args.name,
        }
        if args.dry_run:
            plan = api.plan_evaluate(run, args.protocol, **settings)
            results.append((plan, "\n".join(plan["lines"])))
        else:
            result = api.evaluate(run, args.protocol, **settings)
            results.append((result.to_dict(), result.describe()))
    values = [value for value, _ in results]
    emit(args, values[0] if len(values) == 1 else values, "\n".join(text for _, text in results))
    return 0
