"""A local page to search with: one form, for one person on one computer.

What a browser's other pages could try is refused: the address has a random token; only requests to 127.0.0.1 or
localhost on this port are answered (names that are made to point here are not), and only forms of this page are
accepted. Photos are kept in memory; nothing is written.
"""

import contextlib
import hmac
import os
import secrets
import socketserver
import threading
from collections.abc import Callable, Iterator, Mapping
from email.message import Message
from email.parser import HeaderParser
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from magic_cli import __version__
from magic_cli.data.imaging.images import photo_of
from magic_cli.errors import DataError, MagicError, problem
from magic_cli.io.progress import log
from magic_cli.report.search import page
from magic_cli.report.search.page import Form
from magic_cli.report.search.result import SearchResult

Search = Callable[[bytes | None, str, int], SearchResult]

HOST = "127.0.0.1"

MOST_MEGABYTES = 32  # of a photo

LONGEST_TEXT = 4000  # characters

MOST_CASES = 50

_MOST_BYTES = (MOST_MEGABYTES << 20) + (64 << 10)  # of a request: the photo, the words, and what surrounds them

_MOST_READ = 8 * _MOST_BYTES  # of a refused one: a browser shows the answer only if it could send all of it

_MOST_PARTS = 16

_SECONDS = 30  # without a byte, after which a connection is closed

_HEADERS = {
    "Content-Type": "text/html; charset=utf-8",
    "Content-Security-Policy": "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class _Refused(Exception):  # noqa: N818  a request, not an error of ours
    """A request that is not answered with a page; `said` is for the reader of it."""

    def __init__(self, status: HTTPStatus, said: str) -> None:
        super().__init__(said)
        self.status, self.said = status, said


class LocalServer(ThreadingHTTPServer):
    """The server, bound to 127.0.0.1; `url` has the token that it asks for."""

    daemon_threads = True
    allow_reuse_address = os.name != "nt"  # there, it would let another program take the port

    def __init__(self, search: Search, k: int = 10, port: int = 0) -> None:
        """Bind the port, 0 for any that is free; one search runs at a time.

        Args:
            search: photo as bytes (decodable, at most 32 MB) or None, words, and number of cases -> result.
            k: cases that the form proposes.
            port: 0 to 65535.

        Raises:
            DataError: the port cannot be had.
        """
        self.search, self.k, self.lock = search, max(1, min(k, MOST_CASES)), threading.Lock()
        self.path = f"/{secrets.token_urlsafe(32)}/"
        try:
            super().__init__((HOST, port), _Handler)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or "no such port"
            raise DataError(problem(f"--port {port}", reason, "a free port", "leave it out for any")) from None

    def server_bind(self) -> None:
        """Bind without asking the network for this computer's name."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = HOST, int(self.server_address[1])

    @property
    def url(self) -> str:
        """The address to open, for nobody else."""
        return f"http://{HOST}:{self.server_port}{self.path}"

    @property
    def hosts(self) -> tuple[str, str]:
        """The values of the Host header that are answered."""
        return f"{HOST}:{self.server_port}", f"localhost:{self.server_port}"

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of connections that broke: a message could quote what was sent."""


class _Handler(BaseHTTPRequestHandler):
    server: LocalServer
    timeout = _SECONDS
    server_version, sys_version = f"magic/{__version__}", ""

    def do_GET(self) -> None:
        """Answer with the form."""
        with self._refusing():
            self._check(is_form=False)
            self._send(HTTPStatus.OK, page.start(self._form()))

    def do_POST(self) -> None:
        """Answer with the form and the result below it."""
        with self._refusing():
            self._check(is_form=True)
            with self.server.lock:  # one search, and one photo in memory, at a time
                self._send(*self._searched(self._parts()))

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the name of http.server
        """Log nothing: addresses have the token."""

    @contextlib.contextmanager
    def _refusing(self) -> Iterator[None]:
        try:
            yield
        except _Refused as refused:
            text = f"{refused.status.value} {refused.said}\n"
            self._send(refused.status, text, {"Content-Type": "text/plain; charset=utf-8"})

    def _check(self, is_form: bool) -> None:
        """Refuse what does not come from this page or from the address that was printed."""
        if self.headers.get_all("Host", []) not in [[host] for host in self.server.hosts]:
            raise _Refused(HTTPStatus.MISDIRECTED_REQUEST, "another host")
        if not hmac.compare_digest(self.path.encode(), self.server.path.encode()):
            raise _Refused(HTTPStatus.NOT_FOUND, "nothing is here: open the address that magic printed")
        if self.headers.get("Sec-Fetch-Site", "none") not in ("same-origin", "none"):
            raise _Refused(HTTPStatus.FORBIDDEN, "the request comes from another page")
        if is_form and self.headers.get_all("Origin", []) != [f"http://{self.headers['Host']}"]:
            raise _Refused(HTTPStatus.FORBIDDEN, "the form comes from another page")

    def _parts(self) -> Mapping[str, bytes]:
        """Return the parts of the form by name."""
        length = self.headers.get("Content-Length", "")
        if "Transfer-Encoding" in self.headers or not (length.isascii() and length.isdigit() and len(length) < 20):
            raise _Refused(HTTPStatus.LENGTH_REQUIRED, "a form of known length is expected")
        if int(length) > _MOST_BYTES:
            self._discard(min(int(length), _MOST_READ))
            raise _Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the photo has more than {MOST_MEGABYTES} MB")
        kind = Message()
        kind["Content-Type"] = self.headers.get("Content-Type", "")
        boundary = kind.get_boundary()
        if kind.get_content_type() != "multipart/form-data" or not boundary:
            raise _Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "a form is expected")
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            raise _Refused(HTTPStatus.BAD_REQUEST, "the form is cut")
        return form_parts(body, boundary.encode("utf-8", "replace"))

    def _discard(self, length: int) -> None:
        while length > 0 and (piece := self.rfile.read(min(length, 1 << 20))):
            length -= len(piece)

    def _searched(self, parts: Mapping[str, bytes]) -> tuple[HTTPStatus, str]:
        """Return the page of a query, or the form with what is wrong with it."""
        text = " ".join(parts.get("text", b"").decode("utf-8", "replace").split())[:LONGEST_TEXT]
        image, number = parts.get("photo") or None, parts.get("k", b"").decode("ascii", "replace").strip()
        k = int(number) if number.isascii() and number.isdigit() and len(number) < 9 else 0
        form = self._form(text, k)
        if not 1 <= k <= MOST_CASES:
            return HTTPStatus.BAD_REQUEST, page.start(form, f"Ask for 1 to {MOST_CASES} cases.")
        if image is None and not text:
            return HTTPStatus.BAD_REQUEST, page.start(form, "Choose a photo, or write what is known in words.")
        try:
            if image is not None:
                photo_of(image, "the photo", at_least=256)  # refuses bombs and damage before anything else reads it
            return HTTPStatus.OK, page.html(self.server.search(image, text, k), form)
        except MagicError as error:
            return HTTPStatus.BAD_REQUEST, page.start(form, "; ".join(error.problems))
        except Exception as error:
            said = f"unexpected {type(error).__name__}"
            log(f"error: search: {said}; the same query with `magic search --debug` says more")
            return HTTPStatus.INTERNAL_SERVER_ERROR, page.start(form, said)

    def _form(self, text: str = "", k: int = 0) -> Form:
        proposed = k if 1 <= k <= MOST_CASES else self.server.k
        return Form(self.server.path, text, proposed, MOST_CASES, LONGEST_TEXT, MOST_MEGABYTES)

    def _send(self, status: HTTPStatus, text: str, headers: Mapping[str, str] | None = None) -> None:
        data = text.encode("utf-8", "backslashreplace")
        self.send_response(status)
        for name, value in ({**_HEADERS, **(headers or {})}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def form_parts(body: bytes, boundary: bytes) -> Mapping[str, bytes]:
    """Return the parts of a multipart form (RFC 7578) by name, at most 16 of them; the last of a name counts."""
    parts = {}
    for piece in (b"\r\n" + body).split(b"\r\n--" + boundary, _MOST_PARTS + 1)[1 : _MOST_PARTS + 1]:
        head, blank, data = piece.partition(b"\r\n\r\n")
        if piece.startswith(b"--") or not blank:
            break
        header = HeaderParser().parsestr(head.decode("utf-8", "replace").strip())
        name = header.get_param("name", header="content-disposition")
        if isinstance(name, str):
            parts[name] = data
    return parts


def serve(search: Search, k: int = 10, port: int = 0, ready: Callable[[str], None] = log) -> None:
    """Serve the page until Ctrl-C; `ready` is called with the lines to print once it can be opened.

    Raises:
        DataError: the port cannot be had.
    """
    with LocalServer(search, k, port) as server:
        ready(f"open {server.url}\nonly this computer can; the address is secret; Ctrl-C ends it")
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()
