"""A small dataset in the organizers' layout, written without the code under test (except for the RLE)."""

import csv
from pathlib import Path

import cv2
import numpy as np

from saltseg.metrics import rle


def write_png(path: Path, pixels: np.ndarray) -> None:
    """Write a PNG in place of whatever is there, a link included."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())


def write_rows(path: Path, rows: list[list[str]]) -> None:
    """Write a CSV file in place of whatever is there."""
    path.unlink(missing_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def build(root: Path, n_train: int = 24, n_test: int = 6) -> Path:
    """Random RGB images with equal channels, 16-bit masks; first: a constant tile, second: a full mask."""
    rng = np.random.default_rng(7)
    ids = [f"{number:010x}" for number in rng.integers(16**9, 16**10, n_train + n_test)]
    train, test = ids[:n_train], ids[n_train:]
    texts = []
    for index, identity in enumerate(train):
        image = rng.integers(0, 256, (101, 101, 1), dtype=np.uint8)
        mask = np.zeros((101, 101), np.uint16)
        mask[int(rng.integers(10, 60)) :, : int(rng.integers(5, 95))] = 1
        if index == 0:
            image[:], mask[:] = 0, 0
        elif index == 1:
            mask[:] = 1
        write_png(root / "train/images" / f"{identity}.png", np.repeat(image, 3, axis=2))
        write_png(root / "train/masks" / f"{identity}.png", mask * 65535)
        texts.append(rle.encode(mask))
    for identity in test:
        write_png(root / "test/images" / f"{identity}.png", rng.integers(0, 256, (101, 101), dtype=np.uint8))
    columns = ["id", "rle_mask"]
    write_rows(root / "train.csv", [columns, *([i, text] for i, text in zip(train, texts, strict=True))])
    write_rows(root / "sample_submission.csv", [columns, *([i, "1 1"] for i in test)])
    write_rows(root / "depths.csv", [["id", "z"], *([i, str(50 + n)] for n, i in enumerate(ids))])
    usage = ["Public", "Private", "Private"]
    rows = [[i, "1 3 10201 1", usage[n % 3]] for n, i in enumerate(test)]
    write_rows(root / "solution.csv", [[*columns, "usage"], *rows])
    rows = [[i, f"line {n // 3}", "0", str(n % 3)] for n, i in enumerate(ids)]
    write_rows(root / "sections.csv", [["id", "section", "row", "column"], *rows])
    return root


def files_under(root: Path) -> dict[str, bytes]:
    """Contents of every file under `root`, by relative path."""
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}
