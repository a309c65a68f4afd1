"""Where weights come from and go to: paths, addresses, the Hugging Face Hub, and what is known of published ones.

Files from the Hub have names like timm's: ``hf-hub:timm/resnet50.a1_in1k``. Knows no Keras.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resnet_backbones._util.files import written_whole
from resnet_backbones._util.gate import check_keras_file, regular_file
from resnet_backbones.backbones import catalogue
from resnet_backbones.backbones.registry import all_entries
from resnet_backbones.backbones.spec_values import Preprocessing, as_preprocessing
from resnet_backbones.errors import did_you_mean, needed
from resnet_backbones.weights import download
from resnet_backbones.weights.readers import import_safetensors, suffix_of

HUB = "hf-hub:"
DEFAULT_FILE = "model.safetensors"
_HUB_NAME = re.compile(r"hf-hub:(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[^/]+))?(?:/(?P<file>.+))?")


def parse_hub(name: str) -> tuple[str, str | None, str]:
    """``"hf-hub:owner/name@revision/file"`` as repository, revision or ``None``, and file.

    Raises:
        ValueError: it has another form.

    Example:
        >>> parse_hub("hf-hub:timm/resnet50.a1_in1k")
        ('timm/resnet50.a1_in1k', None, 'model.safetensors')
    """
    match = _HUB_NAME.fullmatch(name)
    if match is None:
        raise ValueError(
            f"{name!r} is no name on the Hugging Face Hub: write 'hf-hub:owner/name', 'hf-hub:owner/name@revision' or "
            "'hf-hub:owner/name/file.safetensors'."
        )
    return match["repo"], match["revision"], match["file"] or DEFAULT_FILE


def fetch_hub(name: str) -> Path:
    """The local copy of a file on the Hub; huggingface_hub downloads and caches it where its own settings say.

    With ``HF_HUB_OFFLINE=1``, or without a network, what the cache has is used.

    Args:
        name: ``"hf-hub:owner/name[@revision][/file]"``; without a file, ``model.safetensors``.

    Raises:
        ImportError: huggingface_hub is not installed.
        ValueError: the name has another form.
        OSError: the file is neither in the cache nor to be had.
    """
    repo, revision, file = parse_hub(name)
    needed("huggingface_hub", name, "huggingface_hub", "weights")
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(repo, file, revision=revision))
    except LocalEntryNotFoundError as error:
        raise FileNotFoundError(
            f"{name}: {file!r} is not in the cache, and the Hub cannot be asked (no network, or HF_HUB_OFFLINE is set)."
            f" Download it where there is one: hf download {repo} {file}"
        ) from error
    except HfHubHTTPError as error:
        raise OSError(
            f"{name}: the Hub has no {file!r} for you in {repo}: {error}. A file of another name is given as "
            f"'hf-hub:{repo}/its_name.safetensors'."
        ) from error


def pinned_hub(name: str) -> str:
    """``name`` with a revision: its own, or the commit that was first downloaded on this machine.

    The commit is noted in ``pins.json`` in :func:`resnet_backbones.weights.download.cache_folder`; to move on, delete
    it there.
    """
    repo, revision, file = parse_hub(name)
    if revision is not None:
        return name
    note = download.cache_folder() / "pins.json"
    pins = json.loads(note.read_text()) if note.is_file() else {}
    if repo not in pins:
        parts = fetch_hub(name).parts
        pins[repo] = parts[parts.index("snapshots") + 1]
        note.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(note) as temporary:
            temporary.write_text(json.dumps(pins, indent=1))
    return f"{HUB}{repo}@{pins[repo]}/{file}"


# Sources that ``backbone_info(name).weights`` names and that are no files.
_BUILT = {
    "torchvision": "weights.from_torchvision(target, model.state_dict())",
    "keras.applications": "weights.from_keras_applications(target, model)",
    "keras_hub": "weights.from_keras_hub(target, model)",
}
SAVED = (".safetensors", ".npz", ".weights.h5")


def check_source(source: str | os.PathLike[str]) -> None:
    """Raise, before anything is downloaded or read, for what cannot be a source of weights.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it has no form or suffix that weights are read by.
    """
    name = os.fspath(source)
    if name.startswith(("https://", "http://")):
        suffix_of(download.split_url(name)[0].partition("?")[0])
    elif name.startswith(HUB):
        suffix_of(parse_hub(name)[2])
    else:
        library, colon, _ = name.partition(":")
        if colon and library in _BUILT:
            raise ValueError(
                f"{name!r} is a model that {library} builds: build it there and give it to {_BUILT[library]}."
            )
        suffix_of(name)
        path = Path(name).expanduser()
        if not path.exists():
            raise FileNotFoundError(
                f"there is no weights file {str(path.absolute())!r}. Give a file on this machine, an https:// address, "
                "or hf-hub:owner/name."
            )
        regular_file(path)


def local_file(source: str | os.PathLike[str], sha256: str | None = None) -> Path:
    """The file that ``source`` names, on this machine, with the SHA-256 asked for; see :func:`weights.load`."""
    name = os.fspath(source)
    sha256 = download.checked_sum(sha256)
    check_source(name)
    if name.startswith(("https://", "http://")):
        address, sha256 = download.split_url(name, sha256)
        return download.download(address, sha256=sha256)
    path = fetch_hub(name) if name.startswith(HUB) else Path(name).expanduser()
    download.check_sha256(path, sha256, name=name)
    return path


def written_suffix(path: str | os.PathLike[str]) -> str:
    """The suffix that says how weights are written.

    Raises:
        ValueError: none are written to such a file.
        ImportError: safetensors is wanted and not installed.
    """
    name = Path(path).name.lower()
    for suffix in SAVED:
        if name.endswith(suffix):
            if suffix == ".safetensors":
                import_safetensors()
            return suffix
    near = did_you_mean("".join(Path(name).suffixes[-1:]), SAVED)
    raise ValueError(f"weights are written to a file ending in {', '.join(SAVED)}; got {str(path)!r}.{near}")


@dataclass(frozen=True)
class Pixels:
    """How weights want images of 0 to 255.

    Args:
        preprocessing: what is to be done to them; ``None`` for nothing.
        name: what it is called.
    """

    preprocessing: Preprocessing | None
    name: str


def source_of(weights: str) -> str:
    """An address without revision and checksum, as the registry has it."""
    if weights.startswith(HUB):
        repository, _, file = parse_hub(weights)
        return f"{HUB}{repository}" + ("" if file == DEFAULT_FILE else f"/{file}")
    return weights.partition("#")[0]


def pixels_for(weights: str | os.PathLike[str], path: Path | None = None) -> Pixels | None:
    """How weights want their images: as the registry says of their source, or as the file itself does.

    Args:
        weights: what ``weights=`` of ``create_backbone`` takes. An address is downloaded.
        path: the file on this machine, where that is known.

    Returns:
        ``None`` where nothing is known.
    """
    source = source_of(os.fspath(weights))
    for entry in all_entries():
        if source in (source_of(one) if one.startswith(HUB) else one for one in entry.weights):
            name = catalogue.pixels_of(source, entry.preprocessing)
            return None if name is None else Pixels(as_preprocessing(name), repr(name))
    return _recorded(path or local_file(weights))


def _recorded(path: Path) -> Pixels | None:
    try:
        if path.name.lower().endswith(".keras"):
            specs = list(_specs_in(json.loads(check_keras_file(path))))
            about = json.dumps(specs[0].get("preprocessing")) if len(specs) == 1 else None
        elif path.name.lower().endswith(".safetensors"):
            with import_safetensors().safe_open(path, framework="numpy") as file:
                about = (file.metadata() or {}).get("preprocessing")
        else:
            return None
        return None if about is None else Pixels(as_preprocessing(json.loads(about)), about)
    except Exception:  # loading it says what is wrong with the file
        return None


def _specs_in(config: Any) -> Iterator[dict[str, Any]]:
    """The specs of the backbones in a ``.keras`` file's configuration."""
    if isinstance(config, dict) and config.get("registered_name") == "resnet_backbones>SpecBackbone":
        yield config["config"]["spec"]
    elif isinstance(config, dict | list):
        for part in config.values() if isinstance(config, dict) else config:
            yield from _specs_in(part)


def first_source(name: str, published: tuple[str, ...]) -> str:
    """The first of a backbone's published weights, at a fixed revision.

    Where the registry gives none, the revision is the one that was first downloaded on this machine.

    Raises:
        ValueError: none are known, or the first are no file.
        OSError: the Hub cannot be asked.
    """
    if not published:
        raise ValueError(
            f"no published weights of backbone {name!r} are known: pass weights= a file or address, or none."
        )
    source = published[0]
    if not source.startswith((HUB, "https://")):
        local_file(source)  # raises, and says how to take them from the library that has them
    return pinned_hub(source) if source.startswith(HUB) else source
