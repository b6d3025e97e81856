"""Tables to numbers and back."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

pd = pytest.importorskip("pandas")

from downslope.tabular import (
    MAX_CATEGORIES,
    ClassTarget,
    NumericTarget,
    TablePreprocessor,
    infer_task,
    read_table,
)


@pytest.fixture
def penguins(rng):
    """60 rows with numbers, texts, booleans, missing values and columns of no use."""
    rows = 60
    table = pd.DataFrame(
        {
            "mass": rng.normal(4200.0, 800.0, rows),
            "island": rng.choice(["Biscoe", "Dream", "Torgersen"], rows),
            "tagged": rng.choice([True, False], rows),
            "sex": rng.choice(["male", "female"], rows),
            "species": np.resize(["Adelie", "Gentoo", "Adelie"], rows),
            "number": np.arange(1, rows + 1),
            "name": [f"penguin {i}" for i in range(rows)],
            "seen": [f"2009-11-{1 + i % 30:02d}" for i in range(rows)],
            "region": "Anvers",
            "empty": np.nan,
        }
    )
    table.loc[[3, 7], "mass"] = np.nan
    table.loc[5, "sex"] = None
    return table


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


# ---- Reading ----


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_read_table_finds_the_separator(tmp_path, separator):
    lines = ["a b,c,d", "1.5,x,2", "2.5,y,3"]
    path = write(tmp_path / "t.csv", "\n".join(lines).replace(",", separator) + "\n")
    table = read_table(path)
    assert list(table.columns) == ["a b", "c", "d"]
    assert table["a b"].tolist() == [1.5, 2.5]
    assert table["c"].tolist() == ["x", "y"]


@pytest.mark.parametrize("before", ["", "\n", "\ufeff"])
@pytest.mark.parametrize(
    ("header", "names"),
    [
        ('"x, in m, north, east";b;y', ["x, in m, north, east", "b", "y"]),
        ('"say ""a, b, c""";b; "d, e"', ['say "a, b, c"', "b", "d, e"]),
        ('5" pipe;b;6" pipe', ['5" pipe', "b", '6" pipe']),
    ],
)
def test_read_table_takes_no_separator_from_quotes(tmp_path, before, header, names):
    path = write(tmp_path / "t.csv", f"{before}{header}\n1;2;3\n")
    assert list(read_table(path).columns) == names


def test_read_table_missing_values_and_spaces(tmp_path):
    table = read_table(write(tmp_path / "t.csv", "hp, make\n130, ford\n?, NA\n,fiat\n"))
    assert table["hp"].isna().tolist() == [False, True, True]
    assert table["make"].isna().tolist() == [False, True, False]
    assert table["make"][0] == "ford"


def test_read_table_keeps_texts_as_written(tmp_path):
    path = write(tmp_path / "t.csv", "code,flag,x\n007,true,1\nA,False,2\n")
    assert read_table(path)["code"].tolist() == ["007", "A"]
    assert read_table(path)["flag"].tolist() == ["true", "False"]
    only_digits = write(tmp_path / "u.csv", "code,x\n007,1\n")
    assert read_table(only_digits, ["code"])["code"].tolist() == ["007"]


def test_read_table_byte_order_mark_and_gzip(tmp_path):
    with gzip.open(tmp_path / "t.csv.gz", "wt", encoding="utf-8-sig") as file:
        file.write("a;b\n1;2\n")
    assert list(read_table(tmp_path / "t.csv.gz").columns) == ["a", "b"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a CSV table"),
        (b"a,b\n", "no rows"),
        (b"a,b\n1,2,3\n", "more fields"),
        (b"a,b\n1,2\n1,2,3,4\n", "not a CSV table"),
        (b"a,caf\xe9\n1,2\n", "UTF-8"),
        (b"a,b\n1,caf\xe9\n", "UTF-8"),
    ],
)
def test_read_table_refuses(tmp_path, content, message):
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_table(path)


def test_read_table_takes_no_column_for_names_of_the_rows(tmp_path):
    """Each row ends in a separator, and the first field counts the rows."""
    table = read_table(write(tmp_path / "t.csv", "id,a,y\n0,0.13,100,\n1,0.5,200,\n"))
    assert table.to_dict("list") == {"id": [0, 1], "a": [0.13, 0.5], "y": [100, 200]}
    with pytest.raises(ValueError, match="more fields"):
        read_table(write(tmp_path / "t.csv", "id,a,y\n0,0.13,100,7\n1,0.5,200,8\n"))


def test_read_table_refuses_damaged_archives(tmp_path, rng):
    lines = ["a,b", *(f"{a},{b}" for a, b in rng.normal(size=(200, 2)))]
    whole = gzip.compress("\n".join(lines).encode())
    for damaged in (whole[:2000], whole[:40] + b"\xff" * 20 + whole[60:], b"a,b\n1,2\n"):
        (tmp_path / "t.csv.gz").write_bytes(damaged)
        with pytest.raises(ValueError, match=r"t\.csv\.gz is not a whole gzip file: .* again"):
            read_table(tmp_path / "t.csv.gz")


# ---- The task ----


@pytest.mark.parametrize(
    ("values", "task"),
    [
        (["yes", "no"], "classification"),
        ([True, False], "classification"),
        ([0, 1] * 2, "classification"),
        ([3.0, 5.0] * 2, "classification"),
        (list(range(7)) * 20, "classification"),
        (list(range(7)), "regression"),
        (list(range(300)), "regression"),
        ([0.5, 1.0], "regression"),
    ],
)
def test_infer_task(values, task):
    assert infer_task(pd.Series(values))[0] == task


def test_task_is_forced(penguins):
    penguins["legs"] = np.resize([2, 1, 2, 2], len(penguins))
    assert TablePreprocessor("legs").fit(penguins).task == "classification"
    assert TablePreprocessor("legs", "regression").fit(penguins).task == "regression"
    with pytest.raises(ValueError, match="task must be"):
        TablePreprocessor("legs", "clustering")


# ---- Features ----


def test_features_and_what_is_left_out(penguins):
    preprocessor = TablePreprocessor("species").fit(penguins)
    assert preprocessor.features == [
        "mass",
        "island=Biscoe",
        "island=Dream",
        "island=Torgersen",
        "tagged=False",
        "tagged=True",
        "sex=missing",
        "sex=female",
        "sex=male",
    ]
    reasons = {
        "number": "counts the rows",
        "name": "60 different texts in 60 rows look like names",
        "seen": "dates",
        "region": "every value is 'Anvers'",
        "empty": "every value is missing",
    }
    assert list(preprocessor.left_out) == list(reasons)
    for name, reason in reasons.items():
        assert reason in preprocessor.left_out[name]


def test_numbers_are_standardised_and_filled_with_the_median(penguins):
    preprocessor = TablePreprocessor("species").fit(penguins)
    feature = preprocessor.transform(penguins)[:, 0]
    mass = penguins["mass"].fillna(penguins["mass"].median()).to_numpy()
    np.testing.assert_allclose(feature, (mass - mass.mean()) / mass.std(), rtol=1e-12)
    assert any("2 missing values" in remark for remark in preprocessor.remarks(penguins))


@pytest.mark.parametrize("unit", [1e-290, 1e-200, 1e-160, 1e160, 1e200, 1e290])
def test_numbers_of_any_size_are_standardised(penguins, unit):
    usual = TablePreprocessor("species").fit(penguins).transform(penguins)
    in_units = penguins.assign(mass=penguins["mass"] * unit)
    other = TablePreprocessor("species").fit(in_units).transform(in_units)
    np.testing.assert_allclose(other, usual, rtol=1e-9)
    target = TablePreprocessor("mass").fit(in_units.dropna(subset=["mass"])).target
    assert target.scale == pytest.approx(penguins["mass"].std(ddof=0) * unit)


def test_one_hot(penguins):
    inputs = TablePreprocessor("species").fit(penguins).transform(penguins)
    for first, last in ((1, 4), (4, 6), (6, 9)):
        np.testing.assert_array_equal(inputs[:, first:last].sum(axis=1), 1.0)
    np.testing.assert_array_equal(inputs[:, 2], penguins["island"] == "Dream")
    np.testing.assert_array_equal(inputs[:, 6], penguins["sex"].isna())


def test_unseen_categories_are_zero_and_said(penguins):
    preprocessor = TablePreprocessor("species").fit(penguins)
    new = penguins.head(3).assign(island=["Dream", "Elephant", None])
    np.testing.assert_array_equal(
        preprocessor.transform(new)[:, 1:4], [[0, 1, 0], [0] * 3, [0] * 3]
    )
    (remark,) = preprocessor.remarks(new)
    assert "'island'" in remark
    assert "2 rows" in remark
    assert "'missing', 'Elephant'" in remark


def test_transform_takes_columns_by_name(penguins):
    preprocessor = TablePreprocessor("species").fit(penguins)
    shuffled = penguins[penguins.columns[::-1]].assign(other=1)
    np.testing.assert_array_equal(
        preprocessor.transform(shuffled), preprocessor.transform(penguins)
    )
    assert "other" in preprocessor.unused(shuffled)
    with pytest.raises(ValueError, match=r"lacks 2 columns .*: 'mass', 'sex'"):
        preprocessor.transform(penguins.drop(columns=["mass", "sex"]))


def test_text_with_too_many_categories_is_left_out(rng):
    words = [f"word {i}" for i in range(MAX_CATEGORIES + 1)] * 2
    table = pd.DataFrame({"word": words, "x": rng.normal(size=len(words)), "y": [0, 1] * 51})
    left_out = TablePreprocessor("y").fit(table).left_out
    assert "51 different texts in 102 rows" in left_out["word"]


def test_whole_numbers_of_many_digits_are_names(tmp_path, rng):
    lines = [f"{10**21 + 7**i % 10**9},{rng.normal()},{i % 2}" for i in range(100)]
    table = read_table(write(tmp_path / "t.csv", "\n".join(["card,x,y", *lines]) + "\n"))
    preprocessor = TablePreprocessor("y").fit(table)
    assert preprocessor.features == ["x"]
    assert "100 different texts in 100 rows look like names" in preprocessor.left_out["card"]


# ---- The target ----


def test_class_target(penguins):
    preprocessor = TablePreprocessor("species").fit(penguins)
    assert preprocessor.target == ClassTarget("species", ["Adelie", "Gentoo"], text=True)
    labels = preprocessor.transform_target(penguins)
    assert labels.dtype == np.int64
    np.testing.assert_array_equal(labels, penguins["species"] == "Gentoo")
    outputs = np.array([[0.9, 0.1], [0.2, 0.8]], np.float32)
    assert preprocessor.inverse_target(outputs).tolist() == ["Adelie", "Gentoo"]
    with pytest.raises(ValueError, match="training rows do not have: 'Emperor'"):
        preprocessor.transform_target(penguins.assign(species="Emperor"))


def test_numeric_classes_are_in_numeric_order(penguins):
    penguins["grade"] = np.resize([10.0, 9.0, 1.0], len(penguins))
    target = TablePreprocessor("grade").fit(penguins).target
    assert target.classes == ["1", "9", "10"]


def test_regression_target_round_trip(penguins, rng):
    penguins["wing"] = rng.normal(200.0, 15.0, len(penguins))
    preprocessor = TablePreprocessor("wing").fit(penguins)
    encoded = preprocessor.transform_target(penguins)
    assert encoded.shape == (len(penguins), 1)
    np.testing.assert_allclose([encoded.mean(), encoded.std()], [0.0, 1.0], atol=1e-12)
    np.testing.assert_allclose(preprocessor.inverse_target(encoded), penguins["wing"], rtol=1e-12)


@pytest.mark.parametrize(
    ("mean", "scale", "digits"), [(0, 2, 7), (-5, 2, 7), (-50, 2, 8), (1.7e9, 300, 13)]
)
def test_digits_tell_predictions_apart(mean, scale, digits):
    assert NumericTarget("y", mean, scale).digits == digits


# ---- Saving ----


@pytest.mark.parametrize("target", ["species", "mass"])
def test_restored_from_json(penguins, target):
    table = penguins.dropna(subset=["mass"])
    preprocessor = TablePreprocessor(target).fit(table)
    restored = TablePreprocessor.from_dict(json.loads(json.dumps(preprocessor.to_dict())))
    assert restored.target == preprocessor.target
    assert restored.features == preprocessor.features
    assert isinstance(restored.target, ClassTarget if target == "species" else NumericTarget)
    np.testing.assert_array_equal(restored.transform(table), preprocessor.transform(table))


def test_labels_are_read_again_as_they_were(penguins):
    preprocessor = TablePreprocessor("species").fit(penguins)
    learned = preprocessor.to_dict()
    assert TablePreprocessor.from_dict(learned).text_columns == [
        *("island", "tagged", "sex", "species")
    ]
    del learned["target"]["text"]  # a file from before there was this entry
    assert TablePreprocessor.from_dict(learned).text_columns == ["island", "tagged", "sex"]
    penguins["grade"] = np.resize([1, 2], len(penguins))
    assert "grade" not in TablePreprocessor("grade").fit(penguins).text_columns


# ---- Mistakes ----


@pytest.mark.parametrize(
    ("change", "target", "message"),
    [
        ({}, "specie", "there is no column 'specie'; did you mean 'species'"),
        ({}, "zzz", "columns: 'mass', 'island'"),
        ({}, "mass", r"'mass' is missing in 2 rows \(data row 4, 8\)"),
        ({"species": "Adelie"}, "species", "only the class 'Adelie'"),
        ({"mass": [1.0, np.inf] * 30}, "species", "'mass' holds infinite values"),
        ({"mass": [1e305, 1e304] * 30}, "species", r"'mass' holds .* beyond 1e\+300"),
        ({"mass": [0.0, 1e-322] * 30}, "species", "'mass' holds numbers that differ by 4.9"),
        (
            {"mass": ["n.a."] + [str(i) for i in range(100, 159)]},
            "species",
            r"'mass' holds numbers and 1 other value \('n.a.'\)",
        ),
    ],
)
def test_fit_refuses(penguins, change, target, message):
    with pytest.raises(ValueError, match=message):
        TablePreprocessor(target).fit(penguins.assign(**change))


def test_fit_refuses_a_table_without_features(penguins):
    with pytest.raises(ValueError, match="no column is left to learn from; 'region': every"):
        TablePreprocessor("species").fit(penguins[["region", "species"]])


def test_regression_on_texts_is_refused(penguins):
    with pytest.raises(ValueError, match="'island' must hold numbers; got '"):
        TablePreprocessor("island", "regression").fit(penguins)


def test_constant_regression_target_is_refused(penguins):
    with pytest.raises(ValueError, match="'legs' is 2 in every row"):
        TablePreprocessor("legs", "regression").fit(penguins.assign(legs=2))


def test_transform_refuses_texts_among_numbers(penguins):
    preprocessor = TablePreprocessor("species").fit(penguins)
    spoilt = penguins.assign(mass=["heavy"] + ["4000"] * (len(penguins) - 1))
    with pytest.raises(ValueError, match="'mass' must hold numbers; got 'heavy'"):
        preprocessor.transform(spoilt)
