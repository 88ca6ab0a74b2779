"""Is one run better than another? Paired, image by image, on the images that both predicted out of fold.

  python scripts/compare.py tgs-unet_spec tgs-unet
  python scripts/compare.py tgs-combined mine        # either may be one that is published only

Under threshold 0.5; with a threshold and a minimum area of each run's own; with its whole decision rule, as it would be
submitted. The last two are cross-fitted. A difference whose interval holds zero is no detectable difference. Two seeds
of one recipe differ by 0.001 to 0.002 after long trainings; after short ones scores scatter by 0.007 to 0.009 (one
sigma, RESULTS.md), which the interval does not hold.
"""

from saltseg import cli

TITLES = {"at_half": "at 0.5", "cross_fitted": "threshold and area", "whole_rule": "whole rule"}


def main() -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("one", help="a run or blend, also one of output/published whose predictions are gone")
    parser.add_argument("other", help="the run or blend to hold against it")
    cli.add_directories(parser)
    arguments = parser.parse_args()

    from saltseg import runs
    from saltseg.inference import compare, steps

    names = (arguments.one, arguments.other)
    one, other = (runs.existing_run(arguments.output, name, published=True) for name in names)
    found = compare.compare(one, other, steps.Place(arguments.input, arguments.output))
    print(f"{found['n']} images, mAP out of fold; difference: {other.name} minus {one.name}, 95 % interval")
    for name, count in found["fitted_on"].items():
        if count != found["n"]:
            print(f"  the rules of {name} were fitted on all its {count} images, which makes them better")
    for kind, title in TITLES.items():
        part = found[kind]
        low, high = part["interval"]
        verdict = "better" if low > 0 else "worse" if high < 0 else "no detectable difference"
        print(f"  {title:<18} {part[one.name]:.4f} → {part[other.name]:.4f}  "
              f"{part['difference']:+.4f} ({low:+.4f} to {high:+.4f})  {verdict}")  # fmt: skip
    cli.next_step("python scripts/leaderboard.py")


if __name__ == "__main__":
    cli.run(main)
