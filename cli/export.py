"""``fgtrain export``: a trained model as a file for other programs."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from fgnumba.cli.message import show
from fgnumba.cli.options import FILE, RUN, examples, shared

if TYPE_CHECKING:
    from fgnumba.model.graph import Graph


@click.command(
    epilog=examples(
        "fgtrain export runs/digits-mlp-1 --format onnx --output digits.onnx",
        "fgtrain export runs/digits-mlp-1 --format torch --output digits",
    )
)
@click.argument("run", type=RUN, metavar="RUN")
@click.option(
    "--format",
    "kind",
    type=click.Choice(["onnx", "torch"]),
    required=True,
    help="onnx: one file, which ONNX Runtime and many other programs run. torch: a file of Python that defines a "
    "PyTorch module, and a safetensors file of its parameters beside it.",
)
@click.option(
    "--output",
    type=FILE,
    required=True,
    metavar="FILE",
    help="The file to write. For torch, its suffix is replaced by .py and .safetensors.",
)
@shared("trust_code")
def export(run: Path, kind: str, output: Path) -> None:
    """Write the model in RUN to a file for other programs.

    RUN is the folder of a run that has ended, or a file that model.save wrote. The exported network takes and returns
    images with their channels first: (batch, channels, height, width). It computes the numbers that the model
    computes, before any softmax.

    The export is compared with the model on random inputs first, and written only if they agree to 1e-5 of the largest
    output: by PyTorch for torch, and for onnx by ONNX Runtime, if it is installed.
    """
    from fgnumba.cli.output import check_output
    from fgnumba.errors import printable
    from fgnumba.runs.loading import load

    check_output(output)
    model = load(run, "cpu")
    show(printable(_onnx(model, output) if kind == "onnx" else _torch(model, output)))


def _onnx(model: "Graph", output: Path) -> str:
    """Write an ONNX file, and return the line that says so."""
    from fgnumba.interchange.onnx_out import write

    apart = write(model, output)
    verdict = (
        "not compared, because ONNX Runtime is not installed (pip install onnxruntime)"
        if apart is None
        else f"ONNX Runtime's outputs differ by {apart:.1g} of the largest"
    )
    return f"{output}: input {_sizes(model)}; {verdict}"


def _torch(model: "Graph", output: Path) -> str:
    """Write a file of Python and one of parameters, and return the line that says so."""
    from safetensors.numpy import save

    from fgnumba.cli.output import check_output, write_output
    from fgnumba.interchange.torch_out import files

    code, parameters = (output.with_suffix(suffix) for suffix in (".py", ".safetensors"))
    for path in (code, parameters):
        check_output(path)
    text, arrays, apart = files(model)
    write_output(parameters, save(arrays))
    write_output(code, text.encode())
    return (
        f"{code}, {parameters}: input {_sizes(model)}; PyTorch's outputs differ by {apart:.1g} of the largest"
    )


def _sizes(model: "Graph") -> str:
    from fgnumba.interchange.axes import outside

    return f"({', '.join(('batch', *map(str, outside(model.input_shape))))})"
