"""Pretrain a network where no ImageNet weights can be had; fine-tune it with train.py.

  python scripts/pretrain.py unet --method synthetic --epochs 5 --name unet-sim   on the simulator's tiles and masks
  python scripts/pretrain.py unet --method masked --images FOLDER --data tgs --name unet-masked
  python scripts/pretrain.py unet_resnet34 --method synthetic --set model.weights=none --name resnet34-sim
  python scripts/train.py unet --data tgs --set train.start_from=file:output/pretrained/unet-sim/weights.safetensors

synthetic: segmentation of simulated tiles, others in every epoch, drawn while training goes on and never stored. The
simulator makes about 150 tiles per second and core. Two cores train EfficientNet-Lite0 on 27, so there it is no
bottleneck; for a GPU up to eight processes draw (train.workers; the tiles are the same whoever draws them).

masked: self-supervised on images without labels. Most patches of a tile are covered and the network draws what lies
beneath (SimMIM, Xie et al. 2022). Sections (a side of 202 pixels or more) are cut into tiles of 101x101. Tiles that are
one of the dataset's labelled or test images are left out; --set pseudo.transduction=true lets the test images in.

An interrupted pretraining goes on from its last epoch. Result: output/pretrained/NAME/weights.safetensors, for
train.start_from=file:PATH (the whole network) or model.weights=file:PATH (its encoder, under any decoder of smp's).
"""

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from saltseg import cli

if TYPE_CHECKING:
    from saltseg.config import Config
    from saltseg.training.pretrain import PretrainedDir


def main() -> None:
    from saltseg import config, experiments, runs, storage
    from saltseg.errors import InputError

    arguments = parsed()
    changes = [*arguments.set, *([] if arguments.epochs is None else [f"train.epochs={arguments.epochs}"])]
    settings = config.override(experiments.named(arguments.experiment), changes)
    if arguments.method == "synthetic" and (arguments.images or arguments.data):
        raise InputError("--images and --data are for --method masked; leave them out")
    if arguments.method == "synthetic" and arguments.limit is not None:
        raise InputError("--limit is for --method masked; give --tiles N")
    if arguments.method == "masked" and (arguments.images is None or arguments.tiles is not None):
        raise InputError("--method masked learns from the tiles of a folder: give --images FOLDER, and no --tiles")
    if arguments.method == "masked" and arguments.data is None:
        raise InputError("--method masked leaves out what a dataset is judged by: give --data DATASET")
    runs.run_dir(arguments.output, arguments.name)  # refuses a name that is none, before anything heavy is imported

    from saltseg.training import pretrain

    place = pretrain.directory(arguments.output, arguments.name)
    if arguments.method == "synthetic":
        done = pretrain.synthetic(settings, place, 4000 if arguments.tiles is None else arguments.tiles)
    else:
        done = masked(settings, place, arguments)
    if not done:
        print(f"{arguments.name} is finished already; skipped")
    losses = [row["valid_loss"] for row in storage.read_csv(place.log) if row["valid_loss"] != "nan"]
    print(f"validation loss {losses[0]} → {losses[-1]}; the weights: {place.weights}")
    model = [f"--set {shlex.quote(change)}" for change in arguments.set if change.startswith(("model.", "data."))]
    cli.next_step(
        f"python scripts/train.py {' '.join([arguments.experiment, *model])} --data {arguments.data or 'tgs'} "
        f"--set train.start_from=file:{place.weights} --name {arguments.name}"
    )


def masked(settings: "Config", place: "PretrainedDir", arguments: argparse.Namespace) -> bool:
    from saltseg.data import competition, unlabelled
    from saltseg.training import pretrain

    root = competition.dataset_root(arguments.input, arguments.data)
    every = unlabelled.read(arguments.images, arguments.limit)
    images = unlabelled.without_known(
        every, settings.pseudo, competition.read_train(root).images, competition.read_test(root).images
    )
    left_out = len(every.ids) - len(images.ids)
    print(f"{left_out} of {len(every.ids)} tiles left out: among the labelled or test images of {arguments.data}")
    return pretrain.masked(settings, place, images, dataset=arguments.data, left_out=left_out)


def parsed() -> argparse.Namespace:
    parser = cli.parser(__doc__)
    parser.add_argument("experiment", help="an experiment of src/saltseg/experiments.py, or a config.yaml")
    parser.add_argument("--method", required=True, choices=("synthetic", "masked"), help="see above")
    parser.add_argument("--name", required=True, help="the directory under output/pretrained")
    parser.add_argument("--tiles", type=int, metavar="N", help="synthetic: tiles of an epoch (default: 4000)")
    parser.add_argument("--images", type=Path, metavar="FOLDER", help="masked: images, labels are not needed")
    parser.add_argument(
        "--limit", type=cli.at_least_one, metavar="N", help="masked: only the first N tiles by file name"
    )
    parser.add_argument("--data", metavar="DATASET", help="masked: leave out the images of this dataset")
    parser.add_argument("--epochs", type=int, metavar="N", help="short for --set train.epochs=N")
    cli.add_set(parser)
    cli.add_directories(parser)
    return parser.parse_args()


if __name__ == "__main__":
    cli.run(main)
