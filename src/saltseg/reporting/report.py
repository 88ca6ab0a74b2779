"""The page about one run: scores with their caveats, curves, tables, and tiles to look at."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from saltseg import config, runs, storage
from saltseg.data import competition
from saltseg.errors import InputError
from saltseg.reporting import facts as facts_of
from saltseg.reporting import figures, gallery, notes, page
from saltseg.reporting.facts import Facts

CASE_STUDY = {
    "log_loss": "case study's notebook: 0.187",
    "accuracy": "case study's notebook: 91.9\N{NO-BREAK SPACE}%",
}
LOOK = {
    "Decision rule": "Look at how flat the top is: on a flat top the exact threshold hardly matters, and "
    "what the naive optimum adds is partly luck. The curves have every other step of the rule, 0.5 has none.",
    "Precision and recall": "Look at which way the square leans, over all pixels pooled: left of the corner, "
    "salt is missed; below it, rock is called salt.",
    "Score by coverage": "Look at the low bars: thin slivers of salt cost most, since a few wrong pixels "
    "are a large part of them. Grey is tiles without salt, which score all or nothing.",
    "best": "Look at the boundary: even here it decides whether a tile gets 0.9 or 1.",
    "median": "Look at these for a fair impression: half of the tiles with salt, true or predicted, do better.",
    "worst": "Look for what fools the network: slivers, noise, masks one may doubt, salt invented or missed.",
}
VERSIONS = ("saltseg", "python", "torch", "lightning", "segmentation-models-pytorch", "timm", "numpy")


def build(run: runs.RunDir, root: Path) -> str:
    """HTML of the page about `run`, whose dataset lies in `root` (Kaggle's layout).

    One file that needs nothing else: pictures inside, no script, no network. Whatever the run does not have
    yet (a fold, the tuned rule, a solution, the dataset itself) is replaced by a sentence that says what is
    missing. Raises InputError for files that are there but damaged, and for a run without an honest score.
    """
    run.demand_score("nothing to report: python scripts/report.py {teacher}")
    facts = facts_of.read(run)
    validation, training, problem = _tiles(facts, root)
    return page.render(
        "report.html.j2",
        facts=facts,
        header=_header(facts),
        settings=_settings(facts),
        cards=_cards(facts),
        notes=notes.honest(facts),
        gap=_gap(facts),
        charts=_charts(facts, validation, problem),
        galleries=_galleries(validation, training, problem),
        fold_rows=_fold_rows(facts),
        rule=notes.rule_text(facts.rule),
        rule_steps=(facts.postprocess or {}).get("steps", []),
    )


def write(run: runs.RunDir, root: Path) -> Path:
    """Build the page and write it to ``report.html`` of the run; returns its path."""
    storage.write_atomic(run.report, build(run, root))
    return run.report


def picture(run: runs.RunDir, root: Path) -> bytes:
    """A good, a middling and a poor out-of-fold tile as panels; PNG bytes. InputError when there are none."""
    validation, _, problem = _tiles(facts_of.read(run), root)
    if validation is None:
        raise InputError(f"no picture of {run.name!r}: {problem}")
    return gallery.draw(validation, gallery.spread(validation))


def _tiles(facts: Facts, root: Path) -> tuple[gallery.Scored | None, tuple[int, gallery.Scored] | None, str]:
    """Out-of-fold tiles, (fold, its training tiles), and why there are none of the former."""
    try:
        labelled = competition.read_train(root)
    except InputError as error:
        return None, None, f"The images of the dataset could not be read: {error}."
    folds = [fold for fold in facts.run.finished_folds() if fold.train.is_file()]
    training = None
    if folds:  # images that several folds trained on would appear twice, hence one fold
        training = folds[0].number, gallery.score(runs.load_predictions(folds[0].train), labelled, facts.rule)
    if not facts.run.oof.is_file():
        return None, training, "There are no out-of-fold predictions yet; scripts/predict.py collects them."
    return gallery.score(runs.load_predictions(facts.run.oof), labelled, facts.rule), training, ""


def _header(facts: Facts) -> list[tuple[str, str]]:
    found = facts.provenance
    commit = found.get("git_commit") or "not recorded"
    rows = [("dataset", facts.dataset + (" (simulated)" if facts.synthetic else ""))]
    if facts.settings is not None:
        data = facts.settings.data
        rows += [
            ("experiment", facts.settings.name),
            ("network", f"{_network(facts)}; tiles {data.fit} to {data.size}, augmentation {data.augment}"),
            ("views averaged", ", ".join(facts.views or facts.settings.predict.views)),
            ("folds finished", f"{facts.finished} of {facts.planned} ({facts.settings.folds.scheme})"),
        ]
    if facts.recipe:
        rows.append(("mean of", facts.recipe))
    versions = [f"{name} {found[name]}" for name in VERSIONS if found.get(name)]
    return [
        *rows,
        ("commit", commit + (" with uncommitted changes" if found.get("git_dirty") else "")),
        ("versions", ", ".join(versions) or "not recorded"),
        ("machine", str(found.get("machine") or "not recorded")),
        ("command", str(found.get("command") or "not recorded")),
        ("created", str(found.get("created") or "not recorded")),
        ("data, sha256", str(found.get("dataset_hash") or "not recorded")[:16]),
    ]


def _network(facts: Facts) -> str:
    """Architecture, encoder and where the encoder's weights come from, as the folds recorded it."""
    assert facts.settings is not None
    model = facts.settings.model
    if not model.architecture.startswith("smp."):
        return model.architecture
    recorded = sorted({str(fold["encoder_weights"]) for fold in facts.metrics if fold.get("encoder_weights")})
    return f"{model.architecture}, encoder {model.encoder}, its weights: {' or '.join(recorded) or model.weights}"


def _settings(facts: Facts) -> list[str]:
    """What differs from the defaults, "train.ema: 0.0 → 0.99"; the name has a row of its own."""
    if facts.settings is None:
        return []
    found = config.differences(config.Config(), facts.settings)
    return [line for line in found if not line.startswith("name: ")]


def _cards(facts: Facts) -> list[dict[str, Any]]:
    """Headline figures: value, name, remark, and whether it is the score of the rule in use."""
    found, solution = facts.postprocess, facts.solution
    cards: list[dict[str, Any]] = []

    def add(name: str, value: str, remark: str = "", main: bool = False) -> None:
        cards.append({"name": name, "value": value, "remark": remark, "main": main})

    if found is not None:
        tuned = found["adopted"] == "tuned"
        case_study = CASE_STUDY if facts.competition else {}
        fitted, naive = found["cross_fitted"], found["naive"]
        bounds = page.interval(fitted["interval"]).replace(" ", "\N{NO-BREAK SPACE}")
        add("cross-fitted score", page.score(fitted["score"]), f"95 % interval {bounds}", tuned)
        add("score at 0.5", page.score(found["score_at_half"]), "plain threshold, nothing tuned", not tuned)
        add("naive optimum", page.score(naive["score"]), "tuned and scored on the same images: flattering")
        add("log-loss", page.score(found["log_loss"]), case_study.get("log_loss", "per pixel, out of fold"))
        add(
            "pixel accuracy",
            page.share(found["pixel"]["accuracy"]),
            case_study.get("accuracy", "at threshold 0.5"),
        )
    if solution is not None:
        public, n = page.score(solution.get("public")), page.count(solution.get("n"))
        add("private score", page.score(solution.get("private")), f"public {public}; solution of {n} test images")
    return cards


def _gap(facts: Facts) -> list[dict[str, Any]]:
    """Training beside validation, means over finished folds."""
    rows = []
    loss = [("loss (binary cross-entropy)", "train_loss", "valid_loss", "score")] if facts.same_loss else []
    for name, train_key, valid_key, style in (
        *loss,
        ("score at 0.5 (mAP)", "train_score_at_half", "score_at_half", "score"),
        ("pixel accuracy", "train_pixel_accuracy", "valid_pixel_accuracy", "share"),
    ):
        train, valid = facts.mean(train_key), facts.mean(valid_key)
        gap = None if train is None or valid is None else valid - train
        rows.append({"name": name, "train": train, "valid": valid, "gap": gap, "style": style})
    return rows if facts.metrics else []


def _fold_rows(facts: Facts) -> list[tuple[str, list[str]]]:
    """One row per figure that any finished fold has, one value per fold."""
    several = facts.keeps.get(facts.run.name) == "snapshots"
    rows: list[tuple[str, str, Callable[[Any], str]]] = [
        ("images trained on", "n_train", page.count),
        ("images validated", "n_valid", page.count),
        ("epochs", "epochs", page.count),
        ("last epoch kept" if several else "epoch kept", "best_epoch", page.count),
        ("training loss of that epoch", "train_loss", page.score),
        ("validation loss of that epoch", "valid_loss", page.score),
        ("log-loss, one view", "log_loss", page.score),
        ("score at 0.5", "score_at_half", page.score),
        ("… one view only", "score_at_half_no_tta", page.score),
        ("… training sample", "train_score_at_half", page.score),
        ("pixel accuracy", "valid_pixel_accuracy", page.share),
        ("training time", "seconds", page.duration),
        ("images per second", "images_per_second", page.count),
        ("peak memory, MiB", "peak_memory_mb", page.count),
        ("peak GPU memory, MiB", "peak_gpu_memory_mb", page.count),
    ]
    known = {key for fold in facts.metrics for key, value in fold.items() if value is not None}
    return [(name, [show(fold.get(key)) for fold in facts.metrics]) for name, key, show in rows if key in known]


def _charts(facts: Facts, validation: gallery.Scored | None, problem: str) -> list[dict[str, Any]]:
    """Title, what to look at, picture or the reason why there is none."""
    logs, found = facts.logs(), facts.postprocess
    finished = {fold["fold"] for fold in facts.metrics}
    unfinished = "".join(f" Fold {fold} is unfinished." for fold in logs if fold not in finished)
    untuned = f"No decision rule has been tuned yet; python scripts/optimise.py {facts.run.name} does."
    no_log = "A blend is not trained." if facts.kind == "blend" else "No epoch is finished yet."
    curve = None
    if validation is not None and validation.true.any():
        curve = figures.precision_recall(validation.probabilities, validation.true, validation.predicted)
    charts: list[tuple[str, bytes | None, str]] = [
        ("Learning curves", figures.learning_curves(logs, facts.kept) if logs else None, no_log),
        ("Decision rule", figures.rule_curve(found) if found else None, untuned),
        ("Precision and recall", curve, problem or "These tiles hold no salt, so recall is not defined."),
        ("Score by coverage", figures.coverage_bars(found["per_coverage"]) if found else None, untuned),
    ]
    look = LOOK | {"Learning curves": notes.curves(facts) + unfinished}
    return [{"title": title, "look": look[title], "png": png, "missing": missing} for title, png, missing in charts]


def _galleries(
    validation: gallery.Scored | None, training: tuple[int, gallery.Scored] | None, problem: str
) -> list[dict[str, Any]]:
    """Best, median and worst, each for training and validation tiles."""

    def side(name: str, scored: gallery.Scored | None, kind: str, missing: str) -> dict[str, Any]:
        places = gallery.choose(scored)[kind] if scored else []
        png = gallery.draw(scored, places) if scored and places else None
        return {"title": name, "png": png, "missing": "Too few tiles for a row." if scored else missing}

    fold, trained = training or (None, None)
    name = "training images" if fold is None else f"training images of fold {fold}"
    unkept = problem or "No predictions for training images were kept."
    return [
        {
            "kind": kind,
            "look": LOOK[kind],
            "sides": (
                side(name, trained, kind, unkept),
                side("validation images", validation, kind, problem),
            ),
        }
        for kind in ("best", "median", "worst")
    ]
