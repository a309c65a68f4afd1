"""Files from the web: cached, resumed where they broke off, checked, whole or not there at all."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import ipaddress
import os
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CACHE_VARIABLE = "RESNET_BACKBONES_CACHE"
TRIES = 5
TIMEOUT = 30.0  # seconds without a byte
_CHUNK = 1 << 18


def cache_folder() -> Path:
    """``$RESNET_BACKBONES_CACHE``, by default ``~/.cache/resnet_backbones``."""
    return Path(os.environ.get(CACHE_VARIABLE) or Path.home() / ".cache" / "resnet_backbones")


def download(url: str, *, sha256: str | None = None, progress: bool = True) -> Path:
    """The local copy of a file on the web.

    What has been downloaded once is taken from the cache, without asking the server. A download that breaks off goes
    on where it stopped, in this call or the next, if the server can do so and still has the same file.

    Args:
        url: ``https://...``, or ``http://`` on this machine; ``#sha256=<64 digits>`` at its end is checked too.
        sha256: what the file's SHA-256 must be, in hexadecimal digits.
        progress: shows a progress bar, on a terminal.

    Returns:
        The path of the file in :func:`cache_folder`.

    Raises:
        ValueError: the address is no https address, or the file has another SHA-256; it is removed then.
        OSError: the server cannot be reached or has no such file; what came so far is kept for the next try.

    Example:
        >>> download("https://example.org/resnet50.safetensors", sha256="9f86d0...")
    """
    url, sha256 = split_url(url, sha256)
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    file = Path(urllib.parse.unquote(urllib.parse.urlsplit(url).path)).name
    path = folder / f"{hashlib.sha256(url.encode()).hexdigest()[:16]}-{file}"
    with _locked(path.with_name(f"{path.name}.lock")):
        if path.is_file() and sha256 in (None, sha256_of(path)):
            return path
        part = path.with_name(f"{path.name}.part")
        _complete(url, part, progress)
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
        path.unlink()
        _validator_of(path).unlink(missing_ok=True)
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


def _complete(url: str, part: Path, progress: bool) -> None:
    """Downloads what is lacking of ``part``; as long as something comes, a connection cut off is opened again."""
    failures, most = 0, _size(part)
    while True:
        try:
            if _receive(url, part, progress):
                return
            problem: Exception | str = "the connection was closed too early"
        except urllib.error.HTTPError as error:
            if error.code < 500:
                raise OSError(f"{url}: the server says {error.code} {error.reason}. Check the address.") from error
            problem = error
        except (OSError, http.client.HTTPException) as error:
            problem = error
        failures = 0 if _size(part) > most else failures + 1
        most = max(most, _size(part))
        if failures == TRIES or isinstance(problem, urllib.error.URLError):
            raise OSError(
                f"{url} cannot be downloaded: {problem}. {_size(part):,} bytes are kept in {part.parent}; the same "
                "call goes on from there."
            )


def _receive(url: str, part: Path, progress: bool) -> bool:
    """One request; returns whether ``part`` is now whole."""
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
            return True
        part.unlink(missing_ok=True)
        return False
    with response:
        version = _version(response.headers)
        resumed = response.status == 206 and _resumes_at(response.headers, start)
        if response.status == 206 and (not resumed or (version and version != validator.read_text())):
            part.unlink(missing_ok=True)  # a part, but not the one asked for: next time without a range
            return False
        if not resumed:
            start = 0
            validator.unlink(missing_ok=True)
            if version:
                validator.write_text(version)
        length = response.headers.get("Content-Length")
        total = start + int(length) if length else None
        _copy(response, part, start, total, progress)
    return total is None or _size(part) == total


def _copy(response: Any, part: Path, start: int, total: int | None, progress: bool) -> None:
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
    with bar, part.open("ab" if start else "wb") as file:
        while chunk := response.read(_CHUNK):
            file.write(chunk)
            bar.update(len(chunk))


def _version(headers: Any) -> str:
    """What names the version of a file for ``If-Range``: a strong ETag, else the date."""
    etag = headers.get("ETag", "")
    return etag if etag and not etag.startswith("W/") else headers.get("Last-Modified", "")


def _resumes_at(headers: Any, start: int) -> bool:
    return headers.get("Content-Range", "").startswith(f"bytes {start}-")


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
