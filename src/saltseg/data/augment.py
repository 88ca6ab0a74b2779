"""Random changes to a tile and its mask together, from albumentations. What geology forbids is left out."""

import os
import random
from typing import Any

import numpy as np

from saltseg.config import unknown
from saltseg.errors import InputError

POLICIES = ("none", "light")


class Augment:
    """``augment(image, mask, seed)`` → the same shapes and dtypes. The result depends on the arguments alone.

    ``light``: left-right flips (salt rises, so never upside down), small shifts, scalings, rotations and shears
    with reflected borders, small changes of brightness and contrast.
    """

    def __init__(self, policy: str) -> None:
        if policy not in POLICIES:
            raise InputError(unknown("augmentation", policy, POLICIES))
        self._compose = _light() if policy == "light" else None

    def __call__(self, image: np.ndarray, mask: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """image: uint8 (H, W); mask: uint8 {0, 1} (H, W); seed: the only source of randomness."""
        if self._compose is None:
            return image, mask
        # Not set_random_seed: that gives every transform the same stream, so all of them happen or none does.
        self._compose.set_random_state(np.random.default_rng(seed), random.Random(seed))
        changed = self._compose(image=image[:, :, None], mask=mask)
        return changed["image"][:, :, 0], changed["mask"]


def _light() -> Any:
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # no call home at import
    import albumentations as A
    import cv2

    cv2.setNumThreads(0)  # tiles are tiny; threads would fight torch for the cores
    return A.Compose(
        [
            A.HorizontalFlip(p=0.5),
            A.Affine(
                scale=(0.9, 1.1),
                translate_percent=(-0.05, 0.05),
                rotate=(-6, 6),
                shear=(-5, 5),
                interpolation=cv2.INTER_LINEAR,
                mask_interpolation=cv2.INTER_NEAREST,
                border_mode=cv2.BORDER_REFLECT_101,
                p=0.5,
            ),
            A.RandomBrightnessContrast(brightness_limit=0.08, contrast_limit=0.08, p=0.5),
        ]
    )
