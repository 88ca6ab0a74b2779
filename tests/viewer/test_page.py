"""The page in a real browser, without a window: its numbers are Python's, it asks this machine alone, keys work."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from example import SETTINGS, TUNED, Known, SurveyFiles, png, smooth, tiles

from saltseg.data import image_files
from saltseg.inference import windows
from saltseg.metrics import average_precision, pixels
from saltseg.pipeline import folder
from saltseg.postprocessing.parameters import THRESHOLD_HALF, Postprocessing
from saltseg.viewer import server

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright, which drives a browser, is not installed")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
if CHROMIUM is None:
    pytest.skip("no Chromium is installed", allow_module_level=True)

LAPTOP = {"width": 1366, "height": 768}
SECONDS = 10_000  # milliseconds


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        root = ["--no-sandbox"] if os.name == "posix" and os.geteuid() == 0 else []
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=root)
        yield running
        running.close()


@dataclass
class Opened:
    """A page, and what went wrong in it: messages of the console, errors, requests to another machine."""

    page: Any
    address: str
    problems: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("console", lambda message: self.problems.append(message.text))
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("requestfailed", self._failed)
        self.page.on("request", self._sent)
        self.page.set_default_timeout(SECONDS)

    def _sent(self, request: Any) -> None:
        if not request.url.startswith((self.address, f"blob:{self.address}")):
            self.problems.append(request.url)

    def _failed(self, request: Any) -> None:
        if request.failure != "net::ERR_ABORTED":  # the page asked for something newer
            self.problems.append(f"{request.url}: {request.failure}")

    def has(self, name: str, text: str) -> None:
        """Wait until the element of this id says that."""
        sync_api.expect(self.page.locator(f"#{name}")).to_have_text(text, timeout=SECONDS)

    def set(self, name: str, value: int) -> None:
        """Move a slider."""
        self.page.locator(f"#{name}").fill(str(value))

    def shows(self, mask: np.ndarray, truth: np.ndarray | None = None) -> None:
        """Wait until the numbers are those of this mask."""
        self.has("pixels", f"{mask.sum():,}")
        self.has("salt", f"{100 * mask.mean():.2f} %")
        if truth is None:
            assert self.page.locator("#iou").is_hidden()
            return
        for name, [value] in pixels.per_image(mask[None], truth[None]).items():
            if name != "dice":
                self.has(name, f"{value:.4f}")
        self.has("ap", f"{average_precision.score(mask[None], truth[None]):.1f}")

    def drop(self, name: str, content: bytes) -> None:
        """Drop a file on the page."""
        transfer = self.page.evaluate_handle(
            """([name, bytes]) => {
              const transfer = new DataTransfer();
              transfer.items.add(new File([new Uint8Array(bytes)], name));
              return transfer;
            }""",
            [name, list(content)],
        )
        self.page.dispatch_event("#frame", "drop", {"dataTransfer": transfer})


@pytest.fixture
def opened(browser: Any, port: int) -> Iterator[Opened]:
    context = browser.new_context(viewport=LAPTOP)
    found = Opened(context.new_page(), f"http://{server.HOST}:{port}/")
    found.page.goto(found.address)
    found.has("title", "Inline 22")  # the middle of the survey
    yield found
    context.close()
    assert found.problems == []


def saved(opened: Opened, button: str, tmp_path: Path) -> Path:
    """The file that a button saves."""
    with opened.page.expect_download() as download:
        opened.page.click(f"#{button}")
    path = tmp_path / download.value.suggested_filename
    download.value.save_as(path)
    return path


# ---------------------------------------------------------------- the same numbers


def postprocess(probability: np.ndarray, parameters: Postprocessing) -> np.ndarray:
    return folder.postprocess(probability[None], parameters)[0]


def cases() -> Iterator[tuple[np.ndarray, Postprocessing]]:
    """Probabilities and parameters at random, of images up to a tile and of larger ones."""
    rng = np.random.default_rng(0)
    shapes = [tuple(rng.integers(1, 30, 2)) for _ in range(40)] + [(101, 101), (101, 102), (103, 100), (60, 200)]
    for number, shape in enumerate(shapes):
        probability = smooth(*shape, seed=number, sigma=float(rng.choice([0.6, 1.5, 4])))
        threshold = int(rng.integers(1, 256))
        high = int(rng.choice([0, threshold, rng.integers(0, 256), rng.integers(threshold, 256)]))
        salt = int((probability >= threshold).sum())
        area = int(rng.choice([0, 1, 2, 10, salt, salt + 1, probability.size // 5]))
        yield probability, Postprocessing(threshold, area, bool(rng.integers(2)), high)


def test_masks_and_scores_are_those_of_python(opened: Opened) -> None:
    given = list(cases())
    truth = [np.roll(probability, 1) > 120 for probability, _ in given]
    found = opened.page.evaluate(
        """async (cases) => {
          const { postprocess, scores } = await import("/postprocess.js");
          return cases.map(({ probability, truth, height, width, parameters }) => {
            const mask = postprocess(Uint8Array.from(probability), height, width, parameters);
            return { mask: [...mask], ...scores(mask, Uint8Array.from(truth)) };
          });
        }""",
        [
            {
                "probability": probability.ravel().tolist(),
                "truth": true.astype(int).ravel().tolist(),
                "height": probability.shape[0],
                "width": probability.shape[1],
                "parameters": parameters.to_dict(),
            }
            for (probability, parameters), true in zip(given, truth, strict=True)
        ],
    )
    masks = [postprocess(probability, parameters) for probability, parameters in given]
    for (_, parameters), one, mask, true in zip(given, found, masks, truth, strict=True):
        assert one["mask"] == mask.ravel().tolist(), parameters
        for name, [value] in pixels.per_image(mask[None], true[None]).items():
            assert name == "dice" or one[name] == value
        assert one["score"] == average_precision.score(mask[None], true[None])
    plain = [postprocess(probability, Postprocessing(parameters.threshold)) for probability, parameters in given]
    changed = sum(not np.array_equal(*pair) for pair in zip(masks, plain, strict=True))
    assert changed > 10  # the cases are not all trivial


def test_sliders_give_the_numbers_of_python_at_once(opened: Opened) -> None:
    shown = tiles().scored
    opened.page.select_option("#list", value="2")
    for parameters in (
        TUNED,
        Postprocessing(90, 30, False, 170),
        Postprocessing(90, 30, False, 230),
        Postprocessing(90, 30, True, 0),
        Postprocessing(90, 2000, True, 0),
        Postprocessing(255, 0, False, 0),
    ):
        opened.set("threshold", parameters.threshold)
        opened.set("hysteresis", parameters.hysteresis_high)
        opened.set("area", parameters.min_area)
        opened.page.set_checked("#holes", parameters.fill_holes)
        opened.shows(parameters.apply(shown.probabilities[2:3])[0], shown.true[2])


def test_numbers_can_be_typed_and_nonsense_changes_nothing(opened: Opened) -> None:
    opened.page.select_option("#list", value="1")
    shown = tiles().scored
    opened.page.fill("#area-number", "9000")
    opened.page.fill("#threshold-number", "77")
    mask = Postprocessing(77, 9000, False, TUNED.hysteresis_high).apply(shown.probabilities[1:2])[0]
    opened.shows(mask, shown.true[1])
    for nonsense in ("0", "256", "1.5", ""):
        opened.page.fill("#threshold-number", nonsense)
        opened.shows(mask, shown.true[1])
    opened.page.press("#threshold-number", "Tab")
    assert opened.page.input_value("#threshold-number") == "77"


def test_slices_of_a_survey(opened: Opened, files: SurveyFiles) -> None:
    opened.set("area", 0)
    opened.set("hysteresis", 0)
    sections = {
        "Inline": (files.probability[3].T, files.true[3].T, 3, "Inline 23"),
        "Crossline": (files.probability[:, 2].T, files.true[:, 2].T, 2, "Crossline 304"),
        "Time": (files.probability[:, :, 9], files.true[:, :, 9], 9, "Time 36 ms"),
    }
    for button, (probability, truth, position, title) in sections.items():
        opened.page.click(f"#directions >> text={button}")
        opened.set("slice", position)
        opened.has("title", title)
        opened.shows((probability >= TUNED.threshold).astype(np.uint8), truth)


# ---------------------------------------------------------------- images of one's own


def test_an_image_that_is_dropped_and_its_true_mask(opened: Opened, tmp_path: Path) -> None:
    image, truth = smooth(110, 150, seed=8), (smooth(110, 150, seed=9) > 120).astype(np.uint8)
    opened.drop("my section.png", png(image))
    opened.has("title", "my section.png")
    [probability] = windows.predict_images([Known()], [image], SETTINGS)
    mask = postprocess(probability, TUNED)
    assert 0 < mask.sum() < (probability >= TUNED.threshold).sum()  # hysteresis and area remove something
    opened.shows(mask)
    opened.page.set_input_files("#mask-file", {"name": "m.png", "mimeType": "image/png", "buffer": png(truth * 255)})
    opened.shows(mask, truth)

    path = saved(opened, "save-mask", tmp_path)
    assert path.name == "my section_mask.png"
    np.testing.assert_array_equal(image_files.read_mask(path), mask)


def test_the_picture_is_the_image_where_nothing_is_drawn(opened: Opened, tmp_path: Path) -> None:
    image = smooth(30, 40, seed=10)
    opened.drop("a.png", png(image))
    opened.has("title", "a.png")
    opened.page.uncheck("#show-mask")
    opened.set("opacity", 0)
    path = saved(opened, "save-picture", tmp_path)
    zoom = int(opened.page.inner_text("#zoom")[:-1])
    assert zoom > 10
    np.testing.assert_array_equal(image_files.read_gray(path), image.repeat(zoom, 0).repeat(zoom, 1))
    opened.set("opacity", 100)
    blue, _, red = cv2.imread(str(saved(opened, "save-picture", tmp_path)))[15 * zoom, 20 * zoom].tolist()
    assert blue > red + 30


def test_outlines_lie_between_salt_and_rock(opened: Opened, tmp_path: Path) -> None:
    image, truth = np.zeros((30, 40), np.uint8), np.zeros((30, 40), np.uint8)
    image[:, 15:] = 255  # probable salt to the right of column 15, true salt below row 20
    truth[20:] = 1
    opened.drop("a.png", png(image))
    opened.has("title", "a.png")
    opened.set("opacity", 0)
    opened.set("area", 0)
    opened.page.set_input_files("#mask-file", {"name": "m.png", "mimeType": "image/png", "buffer": png(truth)})
    opened.has("recall", f"{25 / 40:.4f}")
    zoom = int(opened.page.inner_text("#zoom")[:-1])
    assert zoom > 10
    picture = cv2.imread(str(saved(opened, "save-picture", tmp_path)))[..., ::-1]
    yellow, orange = [240, 228, 66], [213, 94, 0]
    assert picture[5 * zoom + zoom // 2, 15 * zoom].tolist() == yellow
    for column in (5, 30):
        assert picture[20 * zoom, column * zoom + zoom // 2].tolist() == orange
    assert picture[25 * zoom + zoom // 2, 5 * zoom + zoom // 2].tolist() == [0, 0, 0]
    assert picture[5 * zoom + zoom // 2, 30 * zoom + zoom // 2].tolist() == [255, 255, 255]
    opened.page.uncheck("#show-mask")
    opened.page.uncheck("#show-truth")
    bare = image_files.read_gray(saved(opened, "save-picture", tmp_path))
    np.testing.assert_array_equal(bare, image.repeat(zoom, 0).repeat(zoom, 1))


def test_the_stored_mask_has_an_outline_of_its_own(opened: Opened, files: SurveyFiles, tmp_path: Path) -> None:
    stored, truth = (files.probability[2] > 127).T, files.true[2].T
    opened.set("opacity", 0)
    for name in ("mask", "truth"):
        opened.page.uncheck(f"#show-{name}")
    opened.page.check("#show-stored")
    zoom = int(opened.page.inner_text("#zoom")[:-1])
    picture = cv2.imread(str(saved(opened, "save-picture", tmp_path)))
    upright, of_truth = stored[:, 1:] != stored[:, :-1], truth[:, 1:] != truth[:, :-1]
    edges = np.argwhere(upright & ~of_truth)
    assert len(edges)
    for row, column in edges:
        assert picture[row * zoom + zoom // 2, (column + 1) * zoom].tolist() == [255, 255, 255]


def test_a_tile_is_opened_again_after_a_slice(opened: Opened) -> None:
    opened.page.select_option("#list", value="5")
    opened.has("pixels", f"{TUNED.apply(tiles().scored.probabilities[5:6])[0].sum():,}")
    opened.page.click("#directions >> text=Time")
    opened.has("title", "Time 24 ms")
    assert opened.page.evaluate("() => document.getElementById('list').selectedIndex") == -1


def test_progress_that_comes_too_late_is_not_shown(opened: Opened) -> None:
    opened.page.evaluate(
        """() => {
          const fetched = window.fetch;
          window.waiting = [];
          window.fetch = (url, options) => {
            if (url === "/api/progress") return new Promise((done, fail) => window.waiting.push([done, fail]));
            if (url !== "/api/image") return fetched(url, options);
            return new Promise((done) => setTimeout(done, 1300)).then(() => fetched(url, options));
          };
        }"""
    )
    opened.drop("a.png", png(smooth(30, 40)))
    opened.has("title", "a.png")
    late = {"done": 3, "total": 10, "seconds_left": 5}
    count = opened.page.evaluate(
        """async (late) => {
          const [first, ...others] = window.waiting;
          first[0](new Response(JSON.stringify(late)));
          for (const [, fail] of others) fail(new TypeError("Failed to fetch"));
          await new Promise((done) => setTimeout(done, 100));
          return window.waiting.length;
        }""",
        late,
    )
    assert count > 1
    opened.has("message", "")


def test_a_folder_is_refused_in_one_line(opened: Opened) -> None:
    opened.page.evaluate("() => { Blob.prototype.arrayBuffer = () => Promise.reject(new DOMException('no file')); }")
    opened.drop("folder", b"x")
    opened.has("message", "folder cannot be read; is it a folder?")
    opened.has("title", "Inline 22")


def test_a_server_that_is_gone_is_said_at_the_start(opened: Opened) -> None:
    opened.page.route("**/api/state", lambda route: route.abort())
    opened.page.reload()
    opened.has("message", "saltseg view does not answer; is it still running?")
    assert all("ERR_FAILED" in problem for problem in opened.problems)  # the browser's own line
    opened.problems.clear()


def test_a_server_that_fails_is_said_at_the_start(opened: Opened) -> None:
    opened.page.route("**/api/state", lambda route: route.fulfill(status=500, body="Internal Server Error"))
    opened.page.reload()
    opened.has("message", "the server failed (500); its terminal says why")
    assert all("500 (Internal Server Error)" in problem for problem in opened.problems)  # the browser's own line
    opened.problems.clear()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.png", b"text", "the image: not a readable image (4 bytes)"),
        ("b.png", png(np.arange(12, dtype=np.uint8).reshape(2, 2, 3)), "the image: color channels differ"),
    ],
    ids=["text", "color"],
)
def test_bad_input_gives_one_line(opened: Opened, name: str, content: bytes, words: str) -> None:
    opened.page.set_input_files("#file", {"name": name, "mimeType": "image/png", "buffer": content})
    sync_api.expect(opened.page.locator("#message.error")).to_contain_text(words, timeout=SECONDS)
    opened.has("title", "Inline 22")  # what was shown stays
    assert all("400 (Bad Request)" in problem for problem in opened.problems)  # the browser's own line
    opened.problems.clear()


def test_a_large_file_is_not_sent(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MAX_BYTES", 1000)
    opened.page.reload()
    opened.has("title", "Inline 22")
    opened.drop("a.png", bytes(1001))
    opened.has("message", "a.png is larger than 0.001 MB; cut it into parts, or use saltseg predict")


def test_a_mask_of_another_size_is_refused(opened: Opened) -> None:
    opened.drop("a.png", png(smooth(30, 40)))
    opened.has("title", "a.png")
    opened.page.set_input_files(
        "#mask-file", {"name": "m.png", "mimeType": "image/png", "buffer": png(np.zeros((40, 30), np.uint8))}
    )
    opened.has("message", "m.png has 40x30 pixels, the image has 30x40")
    assert opened.page.locator("#iou").is_hidden()


# ---------------------------------------------------------------- how it is used


def test_keys(opened: Opened) -> None:
    press = opened.page.keyboard.press
    shown = tiles().scored
    press("]")
    opened.has("title", "Inline 23")
    press("[")
    opened.has("title", "Inline 22")
    opened.page.select_option("#list", value="5")
    opened.page.focus("#list")
    press("h")  # looks for a tile whose name begins so
    opened.has("threshold-share", f"{TUNED.threshold / 255:.3f}")
    opened.page.focus("#frame")
    press("h")
    opened.shows(THRESHOLD_HALF.apply(shown.probabilities[5:6])[0], shown.true[5])
    press("r")
    opened.shows(TUNED.apply(shown.probabilities[5:6])[0], shown.true[5])
    press("m")
    assert not opened.page.is_checked("#show-mask")
    press("t")
    assert not opened.page.is_checked("#show-truth")
    press("p")
    opened.has("opacity-share", "0 %")
    press("p")
    opened.has("opacity-share", "50 %")
    press("?")
    assert opened.page.is_visible("#help")
    press("Escape")
    assert opened.page.is_hidden("#help")
    opened.page.focus("#threshold")
    press("ArrowRight")
    opened.has("threshold-share", f"{(TUNED.threshold + 1) / 255:.3f}")


def test_zoom_is_whole_and_the_read_out_is_the_pixel_below_the_pointer(opened: Opened) -> None:
    shown = tiles().scored
    opened.page.select_option("#list", value="0")
    opened.has("zoom", "6×")  # the largest that fits on a laptop's screen
    opened.page.hover("#canvas", position={"x": 6 * 50 + 3, "y": 6 * 70 + 3})
    gray, probability = shown.images[0, 70, 50], shown.probabilities[0, 70, 50]
    opened.has("readout", f"column 50, row 70: gray {gray}, probability {probability / 255:.3f} ({probability}/255)")
    opened.page.click("#out")
    opened.has("zoom", "5×")
    assert opened.page.locator("#canvas").bounding_box()["width"] == 5 * 101


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_on_a_laptops_screen_in_light_and_dark(browser: Any, port: int, scheme: str) -> None:
    page = browser.new_context(viewport=LAPTOP, color_scheme=scheme).new_page()
    page.goto(f"http://{server.HOST}:{port}/")
    background = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate("() => [document.documentElement.scrollWidth, document.documentElement.scrollHeight]") == [
        *LAPTOP.values()
    ]
    first = page.evaluate(f"() => {background}")
    assert (np.mean([int(part) for part in first[4:-1].split(",")]) > 128) == (scheme == "light")
    sync_api.expect(page.locator("#salt")).not_to_be_empty(timeout=SECONDS)
    page.keyboard.press("d")
    assert page.evaluate(f"() => {background}") != first
    page.context.close()


def test_every_control_has_a_name(opened: Opened) -> None:
    unnamed = opened.page.evaluate(
        """() => [...document.querySelectorAll("button, select, input")]
          .filter((one) => !one.labels?.length && !one.ariaLabel)
          .filter((one) => one.matches("select") || !one.textContent.trim()).map((one) => one.id)"""
    )
    assert unnamed == []


def test_notes_are_text(opened: Opened) -> None:
    assert opened.page.inner_text("#notes li") == "a note <b>as text</b>"
