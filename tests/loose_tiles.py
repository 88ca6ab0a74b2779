"""Tiles without labels, in memory and in a folder."""

import shutil
from pathlib import Path

import cv2
import numpy as np


def noise(count: int, seed: int = 0) -> np.ndarray:
    """Random tiles, uint8 (count, 101, 101)."""
    return np.random.default_rng(seed).integers(0, 256, (count, 101, 101), dtype=np.uint8)


def folder(root: Path, images: np.ndarray) -> Path:
    """Files u0.png, u1.png, …"""
    path = root / "unlabeled"
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir()
    for number, image in enumerate(images):
        (path / f"u{number}.png").write_bytes(cv2.imencode(".png", image)[1].tobytes())
    return path
