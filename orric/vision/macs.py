"""Count multiply-accumulate operations of one forward pass analytically."""

from __future__ import annotations

import math
from typing import Any, Literal

import onnx
import onnx.shape_inference
import torch
from torch import Tensor, nn

from orric.vision.blocks import MatrixProduct

Rule = Literal["products", "published"]


def count_macs(network: nn.Module, resolution_px: int, channels: int = 3, rule: Rule = "products") -> int:
    """Count the MACs of one image.

    The rule "products" counts the convolutions, linear layers and matrix products. Batch norm, activations, pooling
    and additions are left out, as most published counts do, and so are biases. The count equals half the
    floating-point operations that torch's FlopCounterMode reports.

    The rule "published" is the one behind the figures of ORRIC's Table III, that of the counter thop, version 0.1: to
    the products come four operations for each value that a batch norm takes in, one for each value that an average
    over all positions takes in and one for each that it gives, and one for each value that a windowed average gives.

    Args:
        network: A torch module that takes an image batch.
        resolution_px: Side of the square input, in pixels.
        channels: Input channels.
        rule: What is counted.

    Returns:
        MACs per image.
    """
    total = 0

    def count(module: nn.Module, inputs: Any, output: Tensor) -> None:
        nonlocal total
        total += _macs_of(module, inputs, output, rule)

    handles = [module.register_forward_hook(count) for module in network.modules()]
    training = [module for module in network.modules() if module.training]
    try:
        network.eval()
        with torch.no_grad():
            network(torch.zeros(1, channels, resolution_px, resolution_px))
    finally:
        for module in training:
            module.training = True
        for handle in handles:
            handle.remove()
    return total


def count_onnx_macs(model: onnx.ModelProto, resolution_px: int) -> int:
    """Count the MACs of one image through an ONNX model by the shapes of its convolutions and products.

    Args:
        model: With one input of shape (n, 3, height, width).
        resolution_px: Side of the square input, in pixels.

    Returns:
        MACs per image, as `count_macs` counts them.
    """
    graph = onnx.ModelProto()
    graph.CopyFrom(model)
    sizes = graph.graph.input[0].type.tensor_type.shape.dim
    for dimension, size in zip(sizes, (1, 3, resolution_px, resolution_px), strict=True):
        dimension.dim_value = size
    del graph.graph.value_info[:]
    for output in graph.graph.output:
        output.type.tensor_type.ClearField("shape")
    inferred = onnx.shape_inference.infer_shapes(graph, data_prop=True).graph
    shapes = {one.name: tuple(one.dims) for one in inferred.initializer}
    for value in (*inferred.input, *inferred.value_info, *inferred.output):
        shapes[value.name] = tuple(dimension.dim_value for dimension in value.type.tensor_type.shape.dim)
    total = 0
    for node in inferred.node:
        if node.op_type == "Conv":
            total += math.prod(shapes[node.output[0]]) * math.prod(shapes[node.input[1]][1:])
        elif node.op_type in ("Gemm", "MatMul"):
            rows = shapes[node.input[0]]
            swapped = any(one.name == "transA" and one.i for one in node.attribute)
            total += math.prod(shapes[node.output[0]]) * rows[0 if swapped else -1]
    return total


def _macs_of(module: nn.Module, inputs: tuple[Any, ...], output: Tensor, rule: Rule) -> int:
    """Return what one module adds, apart from the modules in it."""
    if isinstance(module, nn.Conv2d):
        height, width = module.kernel_size
        return output.numel() * (module.in_channels // module.groups) * height * width
    if isinstance(module, nn.Linear):
        return output.numel() * module.in_features
    if isinstance(module, MatrixProduct):
        return output.numel() * int(inputs[0].shape[-1])
    if rule == "published":
        if isinstance(module, nn.BatchNorm2d):
            return 4 * output.numel()
        if isinstance(module, nn.AdaptiveAvgPool2d):
            return int(inputs[0].numel()) + output.numel()
        if isinstance(module, nn.AvgPool2d):
            return output.numel()
    return 0
