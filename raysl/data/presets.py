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
    # Grey photographs (`data.channels: 1`), such as X-rays: no hue and no saturation to change.
    "gray": {
        "order": ["crop", "flip", "jitter", "blur"],
        "crop": {"scale": [0.2, 1.0]},
        "flip": {"p": 0.5},
        "jitter": {"brightness": 0.4, "contrast": 0.4, "saturation": 0.0, "hue": 0.0, "p": 0.8},
        "blur": {"p": 0.5, "sigma": [0.1, 2.0]},
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
    # arXiv 2007.06346, ImageNet-100: stronger colours, and a blur after the mirror.
    "w_mse_imagenet100": {
        "size": 224,
        "order": ["jitter", "grayscale", "crop", "flip", "blur"],
        "jitter": {"brightness": 0.8, "contrast": 0.8, "saturation": 0.8, "hue": 0.2, "p": 0.8},
        "grayscale": {"p": 0.2},
        "crop": {"scale": [0.08, 1.0], "interpolation": "bicubic"},
        "flip": {"p": 0.5},
        "blur": {"p": 0.5, "sigma": [0.1, 2.0]},
        "evaluation": {"resize": 256, "crop": 224},
    },
    # arXiv 2210.03586, ImageNet.
    "cw_rgp": {
        "count": 4,
        "size": 224,
        "order": ["crop", "jitter", "grayscale", "blur", "flip"],
        "crop": {"scale": [0.2, 1.0]},
        "jitter": {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1, "p": 0.8},
        "grayscale": {"p": 0.2},
        "blur": {"p": 0.5, "sigma": [0.1, 2.0]},
        "flip": {"p": 0.5},
        "evaluation": {"resize": 256, "crop": 224},
    },
    # arXiv 2305.16789, ImageNet and ImageNet-100 with two views.
    "intl": {
        "size": 224,
        "order": ["crop", "jitter", "grayscale", "blur", "solarize", "flip"],
        "crop": {"scale": [0.08, 1.0], "interpolation": "bicubic"},
        "jitter": {"brightness": 0.4, "contrast": 0.4, "saturation": 0.2, "hue": 0.1, "p": 0.8},
        "grayscale": {"p": 0.2},
        "blur": {"p": [1.0, 0.1], "sigma": [0.1, 2.0]},
        "solarize": {"p": [0.0, 0.2]},
        "flip": {"p": 0.5},
        "evaluation": {"resize": 256, "crop": 224},
    },
    # arXiv 2305.16789, multi-crop: each smaller view shows a smaller part of the image.
    "intl_multicrop": {
        "count": 6,
        "size": [224, 224, 192, 160, 128, 96],
        "order": ["crop", "jitter", "grayscale", "blur", "solarize", "flip"],
        "crop": {
            "scale": [[0.2, 1], [0.2, 1], [0.171, 0.857], [0.143, 0.714], [0.114, 0.571], [0.086, 0.429]],
            "interpolation": "bicubic",
        },
        "jitter": {"brightness": 0.4, "contrast": 0.4, "saturation": 0.2, "hue": 0.1, "p": 0.8},
        "grayscale": {"p": 0.2},
        "blur": {"p": 0.5, "sigma": [0.1, 2.0]},
        "solarize": {"p": 0.1},
        "flip": {"p": 0.5},
        "evaluation": {"resize": 256, "crop": 224},
    },
    # arXiv 2305.16789, CIFAR-10 and CIFAR-100.
    "intl_cifar": {
        "order": ["crop", "jitter", "grayscale", "solarize", "flip"],
        "crop": {"scale": [0.08, 1.0], "interpolation": "bicubic"},
        "jitter": {"brightness": 0.4, "contrast": 0.4, "saturation": 0.2, "hue": 0.1, "p": 0.8},
        "grayscale": {"p": 0.2},
        "solarize": {"p": [0.0, 0.2]},
        "flip": {"p": 0.5},
    },
    # MV-MR's own views of STL-10 and ImageNet; its blur's kernel is the default one.
    "mv_mr": {
        "order": ["crop", "flip", "jitter", "grayscale", "blur"],
        "crop": {"scale": [0.08, 1.0]},
        "flip": {"p": 0.5},
        "jitter": {"brightness": 0.8, "contrast": 0.8, "saturation": 0.8, "hue": 0.2, "p": 0.8},
        "grayscale": {"p": 0.2},
        "blur": {"p": 1.0, "sigma": [0.1, 2.0]},
    },
    # MV-MR's distillation on CIFAR-100: a margin of 4 black pixels, a crop of the old size, a mirror.
    "pad_crop_flip": {
        "order": ["shift", "flip"],
        "shift": {"pixels": 4},
        "flip": {"p": 0.5},
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
