"""The local server by real requests: the form, a result, and what it refuses."""

import http.client
import io
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from search_results import make_result

from magic_cli.errors import DataError
from magic_cli.report.search import serve
from magic_cli.report.search.result import SearchResult
from magic_cli.report.search.serve import LocalServer, form_parts

BOUNDARY = "----form"


class Asked(list[tuple[bytes | None, str, int]]):
    """What was searched for."""

    fails: Exception | None = None


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> SearchResult:
    return make_result(tmp_path_factory.mktemp("hits"), hits=3, k=2, size=(24, 32))


@pytest.fixture
def asked() -> Asked:
    return Asked()


@pytest.fixture
def server(result: SearchResult, asked: Asked) -> Iterator[LocalServer]:
    def search(image: bytes | None, text: str, k: int) -> SearchResult:
        asked.append((image, text, k))
        if asked.fails is not None:
            raise asked.fails
        return result

    with LocalServer(search, k=7) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def jpeg(size: tuple[int, int] = (40, 30)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, "tan").save(buffer, "JPEG")
    return buffer.getvalue()


def multipart(**parts: bytes | str) -> bytes:
    lines = []
    for name, value in parts.items():
        extra = '; filename="p.jpg"\r\nContent-Type: image/jpeg' if name == "photo" else ""
        head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{extra}\r\n\r\n'
        lines.append(head.encode() + (value.encode() if isinstance(value, str) else value) + b"\r\n")
    return b"".join(lines) + f"--{BOUNDARY}--\r\n".encode()


def ask(
    server: LocalServer, body: bytes | None = None, path: str = "", **headers: str | None
) -> tuple[int, http.client.HTTPMessage, str]:
    """GET, or POST with a body, as this page's form does; `headers` replace or, if None, leave out a header."""
    origin = f"http://127.0.0.1:{server.server_port}"
    given: dict[str, str | None] = {"Host": origin.removeprefix("http://")}
    if body is not None:
        given |= {"Origin": origin, "Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
        given |= {"Content-Length": str(len(body))}
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
    connection.putrequest("GET" if body is None else "POST", path or server.path, skip_host=True)
    for name, value in given.items():
        if value is not None:
            connection.putheader(name, value)
    connection.endheaders(body)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, answer.headers, text


def test_the_form_then_a_result_below_it(server: LocalServer, asked: Asked, tmp_path: Path) -> None:
    status, headers, text = ask(server)
    assert status == 200
    assert 'value="7"' in text
    assert "form-action 'self'" in headers["Content-Security-Policy"]
    assert headers["Cache-Control"] == "no-store"
    assert not [name for name in headers if name.lower().startswith("access-control")]
    assert asked == []
    photo = jpeg()
    status, _, text = ask(server, multipart(photo=photo, text="a <b>dark</b>\r\nspot", k="5"))
    assert status == 200
    assert asked == [(photo, "a <b>dark</b> spot", 5)]
    assert text.count('<li class="hit"') == 3
    assert text.index("<form") < text.index('<li class="hit"')
    assert "a &lt;b&gt;dark&lt;/b&gt; spot</textarea>" in text
    assert text.count("<script") == 0


def test_words_alone_and_localhost(server: LocalServer, asked: Asked) -> None:
    host = f"localhost:{server.server_port}"
    status, _, _ = ask(server, multipart(photo=b"", text="dark", k="1"), Host=host, Origin=f"http://{host}")
    assert status == 200
    assert asked == [(None, "dark", 1)]


REFUSED = {
    "a name that points here": (421, None, {"Host": "evil.example"}),
    "another port": (421, None, {"Host": "127.0.0.1:1"}),
    "no host": (421, None, {"Host": None}),
    "no token": (404, None, {"path": "/"}),
    "another token": (404, None, {"path": "/" + "x" * 43 + "/"}),
    "a link on another site": (403, None, {"Sec_Fetch_Site": "cross-site"}),
    "a form of another site": (403, b"", {"Origin": "http://evil.example"}),
    "a form of a file": (403, b"", {"Origin": "null"}),
    "no origin": (403, b"", {"Origin": None}),
    "no length": (411, b"", {"Content_Length": None}),
    "a length below zero": (411, b"", {"Content_Length": "-1"}),
    "pieces": (411, b"", {"Transfer_Encoding": "chunked"}),
    "JSON": (415, b"{}", {"Content_Type": "application/json"}),
    "no boundary": (415, b"x", {"Content_Type": "multipart/form-data"}),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(server: LocalServer, asked: Asked, case: str) -> None:
    status, body, headers = REFUSED[case]
    found, answered, text = ask(server, body, **headers)  # type: ignore[arg-type]
    assert found == status
    assert answered["Content-Type"].startswith("text/plain")
    assert server.path not in text
    assert asked == []


def test_other_methods_are_not_there(server: LocalServer) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
    for method in ("PUT", "OPTIONS", "DELETE"):
        connection.request(method, server.path)
        assert connection.getresponse().status == 501
        connection.close()


def test_too_large(server: LocalServer, asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "_MOST_BYTES", 1000)
    status, _, text = ask(server, multipart(photo=bytes(5000), text="", k="1"))
    assert status == 413
    assert "more than 32 MB" in text
    assert asked == []


WRONG = {
    "nothing": (multipart(photo=b"", text=" ", k="3"), "Choose a photo"),
    "no number": (multipart(text="dark", k="many"), "Ask for 1 to 50 cases"),
    "too many": (multipart(text="dark", k="51"), "Ask for 1 to 50 cases"),
    "no photo": (multipart(photo=b"%PDF-1.7", k="3"), "the photo: got"),
    "a cut photo": (multipart(photo=jpeg()[:300], k="3"), "the photo: got"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_queries_are_told_in_the_form(server: LocalServer, asked: Asked, case: str) -> None:
    body, line = WRONG[case]
    status, _, text = ask(server, body)
    assert status == 400
    assert line in text
    assert "<form" in text
    assert asked == []


def test_a_bomb_is_refused_before_it_is_decoded(server: LocalServer, asked: Asked) -> None:
    buffer = io.BytesIO()
    Image.new("1", (30_000, 30_000)).save(buffer, "PNG")
    status, _, text = ask(server, multipart(photo=buffer.getvalue(), k="3"))
    assert status == 400
    assert "900 megapixels" in text
    assert asked == []


def test_failures_of_the_search(server: LocalServer, asked: Asked, capsys: pytest.CaptureFixture[str]) -> None:
    asked.fails = DataError("index/: got <no> vectors")
    status, _, text = ask(server, multipart(text="dark", k="3"))
    assert (status, "got &lt;no&gt; vectors" in text) == (400, True)
    asked.fails = ValueError("Jane Doe")
    status, _, text = ask(server, multipart(text="dark", k="3"))
    assert (status, "unexpected ValueError" in text) == (500, True)
    assert "Jane Doe" not in text + capsys.readouterr().err


def test_a_port_that_is_taken(server: LocalServer, result: SearchResult) -> None:
    with pytest.raises(DataError, match=f"--port {server.server_port}: got"):
        LocalServer(lambda *_: result, port=server.server_port)
    with pytest.raises(DataError, match="expected a free port"):
        LocalServer(lambda *_: result, port=70_000)


def test_serving_ends_with_ctrl_c(result: SearchResult, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(_: LocalServer) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(LocalServer, "serve_forever", stop)
    lines: list[str] = []
    serve.serve(lambda *_: result, ready=lines.append)
    assert lines[0].startswith("open http://127.0.0.1:")


def test_parts_keep_every_byte() -> None:
    data = bytes(range(256)) * 3 + b"\r\n--not the boundary\r\n\r\n"
    assert form_parts(multipart(photo=data, text="é"), BOUNDARY.encode()) == {"photo": data, "text": "é".encode()}
    assert form_parts(b"", b"x") == {}
    assert len(form_parts(multipart(**{f"a{n}": "x" for n in range(40)}), BOUNDARY.encode())) == 16
