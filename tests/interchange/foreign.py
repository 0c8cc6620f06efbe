"""ONNX networks as other programs write them: those that are read, and those that have no counterpart."""

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402


def network(nodes, constants, x=("batch", 4), opset=21, inputs=1, outputs=("y",)):
    """Return the content of a file."""
    made = helper.make_model(
        helper.make_graph(
            nodes,
            "g",
            [helper.make_tensor_value_info(f"x{i or ''}", TensorProto.FLOAT, x) for i in range(inputs)],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
            [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", opset)],
        ir_version=9,
    )
    return made.SerializeToString()


RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def node(op, inputs, output="y", **attributes):
    return helper.make_node(op, inputs.split(), [output], name=f"{op} of {output}", **attributes)


IMAGE = ("batch", 2, 5, 4)
FOREIGN = {
    "Gemm as it stands": ([node("Gemm", "x w b")], {"w": normal(4, 3), "b": normal(3)}, ("batch", 4)),
    "MatMul and Add": (
        [node("MatMul", "x w", "p"), node("Add", "b p")],
        {"w": normal(4, 3), "b": normal(1, 3)},
        ("batch", 4),
    ),
    "MatMul alone": ([node("MatMul", "x w", "p"), node("Relu", "p")], {"w": normal(4, 3)}, (1, 4)),
    "the output of MatMul": ([node("MatMul", "x w")], {"w": normal(4, 3)}, ("batch", 4)),
    "silu in both orders": (
        [
            node("Sigmoid", "x", "s"),
            node("Mul", "s x", "m"),
            node("Sigmoid", "m", "t"),
            node("Mul", "m t", "n"),
            node("Gemm", "n w"),
        ],
        {"w": normal(4, 3)},
        ("batch", 4),
    ),
    "rules for padding": (
        [
            node("Conv", "x w", "c", auto_pad="SAME_UPPER", strides=[2, 1]),
            node("MaxPool", "c", auto_pad="VALID", kernel_shape=[2, 3], strides=[1, 1]),
        ],
        {"w": normal(3, 2, 3, 2)},
        IMAGE,
    ),
    "a row by Reshape": (
        [
            node("Constant", "", "s", value=numpy_helper.from_array(np.array([-1, 40]))),
            node("Reshape", "x s", "r"),
            node("Gemm", "r w", transB=1),
        ],
        {"w": normal(3, 40)},
        IMAGE,
    ),
    "a row of a batch of fixed size": (
        [node("Reshape", "x s", "r"), node("Gemm", "r w", transB=1)],
        {"w": normal(3, 40), "s": np.array([1, -1])},
        (1, *IMAGE[1:]),
    ),
    "equal parameters under further names": (
        [
            node("Identity", "b", "c"),
            node("Gemm", "x w b", "g"),
            node("Identity", "c", "d"),
            node("Gemm", "g w d"),
        ],
        {"w": normal(4, 4), "b": normal(4)},
        ("batch", 4),
    ),
    "one pixel by Squeeze": (
        [node("GlobalAveragePool", "x", "g"), node("Squeeze", "g a", "r"), node("Gemm", "r w")],
        {"w": normal(2, 3), "a": np.array([-1, 2])},
        IMAGE,
    ),
    "channels last, as TensorFlow has them": (
        [
            node("Transpose", "x", "f", perm=[0, 3, 1, 2]),
            node("Conv", "f w", "c"),
            node("Transpose", "c", "l", perm=[0, 2, 3, 1]),
            node("Relu", "l", "r"),
            node("Flatten", "r", "k"),
            node("MatMul", "k v"),
        ],
        {"w": normal(3, 4, 2, 2), "v": normal(12, 2)},
        (*IMAGE[:1], 3, 3, 4),
    ),
    "in float64": ([node("Gemm", "x w")], {"w": normal(4, 3).astype(np.float64)}, ("batch", 4)),
    "a branch that nothing reads": (
        [node("Relu", "x", "a"), node("Gemm", "x w"), node("Tanh", "a", "b")],
        {"w": normal(4, 3)},
        ("batch", 4),
    ),
    "a sum and a concatenation": (
        [
            node("Flatten", "x", "f"),
            node("Relu", "f", "a"),
            node("Add", "f a", "s"),
            node("Concat", "s a f", "c", axis=-1),
            node("Gemm", "c w"),
        ],
        {"w": normal(120, 3)},
        IMAGE,
    ),
    "dropout without a mask": (
        [node("Dropout", "x", "d"), node("Gemm", "d w")],
        {"w": normal(4, 3)},
        ("batch", 4),
    ),
}


WEIGHT = {"w": normal(4, 3)}
REFUSED = {
    "an operator": (
        [node("LSTM", "x w", "y")],
        WEIGHT,
        r"node 'LSTM of y' \(LSTM\): the operator has no counterpart",
    ),
    "another domain": (
        [helper.make_node("Gemm", ["x", "w"], ["y"], domain="com.example")],
        WEIGHT,
        r"node 0 \(Gemm\): the operator of the domain 'com\.example' has no counterpart",
    ),
    "a name of nothing": ([node("Gemm", "z w")], WEIGHT, r"\(Gemm\) reads 'z': nothing before computes it"),
    "a constant as input": ([node("Relu", "w")], WEIGHT, "reads 'w': a constant has no counterpart"),
    "a weight that is no constant": ([node("Gemm", "x x")], {}, "input 1 is 'x'; a constant is required"),
    "a weight of whole numbers": ([node("Gemm", "x w")], {"w": np.ones((4, 3), np.int64)}, "'w' is int64"),
    "a weight of another size": ([node("Gemm", "x w")], {"w": normal(5, 3)}, r"weight has shape \(3, 5\)"),
    "a weight that is not finite": ([node("Gemm", "x w")], {"w": np.full((4, 3), np.nan, np.float32)}, "nan"),
    "a weight beyond float32": ([node("Gemm", "x w")], {"w": np.full((4, 3), 1e300)}, "inf"),
    "a factor": ([node("Gemm", "x w", alpha=0.5)], WEIGHT, "alpha, beta and transA"),
    "a transposed input": ([node("Gemm", "x w", transA=1)], WEIGHT, "alpha, beta and transA"),
    "an unknown attribute": ([node("Gemm", "x w", more=1)], WEIGHT, "attribute 'more'"),
    "an attribute of another type": (
        [node("Gemm", "x w", alpha=1)],
        WEIGHT,
        "attribute 'alpha' is of type 2",
    ),
    "a product": ([node("Mul", "x x")], {}, r"products other than x \* Sigmoid\(x\)"),
    "a slope": ([node("LeakyRelu", "x", alpha=0.5)], {}, r"alpha is 0\.5; 0\.01"),
    "a convolution of a row": ([node("Conv", "x w")], {"w": normal(1, 1, 1, 1)}, "an image is required"),
    "a shape that is no row": ([node("Reshape", "x s")], {"s": np.array([-1, 2])}, "shapes other than a row"),
    "the shape of another batch": (
        [node("Reshape", "x s")],
        {"s": np.array([1, 4])},
        "shapes other than a row",
    ),
    "a name twice": ([node("Relu", "x"), node("Tanh", "x")], {}, "one new name is required"),
    "the output is missing": ([node("Relu", "x", "z")], {}, "the output reads 'y': nothing"),
    "nothing computed": ([node("Identity", "x")], {}, "at least one that computes is required"),
}
