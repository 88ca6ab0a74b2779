"""Blends: the mean by id, refused where it would leak."""

import numpy as np
import pytest
from tiny_run import SAMPLE, TRAIN, Trained, place

from saltseg import runs
from saltseg.errors import InputError
from saltseg.inference import ensemble, steps


def copied(trained: Trained, name: str, brighter: int = 0) -> runs.RunDir:
    """A second run of the same folds, its rows in another order, its probabilities higher by so much."""
    other = runs.run_dir(trained.output, name)
    for path, ours in ((other.oof, trained.run.oof), (other.test, trained.run.test)):
        found = runs.load_predictions(ours)
        turned = None if found.fold is None else found.fold[::-1]
        runs.save_predictions(path, runs.Predictions(found.ids[::-1], found.probabilities[::-1] + brighter, turned))
    runs.write_atomic(other.config, trained.run.config.read_text())
    runs.write_atomic(other.provenance, trained.run.provenance.read_text())
    return other


def test_a_blend_is_the_mean_by_id_and_can_be_submitted_like_a_run(trained: Trained) -> None:
    steps.predict(trained.run, place(trained))
    target = runs.RunDir(trained.output / "blends" / "both")
    assert ensemble.blend_runs([trained.run, copied(trained, "other", 11)], target) == 12
    single, both = runs.load_predictions(trained.run.oof), runs.load_predictions(target.oof)
    assert both.fold is not None
    assert dict(zip(both.ids.tolist(), both.fold.tolist(), strict=True)) == {id_: int(id_[1]) for id_ in TRAIN}
    assert np.array_equal(both.of(TRAIN), single.of(TRAIN) + 6)  # 11 / 2, halves go up
    steps.optimise(target, place(trained))
    steps.submit(target, place(trained))
    assert tuple(line.partition(",")[0] for line in target.submission.read_text().splitlines()[1:]) == SAMPLE
    with pytest.raises(InputError, match=r"both exists; choose another --name or remove it"):
        ensemble.blend_runs([trained.run, trained.run], target)


def test_runs_of_other_data_or_folds_do_not_blend(trained: Trained) -> None:
    steps.predict(trained.run, place(trained))
    other, target = copied(trained, "other"), runs.RunDir(trained.output / "blends" / "both")
    facts = other.read_provenance()
    runs.write_json(other.provenance, facts | {"dataset_hash": "0" * 64})
    with pytest.raises(InputError, match=r"runs to blend differ in dataset_hash: "):
        ensemble.blend_runs([trained.run, other], target)
    runs.write_json(other.provenance, facts)
    oof = runs.load_predictions(other.oof)
    runs.save_predictions(other.oof, runs.Predictions(oof.ids, oof.probabilities, np.roll(oof.fold, 1)))
    with pytest.raises(InputError, match=r"trained on different folds; their average would leak"):
        ensemble.blend_runs([trained.run, other], target)
    assert not target.path.exists()
