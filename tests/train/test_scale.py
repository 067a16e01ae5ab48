"""What becomes of each value of a run that is made larger, checked against the rules by hand."""

from __future__ import annotations

from typing import Any

import pytest

from raysl.errors import InputError
from raysl.methods.base import Change
from raysl.train.scale import KEPT, ScaleRequest, scale
from raysl.train.schedules import make_plan
from tests.train.scaling import COUNTS, scaled, small


def test_what_was_asked_for_is_what_the_big_run_has() -> None:
    big, changes = scaled(small())
    assert (big.train.batch_size, big.launch.workers, big.train.epochs) == (256, 4, 100)
    assert (changes["images per worker"].old, changes["images per worker"].new) == (64, 64)
    assert (changes["steps in the horizon"].old, changes["steps in the horizon"].new) == (20000, 5000)
    assert changes["train.epochs"].label == "transferred"


@pytest.mark.parametrize(
    ("name", "batch", "rate", "label"),
    [
        ("sgd", 256, 0.4, "rescaled"),
        ("lars", 512, 0.8, "rescaled"),
        ("sgd", 1024, 1.6, "unsafe"),
        ("adam", 256, 0.2, "rescaled"),
        ("adamw", 1024, 0.4, "rescaled"),
        ("sgd", 64, 0.1, "transferred"),
        ("sgd", 32, 0.05, "rescaled"),
    ],
)
def test_the_rate_follows_the_rule_of_its_optimizer(name: str, batch: int, rate: float, label: str) -> None:
    big, changes = scaled(small(f"optimizer.name={name}", "optimizer.lr=0.1"), batch)
    assert big.optimizer.lr == pytest.approx(rate)
    assert changes["optimizer.lr"].label == label
    assert big.optimizer.peak_lr(batch) == pytest.approx(rate)


def test_a_rate_that_scales_by_itself_stays_and_its_peak_is_shown() -> None:
    config = small("optimizer.lr_scaling=linear", "optimizer.lr_reference_batch=256")
    big, changes = scaled(config)
    assert big.optimizer.lr == config.optimizer.lr
    assert changes["optimizer.lr"].label == "transferred"
    peak = changes["peak learning rate"]
    assert (peak.old, peak.new, peak.derived, peak.label) == (0.025, 0.1, True, "rescaled")
    _, changes = scaled(small("optimizer.name=adam", "optimizer.lr_scaling=linear"))
    assert changes["peak learning rate"].label == "unsafe"


def test_adams_decay_rates_are_kept_while_the_rule_has_an_answer() -> None:
    config = small("optimizer={name: adam, lr: 0.1}")
    _, changes = scaled(config, 256)
    assert changes["optimizer.betas"].label == "transferred"
    assert "0.6, 0.996" in changes["optimizer.betas"].why
    _, changes = scaled(config, 1024)
    assert changes["optimizer.betas"].label == "unsafe"
    assert changes["optimizer.betas"].new == [0.9, 0.999]


@pytest.mark.parametrize(
    ("given", "epochs", "new", "label"),
    [
        ("10", None, 10, "transferred"),
        ("5%", None, "5%", "transferred"),
        ("500 steps", None, "125 steps", "rescaled"),
        ("500 steps", 200, "250 steps", "rescaled"),
        ("1 steps", None, "1 steps", "transferred"),
        ("0", None, 0, "unsafe"),
        ("10", 10, 10, "unsafe"),
    ],
)
def test_the_warm_up_sees_as_many_images(given: str, epochs: int | None, new: Any, label: str) -> None:
    big, changes = scaled(small(f"schedule.warmup={given}"), epochs=epochs)
    assert big.schedule.warmup == new
    assert changes["schedule.warmup"].label == label


def test_a_warm_up_in_steps_covers_the_same_share_of_the_plan() -> None:
    config = small("schedule.warmup=500 steps")
    big, _ = scaled(config, epochs=300)
    plans = [make_plan(run, COUNTS[0]) for run in (config, big)]
    shares = [
        plan.steps(run.schedule.warmup) / plan.horizon_steps
        for plan, run in zip(plans, (config, big), strict=True)
    ]
    assert shares[0] == pytest.approx(shares[1])


def test_milestones_keep_their_places() -> None:
    config = small("schedule={name: step, milestones: [60, -20, 90%, 1000 steps], factor: 0.1}")
    big, changes = scaled(config)
    assert big.schedule.milestones == (60, -20, "90%", "250 steps")
    big, changes = scaled(config, epochs=50)
    assert big.schedule.milestones == (30, -10, "90%", "125 steps")
    assert changes["schedule.milestones"].label == "rescaled"
    _, changes = scaled(small("schedule={name: step, milestones: [60]}"))
    assert changes["schedule.milestones"].label == "transferred"


def test_judged_epochs_and_cooldowns_keep_their_shares() -> None:
    config = small("schedule={name: wsd, judged: [10, 30], cooldown: 100 steps}")
    big, changes = scaled(config)
    assert (big.schedule.judged, big.schedule.cooldown) == ((10, 30), "25 steps")
    assert changes["schedule.judged"].label == "transferred"
    big, changes = scaled(config, epochs=4)
    assert big.schedule.judged == (1,)
    assert changes["schedule.judged"].label == "rescaled"


def test_the_horizon_goes_with_the_epochs_and_a_run_that_ends_before_it_is_flagged() -> None:
    config = small("train.epochs=20", "schedule.horizon=100")
    _, changes = scaled(config)
    assert changes["train.epochs"].label == "unsafe"
    assert "--epochs 100" in changes["train.epochs"].why
    big, changes = scaled(config, epochs=400)
    assert (big.train.epochs, big.horizon) == (400, 400)
    assert (changes["schedule.horizon"].old, changes["schedule.horizon"].new) == (100, 400)


def test_without_the_images_only_the_ratio_of_steps_counts() -> None:
    big, changes = scaled(small("train.batch_size=48", "schedule.warmup=600 steps"), 144, images=None)
    assert changes["steps, as a share of the small run's"].new == pytest.approx(1 / 3)
    assert "steps in the horizon" not in changes
    assert big.schedule.warmup == "200 steps"
    assert big.to_dict()["method"]["momentum"] == pytest.approx(0.99**3)


def test_every_value_of_method_optimizer_and_schedule_is_named_once() -> None:
    config = small()
    _, changes = scaled(config)
    for section in ("optimizer", "schedule"):
        for key in config.to_dict()[section]:
            assert f"{section}.{key}" in changes
    assert changes["method.projector.out"] == Change("method.projector.out", 2048, 2048, "transferred", KEPT)


def test_larger_images_change_what_is_in_pixels() -> None:
    overrides = ("views.preset=mec", "views.size=32", "views.evaluation={resize: 36, crop: 32}")
    big, changes = scaled(
        small(
            *overrides,
            "views.order=[shift,crop,jitter,grayscale,blur,solarize,flip]",
            "views.shift={pixels: 4}",
        ),
        image_size=96,
    )
    assert big.views.size == 96
    assert (big.views.evaluation.resize, big.views.evaluation.crop) == (108, 96)
    assert big.data.image_size == 96
    assert big.views.shift is not None
    assert big.views.shift.pixels == 12
    assert (changes["blur kernel"].old, changes["blur kernel"].new) == (3, 9)
    labels = {key: changes[key].label for key in ("views.blur.sigma", "backbone.stem", "views.crop.scale")}
    assert labels == {
        "views.blur.sigma": "unsafe",
        "backbone.stem": "unsafe",
        "views.crop.scale": "transferred",
    }


def test_multi_crop_keeps_its_proportions() -> None:
    config = small("views={preset: mec, size: [32, 16], blur: null}")
    big, _ = scaled(config, image_size=64)
    assert big.views.size == (64, 32)


def test_small_networks_are_not_for_large_images() -> None:
    _, changes = scaled(small("backbone={name: small_cnn}"), image_size=64)
    assert changes["backbone.name"].label == "unsafe"
    _, changes = scaled(small("backbone={name: resnet18, stem: imagenet}"), image_size=224)
    assert changes["backbone.name"].label == "transferred"


def test_other_data_lose_the_old_sets_statistics() -> None:
    config = small("data.mean=[0.5,0.5,0.5]", "data.std=[0.2,0.2,0.2]", "data.test=data/small-test")
    big, changes = scaled(config, data="data/large")
    assert big.data.source == "data/large"
    assert (big.data.mean, big.data.std, big.data.test) == (None, None, None)
    assert changes["data.source"].label == "unsafe"
    assert changes["diagnostics.knn_bank"].label == "unsafe"
    big, changes = scaled(config)
    assert big.data == config.data
    assert changes["diagnostics.knn_bank"].label == "transferred"


def test_a_run_that_is_no_longer_the_published_one_does_not_say_so() -> None:
    number = "[{metric: knn/top1, value: 90.0, source: a table}]"
    big, changes = scaled(small(f"published={number}"))
    assert big.published is None
    assert changes["published"].new is None
    assert scaled(small("published=ours"))[0].published == "ours"


@pytest.mark.parametrize(
    ("request_", "told"),
    [
        (ScaleRequest(250, 4), "global batch 250: does not divide among 4 workers; use 248 or 252"),
        (ScaleRequest(0, 4), "expected a global batch of 2 or more"),
        (ScaleRequest(16384, 4), "larger than the 12800 training images of data/small"),
        (ScaleRequest(256, 4, image_size=2), "views.size"),
    ],
)
def test_what_cannot_be_is_refused(request_: ScaleRequest, told: str) -> None:
    with pytest.raises(InputError, match=told):
        scale(small(), request_, COUNTS)


def test_what_stays_as_it_is_is_not_called_rescaled() -> None:
    _, changes = scaled(small("launch.workers=4"), 64, epochs=100)
    labels = {change.label for change in changes.values() if change.old == change.new}
    assert labels == {"transferred"}


def test_two_sets_that_cannot_be_counted_are_unsafe() -> None:
    _, changes = scaled(small(), images=None, data="data/large")
    steps = changes["steps, as a share of the small run's"]
    assert steps.label == "unsafe"
    assert "data/small and data/large cannot both be counted here" in steps.why


@pytest.mark.parametrize(
    ("optimizer", "label", "told"),
    [
        ("{name: sgd, weight_decay: 0.1}", "transferred", "since the rate follows the batch"),
        ("{name: adam, weight_decay: 0.1}", "transferred", "a part of the gradient"),
        ("{name: adamw, weight_decay: 0.1}", "unsafe", "0.5 times as much an epoch, which 0.2 would make up"),
        ("{name: adamw, weight_decay: 0.0}", "transferred", ""),
        ("{name: adamw, weight_decay: 0.1, lr_scaling: linear}", "transferred", ""),
        ("{name: sgd, weight_decay: 0.1, lr_scaling: sqrt}", "unsafe", "0.5 times as much"),
    ],
)
def test_weights_decay_as_much_an_epoch_or_it_is_told(optimizer: str, label: str, told: str) -> None:
    _, changes = scaled(small(f"optimizer={optimizer}"))
    found = changes["optimizer.weight_decay"]
    assert (found.old, found.new, found.label) == (found.new, found.old, label)
    assert told in found.why


def test_clipping_belongs_to_the_batch() -> None:
    assert "train.grad_clip" not in scaled(small())[1]
    assert scaled(small("train.grad_clip=1"))[1]["train.grad_clip"].label == "unsafe"
