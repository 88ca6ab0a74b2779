"""Tune the decision rule of a run on its out-of-fold predictions.

  python scripts/optimise.py tgs-unet

Searches every threshold in steps of 1/255 and every minimum area, exactly. Three scores come out:
  at 0.5        no tuning at all
  naive         the best rule, scored on the images it was chosen on: flattering
  cross-fitted  each fold scored under the rule fitted on the other folds: the one to believe, with its interval
Threshold, minimum area, hole filling, hysteresis and, for networks with an empty-image head, a gate on its probability
are tried in this order. A step is kept only when the cross-fitted score rises above that of the steps kept before it.
(A choice among a few scores on the same images flatters a little; the paired interval says how sure a gain is.)
"""

from saltseg import cli


def main() -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("run", help="the run's name under output/runs")
    cli.add_directories(parser)
    arguments = parser.parse_args()

    from saltseg import runs, storage
    from saltseg.core.postprocess import Rule
    from saltseg.inference import steps
    from saltseg.reporting import figures, notes

    run = runs.existing_run(arguments.output, arguments.run)
    found = steps.optimise(run, steps.Place(arguments.input, arguments.output))
    fitted, gain = found["cross_fitted"], found["tuning_gain"]
    naive = found["naive"]
    print(f"out of fold, {found['n']} images, groups: {found['cross_fit_groups']}")
    print(f"  at 0.5        {found['score_at_half']:.4f}")
    best = naive["rule"]
    print(f"  naive         {naive['score']:.4f}  threshold {best['threshold']}/255, area {best['min_area']}")
    low, high = fitted["interval"]
    print(f"  cross-fitted  {fitted['score']:.4f}  95 % interval {low:.4f} to {high:.4f}")
    print(f"  tuning gives  {gain['mean']:+.4f}  {gain['interval'][0]:+.4f} to {gain['interval'][1]:+.4f} (paired)")
    print("steps, each on top of those kept before it: cross-fitted score, gain, 95 % interval (paired)")
    for step in found["steps"]:
        mean, (low, high) = step["gain"]["mean"], step["gain"]["interval"]
        kept = "kept" if step["adopted"] else "not kept"
        print(f"  {step['step']:<16}  {step['score']:.4f}  {mean:+.4f}  {low:+.4f} to {high:+.4f}  {kept}")
    print(f"adopted: {found['adopted']}, {notes.rule_text(Rule.from_dict(found['rule']))}")
    if "why" in found:
        print(f"because {found['why']}")
    curve = run.path / "rule_curve.png"
    storage.write_atomic(curve, figures.rule_curve(found))
    print(f"curve: {curve}")
    cli.next_step(f"python scripts/submit.py {run.name}")


if __name__ == "__main__":
    cli.run(main)
