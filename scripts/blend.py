"""Average several runs with equal weights; the blend can be optimised, submitted and reported like a run.

  python scripts/blend.py tgs-unet tgs-unet_resnet34 --name both

The runs must share dataset and folds, otherwise an image would be judged by a network that has seen it.
"""

from saltseg import cli


def main() -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("runs", nargs="+", help="two or more runs, predicted with scripts/predict.py")
    parser.add_argument("--name", required=True, help="the blend's name, a folder under output/blends")
    cli.add_directories(parser)
    arguments = parser.parse_args()

    from saltseg import runs
    from saltseg.errors import InputError
    from saltseg.inference import ensemble

    if len(set(arguments.runs)) < 2:
        raise InputError(f"a blend needs two different runs; got {', '.join(arguments.runs)}")
    members = [runs.existing_run(arguments.output, name) for name in arguments.runs]
    target = runs.RunDir(arguments.output / "blends" / runs.run_dir(arguments.output, arguments.name).name)
    count = ensemble.blend_runs(members, target)
    print(f"{target.path}: {len(members)} runs, {count} out-of-fold images")
    cli.next_step(f"python scripts/optimise.py {target.name}")


if __name__ == "__main__":
    cli.run(main)
