"""Show how close the synthetic tiles are to the real ones, in aggregate figures.

  python scripts/compare_synthetic.py --real tgs                 against input/tgs, 1,000 synthetic tiles
  python scripts/compare_synthetic.py --real tgs --tiles 3000    smoother curves
  python scripts/compare_synthetic.py                            the synthetic side alone

Draws grey values, power spectra down and along the section, contrast of a tile and coverage, synthetic
beside real, over a panel of synthetic tiles with the salt boundary in black. No real tile is shown. The
same figures are printed as a table. Result: output/synthetic/realism.png.
"""

from itertools import islice

from saltseg import cli


def main() -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--real", metavar="DATASET", help="folder under input/ with the real training tiles")
    parser.add_argument("--tiles", type=int, default=1000, help="synthetic tiles to draw (default: 1000)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the simulator (default: 0)")
    cli.add_directories(parser)
    arguments = parser.parse_args()

    import numpy as np

    from saltseg import storage
    from saltseg.data import competition, synthetic
    from saltseg.errors import InputError
    from saltseg.reporting import realism

    if arguments.tiles < 48 or arguments.seed < 0:
        raise InputError(f"--tiles {arguments.tiles} --seed {arguments.seed}; ask for 48 or more tiles, seed 0 or more")
    sides = {}
    if arguments.real:
        real = competition.read_train(competition.dataset_root(arguments.input, arguments.real))
        sides["real"] = realism.statistics(real.images, real.masks)
    drawn = list(islice(synthetic.tiles(arguments.seed), arguments.tiles))
    images, masks = np.stack([tile.image for tile in drawn]), np.stack([tile.mask for tile in drawn])
    sides["synthetic"] = realism.statistics(images, masks)
    path = arguments.output / "synthetic" / "realism.png"
    storage.write_atomic(path, realism.draw(sides, images, masks))
    print(f"{'':34}" + "".join(f"{side:>12}" for side in sides))
    for name in sides["synthetic"]["table"]:
        print(f"{name:34}" + "".join(f"{side['table'][name]:12.3f}" for side in sides.values()))
    print(f"figure: {path}")


if __name__ == "__main__":
    cli.run(main)
