"""Records of studies by hand, of ten images with numbers to reckon with."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from saltseg import config, io
from saltseg.studies import ablations, records
from saltseg.studies.case_study import results as case_results
from saltseg.studies.case_study import variants
from saltseg.studies.records import KINDS, Record
from saltseg.studies.sweep import Study, Sweep

N = 10


def sweep(output: Path, study: Study = ablations.STUDY, budget: str = "cpu") -> Sweep:
    """A study on a dataset that is not there."""
    return Sweep(study, "fake", budget, output.parent / "input", output)


def record(
    of: Sweep, variant: str = "base", seed: int = 0, tuned: str = "5", half: str = "5", **changed: Any
) -> Record:
    """A record; tuned, half: tenths of an image, the same for all or of each; post-processed scores are as tuned."""
    n = max(len(tuned), len(half)) if max(len(tuned), len(half)) > 1 else N
    every = zip(KINDS, (half, tuned, tuned), strict=True)
    digits = {kind: value * n if len(value) == 1 else value for kind, value in every}
    made = Record(
        study=of.owner(variant).study.name, budget=of.budget_name, variant=variant, seed=seed, run=f"{variant}-{seed}",
        dataset=of.data, dataset_hash="ab" * 32, folds_hash="cd" * 32, unlabeled_hash=None, transduction=False,
        n=n, n_train=800, n_pseudo=0,
        scores={kind: float(np.mean([int(digit, 16) for digit in text])) / 10 for kind, text in digits.items()},
        passed=dict(digits), log_loss=0.25, seconds=90.0, seconds_per_epoch=6.0, peak_memory_mb=1234, device="cpu",
        created=None, command="saltseg study", commit="0123456789abcdef", machine="Linux",
        changes=of.changes(variant), settings=config.flat(of.settings(variant, seed)), details={},
    )  # fmt: skip
    return replace(made, **changed)


def write(of: Sweep, *made: Record) -> Sweep:
    """Leave records where they belong; returns the sweep."""
    for one in made:
        records.write(of.record_path(one.variant, one.seed), one)
    return of


# ---------------------------------------------------------------- case study


def steps(*values: tuple[int, int]) -> list[int]:
    """256 counts: each (last threshold, count) in turn, 0 above the last."""
    found = list[int]()
    for last, count in values:
        found += [count] * (last + 1 - len(found))
    return found + [0] * (256 - len(found))


def details(**changed: Any) -> dict[str, Any]:
    """Of ten images with 10 pixels each: 20 salt pixels have probability 200/255; 20 salt and 20 rock pixels 100/255;
    40 rock pixels 0."""
    row = {"train_loss": 0.4, "valid_loss": 0.5, "learning_rate": 0.001}
    made = {
        "folds": [0, 1], "image_folds": "0000011111", "pixel_accuracy": 0.9,
        "totals": {
            "thresholds": {
                "intersection": steps((100, 40), (200, 20)),
                "predicted": steps((0, 100), (100, 60), (200, 20)),
                "missed": steps((100, 0), (200, 1), (255, 4)),
                "invented": steps((0, 6), (100, 3)),
            },
            "n": N, "images_with_salt": 4, "pixels": 100, "true_pixels": 40,
        },
        "tuned": {"intersection": 16, "predicted": 20, "missed": 2, "invented": 0},
        "boundary": {"distance": [-11, -2, -1, 1, 2, 11], "pixels": [100, 10, 10, 10, 10, 60],
                     "errors": [10, 2, 3, 4, 1, 0]},
        "curves": [[{"epoch": 2.0, **row}, {"epoch": 4.0, **row}]] * 2,
        "train": {"pixel_accuracy": 0.95, "score_at_half": 0.7},
        "valid": {"pixel_accuracy": 0.9, "score_at_half": 0.6},
        "parameters": 1000, "operations": 2_000_000, "ensemble": None,
    }  # fmt: skip
    return made | changed


def ensemble(**changed: Any) -> dict[str, Any]:
    """The mean of two networks; one alone marks 40 pixels at 0.5, 10 of them salt."""
    scores = {"alone": 0.6, "together": 0.64, "gain": 0.04, "interval": [0.01, 0.07]}
    counts = {
        "intersection": steps((0, 40), (128, 10), (200, 5)), "predicted": steps((0, 100), (128, 40), (200, 10)),
        "missed": steps((128, 3), (255, 4)), "invented": steps((0, 6), (128, 5), (200, 1)),
    }  # fmt: skip
    totals = details()["totals"]
    made = {"n": 1629, "folds": [0, 1], "trained": 1371, "score_at_half": scores, "together": totals}
    made |= {"score_tuned_cv": scores | {"interval": [-0.01, 0.07]}, "alone": totals | {"thresholds": counts}}
    return made | changed


def case_sweep(output: Path, budget: str = "cpu") -> Sweep:
    """The case study on a dataset that is not there."""
    return sweep(output, variants.STUDY, budget)


def case_record(
    of: Sweep, variant: str = "base", seed: int = 0, changed: dict[str, Any] | None = None, **more: Any
) -> Record:
    """A record of the case study; changed: entries of its details."""
    return record(of, variant, seed, details=details(**(changed or {})), **more)


def case(output: Path, *made: Any, budget: str = "cpu") -> case_results.CaseStudy:
    """The case study of these records: variants, or arguments of `case_record` as a mapping."""
    of = case_sweep(output, budget)
    entries = [{"variant": one} if isinstance(one, str) else one for one in made]
    return case_results.read(write(of, *(case_record(of, **entry) for entry in entries)))


def predicted_tiles(of: Sweep, variant: str = "base", count: int = 2) -> Path:
    """Tiles of each side beside a record; half of each is salt, all is marked."""
    write(of, case_record(of, variant))
    masks = np.zeros((2, count, 8, 8), np.uint8)
    masks[..., 4:, :] = 1
    arrays = {"images": np.full_like(masks, 100), "masks": masks, "probabilities": np.full_like(masks, 200)}
    arrays |= {"ids": np.full((2, count), "a"), "git_commit": np.array("0123456789abcdef")}
    path = of.record_path(variant, 0).with_suffix(".npz")
    io.write_arrays(path, arrays)
    return path
