"""Weights: a server of the test's own on this machine, and files that the test makes."""

import gc
import hashlib
import http.server
import threading
from pathlib import Path

import pooch
import pytest
from refusals import refused

from micromacro.weights import CACHE_VARIABLE, WEIGHTS, Weights, fetch_weights

YUNET = Path(__file__).parents[2] / "shared/data/models/face_detection_yunet_2023mar.onnx"
CONTENT = bytes(range(256)) * 40


class Server(http.server.ThreadingHTTPServer):
    """Answers /net.onnx with `content`; counts the requests; may promise more than it sends."""

    content, promised, status, requests = CONTENT, len(CONTENT), 200, 0


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.requests += 1
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(self.server.promised))
        self.end_headers()
        self.wfile.write(self.server.content)

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.delenv(CACHE_VARIABLE, raising=False)
    with Server(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{running.server_port}/net.onnx"
        known = Weights(url, len(CONTENT), hashlib.sha256(CONTENT).hexdigest())
        monkeypatch.setitem(WEIGHTS, "net", known)
        yield running
        running.shutdown()
        thread.join()


def told(*words: str, **arguments) -> None:
    refused(lambda: fetch_weights("net", **arguments), *words)


def test_fetched_once_then_from_the_cache(server, tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(pooch.get_logger().handlers[0], "emit", said.append)
    file = fetch_weights("net", cache=tmp_path / "new" / "cache")
    assert file == tmp_path / "new" / "cache" / "net.onnx"
    assert file.read_bytes() == CONTENT
    assert fetch_weights("net", cache=tmp_path / "new" / "cache") == file
    assert server.requests == 1
    assert [entry.name for entry in file.parent.iterdir()] == ["net.onnx"]
    assert not said
    assert pooch.get_logger().level == 0


@pytest.mark.parametrize("torn", [CONTENT[:-1], b"", CONTENT + b"x"])
def test_a_torn_cache_file_is_fetched_again(server, tmp_path, torn):
    (tmp_path / "net.onnx").write_bytes(torn)
    assert fetch_weights("net", cache=tmp_path).read_bytes() == CONTENT
    assert server.requests == 1


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # see gc.collect
@pytest.mark.parametrize(
    ("content", "promised", "status", "cause"),
    [
        (CONTENT[:-1], len(CONTENT) - 1, 200, "another SHA-256"),
        (CONTENT[:5000], len(CONTENT), 200, "net.onnx"),
        (b"gone", 4, 404, "HTTP 404"),
    ],
)
def test_what_comes_wrong_is_not_kept(server, tmp_path, content, promised, status, cause):
    gc.collect()
    gc.freeze()
    server.content, server.promised, server.status = content, promised, status
    words = (cause, str(tmp_path), WEIGHTS["net"].url, f"{len(CONTENT):,} bytes", "by hand")
    told(*words, cache=tmp_path)
    assert not list(tmp_path.iterdir())
    (tmp_path / "net.onnx").write_bytes(b"old and wrong")
    told(*words, cache=tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["net.onnx"]
    gc.collect()  # pooch leaves the socket of a refused answer to the collector, which warns


def test_no_network(server, tmp_path, capfd):
    server.shutdown()
    server.server_close()
    told("net.onnx", str(tmp_path), "by hand", WEIGHTS["net"].url, cache=tmp_path)
    assert not list(tmp_path.iterdir())
    (tmp_path / "net.onnx").write_bytes(CONTENT)  # what the message told the user to do
    assert fetch_weights("net", cache=tmp_path).read_bytes() == CONTENT
    assert capfd.readouterr() == ("", "")


def test_where_the_cache_is(server, tmp_path, monkeypatch):
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / "platform" / project)
    assert fetch_weights("net") == tmp_path / "platform" / "micromacro" / "net.onnx"
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "variable"))
    assert fetch_weights("net") == tmp_path / "variable" / "net.onnx"
    assert fetch_weights("net", cache=tmp_path / "given") == tmp_path / "given" / "net.onnx"
    told("net.onnx", cache=tmp_path / "given" / "net.onnx" / "cache")  # cannot be made


def test_a_copy_of_ones_own(server, tmp_path):
    mine = tmp_path / "mine.onnx"
    mine.write_bytes(CONTENT)
    assert fetch_weights("net", path=mine) == mine
    other = hashlib.sha256(b"trained at home").hexdigest()
    mine.write_bytes(b"trained at home")
    told("mine.onnx", other, WEIGHTS["net"].sha256, "15 bytes", path=mine)
    assert fetch_weights("net", path=str(mine), sha256=other.upper()) == mine
    told("mine.onnx", "correct the SHA-256", path=mine, sha256="0" * 64)
    told("missing.onnx", "No such file", path=tmp_path / "missing.onnx")
    told("folder", path=tmp_path)
    told("sha256", "path", sha256=other)
    assert server.requests == 0


def test_the_register():
    refused(lambda: fetch_weights("nest"), "'nest'", "yunet")
    for known in WEIGHTS.values():
        assert known.url.startswith("https://")
        assert len(bytes.fromhex(known.sha256)) == 32


@pytest.mark.skipif(not YUNET.is_file(), reason=f"no weights at {YUNET}")
def test_yunet_is_the_registered_file():
    assert fetch_weights("yunet", path=YUNET) == YUNET
    assert YUNET.stat().st_size == WEIGHTS["yunet"].size
    assert WEIGHTS["yunet"].url.endswith("/" + YUNET.name)
