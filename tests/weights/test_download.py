"""Downloads from a real server on this machine: cut off, without ranges, of another version, redirected."""

import contextlib
import hashlib
import http.server
import threading
import time

import numpy as np
import pytest

import resnet_backbones as rb
from resnet_backbones.weights.download import CACHE_VARIABLE, download, split_url
from tests.support.nets import images
from tests.weights.models import randomise_all_but_kernels, tiny

OLD = np.random.default_rng(0).bytes(3_000_000)
NEW = np.random.default_rng(1).bytes(3_000_000)


class Server:
    """Serves ``content`` under any path and remembers what was asked.

    Args:
        content: the file.
        ranges: whether it knows ranges.
        etag: whether it names the version of its file.
        cuts: how many answers it breaks off in the middle.
    """

    def __init__(self, content=OLD, *, ranges=True, etag=True, cuts=0):
        self.content, self.ranges, self.etag, self.cuts = content, ranges, etag, cuts
        self.asked = []  # the Range of each request
        self.redirect = None

    @property
    def version(self):
        return f'"{hashlib.md5(self.content).hexdigest()}"'

    def answer(self, handler):
        wanted = handler.headers.get("Range")
        self.asked.append(wanted)
        if self.redirect is not None:
            handler.send_response(302)
            handler.send_header("Location", self.redirect)
            handler.end_headers()
            return
        if handler.path.endswith("absent.npz"):
            handler.send_error(404)
            return
        start = 0
        if self.ranges and wanted and handler.headers.get("If-Range") == self.version:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        body, size = self.content[start:], len(self.content)
        if start >= size:
            handler.send_response(416)
            handler.send_header("Content-Range", f"bytes */{size}")
            handler.end_headers()
            return
        handler.send_response(206 if start else 200)
        handler.send_header("Content-Length", str(len(body)))
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        if self.etag:
            handler.send_header("ETag", self.version)
        handler.end_headers()
        if self.cuts:
            self.cuts -= 1
            body = body[: len(body) // 2]
            handler.close_connection = True
        handler.wfile.write(body)


@contextlib.contextmanager
def serving(**arguments):
    """A server on a free port of this machine: (server, address of a file on it)."""
    server = Server(**arguments)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            server.answer(self)

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server, f"http://127.0.0.1:{listening.server_port}/some/weights.npz"
        finally:
            listening.shutdown()
            thread.join()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv(CACHE_VARIABLE, str(folder))
    return folder


def kept(folder):
    """Names of the files in the cache, but for locks."""
    return sorted(file.name for file in folder.iterdir() if file.suffix != ".lock")


def test_a_file_is_downloaded_once(cache):
    with serving() as (server, address):
        path = download(address)
        assert path.parent == cache
        assert path.read_bytes() == OLD
        assert path.name.endswith("-weights.npz")
        assert download(address) == path
        assert download(address.replace("some", "other")) != path  # same name, other address
    assert server.asked == [None, None]
    assert download(address) == path  # the server is gone
    assert len(kept(cache)) == 2


def test_a_download_cut_off_goes_on_where_it_stopped(cache):
    with serving(cuts=2) as (server, address):
        path = download(address, sha256=hashlib.sha256(OLD).hexdigest())
    assert path.read_bytes() == OLD
    assert server.asked == [None, "bytes=1500000-", "bytes=2250000-"]
    assert kept(cache) == [path.name]


def test_a_later_call_goes_on_too(cache, monkeypatch):
    """The connection breaks, and the server is gone for a while."""
    monkeypatch.setattr("resnet_backbones.weights.download.TRIES", 1)
    with serving(cuts=1) as (server, address):
        server.answer = break_off_after_first(server)
        with pytest.raises(OSError, match=r"cannot be downloaded: .*1,500,000 bytes are kept in .*cache"):
            download(address)
        assert [name.rsplit(".", 1)[1] for name in kept(cache)] == ["part", "version"]
        del server.answer
        path = download(address)
    assert path.read_bytes() == OLD
    assert server.asked[-1] == "bytes=1500000-"


def break_off_after_first(server):
    """The first answer as it is (cut in the middle); then nothing but closed connections."""
    usual = server.answer

    def answer(handler):
        if server.asked:
            handler.close_connection = True
        else:
            usual(handler)

    return answer


def test_a_whole_part_is_not_downloaded_again(cache):
    """As when the process was killed between the last byte and the renaming."""
    with serving() as (server, address):
        path = download(address)
        part = path.with_name(f"{path.name}.part")
        path.rename(part)
        part.with_name(f"{part.name}.version").write_text(server.version)
        assert download(address).read_bytes() == OLD
    assert server.asked == [None, "bytes=3000000-"]
    assert kept(cache) == [path.name]


@pytest.mark.parametrize("arguments", [{"ranges": False}, {"etag": False}], ids=["no ranges", "no versions"])
def test_a_server_that_cannot_go_on_starts_over(cache, arguments):
    with serving(cuts=1, **arguments) as (server, address):
        path = download(address)
    assert path.read_bytes() == OLD
    assert len(server.asked) == 2
    assert kept(cache) == [path.name]


def test_the_rest_of_another_version_is_not_glued_to_the_start(cache, monkeypatch):
    monkeypatch.setattr("resnet_backbones.weights.download.TRIES", 1)
    with serving(cuts=1) as (server, address):
        server.answer = break_off_after_first(server)
        with pytest.raises(OSError, match="cannot be downloaded"):
            download(address)
        del server.answer
        server.content = NEW
        assert download(address).read_bytes() == NEW
    assert server.asked[-1] == "bytes=1500000-"


def test_a_part_of_another_version_is_refused_even_when_the_server_does_not_look(cache, monkeypatch):
    """A server that answers ranges without regard to If-Range, of a file that has changed."""
    monkeypatch.setattr("resnet_backbones.weights.download.TRIES", 2)
    with serving(cuts=1) as (server, address):

        def careless(handler):
            if handler.headers.get("If-Range"):
                server.content = NEW
                handler.headers.replace_header("If-Range", server.version)
            Server.answer(server, handler)

        server.answer = careless
        assert download(address).read_bytes() == NEW
    assert server.asked == [None, "bytes=1500000-", None]


def test_a_server_that_never_finishes_is_given_up():
    with serving(ranges=False, cuts=100) as (server, address), pytest.raises(OSError, match="closed too early"):
        download(address)
    assert 1 < len(server.asked) < 10


def test_a_file_with_another_sum_is_removed_and_both_sums_shown(cache):
    found, wanted = hashlib.sha256(OLD).hexdigest(), hashlib.sha256(NEW).hexdigest()
    with serving() as (server, address):
        for arguments in ({"sha256": wanted}, {}):
            with pytest.raises(ValueError, match=rf"wanted {wanted}\n  sha256 found  {found}"):
                download(address if arguments else f"{address}#sha256={wanted}", **arguments)
            assert kept(cache) == []
        path = download(address)
        server.content = NEW
        assert download(address, sha256=wanted) == path  # what is in the cache is another: downloaded anew
    assert path.read_bytes() == NEW


def test_a_file_the_server_does_not_have_is_an_error(cache):
    with serving() as (server, address), pytest.raises(OSError, match="the server says 404"):
        download(address.replace("weights", "absent"))
    assert len(server.asked) == 1
    with pytest.raises(OSError, match="cannot be downloaded: .*refused"):
        download(address)
    assert kept(cache) == []


@pytest.mark.parametrize("address", ["http://example.org/a.npz", "ftp://example.org/a.npz", "file:///etc/passwd"])
def test_only_safe_addresses_are_used(address):
    with pytest.raises(ValueError, match="downloaded from https:// addresses"):
        download(address)
    with serving() as (server, own):
        server.redirect = address
        with pytest.raises((ValueError, OSError), match=r"https:// addresses|the server says 302"):
            download(own)


def test_the_sum_may_stand_in_the_address():
    digits = "a" * 64
    assert split_url(f"https://example.org/w.npz#sha256={digits.upper()}") == ("https://example.org/w.npz", digits)
    assert split_url("https://example.org/w.npz", digits) == ("https://example.org/w.npz", digits)
    with pytest.raises(ValueError, match="leave one out"):
        split_url(f"https://example.org/w.npz#sha256={digits}", "b" * 64)
    with pytest.raises(ValueError, match="64 hexadecimal digits"):
        split_url("https://example.org/w.npz#sha256=12")


def test_a_backbone_is_created_with_weights_from_an_address(tmp_path):
    backbone = randomise_all_but_kernels(tiny())
    rb.weights.save(backbone, tmp_path / "mine.npz")
    content = (tmp_path / "mine.npz").read_bytes()
    x = images(2, 32, 32, 3)
    with serving(content=content, cuts=1) as (server, address):
        other = tiny(weights=f"{address}?download=true#sha256={hashlib.sha256(content).hexdigest()}")
        np.testing.assert_array_equal(other(x), backbone(x))
        asked = len(server.asked)
        with pytest.raises(ValueError, match="weights come from a file ending in"):
            tiny(weights=address.replace(".npz", ".onnx"))
        assert len(server.asked) == asked  # nothing was downloaded for that


def test_a_progress_bar_is_for_terminals(cache, capsys):
    with serving() as (_, address):
        download(address)
    assert capsys.readouterr() == ("", "")


# --- servers that send something else ---------------------------------------------------------------------------------


def answers(server, body, *, status=200, wait=0.0, pieces=1, **headers):
    """Lets the server send just this, whatever is asked; in pieces, waiting after each."""

    def answer(handler):
        server.asked.append(handler.headers.get("Range"))
        handler.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for piece in np.array_split(np.frombuffer(body, np.uint8), pieces):
                handler.wfile.write(piece.tobytes())
                handler.wfile.flush()
                time.sleep(wait)

    server.answer = answer


@pytest.mark.parametrize("first", [0, 7])
@pytest.mark.parametrize("size", ["3000000", "*"])
@pytest.mark.parametrize("versions", [True, False])
def test_a_part_is_never_the_file(cache, first, size, versions):
    """A 206 nobody asked for, of whose rest the server knows nothing, or which begins elsewhere."""
    with serving() as (server, address):
        headers = {"ETag": server.version} if versions else {}
        answers(
            server,
            OLD[first : 1000 + first],
            status=206,
            Content_Range=f"bytes {first}-{999 + first}/{size}",
            **headers,
        )
        with pytest.raises(OSError, match=r"the server sends only a part|closed too early"):
            download(address)
        assert not [name for name in kept(cache) if not name.endswith((".part", ".version"))]
        del server.answer
        assert download(address).read_bytes() == OLD


def test_a_server_that_sends_small_parts_is_followed_to_the_end(cache):
    with serving() as (server, address):

        def answer(handler):
            wanted = handler.headers.get("Range")
            server.asked.append(wanted)
            start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0
            body = OLD[start : start + 1_000_000]
            handler.send_response(206)
            handler.send_header("Content-Length", str(len(body)))
            handler.send_header("Content-Range", f"bytes {start}-{start + len(body) - 1}/{len(OLD)}")
            handler.send_header("ETag", server.version)
            handler.end_headers()
            handler.wfile.write(body)

        server.answer = answer
        assert download(address).read_bytes() == OLD
    assert server.asked == [None, "bytes=1000000-", "bytes=2000000-"]


@pytest.mark.parametrize("pieces", [2, 40], ids=["silent", "dripping"])
def test_a_server_that_stalls_is_given_up_and_what_came_is_kept(cache, monkeypatch, pieces):
    monkeypatch.setattr("resnet_backbones.weights.download.TIMEOUT", 0.2)
    with serving() as (server, address):
        answers(server, OLD[:400], wait=1.0 if pieces == 2 else 0.05, pieces=pieces, Content_Length="3000000")
        with pytest.raises(OSError, match=r"timed out|only \d+ bytes came in"):
            download(address)
        assert len(server.asked) == 3
        del server.answer
        assert download(address).read_bytes() == OLD


@pytest.mark.parametrize("tells", [True, False], ids=["said before", "found out"])
def test_a_file_that_is_too_large_is_not_kept(cache, tells):
    with serving() as (server, address):
        if not tells:
            answers(server, OLD, Connection="close", Content_Length="")
        with pytest.raises(ValueError, match=r"files of up to 1,000,000 are downloaded \(nothing was kept\)"):
            download(address, max_bytes=1_000_000)
    assert kept(cache) == []


@pytest.mark.parametrize(
    ("body", "name"),
    [
        (b"<!DOCTYPE html><html>Sign in</html>", "an HTML page"),
        (b"\xef\xbb\xbf\n  <HTML><body>404</body></HTML>", "an HTML page"),
        (b"<!-- proxy --><html></html>", "an HTML page"),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "an XML page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "a pointer of Git LFS"),
    ],
)
def test_a_page_in_place_of_weights_is_named_and_not_kept(cache, tmp_path, body, name):
    with serving(content=body) as (server, address):
        with pytest.raises(ValueError, match=f"gives {name}, not weights"):
            download(address)
        assert kept(cache) == []
        server.content = OLD
        path = download(address)
        assert path.read_bytes() == OLD
        path.write_bytes(body)  # as an earlier version kept it
        assert download(address).read_bytes() == OLD
    for ending in ("npz", "safetensors", "weights.h5", "keras"):
        (tmp_path / f"x.{ending}").write_bytes(body)
        with pytest.raises(ValueError, match=f"is {name}, not weights"):
            rb.weights.load(tiny(), tmp_path / f"x.{ending}")
