"""What becomes of a method's own values in a larger run."""

from __future__ import annotations

import pytest

from raysl.train.scale import KEPT
from tests.train.scaling import scaled, small


def test_a_teachers_momentum_decays_as_much_over_the_horizon() -> None:
    big, changes = scaled(small())
    assert changes["method.momentum"].label == "rescaled"
    assert big.to_dict()["method"]["momentum"] == pytest.approx(0.99**4)
    big, _ = scaled(small("method.momentum=200 steps"))
    assert big.to_dict()["method"]["momentum"] == "50 steps"
    big, changes = scaled(small("method.momentum=1%"))
    assert big.to_dict()["method"]["momentum"] == "1%"
    assert changes["method.momentum"].label == "transferred"


def test_mec_says_what_becomes_of_lamda_inv() -> None:
    config = small("method=mec", "train.batch_size=256", "data.image_size=32")
    _, changes = scaled(config, 4096, images=None, workers=64)
    (found,) = [
        change for key, change in changes.items() if "lamda_inv" in key and change.label == "rescaled"
    ]
    assert found.new == pytest.approx(16 * found.old)


def test_intl_says_what_becomes_of_beta() -> None:
    _, changes = scaled(small("method={name: intl}"), 1024)
    assert changes["method.beta"].new == pytest.approx(0.07)


def test_the_momentums_reason_holds_where_images_cannot_be_counted() -> None:
    _, changes = scaled(small(), 1024, images=None)
    assert changes["method.momentum"].why.startswith("momentum ** 16, ")
    assert changes["method.momentum"].label == "rescaled"
    _, changes = scaled(small("method.momentum=0.9"), 1024)
    assert changes["method.momentum"].label == "unsafe"
    _, changes = scaled(small("method.momentum=1.0"), 1024)
    assert changes["method.momentum"].why == KEPT


@pytest.mark.parametrize(
    ("name", "key", "larger", "smaller"),
    [
        ("simclr", "temperature", "unsafe", "unsafe"),
        ("barlow_twins", "lam", "transferred", "unsafe"),
        ("vicreg", "covariance", "transferred", "unsafe"),
        ("mv_mr_distill", "views_weight", "transferred", "unsafe"),
    ],
)
def test_values_that_a_batch_decides_on_are_named(name: str, key: str, larger: str, smaller: str) -> None:
    views = "views.count=1" if name == "mv_mr_distill" else "views.count=2"
    for batch, label in ((256, larger), (32, smaller), (64, "transferred")):
        found = scaled(small(f"method={{name: {name}}}", views), batch)[1][f"method.{key}"]
        assert (found.label, found.new) == (label, found.old)
        assert (found.why == KEPT) is (batch == 64)


def test_lengths_of_a_method_follow_the_horizon() -> None:
    _, changes = scaled(small("method={name: mec, lamda_warmup: 5%}"))
    assert changes["method.lamda_warmup"].why == "a share of the horizon"
    _, changes = scaled(small("method={name: mec, lamda_warmup: 10}"), epochs=10)
    assert changes["method.lamda_warmup"].label == "unsafe"
    config = small("method={name: cw_rgp, w_size: 64, cov_stop: 50, cov_weight: 0.005}")
    big, _ = scaled(config, epochs=200)
    assert big.to_dict()["method"]["cov_stop"] == 100


def test_a_method_whose_loss_is_of_slices_is_scaled_by_them() -> None:
    accumulated = ("train.accumulation=2", "train.accumulation_loss=micro")
    config = small("method={name: w_mse, w_size: 32, projector: {layers: 2, out: 16}}", *accumulated)
    big, changes = scaled(config, 288)
    assert (changes["images per slice"].old, changes["images per slice"].new) == (32, 144)
    assert 144 % big.to_dict()["method"]["w_size"] == 0
