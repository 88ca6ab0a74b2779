"""What the server answers, and what it refuses."""

import asyncio
import http.client
import json
import struct
import threading
import zlib
from collections.abc import Iterator

import numpy as np
import pytest
from example import SETTINGS, TUNED, Known, networks, png, serving, smooth, tiles

from saltseg.errors import InputError
from saltseg.inference import windows
from saltseg.viewer import server
from saltseg.viewer.content import Content
from saltseg.viewer.networks import Abandoned, Networks


def answer(port: int, path: str, method: str = "GET", **options: object) -> tuple[http.client.HTTPResponse, bytes]:
    connection = http.client.HTTPConnection(server.HOST, port, timeout=10)
    try:
        connection.request(method, path, **options)  # type: ignore[arg-type]
        response = connection.getresponse()
        return response, response.read()
    finally:
        connection.close()


def decoded(message: bytes) -> tuple[dict, dict[str, np.ndarray]]:
    """The inverse of `Item.encode`."""
    [length] = struct.unpack("<I", message[:4])
    head, rest = json.loads(message[4 : 4 + length]), message[4 + length :]
    size = head["height"] * head["width"]
    assert len(rest) == size * len(head["layers"])
    pixels = np.frombuffer(rest, np.uint8).reshape(-1, head["height"], head["width"])
    return head, dict(zip(head["layers"], pixels, strict=True))


def refusal(port: int, path: str, method: str = "GET", **options: object) -> str:
    response, body = answer(port, path, method, **options)
    assert response.status == 400
    text = json.loads(body)["error"]
    assert "\n" not in text
    return text


# ---------------------------------------------------------------- what is there


def test_a_tile_is_its_image_probability_and_truth(port: int) -> None:
    shown = tiles().scored
    head, layers = decoded(answer(port, "/api/tiles/4")[1])
    np.testing.assert_array_equal(layers["image"], shown.images[4])
    np.testing.assert_array_equal(layers["probability"], shown.probabilities[4])
    np.testing.assert_array_equal(layers["truth"], shown.true[4])
    assert head["name"] == "b"
    assert head["title"].startswith("b · AP ")


def test_the_state_lists_tiles_and_directions(port: int) -> None:
    state = json.loads(answer(port, "/api/state")[1])
    assert [group["title"] for group in state["groups"]] == ["Best", "Median", "Worst", "All"]
    assert [index for index, _ in state["groups"][3]["tiles"]] == [5, 4, 3, 2, 1, 0]  # by id
    best, worst = (state["groups"][k]["tiles"][0][0] for k in (0, 2))
    assert tiles().scored.average_precision[best] > tiles().scored.average_precision[worst]
    assert [one["key"] for one in state["directions"]] == ["inline", "crossline", "time"]
    assert state["postprocessing"] == TUNED.to_dict()


def test_an_image_that_is_dropped_is_predicted(port: int) -> None:
    image = smooth(110, 120, seed=7)
    _, layers = decoded(answer(port, "/api/image", "PUT", body=png(image))[1])
    np.testing.assert_array_equal(layers["image"], image)
    [expected] = windows.predict_images([Known()], [image], SETTINGS)
    np.testing.assert_array_equal(layers["probability"], expected)
    assert np.ptp(expected) > 200


def test_16_bit_images_and_masks_are_read_as_datasets_are(port: int) -> None:
    image = (np.arange(12, dtype=np.uint16) * 5000).reshape(3, 4)
    _, layers = decoded(answer(port, "/api/image", "PUT", body=png(image))[1])
    np.testing.assert_array_equal(layers["image"], np.rint(image / 257))
    mask = np.array([[0, 65535]], np.uint16)
    _, layers = decoded(answer(port, "/api/mask", "PUT", body=png(mask))[1])
    assert layers["truth"].tolist() == [[0, 1]]


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize("host", ["example.com", "127.0.0.1.example.com", "localhost.example.com", "0.0.0.0", ""])
def test_foreign_hosts_are_refused(port: int, host: str) -> None:
    for path in ("/", "/api/state", "/api/tiles/0"):
        response, body = answer(port, path, headers={"Host": host})
        assert (response.status, body) == (400, b"Invalid host header")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_this_machine_is_not(port: int, host: str) -> None:
    assert answer(port, "/", headers={"Host": f"{host}:{port}"})[0].status == 200


def test_every_answer_forbids_other_sources_and_other_sites(port: int) -> None:
    for path in ("/", *(f"/{name}" for name in server.FILES), "/api/state", "/api/tiles/0", "/nothing"):
        response, _ = answer(port, path)
        policy = str(response.getheader("content-security-policy"))
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
        assert "unsafe" not in policy
        assert "*" not in policy
        assert response.getheader("x-content-type-options") == "nosniff"
        assert response.getheader("access-control-allow-origin") is None


def test_another_site_may_not_send(port: int) -> None:
    """Before a PUT a browser asks; without an answer that allows it, it sends nothing."""
    headers = {"Origin": "https://example.com", "Access-Control-Request-Method": "PUT"}
    response, _ = answer(port, "/api/image", "OPTIONS", headers=headers)
    assert response.status == 405
    assert response.getheader("access-control-allow-origin") is None
    assert answer(port, "/api/image", "POST", body=b"x")[0].status == 405


@pytest.mark.parametrize(
    "path",
    [
        "/server.py", "/static/app.js", "/../server.py", "/..%2fserver.py", "//etc/passwd", "/api/tiles/../state",
        f"/api/tiles/{'9' * 5000}", f"/api/slices/inline/{'9' * 5000}", "/api/tiles/-1", "/api/tiles/a",
        "/api/tiles/1.png", "/api/slices/inline/../0", "/api/slices/..%2f..%2fs/0",
    ],
)  # fmt: skip
def test_no_address_names_a_file(port: int, path: str) -> None:
    assert answer(port, path)[0].status in (400, 404)


def test_every_file_of_the_page_is_served_and_no_other_lies_there() -> None:
    assert {path.name for path in server.STATIC.iterdir()} == set(server.FILES)


def test_a_tile_that_does_not_exist_is_refused(port: int) -> None:
    assert refusal(port, "/api/tiles/6") == "no tile 6: there are 6; reload the page"


def test_what_is_not_there_is_refused() -> None:
    with serving(Content("", TUNED)) as port:
        assert "no tiles" in refusal(port, "/api/tiles/0")
        assert "no survey" in refusal(port, "/api/slices/inline/0")
        assert "nothing here predicts" in refusal(port, "/api/image", "PUT", body=b"x")


def huge_png(width: int, height: int) -> bytes:
    """The beginning of a PNG of this size, and its end."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "not a readable image"),
        (b"no image at all", "not a readable image"),
        (huge_png(50_000, 50_000), "50000x50000 pixels"),
        (png(np.zeros((4001, 4000), np.uint8)), "4001x4000 pixels, the page takes 16 million"),
        (png(np.arange(12, dtype=np.uint8).reshape(2, 2, 3)), "color channels differ"),
    ],
    ids=["empty", "text", "a small file of many pixels", "too many pixels", "color"],
)
def test_a_bad_image_is_refused_in_one_line(port: int, body: bytes, words: str) -> None:
    text = refusal(port, "/api/image", "PUT", body=body)
    assert text.startswith("the image")
    assert words in text


def test_a_mask_must_be_binary(port: int) -> None:
    assert "the mask: not binary" in refusal(port, "/api/mask", "PUT", body=png(np.arange(9, dtype=np.uint8)))


def test_a_large_file_is_refused_before_it_is_read(port: int) -> None:
    connection = http.client.HTTPConnection(server.HOST, port, timeout=10)
    connection.putrequest("PUT", "/api/image")
    connection.putheader("Content-Length", str(server.MAX_BYTES + 1))
    connection.endheaders()
    response = connection.getresponse()  # nothing was sent
    assert (response.status, json.loads(response.read())["error"][:32]) == (400, "the file is larger than 25 MB; c")
    connection.close()


def test_a_file_of_unknown_size_is_read_up_to_the_limit(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MAX_BYTES", 1000)
    assert "is larger than" in refusal(port, "/api/image", "PUT", body=iter([b"x" * 600] * 2), encode_chunked=True)


def test_a_page_that_leaves_while_it_sends_is_no_error() -> None:
    messages = iter([{"type": "http.request", "body": b"a part", "more_body": True}, {"type": "http.disconnect"}])
    sent = []

    async def receive() -> dict:
        return next(messages)

    async def send(message: dict) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "PUT", "path": "/api/mask", "query_string": b"", "root_path": ""}
    scope |= {"headers": [(b"host", server.HOST.encode())], "http_version": "1.1", "scheme": "http"}
    asyncio.run(server.create_app(Content("", TUNED))(scope, receive, send))
    assert sent[0]["status"] == 409


# ---------------------------------------------------------------- one image at a time


class Waiting(Networks):
    """Predicts until nobody waits any more."""

    def __init__(self) -> None:
        super().__init__("waiting", networks()._trained)
        self.started, self.abandoned = threading.Event(), threading.Event()

    def predict(self, image: np.ndarray, gone: threading.Event) -> np.ndarray:
        self.started.set()
        if gone.wait(10):
            self.abandoned.set()
        raise Abandoned


@pytest.fixture
def waiting() -> Iterator[tuple[int, Waiting]]:
    shown = Waiting()
    with serving(Content("", TUNED, shown)) as found:
        yield found, shown


def test_an_image_is_abandoned_when_the_page_leaves(waiting: tuple[int, Waiting]) -> None:
    port, shown = waiting
    connection = http.client.HTTPConnection(server.HOST, port, timeout=10)
    connection.request("PUT", "/api/image", body=png(smooth(20, 20)))
    assert shown.started.wait(5)
    assert answer(port, "/api/state")[0].status == 200  # meanwhile others are answered
    assert not shown.abandoned.is_set()
    connection.close()
    assert shown.abandoned.wait(5)


def test_the_networks_stop_between_batches() -> None:
    shown, gone = networks(), threading.Event()
    gone.set()
    with pytest.raises(Abandoned):
        shown.predict(smooth(20, 20), gone)
    assert shown.progress() == {"done": 0, "total": 0, "seconds_left": None}
    assert shown.predict(smooth(20, 20), threading.Event()).shape == (20, 20)


def test_progress_counts_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    shown, seen = networks(), []
    forward = Known.forward
    monkeypatch.setattr(Known, "forward", lambda self, image: seen.append(shown.progress()) or forward(self, image))
    shown.predict(smooth(300, 1000), threading.Event())
    first, last = seen[0], seen[-1]
    assert (first["done"], first["total"], first["seconds_left"]) == (0, windows.count_windows(300, 1000), None)
    assert 0 < last["done"] < last["total"]
    assert last["seconds_left"] > 0


def test_a_port_that_is_taken_is_refused(port: int) -> None:
    with pytest.raises(InputError, match=f"--port {port} cannot be used"):
        server.serve(Content("", TUNED), port, lambda address: None)
