"""The simulator: coverage as in the real data, bit-identity, Kaggle's layout, neighbors, properties of salt."""

import csv
import hashlib
from collections import defaultdict
from functools import cache
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest

from saltseg.errors import InputError
from saltseg.metrics import rle
from saltseg.synthetic import geology, imaging, tiles
from saltseg.synthetic.dataset import write_dataset

N_TRAIN, N_TEST = 60, 30


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def digest(root: Path) -> dict[str, str]:
    """SHA-256 of every file under root, by relative path."""
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("synthetic") / "set"
    write_dataset(root, N_TRAIN, N_TEST, seed=3)
    return root


@pytest.fixture(scope="module")
def sections() -> list[tiles.Section]:
    return [tiles.numbered_section(1, number) for number in range(40)]


@pytest.fixture(scope="module")
def many() -> list[tiles.Tile]:
    return list(islice(tiles.tiles(0), 600))


def test_shares_follow_the_real_labeled_data(many: list[tiles.Tile]) -> None:
    coverage = np.array([tile.mask.mean() for tile in many])
    constant = np.array([np.ptp(tile.image) == 0 for tile in many])
    assert np.mean(coverage == 0) == pytest.approx(0.392, abs=0.03)
    assert coverage.mean() == pytest.approx(0.25, abs=0.02)
    assert np.mean(coverage > 0.9) == pytest.approx(245 / 4000, abs=0.01)
    assert constant.mean() == pytest.approx(80 / 4000, abs=0.008)
    assert not coverage[constant].any()
    assert all(not tile.image.any() for tile in np.array(many, object)[constant])
    assert coverage.max() < 1


def test_gray_values_resemble_the_real_ones(many: list[tiles.Tile]) -> None:
    images = np.stack([tile.image for tile in many if tile.image.any()])
    # Real training images: mean 122.8, median deviation of a tile 28.4; each tile stretched.
    assert images.mean() == pytest.approx(122, abs=6)
    assert np.median(images.std((1, 2))) == pytest.approx(29, abs=4)
    assert (images.min((1, 2)) == 0).all()
    assert (images.max((1, 2)) == 255).all()


def test_same_seed_same_bytes_other_seed_other_data(dataset: Path, tmp_path: Path) -> None:
    write_dataset(tmp_path / "again", N_TRAIN, N_TEST, seed=3)
    assert digest(tmp_path / "again") == digest(dataset)
    write_dataset(tmp_path / "other", 4, 2, seed=4)
    ours = {hashlib.sha256(path.read_bytes()).digest() for path in (dataset / "train/images").iterdir()}
    theirs = {hashlib.sha256(path.read_bytes()).digest() for path in (tmp_path / "other/train/images").iterdir()}
    assert not ours & theirs
    assert not {row["id"] for row in table(tmp_path / "other/depths.csv")} & {
        row["id"] for row in table(dataset / "depths.csv")
    }


def test_the_number_of_threads_changes_nothing() -> None:
    before = cv2.getNumThreads()
    several = [tiles.numbered_section(9, number).image.tobytes() for number in range(8)]
    try:
        cv2.setNumThreads(1)
        assert [tiles.numbered_section(9, number).image.tobytes() for number in range(8)] == several
    finally:
        cv2.setNumThreads(before)


def test_files_are_those_of_kaggle(dataset: Path) -> None:
    train, test = table(dataset / "train.csv"), table(dataset / "sample_submission.csv")
    assert [list(train[0]), list(test[0])] == [["id", "rle_mask"]] * 2
    assert len(train) == N_TRAIN
    assert len(test) == N_TEST
    assert {row["rle_mask"] for row in test} == {"1 1"}
    train_ids, test_ids = {row["id"] for row in train}, {row["id"] for row in test}
    assert len(train_ids | test_ids) == N_TRAIN + N_TEST
    assert all(len(name) == 10 and not set(name) - set("0123456789abcdef") for name in train_ids | test_ids)
    for folder, ids in (("train/images", train_ids), ("train/masks", train_ids), ("test/images", test_ids)):
        assert {path.stem for path in (dataset / folder).iterdir()} == ids
    depths = table(dataset / "depths.csv")
    assert {row["id"] for row in depths} == train_ids | test_ids
    assert all(int(row["z"]) > 0 for row in depths)
    assert {path.name for path in dataset.iterdir()} == {
        *("train", "test", "train.csv", "sample_submission.csv"),
        *("depths.csv", "solution.csv", "sections.csv"),
    }


def test_pngs_have_the_real_formats_and_masks_match_their_rle(dataset: Path) -> None:
    for row in table(dataset / "train.csv"):
        image = cv2.imread(str(dataset / "train/images" / f"{row['id']}.png"), cv2.IMREAD_UNCHANGED)
        mask = cv2.imread(str(dataset / "train/masks" / f"{row['id']}.png"), cv2.IMREAD_UNCHANGED)
        assert image.shape == (101, 101, 3)
        assert image.dtype == np.uint8
        assert (image == image[:, :, :1]).all()
        assert mask.shape == (101, 101)
        assert mask.dtype == np.uint16
        assert set(np.unique(mask)) <= {0, 65535}
        np.testing.assert_array_equal(rle.decode(row["rle_mask"]), mask // 65535)


def test_solution_has_the_test_ids_a_third_of_them_public(dataset: Path) -> None:
    solution = table(dataset / "solution.csv")
    assert list(solution[0]) == ["id", "rle_mask", "usage"]
    assert [row["id"] for row in solution] == [row["id"] for row in table(dataset / "sample_submission.csv")]
    assert sorted(row["usage"] for row in solution) == ["Private"] * 20 + ["Public"] * 10


def test_every_tile_is_the_recorded_part_of_its_section(dataset: Path) -> None:
    rows = table(dataset / "sections.csv")
    labels = {row["id"]: row["rle_mask"] for name in ("train", "solution") for row in table(dataset / f"{name}.csv")}
    assert sorted(row["id"] for row in rows) == sorted(labels)
    assert len({(row["section"], row["row"], row["column"]) for row in rows}) == len(rows)
    section_of = cache(tiles.numbered_section)
    for row in rows:
        whole = section_of(3, int(row["section"].removeprefix("s")))
        top, left = 101 * int(row["row"]), 101 * int(row["column"])
        part = (slice(top, top + 101), slice(left, left + 101))
        np.testing.assert_array_equal(rle.decode(labels[row["id"]]), whole.mask[part])
        (path,) = dataset.glob(f"*/images/{row['id']}.png")
        image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        amplitude = whole.image[part].astype(np.float64)
        scale = max(np.ptp(amplitude), 1e-9)
        # A second implementation of the stretch; one gray value for rounding in float32.
        assert np.abs(image - 255 * (amplitude - amplitude.min()) / scale).max() <= 1


def test_neighbors_exist_and_continue_across_the_shared_edge(many: list[tiles.Tile]) -> None:
    at = {(tile.section, tile.row, tile.column): tile for tile in many}
    beside, apart = [], []
    for (section, row, column), tile in at.items():
        right = at.get((section, row, column + 1))
        if right is None or not tile.image.any() or not right.image.any():
            continue
        beside.append(np.corrcoef(tile.image[:, -1], right.image[:, 0])[0, 1])
        apart.append(np.corrcoef(tile.image[:, -1], right.image[:, -1])[0, 1])
        assert np.mean(tile.mask[:, -1] == right.mask[:, 0]) > 0.8
    assert len(beside) > 100
    assert np.median(beside) > 0.9
    assert np.median(np.abs(apart)) < 0.5


def test_sections_are_spread_over_train_and_test(dataset: Path) -> None:
    train = {row["id"] for row in table(dataset / "train.csv")}
    sides = defaultdict(list)
    for row in table(dataset / "sections.csv"):
        sides[row["section"]].append(row["id"] in train)
    assert sum(sum(members) > 1 for members in sides.values()) >= len(sides) / 3
    assert sum(any(members) and not all(members) for members in sides.values()) >= len(sides) / 4


def coherence(patch: np.ndarray) -> float:
    """How one-directional the gradients of a patch are, 0 (no preferred direction) to 1 (parallel layers)."""
    vertical, lateral = np.gradient(patch.astype(np.float64))
    cross, difference = 2 * (vertical * lateral).mean(), (vertical**2 - lateral**2).mean()
    return float(np.hypot(cross, difference) / (vertical**2 + lateral**2).mean())


def test_salt_is_weaker_and_less_coherent_than_sediments(sections: list[tiles.Section]) -> None:
    ratios, salt_coherence, sediment_coherence = [], [], []
    step = 24
    for whole in sections:
        patches = [
            (
                whole.image[z : z + step, x : x + step],
                whole.mask[z - 12 : z + step + 12, x - 12 : x + step + 12],
            )
            for z in range(12, whole.mask.shape[0] - step - 12, step)
            for x in range(12, whole.mask.shape[1] - step - 12, step)
        ]
        patches = [(image, mask) for image, mask in patches if np.ptp(image) > 0]
        salt = [image for image, mask in patches if mask.all()]
        sediment = [image for image, mask in patches if not mask.any()]
        if len(salt) < 5 or len(sediment) < 5:
            continue
        ratios.append(np.median([p.std() for p in salt]) / np.median([p.std() for p in sediment]))
        salt_coherence.append(np.median([coherence(p) for p in salt]))
        sediment_coherence.append(np.median([coherence(p) for p in sediment]))
    assert len(ratios) >= 12
    assert np.median(ratios) < 0.6
    assert np.mean(np.array(ratios) < 1) > 0.9
    assert np.median(salt_coherence) < np.median(sediment_coherence) - 0.1


def edge_amplitudes(whole: tiles.Section) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Amplitudes at the top of salt, at its base, and the local peaks of the sediments, each 1-D."""
    change = np.diff(whole.mask.astype(np.int8), axis=0)
    around = np.maximum.reduce([whole.image[2 + k : whole.image.shape[0] - 5 + k] for k in (-2, -1, 0, 1, 2)])
    lowest = np.minimum.reduce([whole.image[2 + k : whole.image.shape[0] - 5 + k] for k in (-2, -1, 0, 1, 2)])
    change = change[2:-4]
    inner = whole.image[1:-1]
    peaks = (inner > whole.image[:-2]) & (inner > whole.image[2:]) & (whole.mask[1:-1] == 0)
    return around[change == 1], lowest[change == -1], inner[peaks]


def test_top_of_salt_is_a_strong_positive_and_its_base_a_weaker_negative_reflection(
    sections: list[tiles.Section],
) -> None:
    tops, bases, stronger = [], [], []
    for whole in sections:
        top, base, peaks = edge_amplitudes(whole)
        if top.size > 40:
            tops.append(np.median(top))
            stronger.append(np.median(top) > np.median(peaks))
        if base.size > 40:
            bases.append(np.median(base))
    assert len(tops) >= 15
    assert np.mean(stronger) > 0.85
    assert np.median(bases) < 0 < np.median(tops)
    assert -np.median(bases) < np.median(tops)


def test_a_flat_interface_gives_a_ricker_wavelet() -> None:
    """Impedance that rises by one step images as the vertical Ricker wavelet of the stated wavelength."""
    impedance = np.zeros((256, 64), np.float32)
    impedance[128:] = 1
    rng = np.random.default_rng(0)
    trace = imaging.reflections(rng, impedance, 16.0, 70.0)[:, 32].astype(np.float64)
    assert abs(int(trace.argmax()) - 127.5) <= 1
    # Above the middle the wavelength is mixed with the longer one of the bottom (at most 1.5 times).
    offset = (np.arange(256) - 127.5)[None] / np.linspace(16, 24, 30)[:, None]
    wavelets = (1 - 2 * (np.pi * offset) ** 2) * np.exp(-((np.pi * offset) ** 2))
    best = max(np.corrcoef(trace[64:192], wavelet[64:192])[0, 1] for wavelet in wavelets)
    assert best > 0.99


def test_a_fault_displaces_layers_by_at_most_its_throw_and_is_a_jump() -> None:
    jumps = [
        np.abs(np.diff(geology._faults(np.random.default_rng(seed), (200, 300), 10.0, 150.0), axis=1)).max()
        for seed in range(40)
    ]
    assert 0.2 < np.mean(np.array(jumps) > 2) < 0.9
    assert max(jumps) < 4 * 22


def test_a_failed_write_leaves_nothing_and_an_existing_root_is_refused(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise RuntimeError(f"stopped at {done} of {total}")

    with pytest.raises(RuntimeError, match="stopped at 1 of 3"):
        write_dataset(tmp_path / "set", 2, 1, progress=stop)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "set").mkdir()
    with pytest.raises(InputError, match=r"dataset folder exists: .*set; remove it or choose another name"):
        write_dataset(tmp_path / "set", 2, 1)
    assert list((tmp_path / "set").iterdir()) == []


@pytest.mark.parametrize(("n_train", "n_test", "seed"), [(0, 1, 0), (1, 0, 0), (1, 1, -1)])
def test_impossible_sizes_and_seeds_are_refused(tmp_path: Path, n_train: int, n_test: int, seed: int) -> None:
    with pytest.raises(InputError, match=r"dataset size|seed: -1"):
        write_dataset(tmp_path / "set", n_train, n_test, seed)


def test_stretch_reaches_both_ends_and_turns_a_constant_black() -> None:
    np.testing.assert_array_equal(tiles.stretch(np.array([[-2.0, 0.0, 3.0]])), [[0, 102, 255]])
    np.testing.assert_array_equal(tiles.stretch(np.full((2, 2), 7.0)), np.zeros((2, 2)))
