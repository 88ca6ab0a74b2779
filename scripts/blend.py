"""Average several runs; the blend can be optimised, submitted and reported like a run.

  python scripts/blend.py tgs-unet tgs-unet_resnet34 --name both
  python scripts/blend.py tgs-unet tgs-unet_resnet34 tgs-fpn --name best --weights fitted

The runs must share dataset and folds, otherwise an image would be judged by a network that has seen it. Probabilities
are averaged image by image, joined by id.

  --weights equal   every run counts once: nothing is tuned, hard to beat among runs of like strength
  --weights fitted  starts from the best run and adds, again and again, the run that raises the out-of-fold score most
                    (greedy ensemble selection, Caruana et al. 2004); how often a run was taken is its weight, which
                    may be 0. Each fold is then scored with weights and rule fitted on the other folds, and the
                    weights are kept only if that score is above the one of equal weights. 4 runs of 4,000 images
                    take one to two minutes.

Kept weights: test images get those fitted on everything; out-of-fold predictions keep, fold by fold, those fitted on
the other folds, so that optimise.py and leaderboard.py show a score that was not tuned on itself.
"""

from typing import Any

from saltseg import cli


def main() -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("runs", nargs="+", help="two or more runs, predicted with scripts/predict.py")
    parser.add_argument("--name", required=True, help="the blend's name, a folder under output/blends")
    parser.add_argument(
        "--weights", choices=("equal", "fitted"), default="equal", help="how runs are weighted (default: equal)"
    )
    cli.add_directories(parser)
    arguments = parser.parse_args()

    from tqdm import tqdm

    from saltseg import runs
    from saltseg.errors import InputError
    from saltseg.inference import ensemble, steps

    if len(set(arguments.runs)) < max(2, len(arguments.runs)):
        raise InputError(f"a blend needs two different runs or more, each once; got {', '.join(arguments.runs)}")
    members = [runs.existing_run(arguments.output, name) for name in arguments.runs]
    target = runs.RunDir(arguments.output / "blends" / runs.run_dir(arguments.output, arguments.name).name)
    place = steps.Place(arguments.input, arguments.output)
    with tqdm(desc="fitting weights", unit="step", disable=arguments.weights == "equal") as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        found = ensemble.blend_runs(members, target, place, arguments.weights, progress)
    print(f"{target.path}: {len(members)} runs")
    print_table(found)
    cli.next_step(f"python scripts/optimise.py {target.name}")


def print_table(found: dict[str, Any]) -> None:
    """Each member's weight and, where weights were fitted, whether that was worth it."""
    evidence, total = found["evidence"], sum(found["weights"])
    width = max(map(len, found["members"]))
    for name, count in zip(found["members"], found["weights"], strict=True):
        print(f"  {name:<{width}}  {count:>2} of {total}  {count / total:5.1%}")
    if evidence is None:
        return
    low, high = evidence["interval"]
    print(f"out of fold, weights and rule cross-fitted over {evidence['groups']}:")
    print(f"  equal weights   {evidence['equal']:.4f}")
    print(f"  fitted weights  {evidence['fitted']:.4f}  {' : '.join(map(str, evidence['weights']))}")
    print(f"  difference     {evidence['difference']:+.4f}  {low:+.4f} to {high:+.4f} (paired, 95 % interval)")
    print(f"  kept            {'fitted' if evidence['adopted'] else 'equal: the fitted ones do not beat them'}")
    if evidence["adopted"] and low <= 0:
        print("  the interval holds 0: on other images equal weights may do as well")


if __name__ == "__main__":
    cli.run(main)
