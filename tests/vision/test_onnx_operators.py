"""Every operator by itself: torch gives what ONNX Runtime gives, on random inputs."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs orric[models]")
pytest.importorskip("onnx", reason="needs orric[models]")
pytest.importorskip("onnxruntime", reason="needs orric[models]")

import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from orric.exceptions import ProfileError
from orric.vision.onnx_network import OnnxNetwork
from orric.vision.onnx_operators import OPERATORS
from orric.vision.onnx_sessions import open_session

FLOAT, INT = TensorProto.FLOAT, TensorProto.INT64
IMAGES = (2, 4, 9, 8)


def random(*shape):
    return np.random.default_rng(len(shape) + sum(shape)).standard_normal(shape).astype(np.float32)


def integers(*values):
    return np.array(values, np.int64)


def one_node(operator, constants=(), shape=IMAGES, opset=17, outputs=1, **settings):
    """Return a model of one operator: the image is its first input, constants are its others; None is left out."""
    names = [f"c{index}" if value is not None else "" for index, value in enumerate(constants)]
    node = helper.make_node(operator, ["x", *names], [f"y{index}" for index in range(outputs)], "one", **settings)
    return graph_of([node], dict(zip(names, constants, strict=True)), shape, opset, "y0")


def graph_of(nodes, initializers, shape=IMAGES, opset=17, output="y"):
    stored = [numpy_helper.from_array(np.asarray(value), name) for name, value in initializers.items() if name]
    inputs = [helper.make_tensor_value_info("x", FLOAT, [None] * len(shape))]
    graph = helper.make_graph(nodes, "g", inputs, [helper.make_empty_tensor_value_info(output)], stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    return onnx.shape_inference.infer_shapes(model)


def check(model, inputs, tolerance=2e-5):
    """Compare both, and let gradients flow to every weight."""
    expected = open_session(model.SerializeToString()).run(None, {"x": inputs})[0]
    network = OnnxNetwork(model).eval()
    found = network(torch.from_numpy(inputs))
    assert tuple(found.shape) == expected.shape
    assert found.detach().numpy() == pytest.approx(expected, rel=1e-4, abs=tolerance)
    weights = list(network.parameters())
    if weights:
        (found * torch.from_numpy(random(*found.shape) + 0.1)).sum().backward()
        for weight in weights:
            assert weight.grad is not None
            assert weight.grad.isfinite().all()
            assert weight.grad.abs().sum() > 0
    return network


WEIGHTED = {
    "Conv plain": ("Conv", [random(6, 4, 3, 3), random(6)], {}),
    "Conv without bias": ("Conv", [random(6, 4, 3, 2)], {}),
    "Conv in groups": ("Conv", [random(8, 2, 3, 3)], {"group": 2, "pads": [1, 1, 1, 1]}),
    "Conv depthwise": ("Conv", [random(4, 1, 3, 3), random(4)], {"group": 4, "strides": [2, 2], "pads": [1, 1, 1, 1]}),
    "Conv dilated": ("Conv", [random(5, 4, 3, 3)], {"dilations": [2, 1], "pads": [2, 1, 2, 1]}),
    "Conv uneven pads": ("Conv", [random(5, 4, 3, 3)], {"pads": [0, 1, 1, 2], "strides": [2, 2]}),
    "Conv same upper": ("Conv", [random(5, 4, 3, 3)], {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    "Conv same lower": ("Conv", [random(5, 4, 2, 2)], {"auto_pad": "SAME_LOWER"}),
    "Conv valid": ("Conv", [random(5, 4, 3, 3)], {"auto_pad": "VALID"}),
    "BatchNormalization": (
        "BatchNormalization",
        [random(4), random(4) + 1, random(4) / 2, abs(random(4)) + 0.5],
        {"epsilon": 1e-3},
    ),
    "PRelu by channel": ("PRelu", [random(4, 1, 1)], {}),
    "MatMul": ("MatMul", [random(8, 5)], {}),
    "LayerNormalization": ("LayerNormalization", [random(8), random(8) + 1], {"epsilon": 1e-4}),
}


@pytest.mark.parametrize("case", WEIGHTED)
def test_an_operator_with_weights_gives_the_same_and_learns(case):
    operator, constants, settings = WEIGHTED[case]
    network = check(one_node(operator, constants, **settings), random(*IMAGES))
    statistics = 2 if operator == "BatchNormalization" else 0
    assert len(list(network.parameters())) == len(constants) - statistics


@pytest.mark.parametrize("transposed", [0, 1])
@pytest.mark.parametrize("bias", [True, False])
def test_gemm(transposed, bias):
    weight = random(3, 6) if transposed else random(6, 3)
    constants = [weight, random(3)] if bias else [weight]
    check(one_node("Gemm", constants, (5, 6), transB=transposed, alpha=0.5, beta=2.0), random(5, 6))
    check(one_node("Gemm", constants, (6, 5), transB=transposed, transA=1), random(6, 5))


PLAIN = {
    **{
        name: (name, [], {})
        for name in (
            *("Abs", "Dropout", "Elu", "Erf", "Exp", "Flatten", "GlobalAveragePool", "GlobalMaxPool", "HardSigmoid"),
            *("HardSwish", "Identity", "LeakyRelu", "LogSoftmax", "Mish", "Neg", "ReduceMean", "Relu", "Sigmoid"),
            *("Softmax", "Softplus", "Squeeze", "Tanh", "Transpose"),
        )
    },
    "Add": ("Add", [random(4, 1, 1)], {}),
    "Sub": ("Sub", [random(4, 1, 1)], {}),
    "Mul": ("Mul", [random(8)], {}),
    "Div": ("Div", [random(4, 1, 1) + 3], {}),
    "Max": ("Max", [random(8), random(1)], {}),
    "Min": ("Min", [random(8), random(1)], {}),
    "Pow": ("Pow", [np.float32(2)], {}),
    "Pow of an integer": ("Pow", [np.int64(3)], {}),
    "Clip": ("Clip", [np.float32(-0.2), np.float32(0.5)], {}),
    "Clip above": ("Clip", [None, np.float32(0.5)], {}),
    "Clip below": ("Clip", [np.float32(0)], {}),
    "LeakyRelu steep": ("LeakyRelu", [], {"alpha": 0.3}),
    "HardSigmoid of torch": ("HardSigmoid", [], {"alpha": 1 / 6}),
    "Concat": ("Concat", [random(2, 3, 9, 8)], {"axis": 1}),
    "Softmax over channels": ("Softmax", [], {"axis": 1}),
    "Flatten at 2": ("Flatten", [], {"axis": 2}),
    "Flatten at -1": ("Flatten", [], {"axis": -1}),
    "Flatten at 0": ("Flatten", [], {"axis": 0}),
    "Reshape": ("Reshape", [integers(0, 2, -1, 8)], {}),
    "Transpose to last": ("Transpose", [], {"perm": [0, 2, 3, 1]}),
    "ReduceMean of positions": ("ReduceMean", [], {"axes": [2, 3], "keepdims": 0}),
    "ReduceMean negative": ("ReduceMean", [], {"axes": [-1, -2]}),
    "ReduceSum": ("ReduceSum", [integers(1)], {"keepdims": 0}),
    "ReduceSum of nothing": ("ReduceSum", [], {"noop_with_empty_axes": 1}),
    "Unsqueeze": ("Unsqueeze", [integers(0, -1)], {}),
    "Gather": ("Gather", [integers(2, 0, -1)], {"axis": 1}),
    "Gather a table": ("Gather", [np.array([[0, 1], [3, 2]])], {"axis": 1}),
    "Slice": ("Slice", [integers(1, -5), integers(3, 100), integers(1, 2)], {}),
    "Slice in steps": ("Slice", [integers(0), integers(100), integers(3), integers(2)], {}),
    "Slice backwards": ("Slice", [integers(-1), integers(-(1 << 40)), integers(3), integers(-1)], {}),
    "Expand": ("Expand", [integers(3, 2, 1, 9, 8)], {}),
    "Pad": ("Pad", [integers(0, 0, 1, 2, 0, 0, 0, 1), np.float32(0.5)], {}),
    "Pad with zero": ("Pad", [integers(0, 1, 1, 2, 0, 0, 0, 1)], {}),
    "Pad reflected": ("Pad", [integers(0, 0, 1, 2, 0, 0, 0, 1)], {"mode": "reflect"}),
    "Pad at the edge": ("Pad", [integers(0, 0, 1, 2, 0, 0, 0, 1)], {"mode": "edge"}),
    "MaxPool": ("MaxPool", [], {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
    "MaxPool ceil": ("MaxPool", [], {"kernel_shape": [2, 3], "strides": [2, 2], "ceil_mode": 1}),
    "MaxPool uneven": ("MaxPool", [], {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [0, 0, 1, 1]}),
    "MaxPool same": ("MaxPool", [], {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"}),
    "MaxPool dilated": ("MaxPool", [], {"kernel_shape": [2, 2], "dilations": [2, 2]}),
    "AveragePool": ("AveragePool", [], {"kernel_shape": [3, 2], "strides": [2, 1]}),
    "AveragePool pads": ("AveragePool", [], {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
    "AveragePool pads count": (
        "AveragePool",
        [],
        {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "count_include_pad": 1},
    ),
    "AveragePool ceil": ("AveragePool", [], {"kernel_shape": [2, 3], "strides": [2, 2], "ceil_mode": 1}),
    "AveragePool uneven": ("AveragePool", [], {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [0, 0, 1, 1]}),
    "AveragePool same": ("AveragePool", [], {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_LOWER"}),
}


@pytest.mark.parametrize("case", PLAIN)
def test_an_operator_without_weights_gives_the_same(case):
    operator, constants, settings = PLAIN[case]
    opset = 18 if operator == "Mish" else 17
    shape = (2, 4, 1, 1) if operator == "Squeeze" else IMAGES
    network = check(one_node(operator, constants, shape, opset, **settings), random(*shape))
    assert not list(network.parameters())


@pytest.mark.parametrize("operator", ["Sqrt", "Log", "Reciprocal"])
def test_an_operator_on_positive_values(operator):
    check(one_node(operator), abs(random(*IMAGES)) + 0.1)


NEWER = {
    "Gelu": (20, "Gelu", [], {}),
    "Gelu tanh": (20, "Gelu", [], {"approximate": "tanh"}),
    "ReduceMean by input": (18, "ReduceMean", [integers(2, 3)], {"keepdims": 0}),
    "Squeeze by input": (13, "Squeeze", [integers(2, 3)], {}),
    "Softmax before 13": (11, "Softmax", [], {"axis": 1}),
    "LogSoftmax before 13": (11, "LogSoftmax", [], {}),
    "Squeeze before 13": (11, "Squeeze", [], {"axes": [-1, 2]}),
    "Unsqueeze before 13": (11, "Unsqueeze", [], {"axes": [0]}),
    "ReduceSum before 13": (11, "ReduceSum", [], {"axes": [1]}),
    "Pad before 18": (11, "Pad", [integers(0, 0, 1, 1, 0, 0, 1, 1)], {}),
    "Pad some axes": (18, "Pad", [integers(1, 2), None, integers(3)], {}),
}


@pytest.mark.parametrize("case", NEWER)
def test_an_operator_whose_meaning_follows_its_version(case):
    opset, operator, constants, settings = NEWER[case]
    shape = (2, 4, 1, 1) if operator == "Squeeze" else IMAGES
    check(one_node(operator, constants, shape, opset, **settings), random(*shape))


def test_split():
    check(one_node("Split", [], outputs=2, axis=1), random(*IMAGES))
    check(one_node("Split", [integers(1, 3)], outputs=2, axis=1), random(*IMAGES))


def test_shapes_are_computed_from_the_image():
    """What exporters write for view(n, -1): the shape's first entry, put before -1."""
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Gather", ["shape", "zero"], ["n"], axis=0),
        helper.make_node("Unsqueeze", ["n", "axis"], ["n1"]),
        helper.make_node("Concat", ["n1", "rest"], ["to"], axis=0),
        helper.make_node("Cast", ["to"], ["to32"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["to32"], ["to64"], to=INT),
        helper.make_node("Reshape", ["x", "to64"], ["y"]),
    ]
    check(graph_of(nodes, {"zero": np.int64(0), "axis": integers(0), "rest": integers(-1)}), random(*IMAGES))
    halves = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Div", ["shape", "two"], ["half"]),
        helper.make_node("Cast", ["half"], ["y"], to=TensorProto.FLOAT),
    ]
    check(graph_of(halves, {"two": integers(2)}), random(*IMAGES))


def test_every_operator_is_tested():
    tested = {case[0] for case in (*WEIGHTED.values(), *PLAIN.values())} | {case[1] for case in NEWER.values()}
    elsewhere = {"Gemm", "Split", "Shape", "Cast", "Sqrt", "Log", "Reciprocal"}
    assert tested | elsewhere == set(OPERATORS)


def test_an_operator_that_is_not_supported_is_named_with_its_node():
    model = one_node("Sinh")
    with pytest.raises(ProfileError, match=r"mine.onnx: operator 'Sinh' of node 'one' .*supported: Abs, Add") as caught:
        OnnxNetwork(model, "mine.onnx")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("model", "found"),
    [
        (one_node("Relu", opset=10), "operators of version 10"),
        (one_node("MaxPool", outputs=2, kernel_shape=[2, 2]), "indices are used"),
        (one_node("AveragePool", opset=19, kernel_shape=[2, 2], dilations=[2, 2]), "dilated"),
        (one_node("Pad", [integers(0, 0, 1, 1, 0, 0, 1, 1)], opset=19, mode="wrap"), "mode"),
        (
            one_node("BatchNormalization", [random(4)] * 4, opset=14, training_mode=1, outputs=3),
            "training mode",
        ),
        (
            graph_of(
                [helper.make_node("Relu", ["w"], ["v"]), helper.make_node("Conv", ["x", "v"], ["y"], "far")],
                {"w": random(3, 4, 1, 1)},
            ),
            "'far': its input 'v' is not an initializer",
        ),
    ],
)
def test_what_cannot_be_computed_is_refused_in_one_line(model, found):
    with pytest.raises(ProfileError, match=found) as caught:
        OnnxNetwork(model, "mine.onnx")
    assert str(caught.value).startswith("mine.onnx: ")
    assert "\n" not in str(caught.value)
