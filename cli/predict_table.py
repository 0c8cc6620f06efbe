"""``fgtrain predict`` on a table: the rules of the run's own table are applied to the columns of another file."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fgnumba.datasets import TableRules
    from fgnumba.runs.saved_run import Run


def predict_table(rules: "TableRules", trained: "Run", inputs: Path, output: Path | None) -> None:
    """Print what a model predicts for each row of a table, or write it to a file.

    Parameters
    ----------
    rules : TableRules
        The rules of the run's table.
    trained : Run
        The run.
    inputs : Path
        The table, with the columns that the run's table had; the target's need not be there. Or a ``.npy`` array of
        features, as the rules make them.
    output : Path or None
        A ``.npy`` file for class probabilities, (n, classes), or targets, (n, N), as float32; or a ``.csv`` file for
        the predictions, with names. None prints a line for each row.

    Raises
    ------
    DatasetError
        The table cannot be read, or lacks a column.
    RunError
        The rules are not those of the model, or the output cannot be written.
    """
    import numpy as np

    from fgnumba.cli.message import show
    from fgnumba.cli.output import write_npy, write_output
    from fgnumba.errors import RunError
    from fgnumba.runs.data import table_values
    from fgnumba.runs.inputs import read_examples
    from fgnumba.runs.run_folder import RULES

    model = trained.model
    if model.input_shape != (rules.width,) or model.outputs != rules.target.outputs:
        raise RunError(
            f"{RULES} is damaged: its rules make {rules.width} features and {rules.target.outputs} outputs; the model "
            f"takes {model.input_shape} and has {model.outputs}"
        )
    # An array has the features as the rules make them.
    array = inputs.suffix.lower() == ".npy"
    outputs = np.asarray(model(read_examples(inputs, trained) if array else rules.apply(inputs)))
    decoded = rules.decode(outputs).tolist()
    if output is None:
        show("\n".join(_line(row) for row in decoded))
        return
    values = table_values(rules, outputs).astype(np.float32)
    if output.suffix.lower() == ".csv":
        write_output(output, _csv(rules, decoded, values).encode())
    else:
        write_npy(output, values)


def _line(row: Any) -> str:
    return " ".join(map(_cell, row)) if isinstance(row, list) else str(row)


def _cell(value: Any) -> str:
    return f"{value:.9g}" if isinstance(value, float) else str(value)


def _csv(rules: "TableRules", decoded: list[Any], values: Any) -> str:
    """Return the predictions as CSV: classes or labels with their probabilities, or targets."""
    import csv
    import io

    from fgnumba.datasets.tables.targets import ClassTarget, LabelTarget

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if isinstance(rules.target, ClassTarget):
        writer.writerow([rules.target.column, *(f"probability of {name}" for name in rules.target.names)])
        rows = zip(decoded, values.tolist(), strict=True)
        writer.writerows([name, *(f"{value:.9g}" for value in row)] for name, row in rows)
    elif isinstance(rules.target, LabelTarget):
        columns, names = rules.target.columns, rules.target.names
        pairs = zip(columns, names, strict=True)
        writer.writerow([*columns, *(f"probability of {column} {yes}" for column, (_, yes) in pairs)])
        rows = zip(decoded, values.tolist(), strict=True)
        writer.writerows([*map(_cell, row), *(f"{value:.9g}" for value in chances)] for row, chances in rows)
    else:
        writer.writerow(rules.target.columns)
        writer.writerows([f"{value:.9g}" for value in row] for row in decoded)
    return text.getvalue()
