"""Cut TGS as all scores in RESULTS.md were measured: 3,000 labeled tiles to train on, 1,000 held out.

  saltseg prepare --source kaggle --name tgs-4000
  python benchmarks/tgs_split.py
  saltseg run recipe_lite0_long --data tgs --parallel 2 --name mine
  saltseg compare tgs-lite0_42 mine

The organizers' 4,000 labeled tiles, sorted by id, were split at random. The ids of the 3,000 are those of a published
run; the others become the test set, without their masks. Images are links to those of the whole dataset, `tgs-4000`.
The cut is called `tgs`, as published runs call it.
"""

import argparse
from pathlib import Path

from harness import one_line
from saltseg import io
from saltseg.errors import InputError

IDS = Path(__file__).resolve().parents[1] / "output" / "published" / "tgs-lite0_resized" / "image_scores.csv"


def split(source: Path, target: Path) -> tuple[int, int]:
    """Write the dataset; returns the numbers of labeled and of held-out tiles."""
    if not (source / "train.csv").is_file():
        raise InputError(f"no dataset {source}; get it with: saltseg prepare --source kaggle --name {source.name}")
    kept = {row["id"] for row in io.read_csv(IDS)}
    rows = sorted(io.read_csv(source / "train.csv"), key=lambda row: row["id"])  # the order is part of the dataset
    if missing := kept - {row["id"] for row in rows}:
        raise InputError(f"{source}: {len(missing)} of the 3,000 tiles are missing, the first {min(missing)}")
    with io.atomic_dir(target) as new:
        for folder in ("train/images", "train/masks", "test/images"):
            (new / folder).mkdir(parents=True)
        for row in rows:
            name = f"{row['id']}.png"
            kinds = ("train/images", "train/masks") if row["id"] in kept else ("test/images",)
            for kind in kinds:
                (new / kind / name).symlink_to((source / "train" / Path(kind).name / name).resolve())
        io.write_csv(new / "train.csv", [row for row in rows if row["id"] in kept])
        io.write_csv(
            new / "sample_submission.csv",
            [{"id": row["id"], "rle_mask": "1 1"} for row in rows if row["id"] not in kept],
        )
        if (source / "depths.csv").is_file():
            (new / "depths.csv").symlink_to((source / "depths.csv").resolve())
    return len(kept), len(rows) - len(kept)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input", type=Path, default=Path("input"))
    arguments = parser.parse_args()
    source, target = arguments.input / "tgs-4000", arguments.input / "tgs"
    with one_line():
        labeled, held = split(source, target)
    print(f"{target}: {labeled} labeled tiles, {held} held out")
    print("next: saltseg run recipe_lite0_long --data tgs --parallel 2 --name mine")
