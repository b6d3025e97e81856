"""Saved networks: every kind comes back to the bit, writing is atomic, damage is refused."""

from __future__ import annotations

import json
import os
import pathlib
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import downslope as ds
from downslope.interop.safetensors import read_tensors, write_tensors

SEED = 11
DTYPES = ["float32", "float64"]
ACTIVATIONS = [
    *("identity", "sigmoid", "tanh", "relu", "leaky_relu"),
    *("elu", "gelu", "silu", "softplus", "softmax"),
]


def random_network(*args, **options):
    network = ds.Network(*args, **{"seed": 2, **options})
    rng = np.random.default_rng(SEED)
    network.parameters[:] = rng.normal(size=network.parameters.size)
    return network


def assert_same_network(actual, expected):
    assert repr(actual) == repr(expected)
    assert actual.dtype == expected.dtype
    assert actual.parameters.tobytes() == expected.parameters.tobytes()
    assert actual.metadata == expected.metadata
    for layer, other in zip(actual.layers, expected.layers, strict=True):
        assert layer.activation == other.activation
        assert layer.weights.shape == other.weights.shape
        assert (layer.bias is None) == (other.bias is None)
        assert layer.bias is None or layer.bias.shape == other.bias.shape
        assert np.shares_memory(layer.weights, actual.parameters)
    x = np.random.default_rng(SEED).normal(size=(9, expected.inputs))
    assert actual.predict(x).tobytes() == expected.predict(x).tobytes()


# ---- Round trips ----


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("options", [{}, {"shared_bias": True}, {"use_bias": False}], ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_kind_of_layer_comes_back(path, activation, options, dtype):
    network = random_network(
        [3, 5, 2], activation=activation, output=activation, dtype=dtype, **options
    )
    network.save(path)
    assert_same_network(ds.load(path), network)


LAYERS = st.builds(
    lambda units, activation, bias: ds.Dense(units, activation, **bias),
    st.integers(1, 6),
    st.one_of(
        st.sampled_from(ACTIVATIONS),
        st.builds(
            ds.Activation,
            st.sampled_from(["elu", "leaky_relu"]),
            st.one_of(st.floats(-2, 2), st.floats(-2, 2, width=32).map(np.float32)),
        ),
    ),
    st.sampled_from([{}, {"shared_bias": True}, {"use_bias": False}]),
)


@given(
    inputs=st.integers(1, 5),
    layers=st.lists(LAYERS, min_size=1, max_size=4),
    dtype=st.sampled_from(DTYPES),
    seed=st.integers(0, 2**64 - 1),
    metadata=st.dictionaries(
        st.text(st.characters(codec="utf-8")).filter(
            lambda s: s.split(".")[0] != "downslope" and s != "__metadata__"
        ),
        st.text(st.characters(codec="utf-8")),
    ),
)
@settings(deadline=None, max_examples=60)
def test_any_network_comes_back(scratch, inputs, layers, dtype, seed, metadata):
    network = random_network(inputs, layers, dtype=dtype, seed=seed)
    network.metadata = metadata
    network.save(scratch)
    assert_same_network(ds.load(scratch), network)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_bit_of_the_parameters_comes_back(path, dtype):
    network = ds.Network([2, 4], dtype=dtype, seed=0)
    info = np.finfo(dtype)
    network.parameters[:8] = [
        0.0,
        -0.0,
        info.tiny,
        -info.smallest_subnormal,
        info.max,
        -info.max,
        1,
        3,
    ]
    network.parameters[8:] = [np.nan, np.inf, -np.inf, -np.nan]
    network.save(path)
    assert ds.load(path).parameters.tobytes() == network.parameters.tobytes()


@pytest.mark.parametrize("kind", [str, pathlib.Path, os.fsencode])
def test_kinds_of_path(path, kind):
    network = random_network([2, 1])
    network.save(kind(path))
    assert_same_network(ds.load(kind(path)), network)


def test_a_loaded_network_trains_as_the_saved_one(path):
    rng = np.random.default_rng(SEED)
    x, t = rng.normal(size=(30, 3)), rng.normal(size=(30, 2))
    network = ds.Network([3, 8, 2], seed=6)
    network.save(path)
    loaded = ds.load(path)
    for one in (network, loaded):
        one.fit(x, t, optimizer="adam", epochs=3, validation_split=0.2)
    np.testing.assert_array_equal(loaded.parameters, network.parameters)


def test_saving_changes_nothing_and_gives_the_same_bytes(path):
    network = random_network([3, 4, 2])
    before = network.parameters.copy()
    network.save(path)
    first = path.read_bytes()
    network.save(path)
    assert path.read_bytes() == first
    np.testing.assert_array_equal(network.parameters, before)
    ds.load(path).save(path)
    assert path.read_bytes() == first


def test_tensors_and_their_names(path):
    """What other programs find in the file."""
    network = random_network(3, [ds.Dense(4), ds.Dense(2, use_bias=False)])
    network.save(path)
    tensors, metadata = read_tensors(path)
    assert {name: tensor.shape for name, tensor in tensors.items()} == {
        "layers.0.weights": (3, 4),
        "layers.0.bias": (4,),
        "layers.1.weights": (4, 2),
    }
    np.testing.assert_array_equal(tensors["layers.0.weights"], network.layers[0].weights)
    assert json.loads(metadata["downslope"])["inputs"] == 3


# ---- Metadata ----


def test_metadata_are_kept(path):
    network = random_network([2, 1])
    network.metadata = {"made by": "hand", "größe": "1\n2"}
    network.save(path, metadata={"made by": "machine", "downslopes": "0.97"})
    assert network.metadata == {"made by": "hand", "größe": "1\n2"}
    assert ds.load(path).metadata == {"made by": "machine", "größe": "1\n2", "downslopes": "0.97"}


@pytest.mark.parametrize(
    ("metadata", "error", "message"),
    [
        ({"epochs": 3}, TypeError, "must map str to str, got 'epochs': 3"),
        ({3: "epochs"}, TypeError, "must map str to str"),
        ({"downslope": "x"}, ValueError, "must not have the key 'downslope'"),
        ({"downslope.trainer": "x"}, ValueError, "must not have the key 'downslope.trainer'"),
    ],
)
@pytest.mark.parametrize("own", [False, True])
def test_metadata_that_are_refused(path, metadata, error, message, own):
    path.write_bytes(b"old")
    network = random_network([2, 1])
    if own:
        network.metadata = metadata
    with pytest.raises(error, match=message):
        network.save(path, metadata=None if own else metadata)
    assert path.read_bytes() == b"old"


# ---- Atomic writing ----


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_a_failure_leaves_the_old_file(path, monkeypatch, function):
    old = random_network([2, 1])
    old.save(path)

    def fail(*args):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, function, fail)
        with pytest.raises(OSError, match="No space left"):
            random_network([5, 5]).save(path)
    assert os.listdir(path.parent) == [path.name]
    assert_same_network(ds.load(path), old)


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        random_network([2, 1]).save(tmp_path / "nowhere" / "net.safetensors")


def test_a_file_that_is_not_there(path):
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors"):
        ds.load(path)


# ---- Damage ----


def saved(path, **options):
    """The parts of a saved network's file: its tensors and its description."""
    random_network([3, 4, 2], **options).save(path)
    tensors, metadata = read_tensors(path)
    return tensors, json.loads(metadata["downslope"])


def write(path, tensors, description):
    text = description if isinstance(description, str) else json.dumps(description)
    write_tensors(path, tensors, {"downslope": text})


def refused(path, message=None):
    with pytest.raises(ValueError, match=message) as caught:
        ds.load(path)
    assert str(path) in str(caught.value)


def test_every_truncation_is_refused(path):
    saved(path)
    contents = path.read_bytes()
    for size in range(len(contents)):
        path.write_bytes(contents[:size])
        refused(path)
    path.write_bytes(contents + b"\0")
    refused(path)


def test_flipped_bits_are_refused_or_make_another_network(path):
    """No checksum guards the numbers; what describes them can only be wrong in harmless ways."""
    saved(path)
    contents = path.read_bytes()
    (header,) = struct.unpack_from("<Q", contents)
    rng = np.random.default_rng(SEED)
    messages = []
    for place in range(8 + header):
        damaged = bytearray(contents)
        damaged[place] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        try:
            network = ds.load(path)
        except ValueError as error:
            messages.append(str(error))
        else:
            assert network.parameters.tobytes() == contents_of_parameters(contents, header)
    assert len(messages) > 0.8 * header
    assert all(str(path) in message for message in messages)


def contents_of_parameters(contents, header):
    """The data of the file put into the order of the parameters."""
    entries = json.loads(contents[8 : 8 + header])
    return b"".join(
        contents[8 + header + begin : 8 + header + end]
        for name in ("layers.0.weights", "layers.0.bias", "layers.1.weights", "layers.1.bias")
        for begin, end in [entries[name]["data_offsets"]]
    )


DESCRIPTIONS = {
    "not JSON": "{",
    "empty": "",
    "nested too deep": "[" * 100_000,
    "a list": [],
    "a number": 5,
    "null": None,
    "an empty object": {},
    "no layers": {"layers": []},
    "layers that are no list": {"layers": 3},
    "layers that are no objects": {"layers": [1, 2]},
    "layers without keys": {"layers": [{}, {}]},
    "a later format": {"format": 2},
    "inputs that do not fit": {"inputs": 4},
    "inputs that are text": {"inputs": "3"},
    "inputs that are huge": {"inputs": 10**30},
    "another dtype": {"dtype": "float64"},
    "an unknown dtype": {"dtype": "float16"},
    "no dtype": {"dtype": None},
    "a negative seed": {"seed": -1},
    "a seed that is text": {"seed": "0"},
}


@pytest.mark.parametrize("wrong", DESCRIPTIONS)
def test_a_damaged_description(path, wrong):
    tensors, description = saved(path)
    change = DESCRIPTIONS[wrong]
    write(path, tensors, description | change if isinstance(change, dict) and change else change)
    refused(path, "is damaged: ")


LAYER_CHANGES = {
    "units that do not fit": {"units": 5},
    "units that are huge": {"units": 10**12},
    "units that are text": {"units": "4"},
    "no units": {"units": 0},
    "an unknown activation": {"activation": "rellu"},
    "an activation that is a number": {"activation": 3},
    "a parameter too many": {"parameter": 1.0},
    "no bias": {"use_bias": False},
    "a shared bias": {"shared_bias": True},
    "a contradiction": {"use_bias": False, "shared_bias": True},
}


@pytest.mark.parametrize("wrong", LAYER_CHANGES)
def test_a_damaged_layer(path, wrong):
    tensors, description = saved(path)
    description["layers"][0] |= LAYER_CHANGES[wrong]
    write(path, tensors, description)
    refused(path, "is damaged: ")


@pytest.mark.parametrize("key", ["format", "inputs", "dtype", "seed", "layers"])
def test_a_missing_entry(path, key):
    tensors, description = saved(path)
    del description[key]
    write(path, tensors, description)
    refused(path, f"is damaged: .*'{key}'")


@pytest.mark.parametrize("key", ["units", "activation", "parameter", "use_bias", "shared_bias"])
def test_a_missing_entry_of_a_layer(path, key):
    tensors, description = saved(path)
    del description["layers"][1][key]
    write(path, tensors, description)
    refused(path, f"is damaged: .*'{key}'")


TENSOR_CHANGES = {
    "missing": (
        lambda tensors: tensors.pop("layers.1.bias"),
        r"'layers.1.bias' should be float32 \(2,\), is absent",
    ),
    "extra": (
        lambda tensors: tensors.update({"layers.2.weights": np.zeros((2, 2), "f4")}),
        r"'layers.2.weights' should be absent, is float32 \(2, 2\)",
    ),
    "another name": (
        lambda tensors: tensors.update({"layers.0.beta": tensors.pop("layers.0.bias")}),
        "'layers.0.beta' should be absent",
    ),
    "another shape": (
        lambda tensors: tensors.update({"layers.0.weights": np.zeros((4, 3), "f4")}),
        r"'layers.0.weights' should be float32 \(3, 4\), is float32 \(4, 3\)",
    ),
    "another dtype": (
        lambda tensors: tensors.update({"layers.0.bias": np.zeros(4)}),
        r"'layers.0.bias' should be float32 \(4,\), is float64 \(4,\)",
    ),
    "none at all": (
        lambda tensors: tensors.clear(),
        r"'layers.0.bias' should be float32 \(4,\), is absent",
    ),
}


@pytest.mark.parametrize("wrong", TENSOR_CHANGES)
def test_tensors_that_are_not_the_networks(path, wrong):
    tensors, description = saved(path)
    change, message = TENSOR_CHANGES[wrong]
    change(tensors)
    write(path, tensors, description)
    refused(path, f"is damaged: tensor {message}")


def test_a_safetensors_file_of_another_program(path):
    write_tensors(path, {"w": np.zeros(3)}, {"format": "pt"})
    refused(path, "no downslope network.*give a file written by Network.save")


@pytest.mark.parametrize("contents", [b"", b"PK\3\4", b"\x89HDF\r\n", b"not a model" * 100])
def test_files_of_another_kind(path, contents):
    path.write_bytes(contents)
    refused(path)


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(OSError, match=tmp_path.name):
        ds.load(tmp_path)
