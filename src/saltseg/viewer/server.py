"""The server of the page: a few addresses on this machine, none of which names a file."""

import asyncio
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.convertors import IntegerConvertor, register_url_convertor
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from saltseg.errors import InputError
from saltseg.viewer import items
from saltseg.viewer.content import Content
from saltseg.viewer.items import Item
from saltseg.viewer.networks import Abandoned

HOST = "127.0.0.1"
MAX_BYTES = 25_000_000  # of a file that is dropped
WATCH_SECONDS = 0.3
STATIC = Path(__file__).with_name("static")
FILES = {
    "index.html": "text/html",
    "style.css": "text/css",
    "app.js": "text/javascript",
    "drawing.js": "text/javascript",
    "postprocess.js": "text/javascript",
    "server.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
}


class _Position(IntegerConvertor):
    """A number in an address, of so few digits that Python reads it."""

    regex = "[0-9]{1,9}"


register_url_convertor("position", _Position())


def create_app(content: Content) -> Starlette:
    """The application that answers the page."""
    routes = [
        Route("/", partial(_file, "index.html")),
        *(Route(f"/{name}", partial(_file, name)) for name in FILES),
        Route("/api/state", partial(_state, content)),
        Route("/api/progress", partial(_progress, content)),
        Route("/api/tiles/{index:position}", partial(_tile, content)),
        Route("/api/slices/{direction:str}/{position:position}", partial(_slice, content)),
        Route("/api/image", partial(_image, content), methods=["PUT"]),
        Route("/api/mask", _mask, methods=["PUT"]),
    ]
    return Starlette(
        routes=routes,
        middleware=[
            Middleware(_Headers),
            Middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"]),  # against DNS rebinding
        ],
        exception_handlers={InputError: _refused, Abandoned: _abandoned, ClientDisconnect: _abandoned},
    )


def serve(content: Content, port: int, started: Callable[[str], None]) -> None:
    """Answer the page until Ctrl-C; raises InputError where the port is taken. started: called with the address."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        listener.listen()  # from here on a browser waits for the answer
    except OSError as error:
        raise InputError(f"--port {port} cannot be used ({error.strerror}); choose another, or 0 for any") from None
    started(f"http://{HOST}:{listener.getsockname()[1]}/")
    with listener, suppress(KeyboardInterrupt):  # Ctrl-C, which uvicorn hands on when it has ended
        create_server(content).run([listener])


def create_server(content: Content) -> uvicorn.Server:
    """A server that is not running yet."""
    app = create_app(content)
    app.state.server = uvicorn.Server(
        # The timeout is longer than a batch of windows takes: an image under way ends as `_watch` says.
        uvicorn.Config(app, log_level="warning", lifespan="off", timeout_graceful_shutdown=30)
    )
    return app.state.server


class _Headers:
    """Adds `HEADERS` to every response."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message["headers"] = [*message["headers"], *added]
            await send(message)

        await self._app(scope, receive, with_headers)


async def _file(name: str, request: Request) -> Response:
    return FileResponse(STATIC / name, media_type=FILES[name])


async def _state(content: Content, request: Request) -> Response:
    return JSONResponse(
        {
            "name": content.name,
            "postprocessing": content.postprocessing.to_dict(),
            "predicts": content.networks is not None,
            "groups": content.tiles.groups() if content.tiles else [],
            "survey": content.slices.survey.layout.path.name if content.slices else "",
            "directions": content.slices.directions() if content.slices else [],
            "notes": content.notes,
            "max_bytes": MAX_BYTES,
        }
    )


async def _progress(content: Content, request: Request) -> Response:
    return JSONResponse(content.networks.progress() if content.networks else {})


async def _tile(content: Content, request: Request) -> Response:
    if content.tiles is None:
        raise InputError("the page has no tiles; name a run")
    return _answer(content.tiles.item(request.path_params["index"]))


async def _slice(content: Content, request: Request) -> Response:
    if content.slices is None:
        raise InputError("the page has no survey; start it with --survey")
    direction, position = (request.path_params[key] for key in ("direction", "position"))
    return _answer(await run_in_threadpool(content.slices.item, direction, position))


async def _image(content: Content, request: Request) -> Response:
    """Predict an image that was dropped."""
    networks = content.networks
    if networks is None:
        raise InputError("nothing here predicts an image; start the page with a run or a model")
    data, gone = await _body(request), threading.Event()

    def predicted() -> Item:
        image = items.read_upload(data)
        return Item("", "image", {"image": image, "probability": networks.predict(image, gone)})

    watcher = asyncio.create_task(_watch(request, gone))
    try:
        return _answer(await run_in_threadpool(predicted))
    finally:
        gone.set()
        watcher.cancel()


async def _watch(request: Request, gone: threading.Event) -> None:
    """Tell when the page has opened something else, or is closed, or the server ends."""
    while not (request.app.state.server.should_exit or await request.is_disconnected()):
        await asyncio.sleep(WATCH_SECONDS)
    gone.set()


async def _mask(request: Request) -> Response:
    """Decode a true mask that was dropped."""
    mask = await run_in_threadpool(items.read_uploaded_mask, await _body(request))
    return _answer(Item("", "mask", {"truth": mask}))


async def _body(request: Request) -> bytes:
    """The content of a request; raises InputError where it is larger than `MAX_BYTES`."""
    data = bytearray()
    too_large = InputError(
        f"the file is larger than {MAX_BYTES / 1e6:.0f} MB; cut it into parts, or use saltseg predict"
    )
    if int(request.headers.get("content-length", 0)) > MAX_BYTES:
        raise too_large
    async for part in request.stream():
        data += part
        if len(data) > MAX_BYTES:
            raise too_large
    return bytes(data)


def _answer(item: Item) -> Response:
    return Response(item.encode(), media_type="application/octet-stream")


async def _refused(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, status_code=400)


async def _abandoned(request: Request, error: Exception) -> Response:
    return Response(status_code=409)  # to nobody
