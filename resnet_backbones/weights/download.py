"""Files from the web: cached, resumed where they broke off, checked, whole or not there at all."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import http.client
import ipaddress
import os
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from resnet_backbones._util.gate import stands_in

CACHE_VARIABLE = "RESNET_BACKBONES_CACHE"
TRIES = 5
TIMEOUT = 30.0  # seconds in which at least LEAST bytes must come
LEAST = 1 << 12
MAX_BYTES = 4 << 30  # twice the largest weights published for a backbone in the catalogue
_CHUNK = 1 << 18


def cache_folder() -> Path:
    """``$RESNET_BACKBONES_CACHE``, by default ``~/.cache/resnet_backbones``."""
    return Path(os.environ.get(CACHE_VARIABLE) or Path.home() / ".cache" / "resnet_backbones")


def download(url: str, *, sha256: str | None = None, progress: bool = True, max_bytes: int | None = None) -> Path:
    """The local copy of a file on the web.

    What has been downloaded once is taken from the cache, without asking the server. A download that breaks off goes
    on where it stopped, in this call or the next, if the server can do so and still has the same file.

    Args:
        url: ``https://...``, or ``http://`` on this machine; ``#sha256=<64 digits>`` at its end is checked too.
        sha256: what the file's SHA-256 must be, in hexadecimal digits.
        progress: shows a progress bar, on a terminal.
        max_bytes: the size in bytes above which a file is refused; by default ``MAX_BYTES``, 4 GiB.

    Returns:
        The path of the file in :func:`cache_folder`.

    Raises:
        ValueError: the address is no https address, or what came is larger than allowed, an HTML page, or has another
            SHA-256; it is removed then.
        OSError: the server cannot be reached, stalls, or has no such file; what came so far is kept for the next try.

    Example:
        >>> download("https://example.org/resnet50.safetensors", sha256="9f86d0...")
    """
    url, sha256 = split_url(url, sha256)
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    file = Path(urllib.parse.unquote(urllib.parse.urlsplit(url).path)).name
    path = folder / f"{hashlib.sha256(url.encode()).hexdigest()[:16]}-{file}"
    with _locked(path.with_name(f"{path.name}.lock")):
        if path.is_file() and sha256 in (None, sha256_of(path)) and not stands_in(path):
            return path
        part = path.with_name(f"{path.name}.part")
        _complete(url, part, progress, MAX_BYTES if max_bytes is None else max_bytes)
        if text := stands_in(part):
            _discard(part)
            raise ValueError(
                f"{url} gives {text}, not weights (it was not kept). Check the address: it must lead to the file "
                "itself, not to a page about it or a login."
            )
        check_sha256(part, sha256, name=url, remove=True)
        part.replace(path)
        _validator_of(part).unlink(missing_ok=True)
    return path


def split_url(url: str, sha256: str | None = None) -> tuple[str, str | None]:
    """The address without ``#sha256=...``, and the sum, from there or as given.

    Raises:
        ValueError: the address may not be used, or the sums are none or contradict each other.
    """
    _check_address(url)
    address, _, fragment = url.partition("#")
    if fragment.startswith("sha256="):
        given = fragment.removeprefix("sha256=").lower()
        if sha256 is not None and sha256.lower() != given:
            raise ValueError(f"the address says sha256={given}, the argument says sha256={sha256}: leave one out.")
        sha256 = given
    return address, checked_sum(sha256)


def checked_sum(sha256: str | None) -> str | None:
    """``sha256`` in small letters; raises ``ValueError`` if it is no SHA-256."""
    if sha256 is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        raise ValueError(f"sha256 must be 64 hexadecimal digits, as `sha256sum FILE` prints them; got {sha256!r}.")
    return sha256.lower() if sha256 else None


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_sha256(path: Path, sha256: str | None, *, name: str, remove: bool = False) -> None:
    """Raises ``ValueError`` if the file has another SHA-256, and with ``remove`` removes it."""
    if sha256 is None or (found := sha256_of(path)) == sha256:
        return
    if remove:
        _discard(path)
    raise ValueError(
        f"{name} is not the file that was asked for, or came damaged{' (it was removed)' if remove else ''}:\n"
        f"  sha256 wanted {sha256}\n  sha256 found  {found}\nTry again; if they differ still, ask for the right sum."
    )


def _check_address(url: str) -> None:
    parts = urllib.parse.urlsplit(url)
    if parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(parts.hostname)):
        return
    raise ValueError(
        f"weights are downloaded from https:// addresses, since nobody vouches for what comes over {parts.scheme}://; "
        f"got {url!r}. (http:// is for servers on this machine.)"
    )


def _is_loopback(host: str | None) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows a redirection only to where one may download from."""

    def redirect_request(self, req: Any, fp: Any, code: Any, msg: Any, headers: Any, newurl: str) -> Any:
        _check_address(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    _validator_of(part).unlink(missing_ok=True)


def _complete(url: str, part: Path, progress: bool, most_bytes: int) -> None:
    """Downloads what is lacking of ``part``; as long as something comes, a connection cut off is opened again."""
    failures, most = 0, _size(part)
    while True:
        try:
            lacking = _receive(url, part, progress, most_bytes)
            if lacking is None:
                return
            problem: Exception | str = f"the connection was closed too early, or the server sends only a part{lacking}"
        except urllib.error.HTTPError as error:
            if error.code < 500:
                raise OSError(f"{url}: the server says {error.code} {error.reason}. Check the address.") from error
            problem = error
        except (OSError, http.client.HTTPException) as error:
            if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise
            problem = error
        stalled = isinstance(problem, TimeoutError)  # waiting long once more is for whoever calls to decide
        failures = 0 if _size(part) >= most + LEAST else failures + 1 + stalled
        most = max(most, _size(part))
        if failures >= TRIES or isinstance(problem, urllib.error.URLError):
            raise OSError(
                f"{url} cannot be downloaded: {problem}. {_size(part):,} bytes are kept in {part.parent}; the same "
                "call goes on from there."
            )


def _receive(url: str, part: Path, progress: bool, most_bytes: int) -> str | None:
    """One request; ``None`` if ``part`` is now whole, else how much of it is there."""
    start, validator = _size(part), _validator_of(part)
    request = urllib.request.Request(url)
    # Without the name of the file's version (ETag, date), the rest of another version might be glued to the start.
    if start and validator.is_file():
        request.add_header("Range", f"bytes={start}-")
        request.add_header("If-Range", validator.read_text())
    handlers: list[Any] = [_SafeRedirects]
    if _is_loopback(urllib.parse.urlsplit(url).hostname):
        handlers.append(urllib.request.ProxyHandler({}))
    try:
        response = urllib.request.build_opener(*handlers).open(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        # Nothing lies beyond what is there: it is the whole file, or the file is shorter now.
        if error.headers.get("Content-Range", "").removeprefix("bytes */") == str(start):
            return None
        part.unlink(missing_ok=True)
        return ""
    with response:
        version = _version(response.headers)
        first, size = (
            _range(response.headers) if response.status == 206 else (0, response.headers.get("Content-Length"))
        )
        asked = request.has_header("Range")
        if response.status == 206 and (
            first != (start if asked else 0) or (asked and version != validator.read_text())
        ):
            part.unlink(missing_ok=True)  # a part, but not the one asked for: next time without a range
            return ""
        if not first:
            start = 0
            validator.unlink(missing_ok=True)
            if version:
                validator.write_text(version)
        total = int(size) if size and size.isdecimal() else None
        if total is not None and total > most_bytes:
            raise _too_large(url, part, f"{total:,}", most_bytes)
        _copy(response, part, start, total, progress, lambda: _too_large(url, part, "more", most_bytes), most_bytes)
    if _size(part) == total or (total is None and response.status != 206):
        return None
    return f" ({_size(part):,} of {'unknown' if total is None else f'{total:,}'} bytes)"


def _too_large(url: str, part: Path, size: str, most_bytes: int) -> ValueError:
    _discard(part)
    return ValueError(
        f"{url} has {size} bytes; files of up to {most_bytes:,} are downloaded (nothing was kept). If it is the right "
        "file, download it yourself and give its path, or raise weights.download.MAX_BYTES."
    )


def _copy(
    response: Any, part: Path, start: int, total: int | None, progress: bool, too_large: Any, most_bytes: int
) -> None:
    from tqdm import tqdm

    name = part.name.removesuffix(".part").partition("-")[2]
    bar = tqdm(
        desc=name,
        initial=start,
        total=total,
        unit="B",
        unit_scale=True,
        disable=None if progress else True,
        leave=False,
    )
    size, window, came = start, time.monotonic(), 0
    with bar, part.open("ab" if start else "wb") as file:
        while chunk := response.read1(_CHUNK):
            size, came = size + len(chunk), came + len(chunk)
            if size > most_bytes:
                file.close()
                raise too_large()
            file.write(chunk)
            bar.update(len(chunk))
            if (elapsed := time.monotonic() - window) > TIMEOUT:
                if came < LEAST:
                    raise TimeoutError(f"only {came:,} bytes came in {elapsed:.0f} seconds")
                window, came = time.monotonic(), 0


def _version(headers: Any) -> str:
    """What names the version of a file for ``If-Range``: a strong ETag, else the date."""
    etag = headers.get("ETag", "")
    return etag if etag and not etag.startswith("W/") else headers.get("Last-Modified", "")


def _range(headers: Any) -> tuple[int | None, str]:
    """Of ``Content-Range: bytes 100-199/1000`` the first byte and the size of the whole file, ``"*"`` if unknown."""
    match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", headers.get("Content-Range", "").strip())
    return (int(match[1]), match[2]) if match else (None, "*")


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _validator_of(part: Path) -> Path:
    return part.with_name(f"{part.name}.version")


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Two processes that want the same file: the second waits, then finds it. (On Windows it does not wait.)"""
    try:
        import fcntl
    except ImportError:
        yield
        return
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
