"""Where weights come from and go to: what a path or an address asks for. Knows no Keras."""

from __future__ import annotations

import os
from pathlib import Path

from resnet_backbones._util.gate import regular_file
from resnet_backbones.errors import did_you_mean
from resnet_backbones.weights import download, hub
from resnet_backbones.weights.readers import import_safetensors, suffix_of

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
    elif name.startswith(hub.PREFIX):
        suffix_of(hub.parse(name)[2])
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
    path = hub.fetch(name) if name.startswith(hub.PREFIX) else Path(name).expanduser()
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
