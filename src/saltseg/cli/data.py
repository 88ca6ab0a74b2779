"""Verbs about datasets: prepare, check, find-sections, realism."""

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from saltseg.cli.command import INPUT, OUTPUT, InputDir, OutputDir, Result, progress_bar, verb
from saltseg.errors import InputError

PLACES = 10  # where each problem was found, printed without --all

if TYPE_CHECKING:
    from saltseg.data.check import Problem
    from saltseg.data.statistics import Statistics


@verb("prepare")
def prepare(
    source: Annotated[str, Option(metavar="SOURCE", help="synthetic, kaggle or a folder")],
    name: Annotated[
        str | None, Option(help="under input/ (default: synthetic, tgs, or the folder's own name)", show_default=False)
    ] = None,
    train: Annotated[
        int | None,
        Option(min=1, max=1_000_000, metavar="N", help="synthetic: labeled tiles (default: 1000)", show_default=False),
    ] = None,
    test: Annotated[
        int | None,
        Option(
            min=1, max=1_000_000, metavar="N", help="synthetic: tiles to predict (default: 500)", show_default=False
        ),
    ] = None,
    seed: Annotated[
        int | None,
        Option(
            min=0,
            metavar="SEED",
            help="synthetic: the same seed gives the same tiles (default: 0)",
            show_default=False,
        ),
    ] = None,
    overwrite: Annotated[bool, Option("--overwrite", help="replace what has that name already")] = False,
    input_dir: InputDir = INPUT,
) -> Result:
    """Put a dataset in Kaggle's layout under input/: simulated, from Kaggle, or an existing copy.

      saltseg prepare --source synthetic --train 600 --test 200
      saltseg prepare --source kaggle
      saltseg prepare --source ~/data/tgs --name tgs

    SOURCE is one of

      synthetic   simulated seismic with exact salt masks; no account, no download
      kaggle      the TGS Salt data, with Kaggle's own client (pip install -e '.[kaggle]', a token,
                  and the competition's rules accepted); after an interruption, repeat the command
      FOLDER      a copy that you have, with train.zip and test.zip unpacked, as train/images and
                  so on: it is checked and linked, nothing in it is changed

    The same data is not made again. Other data of that name is an error, unless --overwrite replaces it (of a link only
    the link).
    """
    from saltseg.data import install, kaggle
    from saltseg.synthetic import dataset

    if source != "synthetic" and (train, test, seed) != (None, None, None):
        raise InputError("--train, --test and --seed are for --source synthetic; leave them out")
    if source == "synthetic":
        n_train, n_test = train or 1000, test or 500
        with progress_bar(total=n_train + n_test, unit=" tiles", desc="simulating", delay=1) as progress:
            root, state = dataset.simulate(
                input_dir, name or "synthetic", n_train, n_test, seed or 0, overwrite, progress
            )
    elif source == "kaggle":
        root, state = kaggle.download(input_dir, name or "tgs", overwrite=overwrite, quiet=False)
    else:
        root, state = install.link(input_dir, Path(source).expanduser(), name, overwrite)
    print(f"{root}: {state}")
    return ["saltseg", "check", root.name]


@verb("check")
def check(
    dataset: Annotated[str, Argument(metavar="DATASET", help="name under input/, or the path of a folder")],
    every: Annotated[bool, Option("--all", help="list every place of every problem")] = False,
    input_dir: InputDir = INPUT,
) -> Result:
    """List everything that is wrong with a dataset, each problem with its fix.

      saltseg check tgs              a dataset under input/
      saltseg check some/folder      a copy that lies elsewhere, before it is linked

    Every table, image and mask is read. Reported are missing, unreadable, wrongly sized or colored images, masks that
    are not binary or differ from their RLE, repeated or missing ids, malformed RLEs, unexpected columns and stray
    files. The exit code is 0 for a valid dataset, whose statistics are printed, and 2 otherwise.
    """
    from saltseg.data import check, competition, statistics

    root = input_dir / dataset
    if dataset in (".", "..") or (not root.is_dir() and Path(dataset).is_dir()):
        root = Path(dataset)
        root = root if root.name.strip(".") else root.resolve()  # "." has no name
    elif not root.is_dir():
        root = competition.dataset_root(input_dir, dataset)
    with progress_bar(desc="checking", unit="file", delay=2, leave=False) as progress:
        found = check.check_dataset(root, progress)
    problems, notes = ([p for p in found if p.is_note == is_note] for is_note in (False, True))
    count = sum(len(problem.places) for problem in problems)
    print(f"{root}: {f'{count:,}' if count else 'no'} problem{'s' * (count != 1)}")
    if not problems:
        _print_statistics(statistics.statistics(root))
    _print_problems(problems, "fix", every)
    _print_problems(notes, "note, fix", every)
    if problems:
        return 2
    if root.parent.resolve() == input_dir.resolve():
        return ["saltseg", "run", "unet", "--data", root.name]
    return ["saltseg", "prepare", "--source", str(root)]


def _print_problems(problems: "list[Problem]", label: str, every: bool) -> None:
    """Print each cause with its fix and where it was found, the rarest first; without ``every`` the first places."""
    from saltseg.data import names

    for problem in sorted(problems, key=lambda problem: len(problem.places)):
        print(f"\n{len(problem.places):,} x  {label}: {problem.fix}")
        about_names = problem.is_note or problem.fix in names.FIXES.values()
        shown = problem.places if every else problem.places[: 1 if about_names else PLACES]
        width = min(60, max(len(where) for where, _ in shown))
        for where, what in shown:
            print(f"  {where:<{width}}  {what}")
        if len(problem.places) > len(shown):
            print(f"  and {len(problem.places) - len(shown):,} more; --all lists them")


def _print_statistics(counts: "Statistics") -> None:
    print(
        f"  {counts.train:,} labeled tiles: {counts.empty_share:.1%} without salt, mean coverage "
        f"{counts.mean_coverage:.1%}, {counts.constant_tiles:,} constant"
    )
    answers = "with solution.csv, so submissions can be scored" if counts.solution else "no solution.csv"
    print(f"  {counts.test:,} tiles to predict, {answers}")
    if counts.sections is not None:
        print(f"  tiles cut from {counts.sections:,} sections, so folds can be grouped")
    if counts.without_depth:
        print(f"  note: depths.csv lacks {counts.without_depth:,} of the tiles (depths are not needed)")


@verb("realism")
def realism(
    real: Annotated[
        str | None, Option(metavar="DATASET", help="folder under input/ with real training tiles", show_default=False)
    ] = None,
    tiles: Annotated[int, Option(min=48, max=1_000_000, metavar="N", help="synthetic tiles to draw")] = 1000,
    seed: Annotated[int, Option(min=0, metavar="SEED", help="of the simulator")] = 0,
    input_dir: InputDir = INPUT,
    output_dir: OutputDir = OUTPUT,
) -> Result:
    """Compare synthetic tiles with real ones in aggregate statistics.

      saltseg realism --real tgs                 against input/tgs, 1,000 synthetic tiles
      saltseg realism --real tgs --tiles 3000    smoother curves
      saltseg realism                            the synthetic side alone

    Draws gray values, power spectra down and along the section, contrast of a tile and coverage, above a panel of
    synthetic tiles with the salt boundary in black. No real tile is shown. Prints the same statistics as a table.
    Writes output/synthetic/realism.png.
    """
    import numpy as np

    from saltseg import io
    from saltseg.data import competition
    from saltseg.reporting import realism
    from saltseg.synthetic import tiles as simulator

    sides = {}
    if real:
        labeled = competition.read_train(competition.dataset_root(input_dir, real))
        sides["real"] = realism.statistics(labeled.images, labeled.masks)
    drawn = list(islice(simulator.tiles(seed), tiles))
    images, masks = np.stack([tile.image for tile in drawn]), np.stack([tile.mask for tile in drawn])
    sides["synthetic"] = realism.statistics(images, masks)
    path = output_dir / "synthetic" / "realism.png"
    io.write_atomic(path, realism.draw(sides, images, masks))
    print(f"{'':34}" + "".join(f"{side:>12}" for side in sides))
    for name in sides["synthetic"]["table"]:
        print(f"{name:34}" + "".join(f"{side['table'][name]:12.3f}" for side in sides.values()))
    print(f"figure: {path}")
    return 0


@verb("find-sections")
def find_sections(
    dataset: Annotated[str, Argument(metavar="DATASET", help="folder under input/")],
    images: Annotated[
        Path | None,
        Option(metavar="FOLDER", help="further tiles of the same sections, without labels", show_default=False),
    ] = None,
    input_dir: InputDir = INPUT,
) -> Result:
    """Find the tiles that were cut from one seismic section, by matching the edges of tiles.

      saltseg find-sections tgs                    labeled and test tiles
      saltseg find-sections tgs --images FOLDER    further tiles close gaps between them

    Random folds put tiles of one section on both sides of a split, so a score is too high for a new survey. With the
    sections found, --set folds.scheme=grouped keeps them in one fold, and intervals resample sections.

    Writes input/DATASET.sections.csv (id,section,row,column), beside the dataset and not into it. Edges of 22,000 tiles
    take about a minute.
    """
    import numpy as np

    from saltseg import io
    from saltseg.data import competition, mosaics, unlabeled

    root = competition.dataset_root(input_dir, dataset)
    if (root / "sections.csv").exists():
        raise InputError(f"{root} has a sections.csv; it is used as it is, remove it to find sections anew")
    labeled, test = competition.read_train(root), competition.read_test(root)
    further = unlabeled.read(images) if images else None
    stacks = [labeled.images, test.images, *([further.images] if further else [])]
    matches = mosaics.match_edges(np.concatenate(stacks))
    places = mosaics.assemble(matches)
    ids = [*labeled.ids, *test.ids]
    path = input_dir / f"{dataset}.sections.csv"
    io.write_csv(path, mosaics.table(ids, places[: len(ids)]))
    loops, open_loops = mosaics.contradictions(matches)
    sizes = np.bincount([place.section for place in places[: len(labeled.ids)]])
    print(f"{path}: {np.count_nonzero(sizes):,} sections of {len(labeled.ids):,} labeled tiles")
    print(f"  {sizes[sizes > 1].sum():,} labeled tiles share a section with another, the largest has {sizes.max()}")
    print(f"  {loops:,} loops of four tiles were found, {open_loops} of them do not close")
    grouped = ["--set", "folds.scheme=grouped", "--name", f"{dataset}-unet-grouped"]
    return ["saltseg", "train", "unet", "--data", dataset, *grouped]
