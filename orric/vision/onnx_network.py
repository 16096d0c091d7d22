"""An ONNX model as a torch network, so that a user's own student can be retrained, and written back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import onnx.inliner
import onnx.reference
import torch
from torch import Tensor, nn

from orric.exceptions import ProfileError
from orric.vision.onnx_operators import OPERATORS, BatchNorm, Node, title

OLDEST_OPSET = 11
# The inputs of an operator that are trained where they are initializers of floats.
TRAINED = {
    "Conv": (1, 2),
    "Gemm": (0, 1, 2),
    "MatMul": (0, 1),
    "BatchNormalization": (1, 2),
    "LayerNormalization": (1, 2),
    "PRelu": (1,),
}
STATISTICS = {3: "running_mean", 4: "running_var"}
# What exporters leave to be computed from initializers: weights laid out otherwise, shapes, biases of zeros.
FOLDED = (
    *("Cast", "CastLike", "Concat", "Constant", "ConstantOfShape", "Expand", "Gather", "Reshape", "Shape", "Slice"),
    *("Squeeze", "Transpose", "Unsqueeze"),
)
# Their modules hold their own weights; all others are given theirs as inputs.
HOLDERS = ("Conv", "BatchNormalization")


def simplify(model: onnx.ModelProto) -> None:
    """Bring what may become weights into one form, in place: an initializer each.

    Constants and what is computed from initializers alone become initializers, other names of an initializer are
    resolved, biases of zeros that exporters compute are left out, functions are written out, and no two batch norms
    share their statistics, which part ways once they are taken anew. What the model computes stays.
    """
    if model.functions:
        model.CopyFrom(onnx.inliner.inline_local_functions(model))
    graph = model.graph
    opsets = {one.domain: one.version for one in model.opset_import}
    known = {initializer.name: initializer for initializer in graph.initializer}
    outputs = {output.name for output in graph.output}
    also: dict[str, str] = {}
    computed: set[str] = set()
    kept = []
    for node in graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = also.get(name, name)
        name = node.output[0]
        if name not in outputs and node.op_type == "Identity" and node.input[0] in known:
            also[name] = node.input[0]
        elif name not in outputs and (found := _folded(node, known, opsets)) is not None:
            known[name] = graph.initializer.add()
            known[name].CopyFrom(onnx.numpy_helper.from_array(found, name))
            if node.op_type != "Constant":
                computed.add(name)
        else:
            kept.append(node)
            bias = node.input[2] if node.op_type == "Conv" and len(node.input) > 2 else ""
            if bias in computed and not onnx.numpy_helper.to_array(known[bias]).any():
                del node.input[2]
    if len(kept) != len(graph.node):
        nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in kept]
        del graph.node[:]
        graph.node.extend(nodes)
    _part_statistics(graph)


def _folded(
    node: onnx.NodeProto, known: dict[str, onnx.TensorProto], opsets: dict[str, int]
) -> np.ndarray[Any, Any] | None:
    """Return what a node gives if that follows from initializers alone, and None if it is not to be folded."""
    if node.domain not in ("", "ai.onnx") or node.op_type not in FOLDED:
        return None
    # Where all is 32-bit floats, a cast to the type of something else leaves floats as they are.
    inputs = list(node.input[:1] if node.op_type == "CastLike" else node.input)
    if any(name not in known for name in inputs if name):
        return None
    values = {name: onnx.numpy_helper.to_array(known[name]) for name in inputs if name}
    if node.op_type == "CastLike":
        only = values[inputs[0]]
        return only if only.dtype == np.float32 else None
    try:
        found: Any = onnx.reference.ReferenceEvaluator(node, opsets=opsets).run(None, values)
        return np.asarray(found[0])
    except Exception:  # what the evaluator cannot do, for whatever reason, stays in the graph
        return None


def _part_statistics(graph: onnx.GraphProto) -> None:
    uses = Counter(name for node in graph.node for name in node.input)
    initializers = {initializer.name: initializer for initializer in graph.initializer}
    for node in graph.node:
        if node.op_type != "BatchNormalization":
            continue
        for index in STATISTICS:
            name = node.input[index]
            if uses[name] > 1 and name in initializers:
                uses[name] -= 1
                node.input[index] = f"{name} of {title(node)} {index}"
                own = graph.initializer.add()
                own.CopyFrom(initializers[name])
                own.name = node.input[index]


class OnnxNetwork(nn.Module):
    """The graph of an ONNX model, computed by torch operator by operator.

    Initializers of floats that convolutions, products of matrices, batch norms and the like take become parameters, as
    do biases added behind them; all else stays constant. One initializer is one parameter, whatever number of nodes
    share it. Batch norms are `nn.BatchNorm2d`. Dropout does nothing.

    In evaluation mode the outputs are the model's own. In training mode a softmax at the end is left out, since
    training wants logits.

    Args:
        model: One input, one output; `simplify` is applied to it.
        where: The model's file, for messages.

    Attributes:
        has_batch_norm: Whether there are statistics to refresh; exporters fold batch norms unless told not to.

    Raises:
        ProfileError: An operator is not supported, or its weights are not initializers.
    """

    def __init__(self, model: onnx.ModelProto, where: str = "ONNX model") -> None:
        super().__init__()
        simplify(model)
        graph = model.graph
        opset = max((one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), default=0)
        if opset < OLDEST_OPSET:
            found = f"uses operators of version {opset}"
            raise ProfileError(where, found, f"export it with opset_version={OLDEST_OPSET} or later")
        for node in graph.node:
            if node.op_type not in OPERATORS or node.domain not in ("", "ai.onnx"):
                found = f"operator {node.op_type!r} of node {title(node)!r} cannot be retrained"
                raise ProfileError(where, found, "supported: " + ", ".join(OPERATORS))
        initializers = {one.name: one for one in graph.initializer}
        self._names = [name for name in dict.fromkeys(_trained(graph)) if name in initializers]
        tensors = {name: torch.from_numpy(_values(one, where)) for name, one in initializers.items()}
        self._weights = nn.ParameterList([nn.Parameter(tensors.pop(name)) for name in self._names])
        self._constants: dict[str, Tensor | None] = {**tensors, "": None}
        weights = dict(zip(self._names, self._weights, strict=True))
        self._steps = nn.ModuleList(
            OPERATORS[node.op_type](Node(where, node, opset, weights, tensors)) for node in graph.node
        )
        self._statistics = [
            (node.input[index], at, attribute)
            for at, node in enumerate(graph.node)
            if node.op_type == "BatchNormalization"
            for index, attribute in STATISTICS.items()
        ]
        self.has_batch_norm = any(isinstance(step, BatchNorm) for step in self._steps)
        self._input = next(one.name for one in graph.input if one.name not in initializers)
        self._output = graph.output[0].name
        self._logits = _before_softmax(graph, self._output)
        self._wires = _wires(graph, {self._output, self._logits})

    def forward(self, images: Tensor) -> Tensor:
        values: dict[str, Any] = {**self._constants, **dict(zip(self._names, self._weights, strict=True))}
        values[self._input] = images
        wanted = self._logits if self.training else self._output
        for step, (inputs, outputs, finished) in zip(self._steps, self._wires, strict=True):
            result = step(*[values[name] for name in inputs])
            values.update(zip(outputs, result if isinstance(result, tuple) else (result,), strict=False))
            for name in finished:
                values.pop(name, None)
            if wanted in values:
                break
        return values[wanted]  # type: ignore[no-any-return]  # outputs of modules are Any

    def initializers(self) -> dict[str, Tensor]:
        """Return the present weights and statistics by the names of the model's initializers."""
        state = {name: value.detach() for name, value in zip(self._names, self._weights, strict=True)}
        for name, at, attribute in self._statistics:
            state[name] = getattr(self._steps[at], attribute)
        return state


def _trained(graph: onnx.GraphProto) -> Iterator[str]:
    """Yield the inputs that are trained if they are initializers; a name may come more than once."""
    made_by = {name: node.op_type for node in graph.node for name in node.output}
    for node in graph.node:
        for index in TRAINED.get(node.op_type, ()):
            if index < len(node.input):
                yield node.input[index]
        # A bias may be an addition of its own behind a product.
        if node.op_type == "Add" and {made_by.get(name) for name in node.input} & {"Conv", "MatMul", "Gemm"}:
            yield from (name for name in node.input if name not in made_by)


def _values(initializer: onnx.TensorProto, where: str) -> np.ndarray[Any, Any]:
    values = np.array(onnx.numpy_helper.to_array(initializer))
    if values.dtype.kind not in "fiub":
        raise ProfileError(where, f"initializer {initializer.name!r} holds {values.dtype}", "use 32-bit floats")
    return values


def _before_softmax(graph: onnx.GraphProto, output: str) -> str:
    """Return the name of the logits: the output, or what goes into a softmax that gives it."""
    makers = {name: node for node in graph.node for name in node.output}
    name = output
    while name in makers and makers[name].op_type == "Identity":
        name = makers[name].input[0]
    return str(makers[name].input[0]) if name in makers and makers[name].op_type == "Softmax" else output


def _wires(graph: onnx.GraphProto, outputs: set[str]) -> list[tuple[list[str], list[str], list[str]]]:
    """Return for every node what goes in, what comes out, and what nobody needs afterwards."""
    last = {name: at for at, node in enumerate(graph.node) for name in node.input}
    made = {name for node in graph.node for name in node.output if name}
    wires = []
    for at, node in enumerate(graph.node):
        inputs = list(node.input[:1] if node.op_type in HOLDERS else node.input)
        finished = {name for name in node.input if last[name] == at and name in made and name not in outputs}
        wires.append((inputs, list(node.output), sorted(finished)))
    return wires
