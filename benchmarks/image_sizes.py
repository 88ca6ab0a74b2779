"""Images that are no tiles, predicted in windows and in other ways, scored against the truth.

  python benchmarks/image_sizes.py RUN                 simulated sections of 2-3 by 2-4 tiles
  python benchmarks/image_sizes.py RUN --cut DATASET   the middles of the validation tiles of fold 0

Larger than a tile: in windows, as a whole, and as tiles side by side. With depth channels, the whole image has rows
from -1 to 1 as a tile has. Smaller: reflected to a window, and stretched to the size of a tile.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from torch import nn

from harness import one_line
from saltseg import config, runs
from saltseg.data import competition
from saltseg.data.transforms import TILE, TileTransform
from saltseg.inference import predict, windows
from saltseg.inference.tta import VIEWS
from saltseg.models import checkpoints, precision
from saltseg.postprocessing.parameters import quantize
from saltseg.predictions import load_predictions
from saltseg.synthetic import tiles

FIRST, SEED = 300, 777  # sections that no training of ours was made of
CUTS = ((90, 90), (80, 60), (60, 80), (101, 50), (50, 101), (45, 45))
Networks = Sequence[nn.Module]


def in_windows(networks: Networks, image: np.ndarray, settings: config.Config) -> np.ndarray:
    """As `saltseg predict` does; images are uint8 (H, W), answers uint8 in 255ths."""
    return next(windows.predict_images(networks, [image], settings))


def whole(networks: Networks, image: np.ndarray, settings: config.Config) -> np.ndarray:
    """The networks see the whole image, at the scale that tiles have."""
    scale = settings.data.size / TILE if settings.data.resize_mode == "resize" else 1
    height, width = (round(side * scale) for side in image.shape)
    transform = TileTransform("pad" if scale == 1 else "resize", height, width)
    views = [VIEWS[name] for name in settings.predict.tta]
    return quantize(predict.predict_batch(networks, image[None], settings, views, transform)[0])[0]


def side_by_side(networks: Networks, image: np.ndarray, settings: config.Config) -> np.ndarray:
    """Tiles that do not overlap; the sides of the image are multiples of a tile's."""
    rows, columns = (side // TILE for side in image.shape)
    cut = image.reshape(rows, TILE, columns, TILE).swapaxes(1, 2).reshape(-1, TILE, TILE)
    found = predict.probabilities(networks, cut, settings, out=np.uint8)
    return found.reshape(rows, columns, TILE, TILE).swapaxes(1, 2).reshape(image.shape)


def stretched(networks: Networks, image: np.ndarray, settings: config.Config) -> np.ndarray:
    """The image fills the input, whatever its sides."""
    return predict.probabilities(networks, image[None], settings, out=np.uint8)[0]


def compare(
    ways: Sequence[Callable[[Networks, np.ndarray, config.Config], np.ndarray]],
    networks: Networks,
    pairs: Sequence[tuple[np.ndarray, np.ndarray]],
    settings: config.Config,
) -> None:
    """Print the scores of each way at 0.5, and their differences to the first; pairs of image and mask {0, 1}."""
    accuracies: list[np.ndarray] = []
    for way in ways:
        found = [way(networks, image, settings) >= 128 for image, _ in pairs]
        masks = [mask > 0 for _, mask in pairs]
        both = sum(int((salt & mask).sum()) for salt, mask in zip(found, masks, strict=True))
        either = sum(int((salt | mask).sum()) for salt, mask in zip(found, masks, strict=True))
        accuracies.append(np.array([(salt == mask).mean() for salt, mask in zip(found, masks, strict=True)]))
        difference = accuracies[-1] - accuracies[0]
        error = difference.std() / np.sqrt(len(pairs))
        print(f"{way.__name__:<12}  IoU of all pixels {both / either:.3f}  accuracy {accuracies[-1].mean():.3f}  "
              f"{difference.mean():+.4f} with standard error {error:.4f}")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="whose fold 0 predicts")
    parser.add_argument("--cut", metavar="DATASET", help="smaller images, cut from its tiles")
    parser.add_argument("--count", type=int, default=60, metavar="N", help="images (default: 60)")
    parser.add_argument("--input", type=Path, default=Path("input"), metavar="DIR")
    parser.add_argument("--output", type=Path, default=Path("output"), metavar="DIR")
    arguments = parser.parse_args()
    run = runs.existing_run(arguments.output, arguments.run)
    settings = precision.trained_config(run)
    networks = checkpoints.load_networks(settings, run.fold(0))
    if not arguments.cut:
        sections = [tiles.numbered_section(SEED, FIRST + number) for number in range(arguments.count)]
        pairs = [(tiles.stretch(section.image), section.mask) for section in sections]
        compare([in_windows, whole, side_by_side], networks, pairs, settings)
        return
    valid = set(load_predictions(run.fold(0).oof).ids[: arguments.count].tolist())
    labeled = competition.read_train(arguments.input / arguments.cut)
    chosen = [index for index, id_ in enumerate(labeled.ids) if id_ in valid]
    for height, width in CUTS:
        top, left = (TILE - height) // 2, (TILE - width) // 2
        part = (slice(top, top + height), slice(left, left + width))
        print(f"{height}x{width}")
        pairs = [(np.ascontiguousarray(labeled.images[i][part]), labeled.masks[i][part]) for i in chosen]
        compare([in_windows, stretched], networks, pairs, settings)


if __name__ == "__main__":
    with one_line():
        main()
