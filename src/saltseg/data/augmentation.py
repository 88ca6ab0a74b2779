"""Random augmentation of a tile together with its mask, by albumentations; only changes that geology permits."""

import os
import random
from typing import Any

import numpy as np

from saltseg.errors import InputError, unknown_name

POLICIES = ("none", "light")


class Augment:
    """Augments a tile and its mask, as a function of the arguments alone.

    `light`: left-right flips (never upside down, because salt rises), small shifts, scalings, rotations and shears with
    reflected borders, small changes of brightness and contrast. `none`: the identity.
    """

    def __init__(self, policy: str) -> None:
        if policy not in POLICIES:
            raise InputError(unknown_name("augmentation", policy, POLICIES))
        self._compose = _light() if policy == "light" else None

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
