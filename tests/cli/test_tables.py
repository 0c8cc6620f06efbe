"""Tables on the command line: trained on, evaluated, and applied to new files by the rules in the run folder."""

import csv
import json
import tomllib

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.datasets import TableRules, load

SMALL = ("--widths", 8, "--steps", 300, "--device", "cpu")


def write_table(path, *targets, rows=60, seed=0):
    """Write a table of a size and a colour, from which a kind and a weight follow; `targets` are those to write."""
    generator = np.random.default_rng(seed)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["size", "colour", *targets])
        for _ in range(rows):
            size, colour = round(generator.uniform(0, 900), 2), generator.choice(["red", "blue"])
            known = {
                "kind": "owl" if size > 400 else "ant",
                "weight": round(3 * size + 1000 * (colour == "red"), 2),
            }
            writer.writerow([size, colour, *(known[target] for target in targets)])
    return path


@pytest.fixture
def trained(fgtrain, folder):
    """Train a classifier and a regression on a table each."""
    for folder_name, target in (("c", "kind"), ("r", "weight")):
        data = write_table(folder / f"{target}.csv", target)
        done = fgtrain("train", "--data", data, "--target", target, "--out", folder_name, *SMALL, "--quiet")
        assert done.code == 0, done.err
    return fgtrain


def test_training_says_what_the_target_is_and_keeps_the_rules(fgtrain, folder):
    write_table(folder / "t.csv", "kind")
    done = fgtrain("train", "--data", "t.csv", "--target", "kind", "--out", "c", *SMALL)
    assert done.code == 0
    assert "t.csv: the target 'kind' holds text: classification\n" in done.err
    assert "12 of 60 rows are the test data, a fifth of each class, drawn with seed 0" in done.err
    data = load(folder / "t.csv", target="kind")
    assert TableRules.from_json(folder / "c" / "table.json") == data.rules
    text = (folder / "c" / "config.toml").read_text(encoding="utf-8")
    assert 'target = "kind"' in text
    assert '"ant",\n    "owl",\n' in text.partition("[run]")[2]


def test_predictions_are_in_the_words_and_units_of_the_table(trained, folder):
    new = write_table(folder / "new.csv", rows=5, seed=1)
    done = trained("predict", "c", "new.csv")
    assert done.code == 0
    answers = done.out.split()
    assert len(answers) == 5
    assert set(answers) <= {"ant", "owl"}
    done = trained("predict", "r", "new.csv")
    assert len(done.out.split()) == 5
    # In the table's own unit, of which the mean is about 2,000, and not standardised.
    assert np.mean([float(value) for value in done.out.split()]) > 300
    assert trained("predict", "c", "new.csv", "--output", "p.csv").out == ""
    with (folder / "p.csv").open(newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert [row["kind"] for row in table] == answers
    assert all(0 <= float(row["probability of owl"]) <= 1 for row in table)
    assert trained("predict", "c", str(new), "--output", "p.npy").code == 0
    assert np.load(folder / "p.npy").shape == (5, 2)
    assert trained("predict", "r", str(new), "--output", "p.csv").code == 0
    assert (folder / "p.csv").read_text(encoding="utf-8").startswith("weight\n")


def test_an_array_of_features_is_answered_in_the_units_of_the_table(trained, folder):
    new = write_table(folder / "new.csv", rows=5, seed=1)
    for run in ("c", "r"):
        np.save(folder / "x.npy", TableRules.from_json(folder / run / "table.json").apply(new))
        assert trained("predict", run, "x.npy").out == trained("predict", run, "new.csv").out
    np.save(folder / "x.npy", np.ones((2, 3), np.uint8))
    assert "dtype uint8; the data of the run, 'weight.csv', have a scale of their own" in (
        trained("predict", "r", "x.npy").error
    )


def test_evaluation(trained, folder):
    assert "on 12 test examples" in trained("evaluate", "c").out
    result = json.loads(trained("evaluate", "r", "--json").out)
    assert (result["n"], result["accuracy"]) == (12, None)
    assert result["r2"] > 0.5
    write_table(folder / "other.csv", "weight", "kind", rows=30, seed=2)
    done = trained("evaluate", "c", "--data", "other.csv")
    assert done.out.endswith("on 30 test examples\n")
    assert done.out.startswith("accuracy ")
    assert "r2 " in trained("evaluate", "r", "--data", "other.csv").out


def test_the_loss_decides_what_a_target_is(fgtrain, folder):
    lines = "".join(f"{i * i},{i % 3}\n" for i in range(40))
    (folder / "t.csv").write_text(f"x,grade\n{lines}", encoding="utf-8")
    done = fgtrain("train", "--data", "t.csv", "--target", "grade", "--loss", "mse", "--out", "r", *SMALL)
    assert "'grade' holds numbers: regression" in done.err
    assert done.out.startswith("test r2 ")
    done = fgtrain("train", "--data", "t.csv", "--target", "grade", "--out", "c", *SMALL)
    assert "'grade' has 3 different whole numbers: classification" in done.err


def test_several_targets_and_a_configuration(fgtrain, folder):
    write_table(folder / "t.csv", "weight")
    (folder / "a").mkdir()
    (folder / "a" / "c.toml").write_text('data = "t.csv"\ntarget = ["weight", "size"]\n', encoding="utf-8")
    (folder / "t.csv").rename(folder / "a" / "t.csv")
    assert fgtrain("train", "--config", "a/c.toml", "--out", "r", *SMALL, "--quiet").code == 0
    write_table(folder / "new.csv", rows=3)
    assert [len(line.split()) for line in fgtrain("predict", "r", "new.csv").out.splitlines()] == [2, 2, 2]
    assert (
        fgtrain(
            "train", "--data", "a/t.csv", "--target", "weight, size", "--out", "s", *SMALL, "--quiet"
        ).code
        == 0
    )


@pytest.mark.parametrize(
    ("values", "loss"), [((0, 1), None), ((-1, 2), None), ((0, 1), "bce"), ((0, 0.5), "bce")]
)
def test_predictions_are_written_as_the_numbers_of_the_table(fgtrain, folder, values, loss):
    lines = "".join(f"{2 * i},{values[i > 30]}\n" for i in range(60))
    (folder / "t.csv").write_text(f"x,y\n{lines}", encoding="utf-8")
    options = () if loss is None else ("--loss", loss)
    assert (
        fgtrain("train", "--data", "t.csv", "--target", "y", *options, "--out", "r", *SMALL, "--quiet").code
        == 0
    )
    answers = fgtrain("predict", "r", "t.csv").out.split()
    assert set(answers) == set(map(str, values))
    fgtrain("predict", "r", "t.csv", "--output", "p.csv")
    with (folder / "p.csv").open(newline="", encoding="utf-8") as file:
        assert [row["y"] for row in csv.DictReader(file)] == answers
    file = folder / "r" / "table.json"
    assert TableRules.from_json(file).to_json() == file.read_text(encoding="utf-8")


def test_columns_are_left_out(fgtrain, folder):
    write_table(folder / "t.csv", "kind", "weight")
    (folder / "c.toml").write_text('data = "t.csv"\ntarget = "kind"\ndrop = ["weight", "colour"]\n')
    for number, arguments in enumerate(
        (
            ("--data", "t.csv", "--target", "kind", "--drop", "weight,colour"),
            ("--data", "t.csv", "--target", "kind", "--drop", "weight", "--drop", "colour"),
            ("--config", "c.toml"),
        )
    ):
        assert fgtrain("train", *arguments, "--out", f"r{number}", *SMALL, "--quiet").code == 0
        rules = TableRules.from_json(folder / f"r{number}" / "table.json")
        assert [rule.column for rule in rules.features] == ["size"]
    (folder / "new.csv").write_text("size\n10\n890\n", encoding="utf-8")
    assert fgtrain("predict", "r0", "new.csv").out.split() == ["ant", "owl"]
    assert fgtrain("train", "--resume", "r0", "--steps", 310, "--quiet").code == 0


def test_targets_of_several_options_are_several_targets(fgtrain, folder):
    write_table(folder / "t.csv", "weight")
    arguments = ("--data", "t.csv", "--target", "weight", "--target", "size")
    assert fgtrain("train", *arguments, "--out", "r", *SMALL, "--quiet").code == 0
    assert TableRules.from_json(folder / "r" / "table.json").target.columns == ("weight", "size")


def test_labels_of_a_table(fgtrain, folder):
    lines = "".join(f"{2 * i - 60},{'yes' if i > 30 else 'no'},{int(i < 20)}\n" for i in range(60))
    (folder / "t.csv").write_text(f"x,late,early\n{lines}", encoding="utf-8")
    arguments = ("--data", "t.csv", "--target", "late,early", "--loss", "bce", "--learning-rate", 0.05)
    done = fgtrain("train", *arguments, "--out", "r", *SMALL)
    assert "'late' is 1 for 'yes', 0 for 'no'" in done.err
    (folder / "new.csv").write_text("x\n-60\n58\n", encoding="utf-8")
    assert fgtrain("predict", "r", "new.csv").out.splitlines() == ["no 1", "yes 0"]
    assert fgtrain("predict", "r", "new.csv", "--output", "p.csv").code == 0
    with (folder / "p.csv").open(newline="", encoding="utf-8") as file:
        table = list(csv.reader(file))
    assert table[0] == ["late", "early", "probability of late yes", "probability of early 1"]
    model, rules = fg.load(folder / "r"), TableRules.from_json(folder / "r" / "table.json")
    expected = 1 / (1 + np.exp(-np.asarray(model(rules.apply(folder / "new.csv")), np.float64)))
    np.testing.assert_array_equal(
        np.array([row[2:] for row in table[1:]], np.float32), expected.astype(np.float32)
    )
    record = json.loads((folder / "r" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    result = json.loads(fgtrain("evaluate", "r", "--json").out)
    assert (result["accuracy"], result["loss"]) == (record["test_accuracy"], record["test_loss"])
    assert result["accuracy"] > 0.8
    assert json.loads(fgtrain("evaluate", "r", "--data", "t.csv", "--json").out)["n"] == 60


def test_a_run_ends_early_by_its_validation_loss(fgtrain, folder):
    write_table(folder / "t.csv", "weight", rows=200)
    options = ("--data", "t.csv", "--target", "weight", "--widths", 8, "--device", "cpu", "--out", "r")
    done = fgtrain("train", *options, "--steps", 400, "--patience", 1, "--validation", 0.2)
    assert done.code == 0
    if "ended early" in done.err:
        assert "validation loss" in done.err


ENGINES = (("--count", 2), ("--engine", "optuna", "--trials", 9))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("target", ["weight", "kind"])
def test_a_search_on_a_table(fgtrain, folder, engine, target):
    if "optuna" in engine:
        pytest.importorskip("optuna")
    # Of so few rows one is held out, and R² of a single row is not defined.
    write_table(folder / "t.csv", target, rows=12 if target == "weight" else 40)
    arguments = ("--data", "t.csv", "--target", target, "--widths", 4, "--steps", 12, "--device", "cpu")
    done = fgtrain("search", *arguments, *engine, "--highest", 0.1, "--json", "--out", "trials")
    assert done.code == 0, done.err
    result = json.loads(done.out)
    whole = [trial for trial in result["trials"] if trial["taken"] == 12]
    assert len(whole) > 1
    if target == "weight":
        assert {trial["accuracy"] for trial in result["trials"]} == {None}
        assert whole == sorted(whole, key=lambda trial: trial["loss"])
    else:
        assert whole == sorted(whole, key=lambda trial: (-trial["accuracy"], trial["loss"]))
    assert result["best"]["learning_rate"] == whole[0]["learning_rate"]
    # What has ended is read again.
    assert (
        fgtrain("search", *arguments, *engine, "--highest", 0.1, "--json", "--out", "trials").out == done.out
    )
    table = fgtrain("search", *arguments, *engine, "--highest", 0.1, "--out", "trials").out
    assert ("accuracy" in table) == (target == "kind")


def test_a_comparison_on_labels_of_a_table(fgtrain, folder):
    lines = "".join(f"{2 * i - 60},{int(i > 30)},{int(i < 20)}\n" for i in range(60))
    (folder / "t.csv").write_text(f"x,late,early\n{lines}", encoding="utf-8")
    arguments = ("--data", "t.csv", "--column", "late", "--column", "early", "--loss", "bce", "--widths", 4)
    done = fgtrain("compare", *arguments, "--estimators", "feedback", "--steps", 20, "--out", "c", "--json")
    assert done.code == 0, done.err
    curve = json.loads(done.out)["curves"][0]
    settings = (*arguments, "--steps", 20, "--device", "cpu", "--out", "r", "--quiet")
    assert fgtrain("train", *("--target" if a == "--column" else a for a in settings)).code == 0
    result = json.loads(fgtrain("evaluate", "r", "--json").out)
    assert (curve["losses"][-1], curve["accuracies"][-1]) == (result["loss"], result["accuracy"])


REFUSED = {
    "no target": (("train", "--data", "kind.csv"), "kind.csv: a table: target, the name of the column"),
    "unknown": (
        ("train", "--data", "kind.csv", "--target", "mass"),
        "no column 'mass'; the columns are 'size'",
    ),
    "unknown loss": (("train", "--data", "kind.csv", "--target", "kind", "--loss", "mae2"), "loss"),
    "a target of digits": (
        ("train", "--target", "kind"),
        "target applies to tables; 'digits' has its own labels",
    ),
    "a text as a number": (
        ("train", "--data", "kind.csv", "--target", "kind", "--loss", "mse"),
        "regression needs numbers",
    ),
    "classes that are no numbers": (
        ("train", "--loss", "mse"),
        "the targets of digits are classes; cross-entropy",
    ),
    "no label": (
        ("train", "--data", "weight.csv", "--target", "weight", "--loss", "bce"),
        "(60 in all); a label has two, such as 0 and 1",
    ),
    "a target that is left out": (
        ("train", "--data", "kind.csv", "--target", "kind", "--drop", "size,kind"),
        "the column 'kind' is a target",
    ),
    "nothing to leave out": (
        ("train", "--data", "kind.csv", "--target", "kind", "--drop", "mass"),
        "no column 'mass'; the columns are 'size'",
    ),
    "no table to leave out of": (("train", "--drop", "size"), "drop is 'size', and there is no target"),
    "an archive of no table": (
        ("predict", "c", "x.npz"),
        "x.npz: no column 'size'; the columns are 'x_train'",
    ),
    "an output of another kind": (
        ("predict", "c", "kind.csv", "--output", "p.txt"),
        "'p.txt'; a file that ends in .npy or .csv is required",
    ),
    "a comparison": (
        ("compare", "--data", "weight.csv", "--column", "weight"),
        "compared by accuracy, and regression has none",
    ),
    "a table without a target": (
        ("compare", "--data", "kind.csv"),
        "the name of the column that is to be predicted, is required",
    ),
    "no column": (("predict", "c", "x.csv"), "x.csv: no column 'colour'; the columns are 'size'"),
    "no table": (("predict", "c", "x.json"), "no table; a file that ends in .csv"),
    "another class": (
        ("evaluate", "c", "--data", "y.csv"),
        "'cow' in column 'kind' is none of the classes, 'ant', 'owl'",
    ),
}


@pytest.mark.parametrize(("arguments", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused_on_one_line(trained, folder, arguments, message):
    (folder / "x.csv").write_text("size\n1\n", encoding="utf-8")
    (folder / "x.json").write_text("{}", encoding="utf-8")
    np.savez(folder / "x.npz", x_train=np.zeros(3))
    (folder / "y.csv").write_text("size,colour,kind\n1,red,cow\n", encoding="utf-8")
    done = trained(*arguments)
    assert (done.code, done.out) == (2, "")
    assert message in done.err.splitlines()[-1]
    assert "Traceback" not in done.err


def test_damaged_rules_are_one_line(trained, folder):
    write_table(folder / "new.csv", rows=3)
    good = (folder / "c" / "table.json").read_text(encoding="utf-8")
    for text, message in (
        ("{", "damaged: Expecting"),
        (good.replace('"red"', '"red", "x"'), "its rules make 4 features"),
    ):
        (folder / "c" / "table.json").write_text(text, encoding="utf-8")
        done = trained("predict", "c", "new.csv")
        assert (done.code, len(done.err.splitlines())) == (2, 1)
        assert message in done.err


def test_labels_that_are_text_are_kept_in_the_run_folder(fgtrain, folder):
    x = np.random.default_rng(0).standard_normal((30, 4)).astype(np.float32)
    y = np.array(["fox", "hen", "cat"] * 10)
    np.savez(folder / "d.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    done = fgtrain("train", "--data", "d.npz", "--out", "d", *SMALL)
    assert (done.code, done.err.count("warning: ")) == (0, 1)
    assert (
        "d.npz: the labels are 'cat', 'fox', 'hen'; they become the classes 0 to 2 in this order\n"
        in done.err
    )
    assert 'labels = [\n    "cat",\n' in (folder / "d" / "config.toml").read_text(encoding="utf-8")
    np.savez(folder / "e.npz", x_train=x, y_train=y[1:2].repeat(30), x_test=x, y_test=y[1:2].repeat(30))
    assert fgtrain("evaluate", "d", "--data", "e.npz").code == 0
    np.savez(
        folder / "e.npz", x_train=x, y_train=np.array(["dog"] * 30), x_test=x, y_test=np.array(["dog"] * 30)
    )
    done = fgtrain("evaluate", "d", "--data", "e.npz")
    assert "the label 'dog' is none of those that the model was trained on, 'cat', 'fox', 'hen'" in done.err


def test_a_run_on_bytes_of_an_earlier_version_is_evaluated_on_them_as_they_are(fgtrain, folder):
    x = np.random.default_rng(0).integers(0, 256, (40, 6)).astype(np.uint8)
    y = (x[:, 0] > 127).astype(np.int64)
    np.savez(folder / "b.npz", x_train=x.astype(np.float32), y_train=y, x_test=x.astype(np.float32), y_test=y)
    assert fgtrain("train", "--data", "b.npz", "--out", "b", *SMALL, "--quiet").code == 0
    before = fgtrain("evaluate", "b").out
    # An earlier version read the same numbers from bytes.
    np.savez(folder / "b.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    done = fgtrain("evaluate", "b")
    assert (done.out, done.err) == (before, "")


def test_a_table_gets_few_units_and_the_best_parameters_unless_told(fgtrain, folder):
    data = write_table(folder / "weight.csv", "weight", rows=200)
    options = ("--data", data, "--target", "weight", "--device", "cpu", "--quiet")

    def written(*more):
        assert fgtrain("train", *options, "--out", f"run{len(more)}", *more).code == 0
        with (folder / f"run{len(more)}" / "config.toml").open("rb") as file:
            config = tomllib.load(file)
        return [layer.get("units") for layer in config["layers"]], config["restore_best"]

    assert written() == ([None, 64, 1], True)
    assert written("--widths", "5,6") == ([None, 5, 6, 1], True)
    assert written("--no-restore-best", "--widths", "7") == ([None, 7, 1], False)
    assert written("--steps", 20, "--model", "logreg") == ([None, 1], False)
