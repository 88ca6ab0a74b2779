"""What the table of a ladder says beside its numbers. The rest is tested where the ladder is climbed."""

from typing import Any

from saltseg.inference import ladder


def entry(stage: str, **facts: Any) -> dict[str, Any]:
    return {"stage": stage, "what": "a stage", "score": 0.5, "interval": [0.4, 0.6], "n": 1200, "gain": None, **facts}


def test_the_noise_between_trainings_is_told_where_it_was_measured() -> None:
    assert "scatter by 0.007 (one sigma with 1,200 labels" in ladder.markdown([entry("recipe")], "cpu")
    for budget in ("gpu", "gpu_offline", "tiny"):
        text = ladder.markdown([entry("recipe")], budget)
        assert "scatter at this budget has not been measured" in text
        assert "0.007" not in text


def test_what_cannot_be_compared_along_the_curve_over_labels_is_said_there_alone() -> None:
    assert "the curve over labels is not as fair" in ladder.markdown([entry("random_100")], "cpu")
    assert "curve" not in ladder.markdown([entry("recipe")], "cpu")


def test_stages_that_test_images_helped_to_train_are_named() -> None:
    entries = [entry("recipe", transduction=False), entry("student1", transduction=True), entry("longer")]
    assert ladder.markdown(entries, "gpu").endswith("helped to train `student1` (transduction).")
    assert "ransduction" not in ladder.markdown(entries[::2], "gpu")
