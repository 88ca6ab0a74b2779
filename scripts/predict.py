"""Predict with a trained run.

  python scripts/predict.py tgs-unet                       collate the folds: out-of-fold and mean test predictions
  python scripts/predict.py tgs-unet --views identity      predict again with other test-time views
  python scripts/predict.py tgs-unet --images my_section   any folder of images: masks as PNG and CSV

--images takes PNG, JPG, TIF and BMP files, grey, 8 or 16 bit, up to 4 megapixels each, as they are: no grey value is
stretched. Runs with model.extra_channels are for tiles only. --to must not exist yet.

Probabilities are stored at the tiles' own 101x101 pixels together with their ids (oof.npz, test.npz).
"""

from pathlib import Path

from saltseg import cli


def main() -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("run", help="the run's name under output/runs")
    parser.add_argument("--views", metavar="A,B", help="test-time augmentation, for example identity,hflip")
    parser.add_argument("--images", type=Path, metavar="DIR", help="predict the images of this folder instead")
    parser.add_argument(
        "--to", type=Path, metavar="DIR", help="where --images writes (default: output/predictions/RUN/DIR)"
    )
    cli.add_directories(parser)
    arguments = parser.parse_args()

    from saltseg import runs
    from saltseg.inference import steps

    run = runs.existing_run(arguments.output, arguments.run)
    if arguments.images:
        from saltseg.inference import folder

        target = arguments.to or arguments.output / "predictions" / run.name / arguments.images.resolve().name
        count = folder.predict_folder(run, arguments.images, target)
        print(f"{count} images predicted: {target}/masks.csv, *_mask.png, *_probability.png")
        return
    views = tuple(arguments.views.split(",")) if arguments.views else None
    finished, total = steps.predict(run, steps.Place(arguments.input, arguments.output), views)
    teacher = run.taught_by_all_folds()
    if teacher:
        print(f"{finished} of {total} folds: {run.test}; none out of fold, the labels come from all folds of {teacher}")
        cli.next_step(f"python scripts/submit.py {run.name} --rule-of {teacher}")
        return
    print(f"{finished} of {total} folds: {run.oof}, {run.test}")
    cli.next_step(f"python scripts/optimise.py {run.name}")


if __name__ == "__main__":
    cli.run(main)
