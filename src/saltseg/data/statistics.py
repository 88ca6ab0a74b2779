"""What a valid dataset holds."""

from dataclasses import dataclass
from pathlib import Path

from saltseg.data import competition


@dataclass(frozen=True)
class Statistics:
    """Counts of a valid dataset; None: the dataset has no such file.

    Attributes:
        train: labeled tiles.
        test: tiles to predict.
        empty_share: share of labeled tiles without salt, 0..1.
        mean_coverage: mean share of salt pixels, 0..1.
        constant_tiles: labeled tiles of one gray value.
        sections: number of sections.
        without_depth: tiles that depths.csv lacks.
        solution: whether there is a solution.csv.
    """

    train: int
    test: int
    empty_share: float
    mean_coverage: float
    constant_tiles: int
    sections: int | None
    without_depth: int | None
    solution: bool


def statistics(root: Path) -> Statistics:
    """Count what a dataset holds; raises as `competition.read_train` does."""
    labeled = competition.read_train(root)
    tests = competition.test_ids(root)
    flat = labeled.images.reshape(len(labeled.ids), -1)
    sections, depths = competition.read_sections(root), competition.read_depths(root)
    return Statistics(
        train=len(labeled.ids),
        test=len(tests),
        empty_share=float((~labeled.masks.any(axis=(1, 2))).mean()),
        mean_coverage=float(labeled.masks.mean()),
        constant_tiles=int((flat.min(axis=1) == flat.max(axis=1)).sum()),
        sections=None if sections is None else len(set(sections.values())),
        without_depth=None if depths is None else len({*labeled.ids, *tests}.difference(depths)),
        solution=(root / "solution.csv").is_file(),
    )
