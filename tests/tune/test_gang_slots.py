"""How many trials fit at a time, and which never do; no Ray is started."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import ray
import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st

from raysl.errors import Fenced, InputError, Interrupted, TrainingStopped
from raysl.tune.bridge import Bridge
from raysl.tune.judging.stopping import build_rule
from raysl.tune.records.lease import Lease
from raysl.tune.records.ledger import Ledger
from raysl.tune.spaces.resolve import Space
from raysl.tune.spaces.stopping_config import StoppingConfig
from raysl.tune.trials.board import Board
from raysl.tune.trials.gang import KEEPER_BYTES, Gang
from raysl.tune.trials.gang_trial import _ended, _lost_another
from raysl.tune.trials.messages import End, Launch
from raysl.tune.trials.runner import end_of
from tests.train.made import config
from tests.tune.conftest import space

GPU_NODE = {"CPU": 8.0, "GPU": 2.0}


@pytest.mark.parametrize(
    ("gang", "nodes", "slots"),
    [
        (Gang(1, 2.0, 0.0), [{"CPU": 5.0}, {"CPU": 3.0}, {"CPU": 1.0}], 3),
        (Gang(2, 1.0, 0.0), [{"CPU": 2.0}], 1),
        (Gang(2, 1.0, 0.0), [{"CPU": 1.0}, {"CPU": 1.0}, {"CPU": 3.0}], 2),  # over several nodes
        (Gang(2, 2.0, 0.0), [{"CPU": 3.0}, {"CPU": 3.0}], 1),  # what is left of each node is of no use
        (Gang(2, 1.0, 1.0), [GPU_NODE, {"CPU": 64.0}], 1),  # GPUs are the limit
        (Gang(4, 2.0, 0.25), [GPU_NODE], 1),  # CPUs are
        (Gang(2, 1.0, 0.25), [GPU_NODE], 4),
        (Gang(2, 1.0, 0.4), [GPU_NODE], 2),  # a share is of one GPU: two on each, not five on both
        (Gang(1, 1.0, 2.0), [{"CPU": 8.0, "GPU": 3.0}], 1),
        (Gang(3, 0.1, 0.0), [{"CPU": 0.3}], 1),  # despite binary fractions
    ],
)
def test_slots_are_counted_by_node_and_by_each_limit(
    gang: Gang, nodes: list[dict[str, float]], slots: int
) -> None:
    assert gang.slots(nodes) == slots


@given(
    st.integers(1, 4),
    st.sampled_from([0.5, 1.0, 3.0]),
    st.sampled_from([0.0, 0.25, 0.4, 1.0, 2.0]),
    st.lists(st.fixed_dictionaries({"CPU": st.integers(0, 9), "GPU": st.integers(0, 4)}), max_size=4),
)
def test_as_many_gangs_fit_as_can_be_placed_one_by_one(
    workers: int, cpus: float, gpus: float, nodes: list[dict[str, float]]
) -> None:
    """Workers are put where there is room until there is none, GPU by GPU."""
    placed = 0
    for node in nodes:
        free_cpus, free_gpus = float(node["CPU"]), [1.0] * int(node["GPU"])
        while free_cpus >= cpus - 1e-9:
            if 0 < gpus < 1:
                at = next((i for i, share in enumerate(free_gpus) if share >= gpus - 1e-9), None)
                if at is None:
                    break
                free_gpus[at] -= gpus
            elif len(free_gpus) < gpus:
                break
            else:
                free_gpus = free_gpus[int(gpus) :]
            free_cpus -= cpus
            placed += 1
    gang = Gang(workers, cpus, gpus)
    if placed < workers:
        with pytest.raises(InputError):
            gang.slots(nodes)
    else:
        assert gang.slots(nodes) == placed // workers


@pytest.mark.parametrize(
    ("gang", "nodes", "said"),
    [
        (Gang(1, 2.0, 0.0), [{"CPU": 1.0}, {"CPU": 1.0}], "needs 2 CPUs and 0 GPUs, but .* has 1 and 0"),
        (
            Gang(2, 4.0, 0.0),
            [{"CPU": 3.0}] * 9,
            "4 CPUs and 0 GPUs for each worker, but the largest node has 3",
        ),
        (
            Gang(4, 1.0, 0.5),
            [{"CPU": 8.0, "GPU": 1.0}],
            r"launch.workers = 4: a trial needs 4 workers of 1 CPU and 0.5 GPU, but the cluster \(1 node\) "
            "has room for 2; use fewer workers",
        ),
        (Gang(2, 1.0, 0.0), [], "largest node has 0 and 0"),
    ],
)
def test_a_gang_that_never_fits_is_refused_in_one_line(
    gang: Gang, nodes: list[dict[str, float]], said: str
) -> None:
    with pytest.raises(InputError, match=said) as caught:
        gang.slots(nodes)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("overrides", "nodes", "gang"),
    [
        ([], [{"CPU": 4.0}], Gang(1, 1.0, 0.0)),
        (["launch.workers=2", "launch.cpus_per_worker=2"], [{"CPU": 4.0}], Gang(2, 2.0, 0.0)),
        (["train.device=auto"], [GPU_NODE], Gang(1, 1.0, 1.0)),
        (["train.device=cpu"], [GPU_NODE], Gang(1, 1.0, 0.0)),  # no GPU is kept from others
        (
            ["train.device=auto", "launch.workers=2", "launch.gpus_per_worker=0.25"],
            [GPU_NODE],
            Gang(2, 1, 0.25),
        ),
    ],
)
def test_what_a_trial_needs(overrides: list[str], nodes: list[dict[str, float]], gang: Gang) -> None:
    assert Gang.of(config(*overrides), nodes) == gang


def test_shares_of_several_gpus_are_refused() -> None:
    with pytest.raises(InputError, match=r"gpus_per_worker = 1\.5: Ray gives whole GPUs or a share of one"):
        Gang.of(config("train.device=auto", "launch.gpus_per_worker=1.5"), [GPU_NODE])


def test_the_process_of_a_gang_holds_no_cpu() -> None:
    assert Gang(2, 1.0, 1.0).held_by_tune == [{"memory": KEEPER_BYTES}]
    assert Gang(1, 1.0, 0.5).held_by_tune == [{"CPU": 1.0, "GPU": 0.5}]


def test_what_runs_at_a_time_is_said() -> None:
    assert Gang(2, 1.0, 0.0).describe(2) == "2 at a time, 2 workers of 1 CPU each"
    assert Gang(2, 2.0, 0.25).describe(1) == "1 at a time, 2 workers of 2 CPUs and 0.25 GPU each"
    assert Gang(1, 1.0, 2.0).describe(3) == "3 at a time, 1 CPU and 2 GPUs each"


def test_a_gang_is_pulled_an_epoch_at_a_time() -> None:
    async def pull() -> list[str]:
        board, key, seen = Board(), (4, 1), list[str]()

        async def worker() -> None:
            for epoch in range(1, 4):
                seen.append(f"trained {epoch}")
                if not await board.trained(key):
                    seen.append("left")
                    return

        task = asyncio.ensure_future(worker())
        for epoch in range(1, 3):
            assert await asyncio.wait_for(board.go_on(key), 5)
            await asyncio.sleep(0)
            seen.append(f"told {epoch}")
        await board.stop(key)
        await asyncio.wait_for(task, 5)
        assert not await asyncio.wait_for(board.go_on(key), 5)
        return seen

    assert asyncio.run(pull()) == ["trained 1", "told 1", "trained 2", "told 2", "left"]


def test_attempts_do_not_hear_of_each_other() -> None:
    async def stop_the_first() -> bool:
        board = Board()
        await board.stop((4, 1))
        await board.failed((4, 1), 0, End("error", "late"), "")
        second = asyncio.ensure_future(board.go_on((4, 2)))
        assert not await asyncio.wait_for(board.trained((4, 1)), 5)
        told = asyncio.ensure_future(board.trained((4, 2)))
        assert await asyncio.wait_for(second, 5)
        assert await board.take_ends((4, 2)) == {}
        return await asyncio.wait_for(told, 5)

    assert asyncio.run(stop_the_first()) is False


def test_an_end_of_the_sweep_lets_all_gangs_leave() -> None:
    async def end() -> list[bool]:
        board = Board()
        waiting = [asyncio.ensure_future(board.trained((number, 1))) for number in range(2)]
        await asyncio.sleep(0)
        await board.stop_all()
        return [await asyncio.wait_for(told, 5) for told in waiting]

    assert asyncio.run(end()) == [False, False]


class FromRayTrain(Exception):
    """As Ray Train raises it: a worker's error inside its own."""

    def __init__(self, inside: Exception, name: str = "cause") -> None:
        super().__init__("Training failed due to worker errors:\n...")
        if name == "worker_failures":
            self.worker_failures = {1: inside}
        else:
            setattr(self, name, inside)


@pytest.mark.parametrize(
    ("inside", "cause", "reason"),
    [
        (ray.exceptions.RayActorError(), "killed", "a worker was killed or crashed"),
        (ray.exceptions.OutOfMemoryError("node"), "oom", "its node ran out of memory"),
    ],
)
def test_a_worker_that_could_say_nothing_is_told_by_ray(inside: Exception, cause: str, reason: str) -> None:
    failure = FromRayTrain(FromRayTrain(inside, "health_check_failure"), "worker_failures")
    end = _ended({}, [failure]).end
    assert (end.cause, end.died) == (cause, True)
    assert reason in end.reason


GONE = End("killed", "a worker is gone", died=True)


@pytest.mark.parametrize(
    ("ends", "end"),
    [
        ({0: GONE, 1: End("error", "ValueError: no")}, End("error", "ValueError: no")),
        ({0: End("interrupted", "saved")}, End("interrupted", "saved")),
        ({1: GONE}, End("killed", "a worker was killed or crashed", died=True)),
        ({1: End("oom", "out of memory"), 0: GONE}, End("oom", "out of memory")),
    ],
)
def test_a_worker_that_fails_takes_others_with_it_but_is_the_one_that_counts(
    ends: dict[int, End], end: End
) -> None:
    told = _ended({rank: (said, "trace") for rank, said in ends.items()}, [RuntimeError("failed")])
    assert told.end == end


def test_workers_that_could_not_be_started_are_tried_again() -> None:
    end = _ended({}, [RuntimeError("timed out\nafter 120 s")]).end
    assert end == End("error", "its workers could not be run: timed out after 120 s", died=True)


@pytest.mark.parametrize(
    ("error", "lost"),
    [
        (RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer [10.0.0.1]:99"), True),
        (dist.DistBackendError("NCCL error: remote process exited"), True),
        (RuntimeError("shape '[2]' is invalid"), False),
        (ValueError("gloo"), False),
    ],
)
def test_a_broken_collective_tells_of_another_worker(error: Exception, lost: bool) -> None:
    assert _lost_another(error) is lost


@pytest.mark.parametrize(
    ("error", "end"),
    [
        (TrainingStopped("collapse", "all alike", 3), End("collapse", "all alike")),
        (Interrupted("saved"), End("interrupted", "saved")),
        (Fenced("attempt 1 is over"), End("fenced", "attempt 1 is over")),
        (MemoryError("no 9 GiB"), End("oom", "out of memory: no 9 GiB")),
        (InputError("other images"), End("error", "other images")),
        (KeyError("x"), End("error", "KeyError: 'x'")),
    ],
)
def test_what_an_error_of_the_loop_means(error: Exception, end: End) -> None:
    assert end_of(error) == end


def test_a_gang_that_died_is_run_again_until_its_attempts_run_out(tmp_path: Path) -> None:
    lease = Lease(tmp_path / "lease.json")
    lease.take()
    built = Space(space(attempts=2, overrides={"launch.workers": 2}))
    ledger = Ledger(tmp_path / "study.log", "small", built, lease)
    rule = build_rule(StoppingConfig.model_validate({"rule": "none"}), built.epochs, True)
    made = Bridge(ledger, built, rule, tmp_path, slots=1)
    for fence in (1, 2):
        launch = made.next("key")
        assert isinstance(launch, Launch)
        assert (launch.number, launch.fence) == (0, fence)
        assert made.receive("key", 0, fence, GONE)
    entry = ledger.trials[0]
    assert (entry.state, entry.cause) == ("failed", "killed")
    assert [death.fence for death in entry.deaths] == [1, 2]
    lease.release()
