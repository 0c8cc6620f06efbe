"""Packages that are optional: nothing imports them before a function needs them."""

from tests.apart import python

PROGRAM = """
import sys
import fgnumba as fg
fg.from_torch, fg.to_torch, fg.from_onnx, fg.to_onnx, fg.load
model = fg.Sequential([fg.Dense(3)], 5)
model.save("model")
fg.load("model")
print({"torch", "onnx", "onnxruntime", "google.protobuf"} & sys.modules.keys())
"""


def test_nothing_optional_is_imported_without_need(tmp_path):
    done = python("-c", PROGRAM, folder=tmp_path)
    assert (done.stdout.strip(), done.stderr) == ("set()", "")
