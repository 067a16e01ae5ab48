"""The views of published recipes: the values that `views: {preset: NAME}` starts from."""

from __future__ import annotations

from typing import Any

PRESETS: dict[str, dict[str, Any]] = {
    "none": {},
    # 8x8 grey images of digits: no mirror, which makes another digit, and no colours to jitter.
    "digits": {
        "order": ["crop", "jitter"],
        "crop": {"scale": [0.4, 1.0]},
        "jitter": {"brightness": 0.3, "contrast": 0.3, "saturation": 0.0, "hue": 0.0, "p": 0.8},
    },
    # arXiv 2007.06346, CIFAR and the other small sets: colour on the whole image, then the crop.
    "w_mse": {
        "order": ["jitter", "grayscale", "crop", "flip"],
        "jitter": {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1, "p": 0.8},
        "grayscale": {"p": 0.1},
        "crop": {"scale": [0.2, 1.0], "interpolation": "bicubic"},
        "flip": {"p": 0.5},
    },
    # arXiv 2210.11464, ImageNet; Matrix-SSL (2305.17326) uses the same.
    "mec": {
        "size": 224,
        "order": ["crop", "jitter", "grayscale", "blur", "solarize", "flip"],
        "crop": {"scale": [0.2, 1.0]},
        "jitter": {"brightness": 0.4, "contrast": 0.4, "saturation": 0.2, "hue": 0.1, "p": 0.8},
        "grayscale": {"p": 0.2},
        "blur": {"p": [1.0, 0.1], "sigma": [0.1, 2.0]},
        "solarize": {"p": [0.0, 0.2]},
        "flip": {"p": 0.5},
        "evaluation": {"resize": 256, "crop": 224},
    },
    # arXiv 2002.05709, appendix A, strength 1.
    "simclr": {
        "order": ["crop", "flip", "jitter", "grayscale", "blur"],
        "crop": {"scale": [0.08, 1.0]},
        "flip": {"p": 0.5},
        "jitter": {"brightness": 0.8, "contrast": 0.8, "saturation": 0.8, "hue": 0.2, "p": 0.8},
        "grayscale": {"p": 0.2},
        "blur": {"p": 0.5, "sigma": [0.1, 2.0]},
    },
}
