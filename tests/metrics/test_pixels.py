"""Pixel scores and coverage, worked out by hand."""

import numpy as np
import pytest

from saltseg.metrics import average_precision, pixels


def test_pixel_scores_by_hand() -> None:
    predicted = np.array([[[1, 1, 0], [1, 0, 0]], [[0, 0, 0], [0, 0, 0]]])
    true = np.array([[[1, 0, 0], [1, 0, 1]], [[0, 0, 0], [0, 0, 1]]])
    # Pooled: 2 right, 1 false alarm, 2 missed, 7 true background.
    pooled = pixels.pixel_scores(predicted, true)
    assert pooled.accuracy == pytest.approx(9 / 12)
    assert pooled.precision == pytest.approx(2 / 3)
    assert pooled.recall == pytest.approx(2 / 4)
    assert pooled.iou == pytest.approx(2 / 5)
    assert pooled.dice == pytest.approx(4 / 7)
    each = pixels.per_image(predicted, true)
    assert each["precision"].tolist() == pytest.approx([2 / 3, 0])
    assert each["recall"].tolist() == pytest.approx([2 / 3, 0])
    assert each["iou"].tolist() == pytest.approx([2 / 4, 0])
    assert each["dice"].tolist() == pytest.approx([4 / 6, 0])


def test_pixel_scores_of_empty_masks() -> None:
    empty, full = np.zeros((1, 2, 2), bool), np.ones((1, 2, 2), bool)
    for predicted, true, expected in ((empty, empty, 1), (empty, full, 0), (full, empty, 0), (full, full, 1)):
        for name, values in pixels.per_image(predicted, true).items():
            assert values.tolist() == [expected], name
    assert pixels.pixel_scores(empty, empty) == pixels.PixelScores(1.0, 1.0, 1.0, 1.0, 1.0)
    assert pixels.pixel_scores(full, empty) == pixels.PixelScores(0.0, 0.0, 0.0, 0.0, 0.0)


def test_coverage_classes() -> None:
    masks = np.zeros((6, 10, 10), np.uint8)
    for index, area in enumerate((0, 1, 10, 11, 30, 100)):
        masks[index].ravel()[:area] = 1
    np.testing.assert_allclose(pixels.coverage(masks), [0, 0.01, 0.1, 0.11, 0.3, 1])
    assert pixels.coverage_class(masks).tolist() == [0, 1, 1, 2, 3, 10]
    assert pixels.coverage_class(masks).dtype == np.int8


def test_per_coverage_weighs_to_the_mean() -> None:
    values, classes = np.array([1.0, 0.5, 0.0, 0.3]), np.array([0, 10, 10, 2], np.int8)
    rows = pixels.per_coverage(values, classes)
    assert [(row["coverage_class"], row["n"], row["score"]) for row in rows] == [
        (0, 1, 1),
        (2, 1, 0.3),
        (10, 2, 0.25),
    ]


@pytest.mark.parametrize("height", [255, 256, 300])
def test_tall_masks_and_many_of_them_are_counted_to_the_last_pixel(height: int) -> None:
    """Columns are summed as bytes where they fit, images in stacks."""
    full = np.ones((130, height, 2), np.uint8)
    almost = full.copy()
    almost[:, : height // 2] = 0
    assert pixels.coverage(full).tolist() == [1.0] * 130
    assert (pixels.per_image(almost, full)["recall"] == (height - height // 2) / height).all()
    assert average_precision.average_precision(full, full).tolist() == [1.0] * 130
