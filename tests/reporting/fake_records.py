"""Records of the case study as inference/study.py makes them, of ten images with numbers to reckon with by hand."""

import numpy as np

from saltseg import storage, studies
from saltseg.reporting import case_records, case_tiles

N = 10


def steps(*values: tuple[int, int]) -> list[int]:
    """256 counts: each (last threshold, count) in turn, 0 above the last."""
    found = []
    for last, count in values:
        found += [count] * (last + 1 - len(found))
    return found + [0] * (256 - len(found))


def entry(variant="base", seed=0, half="5", fitted="5", budget="cpu", **changed):
    """A record as inference/study.py makes it, of ten images with 10 pixels each.

    half, fitted: tenths of an image, the same for all, or of each. 20 salt pixels have probability 200/255; 20 salt
    and 20 rock pixels 100/255; 40 rock pixels 0.
    """
    half, fitted = (digits * N if len(digits) == 1 else digits for digits in (half, fitted))
    mean = {name: sum(int(digit, 16) for digit in digits) / 100 for name, digits in (("h", half), ("f", fitted))}
    row = {"train_loss": 0.4, "valid_loss": 0.5, "learning_rate": 0.001}
    made = {
        "variant": variant, "budget": budget, "seed": seed, "changes": studies.changes(variant, budget),
        "folds": [0, 1], "dataset": "fake", "dataset_hash": "ab" * 32, "folds_hash": "cd" * 32, "n_train": 800, "n": N,
        "log_loss": 0.25, "at_half": mean["h"], "cross_fitted": mean["f"], "whole_rule": mean["f"],
        "tenths_at_half": half, "tenths_cross_fitted": fitted, "tenths_whole_rule": fitted, "pixel_accuracy": 0.9,
        "seconds_per_epoch": 6.0, "peak_memory_mb": 1234, "command": "python scripts/study.py",
        "git_commit": "0123456789abcdef", "machine": "Linux", "device": "cpu",
        "thresholds": {
            "intersection": steps((100, 40), (200, 20)),
            "predicted": steps((0, 100), (100, 60), (200, 20)),
            "missed": steps((100, 0), (200, 1), (255, 4)),
            "invented": steps((0, 6), (100, 3)),
        },
        "pixels": 100, "true_pixels": 40, "images_with_salt": 4,
        "tuned": {"intersection": 16, "predicted": 20, "missed": 2, "invented": 0},
        "boundary": {"distance": [-11, -2, -1, 1, 2, 11], "pixels": [100, 10, 10, 10, 10, 60],
                     "errors": [10, 2, 3, 4, 1, 0]},
        "parameters": 1000, "operations": 2_000_000, "milliseconds": 1.5,
        "curves": [[{"epoch": 2.0, **row}, {"epoch": 4.0, **row}]] * 2,
        "train": {"pixel_accuracy": 0.95, "score_at_half": 0.7}, "valid": {"pixel_accuracy": 0.9, "score_at_half": 0.6},
    }  # fmt: skip
    return made | changed


def ensemble(**changed):
    """What inference/study.py finds when it averages two folds of ``entry()``."""
    rules = {"alone": 0.6, "together": 0.64, "gain": 0.04, "interval": [0.01, 0.07]}
    keys = ("thresholds", "n", "pixels", "true_pixels", "images_with_salt")
    together = {key: entry()[key] for key in keys}
    counts = {
        "intersection": steps((0, 40), (128, 10), (200, 5)), "predicted": steps((0, 100), (128, 40), (200, 10)),
        "missed": steps((128, 3), (255, 4)), "invented": steps((0, 6), (128, 5), (200, 1)),
    }  # fmt: skip
    made = {key: entry()[key] for key in ("seed", "dataset_hash", "folds_hash", "git_commit")}
    made |= {"n": 1629, "folds": [0, 1], "trained": 1371, "at_half": rules}
    made |= {"cross_fitted": rules | {"interval": [-0.01, 0.07]}, "together": together}
    return made | {"alone": together | {"thresholds": counts}} | changed


def read(folder, *entries, budget="cpu"):
    """The study of these records, which are left in ``folder``."""
    for made in entries:
        storage.write_json_lines(folder / f"{made['variant']}-{made['seed']}.json", made)
    return case_records.read(folder, "fake", budget)


def predicted_tiles(folder):
    """Two tiles of each side for base in ``folder``, DATASET-cpu, read again; half of each is salt, all is marked."""
    masks = np.zeros((2, 2, 8, 8), np.uint8)
    masks[..., 4:, :] = 1
    images = np.full_like(masks, 100)
    arrays = {"images": images, "masks": masks, "probabilities": np.full_like(masks, 200)}
    arrays |= {"ids": np.array([["a", "b"], ["c", "d"]]), "git_commit": np.array(entry()["git_commit"])}
    storage.write_arrays(folder / "base-0.npz", arrays)
    storage.write_json_lines(folder / "base-0.json", entry())
    return case_tiles.read(folder.parent, "fake", "cpu")
