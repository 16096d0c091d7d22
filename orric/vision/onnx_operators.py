"""What the operators of an ONNX graph compute, in torch: those that image classifiers are exported to.

Every operator has a function that reads a node once and returns the module that computes it from the node's inputs.
Modules with weights of their own kind, convolutions and batch norms, hold them; everywhere else weights are inputs.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn
from torch.nn import functional

from orric.exceptions import ProfileError
from orric.vision.blocks import MatrixProduct
from orric.vision.onnx_windows import AveragePooling, Convolution, MaxPooling, Window


class BatchNorm(nn.BatchNorm2d):
    """Batch norm over the second axis of an input of any rank."""

    def _check_input_dim(self, input: Tensor) -> None:
        pass


class Operation(nn.Module):
    """A function without weights or settings that could change."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Any) -> Any:
        return self.function(*inputs)


class Product(nn.Module):
    """Gemm: a product of matrices, transposed if asked to, scaled, and something added."""

    def __init__(self, transpose: tuple[bool, bool], alpha: float, beta: float) -> None:
        super().__init__()
        self.product = MatrixProduct()
        self.transpose, self.alpha, self.beta = transpose, alpha, beta

    def forward(self, left: Tensor, right: Tensor, added: Tensor | None = None) -> Tensor:
        left, right = (one.t() if turned else one for one, turned in zip((left, right), self.transpose, strict=True))
        outputs: Tensor = self.product(left, right)
        if self.alpha != 1:
            outputs = self.alpha * outputs
        return outputs if added is None else outputs + (added if self.beta == 1 else self.beta * added)


@dataclass(frozen=True)
class Node:
    """A node of a graph with what is known before it runs.

    Attributes:
        where: The model's file, for messages.
        node: The node itself.
        opset: Version of the operators.
        weights: Initializers that are trained, by name.
        constants: All other initializers.
    """

    where: str
    node: onnx.NodeProto
    opset: int
    weights: dict[str, nn.Parameter]
    constants: dict[str, Tensor]

    def setting(self, name: str, default: Any = None) -> Any:
        """Return an attribute, or the default."""
        for attribute in self.node.attribute:
            if attribute.name == name:
                value = onnx.helper.get_attribute_value(attribute)
                return value.decode() if isinstance(value, bytes) else value
        return default

    def has(self, index: int) -> bool:
        """Say whether an optional input is given."""
        return index < len(self.node.input) and bool(self.node.input[index])

    def weight(self, index: int) -> nn.Parameter:
        """Return the weights that an input is; only an initializer can be trained."""
        name = self.node.input[index]
        if name not in self.weights:
            raise self.refused(f"its input {name!r} is not an initializer", "export the model with constants folded")
        return self.weights[name]

    def constant(self, index: int) -> Tensor:
        """Return the values of an input that must not depend on the image."""
        name = self.node.input[index]
        if name not in self.constants:
            raise self.refused(f"its input {name!r} is not an initializer", "export the model with constants folded")
        return self.constants[name]

    def refused(self, found: str, remedy: str) -> ProfileError:
        """Return the error about this node."""
        return ProfileError(self.where, f"{self.node.op_type} {title(self.node)!r}: {found}", remedy)


def title(node: onnx.NodeProto) -> str:
    """Return what a node is called, or what it gives where it has no name."""
    return str(node.name or node.output[0])


Builder = Callable[[Node], nn.Module]


def _window(node: Node, kernel: Sequence[int]) -> Window:
    if len(kernel) != 2:
        raise node.refused(f"its window has {len(kernel)} axes", "images have 2, height and width")
    return Window(
        kernel=(kernel[0], kernel[1]),
        stride=tuple(node.setting("strides", (1, 1))),
        dilation=tuple(node.setting("dilations", (1, 1))),
        pads=tuple(node.setting("pads", (0, 0, 0, 0))),
        auto=node.setting("auto_pad", "NOTSET"),
        ceil=bool(node.setting("ceil_mode", 0)),
    )


def _conv(node: Node) -> nn.Module:
    weight = node.weight(1)
    window = _window(node, weight.shape[2:])
    return Convolution(window, weight, node.weight(2) if node.has(2) else None, node.setting("group", 1))


def _average_pool(node: Node) -> nn.Module:
    window = _window(node, node.setting("kernel_shape"))
    if window.dilation != (1, 1):
        raise node.refused("its window is dilated", "replace it by one that is not")
    return AveragePooling(window, bool(node.setting("count_include_pad", 0)))


def _max_pool(node: Node) -> nn.Module:
    if len([name for name in node.node.output if name]) > 1:
        raise node.refused("its indices are used", "replace the operator that uses them")
    return MaxPooling(_window(node, node.setting("kernel_shape")))


def _batch_norm(node: Node) -> nn.Module:
    if node.setting("training_mode", 0):
        raise node.refused("is in training mode", "export the model in evaluation mode")
    weight = node.weight(1)
    # What ONNX calls momentum is the part of the old statistics that stays, torch's the part of the new that enters.
    norm = BatchNorm(len(weight), node.setting("epsilon", 1e-5), 1 - node.setting("momentum", 0.9))
    norm.weight, norm.bias = weight, node.weight(2)
    norm.running_mean, norm.running_var = node.constant(3).clone(), node.constant(4).clone()
    return norm


def _gemm(node: Node) -> nn.Module:
    transpose = bool(node.setting("transA", 0)), bool(node.setting("transB", 0))
    return Product(transpose, node.setting("alpha", 1.0), node.setting("beta", 1.0))


def _of(function: Callable[..., Any]) -> Builder:
    """Build an operator that has no settings."""
    return lambda node: Operation(function)


def _divided(left: Tensor, right: Tensor) -> Tensor:
    return left / right if left.is_floating_point() else torch.div(left, right, rounding_mode="trunc")


def _leaky_relu(node: Node) -> nn.Module:
    slope = node.setting("alpha", 0.01)
    return Operation(lambda inputs: functional.leaky_relu(inputs, slope))


def _elu(node: Node) -> nn.Module:
    alpha = node.setting("alpha", 1.0)
    return Operation(lambda inputs: functional.elu(inputs, alpha))


def _hard_sigmoid(node: Node) -> nn.Module:
    alpha, beta = node.setting("alpha", 0.2), node.setting("beta", 0.5)
    return Operation(lambda inputs: (alpha * inputs + beta).clamp(0, 1))


def _gelu(node: Node) -> nn.Module:
    approximate = node.setting("approximate", "none")
    return Operation(lambda inputs: functional.gelu(inputs, approximate=approximate))


def _clipped(inputs: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    if low is not None:
        inputs = torch.maximum(inputs, low)
    return inputs if high is None else torch.minimum(inputs, high)


def _softmax_like(function: Callable[..., Tensor]) -> Builder:
    def build(node: Node) -> nn.Module:
        if node.opset >= 13:
            axis = node.setting("axis", -1)
            return Operation(lambda inputs: function(inputs, dim=axis))
        from_axis = node.setting("axis", 1)  # before version 13 all axes from there on are one
        return Operation(lambda inputs: function(inputs.flatten(from_axis), dim=-1).reshape(inputs.shape))

    return build


def _global_pool(node: Node) -> nn.Module:
    return nn.AdaptiveAvgPool2d(1)


def _flatten(node: Node) -> nn.Module:
    axis = node.setting("axis", 1)

    def flat(inputs: Tensor) -> Tensor:
        at = axis % inputs.ndim if axis < 0 else axis
        return inputs.reshape(int(np.prod(inputs.shape[:at])), -1)

    return Operation(flat)


def _reshape(node: Node) -> nn.Module:
    keeps_zero = bool(node.setting("allowzero", 0))

    def reshaped(inputs: Tensor, shape: Tensor) -> Tensor:
        sizes = shape.tolist()
        if not keeps_zero:
            sizes = [inputs.shape[at] if size == 0 else size for at, size in enumerate(sizes)]
        return inputs.reshape(sizes)

    return Operation(reshaped)


def _transpose(node: Node) -> nn.Module:
    order = node.setting("perm")
    return Operation(lambda inputs: inputs.permute(order or tuple(range(inputs.ndim))[::-1]))


def _concat(node: Node) -> nn.Module:
    axis = node.setting("axis")
    return Operation(lambda *inputs: torch.cat(inputs, axis))


def _reduced(function: Callable[..., Tensor]) -> Builder:
    def build(node: Node) -> nn.Module:
        given, keep = node.setting("axes"), bool(node.setting("keepdims", 1))
        nothing = bool(node.setting("noop_with_empty_axes", 0))

        def reduced(inputs: Tensor, axes: Tensor | None = None) -> Tensor:
            over = list(given or ()) if axes is None else axes.tolist()
            if not over and nothing:
                return inputs
            return function(inputs, dim=over or list(range(inputs.ndim)), keepdim=keep)

        return Operation(reduced)

    return build


def _axes(node: Node) -> Callable[[Tensor | None], list[int] | None]:
    """Return a reader of axes, which older versions keep as an attribute and newer ones as an input."""
    given = node.setting("axes")
    return lambda axes: (None if given is None else list(given)) if axes is None else axes.tolist()


def _squeeze(node: Node) -> nn.Module:
    read = _axes(node)

    def squeezed(inputs: Tensor, axes: Tensor | None = None) -> Tensor:
        over = read(axes)
        return inputs.squeeze() if over is None else inputs.squeeze(tuple(over))

    return Operation(squeezed)


def _unsqueeze(node: Node) -> nn.Module:
    read = _axes(node)

    def unsqueezed(inputs: Tensor, axes: Tensor | None = None) -> Tensor:
        over = read(axes) or []
        for axis in sorted(axis % (inputs.ndim + len(over)) for axis in over):
            inputs = inputs.unsqueeze(axis)
        return inputs

    return Operation(unsqueezed)


def _shape(node: Node) -> nn.Module:
    start, end = node.setting("start", 0), node.setting("end")
    return Operation(lambda inputs: torch.tensor(inputs.shape[start:end], dtype=torch.int64))


def _gather(node: Node) -> nn.Module:
    axis = node.setting("axis", 0)

    def gathered(inputs: Tensor, indices: Tensor) -> Tensor:
        at = axis % inputs.ndim
        wrapped = torch.where(indices < 0, indices + inputs.shape[at], indices)
        taken = inputs.index_select(at, wrapped.reshape(-1))
        return taken.reshape(inputs.shape[:at] + indices.shape + inputs.shape[at + 1 :])

    return Operation(gathered)


def _cast(node: Node) -> nn.Module:
    try:
        kind = torch.from_numpy(np.zeros(1, onnx.helper.tensor_dtype_to_np_dtype(node.setting("to")))).dtype
    except (TypeError, KeyError):
        raise node.refused("casts to a type that torch does not have", "use 32-bit floats") from None
    return Operation(lambda inputs: inputs.to(kind))


def _sliced(inputs: Tensor, starts: Tensor, ends: Tensor, axes: Tensor | None = None, steps: Any = None) -> Tensor:
    over = range(len(starts)) if axes is None else axes.tolist()
    pace = [1] * len(starts) if steps is None else steps.tolist()
    for axis, start, end, step in zip(over, starts.tolist(), ends.tolist(), pace, strict=True):
        # Python's slices and ONNX's agree, backwards too, except that ONNX can only name the very start by a number
        # beyond it.
        size = inputs.shape[axis]
        stop = None if step < 0 and end < -size else end
        chosen = torch.tensor(range(size)[start:stop:step], dtype=torch.int64)
        inputs = inputs.index_select(axis, chosen)
    return inputs


def _pad(node: Node) -> nn.Module:
    mode = {"constant": "constant", "reflect": "reflect", "edge": "replicate"}.get(node.setting("mode", "constant"))
    if mode is None:
        raise node.refused("its mode is none that torch has", "known: constant, reflect, edge")

    def padded(inputs: Tensor, pads: Tensor, value: Tensor | None = None, axes: Tensor | None = None) -> Tensor:
        over = list(range(inputs.ndim)) if axes is None else [axis % inputs.ndim for axis in axes.tolist()]
        sizes = pads.tolist()
        before, after = dict(zip(over, sizes, strict=False)), dict(zip(over, sizes[len(over) :], strict=True))
        flat = [side.get(axis, 0) for axis in reversed(range(inputs.ndim)) for side in (before, after)]
        while mode != "constant" and len(flat) > 4 and not any(flat[-2:]):
            flat = flat[:-2]  # these modes pad no more than height and width
        fill = float(value) if mode == "constant" and value is not None else None
        return functional.pad(inputs, flat, mode, fill)

    return Operation(padded)


def _split(node: Node) -> nn.Module:
    axis, given, parts = node.setting("axis", 0), node.setting("split"), len(node.node.output)

    def parted(inputs: Tensor, split: Tensor | None = None) -> tuple[Tensor, ...]:
        size = -(-inputs.shape[axis] // parts)
        sizes = list(given) if given else size if split is None else split.tolist()
        return torch.split(inputs, sizes, axis)

    return Operation(parted)


def _layer_norm(node: Node) -> nn.Module:
    axis, epsilon = node.setting("axis", -1), node.setting("epsilon", 1e-5)

    def normed(inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return functional.layer_norm(inputs, inputs.shape[axis:], weight, bias, epsilon)

    return Operation(normed)


def _parametric_relu(inputs: Tensor, slope: Tensor) -> Tensor:
    return torch.where(inputs < 0, inputs * slope, inputs)


OPERATORS: dict[str, Builder] = {
    "Abs": _of(torch.abs),
    "Add": _of(torch.add),
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Cast": _cast,
    "Clip": _of(_clipped),
    "Concat": _concat,
    "Conv": _conv,
    "Div": _of(_divided),
    "Dropout": _of(lambda inputs, *settings: inputs),  # as it is served; random retraining would not repeat itself
    "Elu": _elu,
    "Erf": _of(torch.erf),
    "Exp": _of(torch.exp),
    "Expand": _of(lambda inputs, shape: inputs * torch.ones(shape.tolist(), dtype=inputs.dtype)),
    "Flatten": _flatten,
    "Gather": _gather,
    "Gelu": _gelu,
    "Gemm": _gemm,
    "GlobalAveragePool": _global_pool,
    "GlobalMaxPool": _of(lambda inputs: inputs.amax(dim=(2, 3), keepdim=True)),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _of(functional.hardswish),
    "Identity": _of(lambda inputs: inputs),
    "LayerNormalization": _layer_norm,
    "LeakyRelu": _leaky_relu,
    "Log": _of(torch.log),
    "LogSoftmax": _softmax_like(functional.log_softmax),
    "MatMul": lambda node: MatrixProduct(),
    "Max": _of(lambda *inputs: functools.reduce(torch.maximum, inputs)),
    "MaxPool": _max_pool,
    "Min": _of(lambda *inputs: functools.reduce(torch.minimum, inputs)),
    "Mish": _of(functional.mish),
    "Mul": _of(torch.mul),
    "Neg": _of(torch.neg),
    "PRelu": _of(_parametric_relu),
    "Pad": _pad,
    "Pow": _of(lambda base, exponent: torch.pow(base, exponent.to(base.dtype))),
    "Reciprocal": _of(torch.reciprocal),
    "ReduceMean": _reduced(torch.mean),
    "ReduceSum": _reduced(torch.sum),
    "Relu": _of(torch.relu),
    "Reshape": _reshape,
    "Shape": _shape,
    "Sigmoid": _of(torch.sigmoid),
    "Slice": _of(_sliced),
    "Softmax": _softmax_like(functional.softmax),
    "Softplus": _of(functional.softplus),
    "Split": _split,
    "Sqrt": _of(torch.sqrt),
    "Squeeze": _squeeze,
    "Sub": _of(torch.sub),
    "Tanh": _of(torch.tanh),
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
