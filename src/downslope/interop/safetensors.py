"""Read and write named arrays in the safetensors format, with NumPy alone.

Layout of a file, all numbers little-endian::

    8 bytes    length of the header, unsigned
    header     JSON, padded with spaces to a multiple of 8 bytes:
               {"__metadata__": {str: str},
                name: {"dtype": "F32", "shape": [64, 32], "data_offsets": [begin, end]}, ...}
    data       the arrays, row-major, without gaps; offsets count from the start of the data

Arrays are written from the widest element type to the narrowest and then by name, as the
safetensors library does it, so that each one is aligned to its element size.

The bits of every array survive: there is no conversion but the byte order.  Reading trusts nothing:
the header is checked as a whole against the size of the file before any array is allocated, so
that a damaged or hostile file ends in a ValueError.  Writing is atomic: whoever opens the file sees
the old contents or the new ones, also after a crash.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import stat
import struct
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["read_tensors", "write_tensors"]

# The format's names of the element types, in the order in which their arrays stand in a file.
_DTYPES: dict[str, np.dtype[Any]] = {
    "U64": np.dtype("<u8"),
    "I64": np.dtype("<i8"),
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "U32": np.dtype("<u4"),
    "I32": np.dtype("<i4"),
    "F16": np.dtype("<f2"),
    "U16": np.dtype("<u2"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
_RANK = {name: rank for rank, name in enumerate(_DTYPES)}

_LENGTH = struct.Struct("<Q")
_ALIGNMENT = 8
_MAX_HEADER = 100_000_000  # bytes, the library's own limit
_MAX_DIMENSIONS = 64  # NumPy's own limit
_METADATA = "__metadata__"
_ENTRY_KEYS = {"dtype", "shape", "data_offsets"}


class _Entry(NamedTuple):
    """Where an array stands in the data, in bytes, and what it is."""

    begin: int
    end: int
    name: str
    dtype: str
    shape: tuple[int, ...]


class _UnsupportedType(ValueError):
    """NumPy has no such element type; the file itself may be sound."""


def write_tensors(
    path: str | os.PathLike[str],
    tensors: Mapping[str, NDArray[Any]],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write named arrays and a text dictionary to a safetensors file, atomically.

    An existing file is replaced, and keeps its permissions; a symbolic link is followed.

    Parameters
    ----------
    path : str or path-like
        The file to write; its folder must exist.
    tensors : mapping of str to ndarray
        Arrays of any shape, layout and byte order, with elements of type bool, float16, float32,
        float64 or an integer of 8 to 64 bits.
    metadata : mapping of str to str, optional
        Text to keep with the arrays.

    Raises
    ------
    TypeError
        If a name or metadata item is not a str, or an array has another element type.
    ValueError
        If a name is reserved, a text can not be written as UTF-8, or the header would be larger
        than the format allows.
    OSError
        If the file can not be written.  An existing file is then left as it was.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "line.safetensors")
    ...     write_tensors(path, {"slope": np.array([[2.0]])}, {"made by": "hand"})
    ...     read_tensors(path)
    ({'slope': array([[2.]])}, {'made by': 'hand'})
    """
    arrays = {_check_name(name): _to_file_order(name, array) for name, array in tensors.items()}
    names = sorted(arrays, key=lambda name: (_RANK[_NAMES[arrays[name].dtype]], name))
    header = _encode_header({name: arrays[name] for name in names}, dict(metadata or {}))
    with _replacing(os.fsdecode(path)) as file:
        file.write(_LENGTH.pack(len(header)))
        file.write(header)
        for name in names:
            file.write(arrays[name].data)


def read_tensors(
    path: str | os.PathLike[str],
) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Read the arrays and the metadata of a safetensors file.

    Parameters
    ----------
    path : str or path-like
        The file to read.

    Returns
    -------
    tensors : dict of str to ndarray
        New, writable, row-major arrays in the machine's byte order, as they stand in the file.
    metadata : dict of str to str
        Empty if the file has none.

    Raises
    ------
    ValueError
        If the file is damaged, is no safetensors file, or has elements of a type unknown to NumPy.
    OSError
        If the file can not be opened.

    Examples
    --------
    See `write_tensors`.
    """
    path = os.fsdecode(path)
    with open(path, "rb") as file:
        try:
            entries, metadata = _read_header(file)
            return {entry.name: _read_array(file, entry) for entry in entries}, metadata
        except _UnsupportedType as error:
            raise ValueError(f"{path}: {error}") from None
        except (ValueError, RecursionError) as error:
            raise ValueError(
                f"{path}: {error}. The file is damaged or is not a safetensors file: "
                "restore it from a copy or save it again."
            ) from None


# ---- Writing ----


def _check_name(name: str) -> str:
    if not isinstance(name, str):
        raise TypeError(f"the name of an array must be a str, got {name!r}")
    if name == _METADATA:
        raise ValueError(f"the format reserves the name {_METADATA!r}: give the array another one")
    return name


def _to_file_order(name: str, array: NDArray[Any]) -> NDArray[Any]:
    """The array itself, or a copy if it is not yet row-major and little-endian."""
    array = np.asarray(array)
    little = array.dtype.newbyteorder("<")
    if little not in _NAMES:
        raise TypeError(
            f"array {name!r} has elements of type {array.dtype}, which the file can not hold: "
            f"convert it to one of {', '.join(sorted(dtype.name for dtype in _NAMES))}"
        )
    return np.asarray(array, dtype=little, order="C")


def _encode_header(arrays: dict[str, NDArray[Any]], metadata: dict[str, str]) -> bytes:
    for key, value in metadata.items():
        if not (isinstance(key, str) and isinstance(value, str)):
            raise TypeError(
                f"metadata must map str to str, got {key!r}: {value!r}; json.dumps makes it a str"
            )
    header: dict[str, Any] = {_METADATA: metadata} if metadata else {}
    begin = 0
    for name, array in arrays.items():
        end = begin + array.nbytes
        header[name] = {
            "dtype": _NAMES[array.dtype],
            "shape": array.shape,
            "data_offsets": (begin, end),
        }
        begin = end
    try:
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"a name or metadata item can not be written as UTF-8: {error.reason} in "
            f"{error.object[error.start : error.end]!r}"
        ) from None
    text += b" " * (-len(text) % _ALIGNMENT)
    if len(text) > _MAX_HEADER:
        raise ValueError(
            f"names, shapes and metadata take {len(text)} bytes, and the format allows "
            f"{_MAX_HEADER}: store large metadata as a uint8 array"
        )
    return text


@contextlib.contextmanager
def _replacing(path: str) -> Iterator[BinaryIO]:
    """A new file that takes the place of `path` when the block ends without an error."""
    path = os.path.realpath(path)
    folder = os.path.dirname(path)
    os.stat(folder)  # the error for a missing folder names it, rather than the temporary file
    mode = _mode_of_writable(path)
    # Not made by `tempfile`, whose files only their owner can read, whatever the umask.
    temporary = os.path.join(folder, f".downslope-{os.urandom(8).hex()}.tmp")
    try:
        with open(temporary, "xb") as file:
            yield file
            if mode is not None:
                os.chmod(temporary, mode)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    _sync_folder(folder)


def _mode_of_writable(path: str) -> int | None:
    """Permissions of the file at `path`, None if there is none; OSError if it is not writable.

    `os.replace` would replace a write-protected file without a word.
    """
    try:
        with open(path, "r+b") as file:
            return stat.S_IMODE(os.fstat(file.fileno()).st_mode)
    except FileNotFoundError:
        return None


def _sync_folder(folder: str) -> None:
    """Write the folder's new entry to the disk, so that it survives a crash as the data do."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # EINVAL: a file system that can not do it
            raise
    finally:
        os.close(descriptor)


# ---- Reading ----


def _read_header(file: BinaryIO) -> tuple[list[_Entry], dict[str, str]]:
    """Entries in the order of their data, and the metadata, all of it checked."""
    file_size = os.fstat(file.fileno()).st_size
    if file_size < _LENGTH.size:
        raise ValueError(f"the file has {file_size} bytes, too few for a header")
    (header_size,) = _LENGTH.unpack(file.read(_LENGTH.size))
    data_size = file_size - _LENGTH.size - header_size
    if header_size > _MAX_HEADER:
        raise ValueError(f"the header claims {header_size} bytes, more than {_MAX_HEADER}")
    if data_size < 0:
        raise ValueError(f"the header claims {header_size} bytes, and the file has {file_size}")
    header = _decode_header(file.read(header_size))
    metadata = _check_metadata(header.pop(_METADATA, {}))
    entries = sorted(_check_entry(name, value) for name, value in header.items())
    _check_coverage(entries, data_size)
    return entries, metadata


def _decode_header(text: bytes) -> dict[str, Any]:
    if not text.startswith(b"{"):
        raise ValueError("the header does not begin with '{'")
    try:
        header: dict[str, Any] = json.loads(text.decode(), object_pairs_hook=_unique)
    except UnicodeDecodeError as error:
        raise ValueError(f"the header is not UTF-8 text ({error})") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"the header is not JSON ({error})") from error
    return header


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of these members; JSON itself lets a key stand twice, and the last one win."""
    members: dict[str, Any] = {}
    for key, value in pairs:
        if key in members:
            raise ValueError(f"the header has the key {key!r} twice")
        members[_check_text(key)] = value
    return members


def _check_text(text: str) -> str:
    """JSON escapes can spell half a surrogate pair, which no file and no terminal can hold."""
    text.encode()
    return text


def _check_metadata(metadata: Any) -> dict[str, str]:
    if not isinstance(metadata, dict):
        raise ValueError(f"{_METADATA} is not an object of strings")
    for key, value in metadata.items():
        if not isinstance(value, str):
            raise ValueError(f"{_METADATA} has a value that is not a string under {key!r}")
        _check_text(value)
    return metadata


def _check_entry(name: str, value: Any) -> _Entry:
    if not (isinstance(value, dict) and value.keys() == _ENTRY_KEYS):
        raise ValueError(f"array {name!r} is not described by dtype, shape and data_offsets")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str):
        raise ValueError(f"array {name!r} has a dtype that is not a string")
    if not (_is_sizes(shape) and len(shape) <= _MAX_DIMENSIONS):
        raise ValueError(f"array {name!r} has a shape that is not a list of sizes")
    if not (_is_sizes(offsets) and len(offsets) == 2 and offsets[0] <= offsets[1]):
        raise ValueError(f"array {name!r} has data_offsets that are not a begin and an end")
    if dtype not in _DTYPES:
        raise _UnsupportedType(
            f"array {name!r} has elements of type {dtype!r}, and only {', '.join(_DTYPES)} can be "
            "read: convert it in the program that wrote the file (BF16 fits in F32 exactly)"
        )
    begin, end = offsets
    size = math.prod(shape) * _DTYPES[dtype].itemsize
    if end - begin != size:
        raise ValueError(
            f"array {name!r} of type {dtype} and shape {tuple(shape)} needs {size} bytes, and its "
            f"data_offsets give it {end - begin}"
        )
    return _Entry(begin, end, name, dtype, tuple(shape))


def _is_sizes(value: Any) -> bool:
    # `type`, since True and False are ints too.
    return isinstance(value, list) and all(type(n) is int and 0 <= n < 2**63 for n in value)


def _check_coverage(entries: list[_Entry], data_size: int) -> None:
    """Each array must begin where the one before it ends, and the last one end with the file."""
    covered = 0
    for entry in entries:
        if entry.begin != covered:
            what = "overlaps the array before it" if entry.begin < covered else "follows a gap"
            raise ValueError(f"array {entry.name!r} {what}, at byte {entry.begin} of the data")
        covered = entry.end
    if covered != data_size:
        raise ValueError(f"the arrays take {covered} bytes, and the file has {data_size} for them")


def _read_array(file: BinaryIO, entry: _Entry) -> NDArray[Any]:
    data = np.empty(entry.end - entry.begin, np.uint8)
    if file.readinto(data) != data.size:  # type: ignore[attr-defined]
        raise ValueError(f"the file became shorter while array {entry.name!r} was read")
    if entry.dtype == "BOOL" and data.max(initial=0) > 1:
        raise ValueError(f"array {entry.name!r} of type BOOL has a byte that is neither 0 nor 1")
    dtype = _DTYPES[entry.dtype]
    array: NDArray[Any] = data.view(dtype).reshape(entry.shape)
    return array.astype(dtype.newbyteorder("="), copy=False)
