"""Random augmentation of a tile together with its mask, by albumentations; only changes that geology permits."""

import os
import random
from collections.abc import Callable
from typing import Any

import numpy as np

from saltseg.errors import InputError, unknown_name


class Augment:
    """Augments a tile and its mask, as a function of the arguments alone.

    `light`: left-right flips (never upside down, because salt rises), small shifts, scalings, rotations and shears with
    reflected borders, small changes of brightness and contrast. `strong`: the same, larger and more often, and up to
    four rectangles of one gray value each hide parts of the image, whose salt is still to be found (coarse dropout:
    DeVries and Taylor 2017, arXiv 1708.04552). `none`: the identity.
    """

    def __init__(self, policy: str) -> None:
        if policy not in POLICIES:
            raise InputError(unknown_name("augmentation", policy, POLICIES))
        self._compose = POLICIES[policy]()

    def __call__(self, image: np.ndarray, mask: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Augment one tile.

        Args:
            image: uint8 (H, W).
            mask: uint8 (H, W).
            seed: the only source of randomness.

        Returns:
            Image and mask of the same shapes and dtypes.
        """
        if self._compose is None:
            return image, mask
        # Not set_random_seed: that gives every transform the same stream, so all of them happen or none does.
        self._compose.set_random_state(np.random.default_rng(seed), random.Random(seed))
        changed = self._compose(image=image[:, :, None], mask=mask)
        return changed["image"][:, :, 0], changed["mask"]


def _light() -> Any:
    A = _albumentations()
    return A.Compose(
        [
            A.HorizontalFlip(p=0.5),
            _movement(A, scale=(0.9, 1.1), translate_percent=(-0.05, 0.05), rotate=(-6, 6), shear=(-5, 5), p=0.5),
            A.RandomBrightnessContrast(brightness_limit=0.08, contrast_limit=0.08, p=0.5),
        ]
    )


def _strong() -> Any:
    A = _albumentations()
    side = (0.1, 0.25)  # of a rectangle, as a share of the tile's
    return A.Compose(
        [
            A.HorizontalFlip(p=0.5),
            _movement(A, scale=(0.8, 1.25), translate_percent=(-0.12, 0.12), rotate=(-8, 8), shear=(-8, 8), p=0.8),
            A.RandomBrightnessContrast(brightness_limit=0.2, contrast_limit=0.2, p=0.6),
            A.CoarseDropout(
                num_holes_range=(1, 4), hole_height_range=side, hole_width_range=side, fill="random_uniform", p=0.5
            ),
        ]
    )


def _movement(A: Any, **ranges: Any) -> Any:
    """Scale, shift, rotate and shear image and mask together; what comes in from outside is reflected."""
    import cv2

    return A.Affine(
        interpolation=cv2.INTER_LINEAR,
        mask_interpolation=cv2.INTER_NEAREST,
        border_mode=cv2.BORDER_REFLECT_101,
        **ranges,
    )


def _albumentations() -> Any:
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # no call home at import
    import albumentations
    import cv2

    cv2.setNumThreads(0)  # tiles are tiny; threads would fight torch for the cores
    return albumentations


POLICIES: dict[str, Callable[[], Any]] = {"none": lambda: None, "light": _light, "strong": _strong}
