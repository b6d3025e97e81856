"""The commands, run in this process: what they print, write and answer to mistakes."""

from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
import pytest

for name in ("rich", "pandas", "matplotlib"):
    pytest.importorskip(name)

import pandas as pd

import downslope as ds
import downslope.cli
from downslope._split import stratified_split
from downslope.cli import main
from downslope.digits import load_digits, split_digits


@pytest.fixture(autouse=True)
def in_tmp_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    return tmp_path


@pytest.fixture
def flats(in_tmp_path, rng):
    """A table of 300 flats: the rent follows from area, district and balcony, with noise."""
    rows = 300
    area = rng.uniform(20.0, 120.0, rows).round(1)
    district = rng.choice(["centre", "north", "south"], rows)
    balcony = rng.choice(["yes", "no"], rows)
    rent = 200 + 9 * area + 300 * (district == "centre") + 80 * (balcony == "yes")
    table = pd.DataFrame(
        {
            "number": np.arange(1, rows + 1),
            "area": area,
            "district": district,
            "balcony": balcony,
            "country": "Utopia",
            "rent": (rent + rng.normal(0.0, 30.0, rows)).round(2),
        }
    )
    table["class"] = np.where(table["rent"] > table["rent"].median(), "dear", "cheap")
    table.loc[[4, 9], "area"] = np.nan
    table.loc[7, "balcony"] = None
    table.to_csv("flats.csv", index=False)
    return table


def run(capsys, *argv, status=0):
    """Run a command; its output and its messages."""
    assert main([str(argument) for argument in argv]) == status
    captured = capsys.readouterr()
    return captured.out, captured.err


# ---- demo ----


def test_demo_reaches_its_accuracy_and_saves_what_it_says(capsys, in_tmp_path):
    out, _ = run(capsys, "demo", "--output-dir", "made/here")
    for text in (
        "1,261 training, 181 validation, 355 test images",
        "samples per second",
        "test accuracy",
        ds.config()["isa"],
        "times as fast as NumPy",
        "made/here/digits.safetensors",
        "made/here/digits-loss.png",
    ):
        assert text in out
    test = split_digits().test
    outputs = ds.load("made/here/digits.safetensors").predict(test.images)
    assert np.mean(outputs.argmax(axis=1) == test.labels) >= 0.97
    picture = in_tmp_path / "made/here/digits-loss.png"
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_demo_without_baseline_is_reproducible(capsys):
    argv = ["demo", "--epochs", "3", "--seed", "5", "--no-baseline", "--output-dir"]
    out, _ = run(capsys, *argv, "a")
    run(capsys, *argv, "b", "--threads", "2")
    assert "NumPy" not in out
    assert "3, least validation loss after epoch 3" in out
    a, b = (ds.load(f"{folder}/digits.safetensors") for folder in "ab")
    np.testing.assert_array_equal(a.parameters, b.parameters)


def test_digits_split():
    images, labels = load_digits()
    assert images.shape == (1797, 64)
    assert (images.min(), images.max()) == (0, 16)
    parts = split_digits()
    rows = [row.tobytes() for part in parts for row in part.images]
    expected = [row.tobytes() for row in images.astype(np.float32) / 16]
    assert sorted(rows) == sorted(expected)
    for part in parts:
        shares = np.bincount(part.labels) / len(part.labels)
        np.testing.assert_allclose(shares, np.bincount(labels) / 1797, atol=0.005)


# ---- train, predict, info ----


def test_train_and_predict_classes(capsys, flats):
    out, _ = run(capsys, "train", "flats.csv", "--target", "class", "--output", "m.safetensors")
    assert "Task: classification of 'class' (the values are texts)" in out
    assert "column 'number' is left out: it counts the rows" in out
    assert "column 'country' is left out" in out
    assert "column 'area': 2 missing values filled with the median" in out
    assert "240 training, 60 validation" in out
    assert "always the commonest class" in out
    flats.drop(columns="class").to_csv("new.csv", index=False)
    out, err = run(
        capsys, "predict", "m.safetensors", "new.csv", "--output", "p.csv", "--probabilities"
    )
    assert "Predictions of 300 rows: p.csv" in out
    assert "columns that the model does not use: number, country" in err
    predictions = pd.read_csv("p.csv")
    assert list(predictions) == ["predicted_class", "probability_cheap", "probability_dear"]
    assert np.mean(predictions["predicted_class"] == flats["class"]) > 0.9
    np.testing.assert_allclose(predictions.iloc[:, 1:].sum(axis=1), 1.0, atol=1e-5)


def test_train_and_predict_numbers(capsys, flats):
    table = flats.drop(columns="class")
    table.to_csv("flats.csv", index=False)
    out, _ = run(
        capsys,
        *("train", "flats.csv", "--target", "rent", "--hidden", "32", "--activation", "tanh"),
        *("--optimizer", "momentum", "--learning-rate", "0.02", "--dtype", "float64"),
    )
    assert "Task: regression of 'rent' (the values are numbers with fractions)" in out
    assert "RMSE" in out
    assert "always the mean" in out
    network = ds.load("model.safetensors")
    assert network.dtype == np.float64
    assert [layer.activation.name for layer in network.layers] == ["tanh", "identity"]
    out, err = run(capsys, "predict", "model.safetensors", "flats.csv")
    lines = out.splitlines()
    assert lines[0] == "predicted_rent"
    error = np.array([float(line) for line in lines[1:]]) - flats["rent"]
    assert np.sqrt(np.mean(error**2)) < 0.3 * flats["rent"].std()
    assert "Compared with 'rent' in the table (300 rows): RMSE" in err


@pytest.mark.parametrize(
    "labels", [("false", "true"), ("FALSE", "TRUE"), ("01", "02", "none")], ids="_".join
)
def test_labels_are_compared_as_written(capsys, flats, labels):
    """Alone in a table, such labels would be read as booleans and numbers."""
    flats["label"] = np.array(labels)[np.arange(len(flats)) % 3 % len(labels)]
    flats["same"] = "as " + flats["label"]
    flats[["area", "same", "label"]].to_csv("t.csv", index=False)
    run(capsys, "train", "t.csv", "--target", "label", "--epochs", 30)
    flats[flats["label"] != "none"].to_csv("new.csv", index=False)
    _, err = run(capsys, "predict", "model.safetensors", "new.csv")
    assert "accuracy 1.0000" in err


def test_numbers_with_a_large_offset_are_written_with_all_their_digits(capsys, flats):
    flats["time"] = 1.7e9 + flats["rent"]
    flats[["area", "district", "time"]].to_csv("t.csv", index=False)
    run(capsys, "train", "t.csv", "--target", "time", "--dtype", "float64")
    out, _ = run(capsys, "predict", "model.safetensors", "t.csv")
    written = np.array([float(line) for line in out.splitlines()[1:]])
    assert len(np.unique(written)) > 250
    assert np.abs(written - flats["time"]).mean() < flats["rent"].std()


@pytest.mark.parametrize("unit", [1e-200, 1e200])
def test_scores_of_numbers_of_any_size(capsys, flats, unit):
    for table, name in ((flats, "usual"), (flats.assign(rent=flats["rent"] * unit), "other")):
        table[["area", "district", "rent"]].to_csv(f"{name}.csv", index=False)
    argv = ("--target", "rent", "--epochs", 20, "--dtype", "float64")
    usual, other = (run(capsys, "train", f"{n}.csv", *argv)[0] for n in ("usual", "other"))
    r2 = re.findall(r"R2 (\S+)", usual)
    assert re.findall(r"R2 (\S+)", other) == r2
    assert len(r2) == 2
    assert "RMSE 0," not in other


def test_task_and_layers_as_asked(capsys, flats):
    flats["rooms"] = np.resize([1, 2, 3], len(flats))
    flats.to_csv("flats.csv", index=False)
    argv = ["train", "flats.csv", "--target", "rooms", "--hidden", "none", "--epochs", "2"]
    out, _ = run(capsys, *argv)
    assert "classification of 'rooms' (the values are 3 different whole numbers)" in out
    out, _ = run(capsys, *argv, "--task", "regression")
    assert "regression of 'rooms' (as asked)" in out
    assert len(ds.load("model.safetensors").layers) == 1


def test_same_seed_same_model(capsys, flats):
    for seed, output in ((1, "a"), (1, "b"), (2, "c")):
        argv = ("--epochs", 5, "--seed", seed, "--output", output)
        run(capsys, "train", "flats.csv", "--target", "class", *argv)
    a, b, c = (ds.load(name).parameters for name in "abc")
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)


def test_predict_names_unseen_categories(capsys, flats):
    run(capsys, "train", "flats.csv", "--target", "class", "--epochs", 2)
    flats.head(3).assign(district="west").to_csv("new.csv", index=False)
    out, err = run(capsys, "predict", "model.safetensors", "new.csv")
    assert len(out.splitlines()) == 4
    assert "'district': not in the training rows" in err
    assert "'west'" in err


def test_info_of_the_installation(capsys):
    out, _ = run(capsys, "info")
    config = ds.config()
    for key in ("version", "isa", "threads"):
        assert str(config[key]) in out


def test_info_of_models(capsys, flats):
    run(capsys, "train", "flats.csv", "--target", "class", "--epochs", 1)
    out, _ = run(capsys, "info", "model.safetensors")
    for text in ("softmax", "one of: centre, north, south", "standard deviation", "cheap, dear"):
        assert text in out
    ds.Network([3, 2], output=ds.Activation("elu", 0.5), use_bias=False).save(
        "plain", metadata={"made by": "a test"}
    )
    out, _ = run(capsys, "info", "plain")
    for text in ("elu (0.5)", "made by", "a test"):
        assert text in out


@pytest.mark.parametrize("columns", ["30", "300"])
def test_any_width_of_terminal(capsys, flats, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    out, _ = run(capsys, "train", "flats.csv", "--target", "class", "--epochs", 2)
    assert "Model: model.safetensors" in out


def test_names_with_brackets_are_shown_as_they_are(capsys, flats, in_tmp_path):
    flats = flats.rename(columns={"area": "[bold]area[/b]"})
    flats.to_csv("sales[eu].csv", index=False)
    (in_tmp_path / "t[").mkdir()
    flats.to_csv("t[/b].csv", index=False)
    for table in ("sales[eu].csv", "t[/b].csv"):
        out, _ = run(
            *(capsys, "train", table, "--target", "class", "--epochs", 1, "--output", "m[v2]")
        )
        assert f"Trained on {table}" in out
    out, _ = run(capsys, "info", "m[v2]")
    assert "m[v2]" in out
    assert "[bold]area[/b]" in out


# ---- Mistakes ----


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["train", "none.csv", "--target", "x"], "none.csv: No such file"),
        (["train", "flats.csv", "--target", "clas"], "no column 'clas'; did you mean 'class'?"),
        (
            ["train", "flats.csv", "--target", "area"],
            "'area' is missing in 2 rows (data row 5, 10)",
        ),
        (["train", "flats.csv", "--target", "country"], "only the class 'Utopia'"),
        (["train", "flats.csv", "--target", "class", "--task", "regression"], "must hold numbers"),
        (["train", "flats.csv", "--target", "class", "--activation", "rely"], "relu"),
        (["train", "flats.csv", "--target", "class", "--output", "no/m"], "no such directory"),
        (["train", "flats.csv", "--target", "class", "--output", "."], "is a directory"),
        (["train", "flats.csv", "--target", "class", "--output", "flats.csv"], "is an input"),
        (
            ["train", "flats.csv", "--target", "class", "--validation-fraction", "0.001"],
            "no row is left for validation",
        ),
        (["predict", "flats.csv", "flats.csv"], "flats.csv"),
        (["predict", "none", "flats.csv"], "none"),
        (["predict", "plain", "flats.csv"], "not saved by downslope train"),
        (["info", "flats.csv"], "flats.csv"),
    ],
)
def test_mistakes_are_told_in_one_line(capsys, flats, argv, message):
    ds.Network([2, 1]).save("plain")
    _, err = run(capsys, *argv, status=2)
    assert err.startswith("downslope: error: ")
    assert err.count("\n") == 1
    assert message in err


def test_a_folder_that_can_not_be_written_is_found_before_training(capsys, flats, monkeypatch):
    from downslope.cli import console

    def refuse(dir):
        raise PermissionError(13, "Permission denied", f"{dir}/tmp123")

    monkeypatch.setattr(console, "TemporaryFile", refuse)
    out, err = run(
        *(capsys, "train", "flats.csv", "--target", "class", "--output", "m.safetensors"), status=2
    )
    assert err == "downslope: error: m.safetensors: can not be written (Permission denied)\n"
    assert not out


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="where /dev/null is")
def test_predict_writes_to_a_device(capsys, flats):
    run(capsys, "train", "flats.csv", "--target", "class", "--epochs", 1)
    out, _ = run(capsys, "predict", "model.safetensors", "flats.csv", "--output", "/dev/null")
    assert "Predictions of 300 rows: /dev/null" in out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.drop(columns=["area", "district"]), "'area', 'district'"),
        (lambda table: table.assign(area="large"), "'area' must hold numbers; got 'large'"),
    ],
)
def test_predict_refuses_other_tables(capsys, flats, change, message):
    run(capsys, "train", "flats.csv", "--target", "class", "--epochs", 1)
    change(flats).to_csv("new.csv", index=False)
    _, err = run(capsys, "predict", "model.safetensors", "new.csv", status=2)
    assert message in err


def test_probabilities_of_a_regression_are_refused(capsys, flats):
    run(capsys, "train", "flats.csv", "--target", "rent", "--epochs", 1)
    argv = ("predict", "model.safetensors", "flats.csv", "--probabilities")
    assert "'rent' is a number, not a class" in run(capsys, *argv, status=2)[1]


@pytest.mark.parametrize("text", ["{", "{}", '{"target": {"name": "a"}, "columns": []}'])
def test_damaged_preprocessing_is_told(capsys, flats, text):
    ds.Network([2, 1]).save("model", metadata={"preprocessing": text})
    for argv in (("predict", "model", "flats.csv"), ("info", "model")):
        assert "preprocessing is damaged" in run(capsys, *argv, status=2)[1]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "command"),
        (["fly"], "fly"),
        (["demo", "--epochs", "0"], "a whole number above zero; got '0'"),
        (["demo", "--seed", "-1"], "a whole number from zero; got '-1'"),
        (["train", "t.csv"], "--target"),
        (["train", "t.csv", "--target", "x", "--hidden", "64,,32"], "64,32, or none"),
        (["train", "t.csv", "--target", "x", "--learning-rate", "nan"], "a number above zero"),
        (["train", "t.csv", "--target", "x", "--validation-fraction", "1"], "between 0 and 1"),
    ],
)
def test_usage(capsys, argv, message):
    with pytest.raises(SystemExit) as ended:
        main(argv)
    err = capsys.readouterr().err
    assert ended.value.code == 2
    assert err.startswith("downslope: error: ")
    assert err.count("\n") == 1
    assert message in err


def test_divergence_is_told(capsys, flats):
    argv = ("--optimizer", "sgd", "--learning-rate", "1e6", "--hidden", "16,16")
    _, err = run(capsys, "train", "flats.csv", "--target", "rent", *argv, status=2)
    assert "learning rate" in err


def test_missing_extra_is_named(capsys, monkeypatch):
    monkeypatch.setattr(downslope.cli, "find_spec", lambda name: None)
    _, err = run(capsys, "info", status=2)
    assert 'needs the extra: python -m pip install "downslope[cli]"' in err


@pytest.mark.parametrize(
    ("argv", "model"),
    [
        (("demo", "--no-baseline"), "digits.safetensors"),
        (("train", "flats.csv", "--target", "class"), "model.safetensors"),
    ],
)
def test_interrupt_leaves_a_model(capsys, flats, monkeypatch, argv, model):
    from downslope.cli.console import TrainingDisplay

    def interrupt(self, trainer, epoch, logs):
        if epoch == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(TrainingDisplay, "on_epoch_end", interrupt)
    out, err = run(capsys, *argv, status=130)
    assert "downslope: interrupted" in err
    assert f"Model: {model}" in out
    network = ds.load(model)
    assert np.isfinite(network.parameters).all()
    if argv[0] == "train":
        run(capsys, "predict", model, "flats.csv")


def test_as_a_module():
    done = subprocess.run(
        [sys.executable, "-m", "downslope", "info"], capture_output=True, text=True, check=True
    )
    assert ds.config()["version"] in done.stdout


# ---- The split ----


def test_stratified_split(rng):
    strata = rng.integers(0, 3, 200)
    kept, held_out = stratified_split(strata, 0.25, seed=3)
    np.testing.assert_array_equal(np.sort(np.concatenate([kept, held_out])), np.arange(200))
    np.testing.assert_array_equal(
        np.bincount(strata[held_out]), np.round(0.25 * np.bincount(strata))
    )
    again = stratified_split(strata, 0.25, seed=3)[1]
    np.testing.assert_array_equal(held_out, again)
    assert not np.array_equal(held_out, stratified_split(strata, 0.25, seed=4)[1])


def test_stratified_split_keeps_a_row_of_every_stratum():
    kept, _ = stratified_split([0, 1, 1], 0.9)
    assert len(kept) == 2
    with pytest.raises(ValueError, match="between 0 and 1"):
        stratified_split([0, 1], 1.0)


# ---- bench ----


def test_bench_compares(capsys):
    out, _ = run(capsys, "bench", "--cases", "AC", "--seconds", "0.01")
    assert "FMA peak" in out
    rows = [line.split() for line in out.splitlines() if "2-2-2" in line or "64-64-10" in line]
    assert [row[0] for row in rows] == ["A", "C"]
    ours, theirs = (float(rows[1][i].replace(",", "")) for i in (3, 5))
    assert 0 < ours < theirs * 100


def test_bench_phases_add_up(capsys):
    out, _ = run(capsys, "bench", "--phases", "--cases", "B")
    times = next(line.split() for line in out.splitlines() if "10-32-1" in line)[2:]
    *phases, apart, in_fit = map(float, times)
    assert len(phases) == 6
    assert min(phases) >= 0
    assert in_fit > 0
    assert sum(phases) == pytest.approx(apart, abs=0.05)


def test_bench_refuses_unknown_networks(capsys):
    with pytest.raises(SystemExit):
        main(["bench", "--cases", "AX"])
    assert "letters of ABCRDEFGHSO" in capsys.readouterr().err
