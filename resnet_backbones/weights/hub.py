"""Files from the Hugging Face Hub, by names like timm's: ``hf-hub:timm/resnet50.a1_in1k``."""

from __future__ import annotations

import json
import re
from pathlib import Path

from resnet_backbones._util.files import written_whole
from resnet_backbones.errors import needed
from resnet_backbones.weights.download import cache_folder

PREFIX = "hf-hub:"
DEFAULT_FILE = "model.safetensors"
_NAME = re.compile(r"hf-hub:(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[^/]+))?(?:/(?P<file>.+))?")


def parse(name: str) -> tuple[str, str | None, str]:
    """``"hf-hub:owner/name@revision/file"`` as repository, revision or ``None``, and file.

    Raises:
        ValueError: it has another form.

    Example:
        >>> parse("hf-hub:timm/resnet50.a1_in1k")
        ('timm/resnet50.a1_in1k', None, 'model.safetensors')
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise ValueError(
            f"{name!r} is no name on the Hugging Face Hub: write 'hf-hub:owner/name', 'hf-hub:owner/name@revision' or "
            "'hf-hub:owner/name/file.safetensors'."
        )
    return match["repo"], match["revision"], match["file"] or DEFAULT_FILE


def fetch(name: str) -> Path:
    """The local copy of a file on the Hub; huggingface_hub downloads and caches it where its own settings say.

    With ``HF_HUB_OFFLINE=1``, or without a network, what the cache has is used.

    Args:
        name: ``"hf-hub:owner/name[@revision][/file]"``; without a file, ``model.safetensors``.

    Raises:
        ImportError: huggingface_hub is not installed.
        ValueError: the name has another form.
        OSError: the file is neither in the cache nor to be had.
    """
    repo, revision, file = parse(name)
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


def pinned(name: str) -> str:
    """``name`` with a revision: its own, or the commit that was first downloaded on this machine.

    The commit is noted in ``pins.json`` in :func:`resnet_backbones.weights.download.cache_folder`; to move on, delete
    it there.
    """
    repo, revision, file = parse(name)
    if revision is not None:
        return name
    note = cache_folder() / "pins.json"
    pins = json.loads(note.read_text()) if note.is_file() else {}
    if repo not in pins:
        parts = fetch(name).parts
        pins[repo] = parts[parts.index("snapshots") + 1]
        note.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(note) as temporary:
            temporary.write_text(json.dumps(pins, indent=1))
    return f"{PREFIX}{repo}@{pins[repo]}/{file}"
