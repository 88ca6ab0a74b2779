"""How much of a score is due to neighbors? Random folds against folds that keep the tiles of a section together.

  saltseg find-sections tgs --images FOLDER        # of the images without labels
  saltseg run recipe_lite0_resized --data tgs --set folds.scheme=grouped --name tgs-lite0_grouped
  saltseg publish tgs-lite0_grouped
  python benchmarks/grouped_folds.py tgs-lite0_resized tgs-lite0_grouped

compares the published scores of each tile, of all tiles, of those that share a section with another labeled tile, and
of those that do not. Only the former can gain from neighbors in the training. Intervals resample sections.

`input/tgs` is the cut of 3,000 tiles (benchmarks/tgs_split.py) under that name.
"""

import argparse
from pathlib import Path

import numpy as np

from harness import one_line
from saltseg import io
from saltseg.metrics import bootstrap

PUBLISHED = Path(__file__).resolve().parents[1] / "output" / "published"
SCORES = {"at 0.5": "score_at_half", "post-processed": "score_postprocessed_cv"}


def compare(random: str, grouped: str, sections_csv: Path) -> None:
    """Print the table."""
    section_of = {row["id"]: row["section"] for row in io.read_csv(sections_csv)}
    first, second = (
        {row["id"]: row for row in io.read_csv(PUBLISHED / name / "image_scores.csv")} for name in (random, grouped)
    )
    ids = sorted(first.keys() & second.keys())
    sections = np.array([section_of[id_] for id_ in ids])
    _, index, counts = np.unique(sections, return_inverse=True, return_counts=True)
    shared = counts[index] > 1
    print("| tiles | count | score | random folds | grouped folds | difference [95 %] |\n|---|---|---|---|---|---|")
    for title, chosen in (
        ("all", np.full(len(ids), True)),
        ("that share a section with another labeled tile", shared),
        ("alone in their section", ~shared),
    ):
        for score, key in SCORES.items():
            before, after = (
                np.array([float(rows[id_][key]) for id_, used in zip(ids, chosen, strict=True) if used])
                for rows in (first, second)
            )
            gain = bootstrap.paired_difference(before, after, sections[chosen])
            low, high = gain.interval
            row = (title, chosen.sum(), score, f"{before.mean():.4f}", f"{after.mean():.4f}")
            print(f"| {' | '.join(map(str, row))} | {gain.mean:+.4f} [{low:+.4f}, {high:+.4f}] |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("random", metavar="RUN", help="published, of random folds")
    parser.add_argument("grouped", metavar="RUN", help="published, of grouped folds")
    parser.add_argument("--sections", type=Path, default=Path("input/tgs.sections.csv"))
    arguments = parser.parse_args()
    with one_line():
        compare(arguments.random, arguments.grouped, arguments.sections)
