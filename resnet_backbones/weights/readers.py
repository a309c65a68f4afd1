"""Files as named arrays. Nothing is unpickled: a weights file cannot run code.

Opening a file reads its headers: names, shapes and types. Values are read array by array, when they are wanted.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import zipfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from resnet_backbones._util.gate import check_claim, open_hdf5, open_zip, regular_file, unreadable
from resnet_backbones.errors import missing, needed


class Array(np.lib.mixins.NDArrayOperatorsMixin):
    """An array in a file, or a calculation on such arrays; its values are read when numpy asks for them.

    Args:
        shape: its shape.
        dtype: the name of its type: ``"float32"``, ``"bfloat16"``, ``"int64"`` ...
        read: returns its values, in that type.
    """

    def __init__(self, shape: tuple[int, ...], dtype: str, read: Callable[[], np.ndarray]) -> None:
        self.shape, self.dtype, self.read = tuple(int(size) for size in shape), dtype, read

    @classmethod
    def of(cls, value: Any) -> Array:
        """``value``, anything like an array: of numpy, torch, Keras."""
        if isinstance(value, Array):
            return value
        if not hasattr(value, "shape") or not hasattr(value, "dtype"):
            value = np.asarray(value)
        dtype = getattr(value.dtype, "name", None) or str(value.dtype).removeprefix("torch.")
        if hasattr(value, "detach"):  # a torch tensor: numpy knows no bfloat16
            floats = dtype.startswith(_FLOATS)
            return cls(value.shape, dtype, lambda: (value.float() if floats else value).detach().cpu().numpy())
        return cls(value.shape, dtype, lambda: np.asarray(value))

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def is_float(self) -> bool:
        """Whether it holds floating-point numbers, of whatever precision."""
        return self.dtype.startswith(_FLOATS)

    def values(self) -> np.ndarray:
        """The values; floats of whatever precision become float32."""
        found = np.asarray(self.read())
        if found.shape != self.shape:
            raise ValueError(f"its header says {self.shape}, its values have {found.shape}")
        if not self.is_float:
            return found
        with np.errstate(over="ignore"):  # what float32 cannot hold is refused as infinite
            return found.astype(np.float32, copy=False)

    def swapaxes(self, first: int, second: int) -> Array:
        """As numpy's."""
        shape = list(self.shape)
        shape[first], shape[second] = shape[second], shape[first]
        return Array(tuple(shape), self.dtype, lambda: self.values().swapaxes(first, second))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self.values(), dtype)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **settings: Any) -> Any:
        if method != "__call__" or settings or ufunc.nout != 1 or ufunc.signature:
            return getattr(ufunc, method)(*map(np.asarray, inputs), **settings)
        shape = np.broadcast_shapes(*map(np.shape, inputs))
        return Array(shape, self.dtype, lambda: ufunc(*map(np.asarray, inputs)))

    def __getitem__(self, index: Any) -> np.ndarray:
        return self.values()[index]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or not hasattr(np.ndarray, name):
            raise AttributeError(name)
        return getattr(self.values(), name)  # what else an array can do, for functions that prepare arrays


_FLOATS = ("float", "bfloat", "double", "half")


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


@contextlib.contextmanager
def read(path: Path) -> Iterator[Mapping[str, Any]]:
    """The arrays in a file of any suffix but Keras' own two, by the names they have there.

    Each is an :class:`Array`, which reads its values when they are wanted, until the file is closed. What torch reads
    may hold other mappings of arrays, and other things.

    Raises:
        FileNotFoundError: there is no such file.
        ImportError: reading it needs a package that is not installed.
        ValueError: it cannot be read, or holds more than arrays; also when values are read.
    """
    with READERS[suffix_of(path.name)](regular_file(path)) as arrays:
        yield arrays


def _array(path: Path, name: str, shape: Any, dtype: str, read: Callable[[], Any], digest: str | None = None) -> Array:
    """An array of a file, whose damage is an error that names both."""

    def values() -> np.ndarray:
        try:
            value = np.asarray(read())
            if digest is not None and digest != digest_of(value):
                raise ValueError("its values are not those that were written")
            return value
        except Exception as error:  # whatever libraries raise of a damaged file
            raise unreadable(path, "weights file", f"{name!r} is damaged: {error}") from error

    return Array(shape, dtype, values)


@contextlib.contextmanager
def _safetensors(path: Path) -> Iterator[Mapping[str, Array]]:
    safe_open = import_safetensors().safe_open
    try:
        file = safe_open(path, framework="numpy")
        about = file.metadata() or {}
        digests = json.loads(about[DIGEST]) if about.get("format") == "resnet_backbones" and DIGEST in about else {}
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
        arrays = {
            name: _array(
                path,
                name,
                found.get_shape(),
                _TYPES.get(found.get_dtype(), found.get_dtype().lower()),
                partial(file.get_tensor, name),
                digests.get(name),
            )
            for name, found in slices.items()
        }
    except Exception as error:  # whatever the library raises of a file that is none
        raise unreadable(path, "safetensors file", error) from error
    with file:
        yield arrays


def import_safetensors() -> Any:
    """The safetensors package, or an ``ImportError`` that names the extra."""
    needed("safetensors", "A .safetensors file", "safetensors", "weights")
    import safetensors.numpy

    return safetensors


@contextlib.contextmanager
def npz(path: Path) -> Iterator[Mapping[str, Array]]:
    """The arrays of an ``.npz`` file; see :func:`read`."""
    kind, arrays = "npz file of arrays", {}
    with open_zip(path, kind) as archive:
        for member in archive.namelist():
            name = member.removesuffix(".npy")
            try:
                with archive.open(member) as file:
                    version = np.lib.format.read_magic(file)
                    header = getattr(np.lib.format, f"read_array_header_{version[0]}_0", None)
                    if header is None or member == name:
                        raise ValueError(f"its member {member!r} is no array")
                    shape, _, dtype = header(file)
                if dtype.hasobject:
                    raise ValueError(f"its {name!r} holds Python objects, which nothing unpickles")
            except Exception as error:  # zipfile's and zlib's own
                raise unreadable(path, kind, error) from error
            arrays[name] = _array(path, name, shape, dtype.name, partial(_npy, archive, member))
        yield arrays


def _npy(archive: Any, member: str) -> np.ndarray:
    with archive.open(member) as file:
        array = np.lib.format.read_array(file, allow_pickle=False)
        if file.read(1):  # to its end, where the checksum is
            raise ValueError("it is longer than its header says")
    return array


@contextlib.contextmanager
def _torch(path: Path) -> Iterator[Mapping[str, Any]]:
    try:
        import torch
    except ImportError as error:
        otherwise = "Or where torch is, save the state_dict with safetensors.torch.save_file"
        raise ImportError(f"{missing(path.name, 'torch', 'torch', error)}. {otherwise}.") from error
    kind = "torch file of weights alone (nothing else is unpickled: save model.state_dict())"
    if zipfile.is_zipfile(
        path
    ):  # torch's own format: its arrays lie in it as they are, so none is larger than the file
        with open_zip(path, kind) as archive:
            check_claim(path, kind, sum(member.file_size for member in archive.infolist()))
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle's, zipfile's and torch's own
        raise unreadable(path, kind, error) from error
    if not isinstance(state, Mapping):
        raise ValueError(f"{str(path)!r} holds a {type(state).__name__}; weights are a state_dict: name -> tensor.")
    yield state


@contextlib.contextmanager
def hdf5(path: Path) -> Iterator[dict[str, Array]]:
    """Every array in an HDF5 file by its path there."""
    file, datasets = open_hdf5(path)
    with file:
        try:
            arrays = {name: _hdf5_array(path, name, item) for name, item in datasets.items()}
        except Exception as error:
            raise unreadable(path, "weights file", error) from error
        yield arrays


def _hdf5_array(path: Path, name: str, item: Any) -> Array:
    half = item.attrs.get("dtype") == "bfloat16"  # as Keras marks it: HDF5 has no such type

    def read() -> np.ndarray:
        value = np.asarray(item)
        if half:
            import ml_dtypes

            value = value.view(ml_dtypes.bfloat16)
        return value

    return _array(path, name, item.shape, "bfloat16" if half else item.dtype.name, read, item.attrs.get(DIGEST))


def sign_hdf5(path: Path) -> None:
    """Writes beside each array of a weights file what tells damage from values: its SHA-256."""
    import h5py

    file, datasets = open_hdf5(path)
    with file:
        digests = {name: digest_of(_hdf5_array(path, name, item).read()) for name, item in datasets.items()}
    with h5py.File(path, "r+") as file:
        for name, digest in digests.items():
            file[name].attrs[DIGEST] = digest


def digest_of(value: np.ndarray) -> str:
    """The SHA-256 of an array's type, shape and values, in hexadecimal digits."""
    value = np.ascontiguousarray(value)
    return hashlib.sha256(f"{value.dtype.name}{value.shape}".encode() + value.tobytes()).hexdigest()


@contextlib.contextmanager
def _legacy_h5(path: Path) -> Iterator[Mapping[str, Array]]:
    """Keras 2's weights files, as keras.applications publishes them: ``layer/.../kernel:0``."""
    arrays: dict[str, Array] = {}
    with hdf5(path) as found:
        for name, array in found.items():
            *layers, weight = name.removeprefix("model_weights/").split("/")
            if layers[:1] == ["optimizer_weights"]:
                continue
            short = f"{layers[0]}.{weight.partition(':')[0]}" if layers else weight
            arrays[name if short in arrays else short] = array
        yield arrays


# safetensors' names of the types of weights
_TYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    **{f"I{bits}": f"int{bits}" for bits in (8, 16, 32, 64)},
    **{f"U{bits}": f"uint{bits}" for bits in (8, 16, 32, 64)},
}
#: Where files of ours keep the digests of their arrays.
DIGEST = "sha256"

READERS: dict[str, Callable[[Path], Any]] = {
    ".safetensors": _safetensors,
    ".npz": npz,
    ".h5": _legacy_h5,
    ".pt": _torch,
    ".pth": _torch,
    ".bin": _torch,
}
