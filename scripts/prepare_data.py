"""Put a dataset in Kaggle's layout under input/: simulated, from Kaggle, or an existing copy.

  --source synthetic   simulated seismic with exact salt masks; no account, no download
  --source kaggle      the TGS Salt data, with Kaggle's own client (pip install -e '.[kaggle]', a token, and
                       the competition's rules accepted); repeat the command after an interruption
  --source FOLDER      a copy that you have: it is checked and linked, nothing in it is changed

  python scripts/prepare_data.py --source synthetic --train 600 --test 200
  python scripts/prepare_data.py --source kaggle
  python scripts/prepare_data.py --source ~/data/tgs --name tgs

The same data is not made again; other data of that name is refused, --overwrite replaces it (of a link only the link).
A FOLDER must hold train.zip and test.zip unpacked, as train/images and so on.
"""

import argparse
from pathlib import Path

from saltseg import cli


def main() -> None:
    """Parse, make the dataset, print where it is."""
    arguments = parse()

    from saltseg.data import download

    overwrite = arguments.overwrite
    if arguments.source == "synthetic":
        root, how = simulate(arguments)
    elif arguments.source == "kaggle":
        name = arguments.name or "tgs"
        root, how = download.download(arguments.input, name, overwrite=overwrite, quiet=False)
    else:
        folder = Path(arguments.source).expanduser()
        root, how = download.link(arguments.input, folder, arguments.name, overwrite)
    print(f"{root}: {how}")
    elsewhere = "" if arguments.input == Path("input") else f" --input {arguments.input}"
    cli.next_step(f"python scripts/check_data.py {root.name}{elsewhere}")


def parse() -> argparse.Namespace:
    """The command line."""
    parser = cli.parser(__doc__)
    add = parser.add_argument
    add("--source", required=True, metavar="SOURCE", help="synthetic, kaggle or a folder")
    add("--name", help="name under input/ (default: synthetic, tgs, or the folder's own)")
    add("--train", type=int, default=1000, metavar="N", help="synthetic: labelled tiles (default: 1000)")
    add("--test", type=int, default=500, metavar="N", help="synthetic: tiles to predict (default: 500)")
    add("--seed", type=int, default=0, help="synthetic: the same seed gives the same tiles (default: 0)")
    add("--input", type=Path, default=Path("input"), metavar="DIR", help="datasets (default: input)")
    add("--overwrite", action="store_true", help="replace what has that name already")
    return parser.parse_args()


def simulate(arguments: argparse.Namespace) -> tuple[Path, str]:
    """Write the synthetic dataset with a progress bar."""
    from tqdm import tqdm

    from saltseg.data import download

    total = arguments.train + arguments.test
    with tqdm(total=total, unit=" tiles", desc="simulating", delay=1) as bar:

        def advance(done: int, _: int) -> None:
            bar.update(done - bar.n)

        return download.simulate(
            arguments.input,
            arguments.name or "synthetic",
            arguments.train,
            arguments.test,
            arguments.seed,
            arguments.overwrite,
            progress=advance,
        )


if __name__ == "__main__":
    cli.run(main)
