"""Tune the decision rule (threshold and minimum salt area) of a run on its out-of-fold predictions.

  python scripts/optimise.py tgs-unet

Searches every threshold in steps of 1/255 and every minimum area, exactly. Three scores come out:
  at 0.5        no tuning at all
  naive         the best rule, scored on the images it was chosen on: flattering
  cross-fitted  each fold scored under the rule fitted on the other folds: the one to believe, with its interval
The rule is adopted only when the cross-fitted score is above that at 0.5. (The better of two scores on the same
images is a little flattered by the choice; the paired interval says how sure the gain is.)
"""

from saltseg import cli


def main() -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("run", help="the run's name under output/runs")
    cli.add_directories(parser)
    arguments = parser.parse_args()

    from saltseg import runs
    from saltseg.inference import steps
    from saltseg.reporting import figures

    run = runs.existing_run(arguments.output, arguments.run)
    found = steps.optimise(run, steps.Place(arguments.input, arguments.output))
    fitted, gain = found["cross_fitted"], found["tuning_gain"]
    naive, rule = found["naive"], found["rule"]
    print(f"out of fold, {found['n']} images, groups: {found['cross_fit_groups']}")
    print(f"  at 0.5        {found['score_at_half']:.4f}")
    best = naive["rule"]
    print(f"  naive         {naive['score']:.4f}  threshold {best['threshold']}/255, area {best['min_area']}")
    low, high = fitted["interval"]
    print(f"  cross-fitted  {fitted['score']:.4f}  95 % interval {low:.4f} to {high:.4f}")
    print(f"  tuning gives  {gain['mean']:+.4f}  {gain['interval'][0]:+.4f} to {gain['interval'][1]:+.4f} (paired)")
    print(f"  adopted       {found['adopted']}: threshold {rule['threshold']}/255, area {rule['min_area']} pixels")
    curve = run.path / "rule_curve.png"
    runs.write_atomic(curve, figures.rule_curve(found))
    print(f"curve: {curve}")
    cli.next_step(f"python scripts/submit.py {run.name}")


if __name__ == "__main__":
    cli.run(main)
