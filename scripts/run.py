"""Everything in order: train, predict, optimise, submit, report, leaderboard. Finished folds are skipped; the steps
after training take seconds and are done anew.

  python scripts/run.py unet --data tgs
  python scripts/run.py unet --data tgs --folds 0 --set train.epochs=12
  python scripts/run.py unet --data tgs --parallel 5        all folds at a time, sharing the cores or the GPUs

The same command goes on after an interruption. Each step is a script of its own and can be called alone. A run with
pseudo.all_folds has no out-of-fold score, so for it the steps are train, predict, submit (with its teacher's rule).
"""

from pathlib import Path

from saltseg import cli


def main() -> int:
    from saltseg import experiments

    parser = cli.parser(__doc__)
    cli.add_training(parser, experiments.EXPERIMENTS)
    cli.add_directories(parser)
    arguments = parser.parse_args()

    from saltseg import config, processes, runs, storage

    settings = config.override(experiments.named(arguments.experiment), arguments.set)
    name = arguments.name or runs.default_name(arguments.data, settings.name, arguments.holdout)
    places = ["--input", str(arguments.input), "--output", str(arguments.output)]
    train = [arguments.experiment, "--data", arguments.data, "--folds", arguments.folds, "--name", name]
    train += ["--parallel", str(arguments.parallel), "--devices", str(arguments.devices)]
    train += [] if arguments.holdout is None else ["--holdout", str(arguments.holdout)]
    for assignment in arguments.set:
        train += ["--set", assignment]
    steps = [("train", train), *((step, [name]) for step in ("predict", "optimise", "submit", "report"))]
    steps.append(("leaderboard", []))
    teacher = settings.pseudo.teacher_of_all_folds
    if teacher:
        steps = [*steps[:2], ("submit", [name, "--rule-of", teacher])]
    for number, (step, options) in enumerate(steps, start=1):
        print(f"\n[{number}/{len(steps)}] {step}", flush=True)
        chosen = places if step != "leaderboard" else places[2:]  # the board reads results only
        script = Path(__file__).with_name(f"{step}.py")
        code = processes.call([str(script), *options, *chosen])
        if code:
            return code

    run = runs.existing_run(arguments.output, name)
    if teacher:
        print(f"\n{name} has no out-of-fold score: its labels come from all folds of {teacher}")
        print(f"submission: {run.submission}")
        cli.next_step(f"python scripts/publish.py {name}")
        return 0
    rule = storage.read_json(run.postprocess)
    low, high = rule["cross_fitted"]["interval"]
    print(f"\n{name}, out of fold: {rule['score_at_half']:.4f} at threshold 0.5; "
          f"{rule['cross_fitted']['score']:.4f} ({low:.4f} to {high:.4f}) with a tuned rule, cross-fitted")  # fmt: skip
    print("the submission uses " + ("the tuned rule" if rule["adopted"] == "tuned" else "threshold 0.5"))
    if run.solution_score.is_file():
        score = storage.read_json(run.solution_score)
        parts = [f"{part} {score[part]:.4f}" for part in ("public", "private") if score[part] is not None]
        print(f"test score: {score['all']:.4f} ({', '.join(parts)})")
    print(f"report:     {run.report}\nsubmission: {run.submission}")
    cli.next_step(f"open {run.report}; your own images: python scripts/predict.py {name} --images FOLDER")
    return 0


if __name__ == "__main__":
    cli.run(main)
