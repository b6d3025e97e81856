"""The safetensors reader and writer: the format to the byte, its safety, and atomic writing."""

from __future__ import annotations

import json
import os
import stat
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from downslope.interop.safetensors import read_tensors, write_tensors

DTYPES = ["bool", "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8"]
SEED = 20250611


def example_tensors():
    """Every element type, and the shapes that are easy to get wrong."""
    rng = np.random.default_rng(SEED)
    tensors = {f"block.{dtype}": (rng.random((3, 5)) * 2).astype(dtype) for dtype in DTYPES}
    tensors["scalar"] = np.array(-2.5)
    tensors["empty"] = np.zeros((0, 7), np.float32)
    tensors["ü"] = rng.random(4)
    return tensors


def assert_same(actual, expected):
    assert actual.keys() == expected.keys()
    for name, array in expected.items():
        assert actual[name].dtype == array.dtype.newbyteorder("=")
        assert actual[name].shape == array.shape
        # Bits, not values: NaN payloads and the sign of zero must survive.
        assert actual[name].tobytes() == array.astype(actual[name].dtype).tobytes()


def file_of(header, data=b""):
    """The bytes of a file with this header (text, or an object for JSON) and these data."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(dtype="F32", shape=(2,), offsets=(0, 8)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


# ---- Round trips ----


def test_every_dtype_and_shape_round_trips(path):
    write_tensors(path, example_tensors(), {"format": "downslope", "note": "größe\n"})
    tensors, metadata = read_tensors(path)
    assert_same(tensors, example_tensors())
    assert metadata == {"format": "downslope", "note": "größe\n"}
    for array in tensors.values():
        assert array.flags.carray  # writable, row-major and aligned


def test_nothing_round_trips(path):
    write_tensors(path, {})
    assert path.read_bytes() == file_of(b"{}      ")
    assert read_tensors(path) == ({}, {})


@pytest.mark.parametrize(
    "array",
    [
        np.arange(12.0).reshape(3, 4).T,
        np.arange(12)[::-2],
        np.arange(6, dtype=">i2"),
        np.arange(6, dtype=">f4").reshape(2, 3, order="F"),
        np.broadcast_to(np.float32(1.5), (2, 2)),
        np.arange(3, dtype=np.longlong),
    ],
    ids=["transposed", "reversed", "big-endian", "big-endian columns", "broadcast", "longlong"],
)
def test_any_layout_is_written_row_major_and_little_endian(path, array):
    write_tensors(path, {"x": array})
    assert_same(read_tensors(path)[0], {"x": array})


@given(
    tensors=st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"])).filter(lambda s: s != "__metadata__"),
        hnp.arrays(st.sampled_from(DTYPES).map(np.dtype), hnp.array_shapes(min_dims=0, min_side=0)),
        max_size=4,
    ),
    metadata=st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"])),
        st.text(st.characters(exclude_categories=["Cs"])),
        max_size=3,
    ),
)
@settings(deadline=None)
def test_round_trip_property(scratch, tensors, metadata):
    write_tensors(scratch, tensors, metadata)
    actual_tensors, actual_metadata = read_tensors(scratch)
    assert_same(actual_tensors, tensors)
    assert actual_metadata == metadata


# ---- The format ----


def test_layout(path):
    write_tensors(path, {"b": np.uint8([1, 2, 3]), "w": np.float32([[1.0, -2.0]])}, {"k": "v"})
    header = (
        b'{"__metadata__":{"k":"v"},'
        b'"w":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]},'
        b'"b":{"dtype":"U8","shape":[3],"data_offsets":[8,11]}}'
    )
    padded = header + b" " * (-len(header) % 8)
    assert path.read_bytes() == file_of(padded, struct.pack("<ff", 1.0, -2.0) + b"\1\2\3")


def test_arrays_in_the_file_are_aligned(path):
    write_tensors(path, example_tensors())
    contents = path.read_bytes()
    (size,) = struct.unpack_from("<Q", contents)
    for name, info in json.loads(contents[8 : 8 + size]).items():
        itemsize = example_tensors()[name].itemsize
        assert (8 + size + info["data_offsets"][0]) % itemsize == 0


def test_same_bytes_as_the_library(path):
    library = pytest.importorskip("safetensors.numpy")
    write_tensors(path, example_tensors(), {"key": "välue"})
    assert path.read_bytes() == library.save(example_tensors(), {"key": "välue"})


def test_the_library_reads_ours(path):
    library = pytest.importorskip("safetensors.numpy")
    write_tensors(path, example_tensors(), {"key": "value"})
    assert_same(library.load_file(path), example_tensors())


def test_we_read_the_librarys(path):
    library = pytest.importorskip("safetensors.numpy")
    library.save_file(example_tensors(), path, {"a": "1", "b": "2"})
    tensors, metadata = read_tensors(path)
    assert_same(tensors, example_tensors())
    assert metadata == {"a": "1", "b": "2"}


def test_padding_and_entry_order_are_free(path):
    header = b' {"late": %s, "early": %s}\n' % (
        json.dumps(entry("I16", [1], [4, 6])).encode(),
        json.dumps(entry("I32", [1], [0, 4])).encode(),
    )
    path.write_bytes(file_of(header[1:], struct.pack("<ih", 7, -8)))
    assert_same(read_tensors(path)[0], {"early": np.int32([7]), "late": np.int16([-8])})


# ---- What the writer refuses ----


@pytest.mark.parametrize(
    ("tensors", "metadata", "error", "message"),
    [
        ({1: np.zeros(2)}, {}, TypeError, "must be a str, got 1"),
        ({"__metadata__": np.zeros(2)}, {}, ValueError, "reserves"),
        ({"z": np.zeros(2, complex)}, {}, TypeError, "'z'.*complex128.*float32"),
        ({"o": np.array([None])}, {}, TypeError, "'o'.*object"),
        ({"s": np.array(["a"])}, {}, TypeError, "'s'.*<U1"),
        ({}, {"epochs": 3}, TypeError, "'epochs': 3.*json.dumps"),
        ({}, {3: "epochs"}, TypeError, "3: 'epochs'"),
        ({}, {"key": "\ud800"}, ValueError, "UTF-8"),
        ({"\udfff": np.zeros(2)}, {}, ValueError, "UTF-8"),
        ({}, {"key": "x" * 100_000_000}, ValueError, "100000000"),
    ],
)
def test_refused_before_the_file_is_touched(path, tensors, metadata, error, message):
    path.write_bytes(b"old")
    with pytest.raises(error, match=message):
        write_tensors(path, tensors, metadata)
    assert path.read_bytes() == b"old"
    assert os.listdir(path.parent) == [path.name]


# ---- Atomic writing ----


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_a_failed_write_leaves_the_old_file_alone(path, monkeypatch, function):
    def fail(*args):
        raise OSError(28, "No space left on device")

    write_tensors(path, {"x": np.arange(3.0)})
    monkeypatch.setattr(os, function, fail)
    with pytest.raises(OSError, match="No space left"):
        write_tensors(path, {"x": np.arange(4.0)})
    monkeypatch.undo()
    assert_same(read_tensors(path)[0], {"x": np.arange(3.0)})
    assert os.listdir(path.parent) == [path.name]


def test_an_interrupted_write_leaves_nothing_behind(path, monkeypatch):
    def interrupt(descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_tensors(path, {"x": np.arange(3.0)})
    assert os.listdir(path.parent) == []


def test_data_reach_the_disk_before_the_name(path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace

    def spy_fsync(descriptor):
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        calls.append("folder" if is_folder else "file")
        fsync(descriptor)

    def spy_replace(source, target):
        assert os.path.dirname(source) == os.path.dirname(target)
        calls.append("replace")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", spy_fsync)
    monkeypatch.setattr(os, "replace", spy_replace)
    write_tensors(path, {"x": np.arange(3.0)})
    assert calls == ["file", "replace", "folder"]


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_a_new_file_follows_the_umask(path, mask):
    old_mask = os.umask(mask)
    try:
        write_tensors(path, {})
    finally:
        os.umask(old_mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask


def test_an_existing_file_keeps_its_mode(path):
    path.touch()
    path.chmod(0o640)
    write_tensors(path, {})
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write to any file")
def test_a_write_protected_file_is_not_replaced(path):
    path.touch(mode=0o444)
    with pytest.raises(PermissionError):
        write_tensors(path, {})


def test_a_symbolic_link_is_followed(path, tmp_path):
    link = tmp_path / "latest"
    link.symlink_to(path)
    write_tensors(link, {"x": np.arange(3.0)})
    assert link.is_symlink()
    assert_same(read_tensors(path)[0], {"x": np.arange(3.0)})


def test_a_name_of_the_current_folder_and_the_longest_name_work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ["model", "x" * 255]:
        write_tensors(name, {"x": np.arange(3.0)})
        assert_same(read_tensors(name)[0], {"x": np.arange(3.0)})


def test_folders_and_missing_files_are_the_usual_errors(tmp_path):
    with pytest.raises(IsADirectoryError):
        write_tensors(tmp_path, {})
    with pytest.raises(IsADirectoryError):
        read_tensors(tmp_path)
    with pytest.raises(FileNotFoundError, match="no-such-file"):
        read_tensors(tmp_path / "no-such-file")
    with pytest.raises(FileNotFoundError, match="no-such-folder'"):
        write_tensors(tmp_path / "no-such-folder" / "model", {})


# ---- Damaged files ----


DAMAGED = {
    "nothing": (b"", "0 bytes, too few"),
    "half a length": (b"\x08\0\0", "3 bytes, too few"),
    "oversize header": (struct.pack("<Q", 2**63) + b"{}", "claims 9223372036854775808 bytes, more"),
    "header past the end": (struct.pack("<Q", 16) + b"{}", "claims 16 bytes, and the file has 10"),
    "no header": (file_of(b""), "begin with"),
    "leading space": (file_of(b" {}"), "begin with"),
    "a list": (file_of([]), "begin with"),
    "not UTF-8": (file_of(b'{"\xff":0}'), "not UTF-8"),
    "not JSON": (file_of(b"{nonsense}"), "not JSON"),
    "two objects": (file_of(b"{}{}"), "not JSON"),
    "half a surrogate pair": (file_of(b'{"__metadata__":{"k":"\\ud800"}}'), "surrogates"),
    "half a surrogate pair in a name": (file_of(b'{"\\ud800":0}'), "surrogates"),
    "deep nesting": (file_of(b'{"x":' + b"[" * 200_000), "recursion"),
    "endless number": (file_of(b'{"x":' + b"9" * 5000 + b"}"), "digits"),
    "duplicate array": (file_of(b'{"x":0,"x":0}'), "'x' twice"),
    "duplicate member": (file_of(b'{"x":{"dtype":"F32","dtype":"F64"}}'), "'dtype' twice"),
    "metadata is a list": (file_of({"__metadata__": []}), "not an object"),
    "metadata of numbers": (file_of({"__metadata__": {"k": 1}}), "not a string under 'k'"),
    "entry is a number": (file_of({"x": 1}), "'x' is not described"),
    "entry lacks offsets": (file_of({"x": {"dtype": "F32", "shape": []}}), "not described"),
    "entry with more": (file_of({"x": entry() | {"stride": 1}}), "not described"),
    "dtype is a list": (file_of({"x": entry(["F32"])}), "dtype that is not a string"),
    "shape is a number": (file_of({"x": entry() | {"shape": 2}}), "shape"),
    "negative size": (file_of({"x": entry(shape=[-2])}), "shape"),
    "fractional size": (file_of({"x": entry(shape=[2.0])}), "shape"),
    "boolean size": (file_of({"x": entry(shape=[True], offsets=[0, 4])}), "shape"),
    "size not finite": (file_of({"x": entry(shape=[float("inf")])}), "shape"),
    "too many dimensions": (file_of({"x": entry(shape=[1] * 65)}), "shape"),
    "size over 63 bits": (file_of({"x": entry(shape=[2**63, 0], offsets=[0, 0])}), "shape"),
    "empty but too large": (file_of({"x": entry(shape=[2**62, 0], offsets=[0, 0])}), "too big"),
    "offsets are three": (file_of({"x": entry(offsets=[0, 8, 16])}), "begin and an end"),
    "offsets backwards": (file_of({"x": entry(offsets=[8, 0])}), "begin and an end"),
    "negative offset": (file_of({"x": entry(offsets=[-8, 0])}), "begin and an end"),
    "wrong size for the shape": (
        file_of({"x": entry(shape=[3])}, bytes(8)),
        "needs 12.* give it 8",
    ),
    "wrong size for the dtype": (file_of({"x": entry("F64")}, bytes(8)), "needs 16.* give it 8"),
    "a huge array": (
        file_of({"x": entry(shape=[2**60], offsets=[0, 2**62])}, bytes(8)),
        "take 4611686018427387904 bytes, and the file has 8",
    ),
    "gap at the start": (file_of({"x": entry(offsets=[8, 16])}, bytes(16)), "'x' follows a gap"),
    "gap between": (
        file_of({"x": entry(), "y": entry(offsets=[9, 17])}, bytes(17)),
        "'y' follows a gap, at byte 9",
    ),
    "overlap": (file_of({"x": entry(), "y": entry(offsets=[4, 12])}, bytes(12)), "'y' overlaps"),
    "same place": (file_of({"x": entry(), "y": entry()}, bytes(8)), "'y' overlaps"),
    "data missing": (file_of({"x": entry()}, bytes(7)), "take 8 bytes, and the file has 7"),
    "data left over": (file_of({"x": entry()}, bytes(9)), "take 8 bytes, and the file has 9"),
    "bool of two": (file_of({"x": entry("BOOL", [2], [0, 2])}, b"\1\2"), "neither 0 nor 1"),
}


@pytest.mark.parametrize(("contents", "message"), DAMAGED.values(), ids=DAMAGED.keys())
def test_damaged_file(path, contents, message):
    path.write_bytes(contents)
    with pytest.raises(ValueError, match=message) as caught:
        read_tensors(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "restore it from a copy" in str(caught.value)


@pytest.mark.parametrize("dtype", ["BF16", "F8_E4M3", "f32"])
def test_unsupported_type(path, dtype):
    path.write_bytes(file_of({"x": entry(dtype, [4])}, bytes(8)))
    with pytest.raises(ValueError, match=f"'x' has elements of type '{dtype}'.*convert") as caught:
        read_tensors(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_a_file_that_shrinks_while_it_is_read(path, monkeypatch):
    write_tensors(path, {"x": np.arange(3.0)})
    size = path.stat().st_size
    fstat = os.fstat
    contents = path.read_bytes()
    path.write_bytes(contents[:-1])

    def stale_fstat(descriptor):
        return os.stat_result([*fstat(descriptor)[:6], size, *fstat(descriptor)[7:10]])

    monkeypatch.setattr(os, "fstat", stale_fstat)
    with pytest.raises(ValueError, match="became shorter while array 'x'"):
        read_tensors(path)


def test_every_truncation_is_refused(path):
    write_tensors(path, {"w": np.arange(6.0).reshape(2, 3), "b": np.array([True])}, {"k": "v"})
    contents = path.read_bytes()
    for size in range(len(contents)):
        path.write_bytes(contents[:size])
        with pytest.raises(ValueError, match=r"model\.safetensors: "):
            read_tensors(path)


def test_flipped_bytes_never_do_more_than_a_value_error(path):
    """A flip in a name or in the data is another sound file; what is read must fit the file."""
    print(f"seed {SEED}")
    rng = np.random.default_rng(SEED)
    write_tensors(path, example_tensors(), {"key": "value"})
    contents = np.fromfile(path, np.uint8)
    data_size = sum(array.nbytes for array in example_tensors().values())
    refused = 0
    for _ in range(3000):
        damaged = contents.copy()
        places = rng.integers(len(contents) - data_size // 2, size=rng.integers(1, 4))
        damaged[places] ^= rng.integers(1, 256, size=len(places)).astype(np.uint8)
        damaged.tofile(path)
        try:
            tensors, _ = read_tensors(path)
        except ValueError:
            refused += 1
        else:
            assert sum(array.nbytes for array in tensors.values()) == data_size
    assert refused > 1000


def test_random_bytes_are_refused(path):
    print(f"seed {SEED}")
    rng = np.random.default_rng(SEED)
    for _ in range(300):
        body = rng.integers(256, size=rng.integers(1, 200)).astype(np.uint8).tobytes()
        path.write_bytes(struct.pack("<Q", rng.integers(len(body) + 1)) + body)
        with pytest.raises(ValueError, match=r"model\.safetensors: "):
            read_tensors(path)
