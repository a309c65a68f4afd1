"""Files as named arrays. Nothing is unpickled: a weights file cannot run code."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

#: Read by Keras; see ``keras_files``.
KERAS_SUFFIXES = (".weights.h5", ".keras")


def suffix_of(name: str) -> str:
    """The suffix that says how a file is read.

    Raises:
        ValueError: no weights are read from files with such a suffix.
    """
    for suffix in (*KERAS_SUFFIXES, *READERS):
        if name.lower().endswith(suffix):
            return suffix
    raise ValueError(
        f"weights come from a file ending in {', '.join((*KERAS_SUFFIXES, *READERS))}; got {name!r}. The suffix says "
        "how it is read: rename the file if it is one of these."
    )


def read(path: Path) -> Mapping[str, Any]:
    """The arrays in a file of any suffix but Keras' own two, by the names they have there.

    Raises:
        FileNotFoundError: there is no such file.
        ImportError: reading it needs a package that is not installed.
        ValueError: it cannot be read, or holds more than arrays.
    """
    return READERS[suffix_of(path.name)](path)


def _safetensors(path: Path) -> Mapping[str, Any]:
    safe_open = import_safetensors().safe_open
    try:
        with safe_open(path, framework="numpy") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
    except Exception as error:  # whatever the library raises of a file that is none
        raise _unreadable(path, "safetensors file", error) from error


def import_safetensors() -> Any:
    """The safetensors package, or an ``ImportError`` that names the extra."""
    try:
        import safetensors
        import safetensors.numpy
    except ImportError as error:
        raise ImportError(
            f".safetensors files need safetensors: pip install 'resnet-backbones[weights]' ({error})"
        ) from error
    return safetensors


def _npz(path: Path) -> Mapping[str, Any]:
    try:
        with np.load(path, allow_pickle=False) as file:
            if not hasattr(file, "files"):
                raise ValueError("it holds one array, without a name")
            return {name: file[name] for name in file.files}
    except (ValueError, OSError, EOFError) as error:
        raise _unreadable(path, "npz file of arrays", error) from error
    except Exception as error:  # zipfile's and zlib's own
        raise _unreadable(path, "npz file", error) from error


def _torch(path: Path) -> Mapping[str, Any]:
    try:
        import torch
    except ImportError as error:
        raise ImportError(
            f"{path.name} is a torch file, which only torch reads: pip install torch. Or where torch is, save the "
            f"state_dict with safetensors.torch.save_file ({error})"
        ) from error
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle's, zipfile's and torch's own
        raise _unreadable(
            path, "torch file of weights alone (nothing else is unpickled: save model.state_dict())", error
        ) from error
    if not isinstance(state, Mapping):
        raise ValueError(f"{str(path)!r} holds a {type(state).__name__}; weights are a state_dict: name -> tensor.")
    return state


def _legacy_h5(path: Path) -> Mapping[str, Any]:
    """Keras 2's weights files, as keras.applications publishes them: ``layer/.../kernel:0``."""
    import h5py

    arrays: dict[str, Any] = {}

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            *layers, weight = name.removeprefix("model_weights/").split("/")
            arrays[f"{layers[0]}.{weight.partition(':')[0]}" if layers else weight] = np.asarray(item)

    try:
        with h5py.File(path) as file:
            file.visititems(visit)
    except OSError as error:
        raise _unreadable(path, "weights file", error) from error
    return arrays


def _unreadable(path: Path, kind: str, error: Exception) -> ValueError:
    return ValueError(f"{str(path)!r} cannot be read as a {kind}: {error}")


READERS: dict[str, Callable[[Path], Mapping[str, Any]]] = {
    ".safetensors": _safetensors,
    ".npz": _npz,
    ".h5": _legacy_h5,
    ".pt": _torch,
    ".pth": _torch,
    ".bin": _torch,
}
