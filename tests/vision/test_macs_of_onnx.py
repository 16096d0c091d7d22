"""MACs counted off an ONNX graph, for models that torch cannot compute."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

pytest.importorskip("torch")

from orric.retraining.models import exported, load_network, macs_of, sha256
from orric.vision.macs import count_macs, count_onnx_macs

MODELS = Path(__file__).resolve().parents[2] / "traces/models"


@pytest.mark.parametrize("role", ["student", "teacher"])
@pytest.mark.parametrize("px", [20, 32])
def test_the_graph_counts_as_the_network_does(role: str, px: int) -> None:
    path = MODELS / f"digits-{role}.safetensors"
    model = onnx.load_from_string(exported(path, role, 10))
    before = model.SerializeToString()
    assert count_onnx_macs(model, px) == count_macs(load_network(path, role, 10), px) == macs_of(path, role, 10, px)
    assert model.SerializeToString() == before


def test_a_teacher_need_not_be_retrainable(tmp_path: Path) -> None:
    """An operator that torch's interpreter lacks is refused in a student and served in a teacher."""
    model = onnx.load_from_string(exported(MODELS / "digits-teacher.safetensors", "teacher", 10))
    image = model.graph.input[0].name
    for node in model.graph.node:
        for place, name in enumerate(node.input):
            if name == image:
                node.input[place] = "normed"
    for name, value in (("scale", 1.0), ("bias", 0.0)):
        tensor = onnx.helper.make_tensor(name, onnx.TensorProto.FLOAT, [3], [value] * 3)
        model.graph.initializer.append(tensor)
    node = onnx.helper.make_node("InstanceNormalization", [image, "scale", "bias"], ["normed"])
    model.graph.node.insert(0, node)
    path = tmp_path / "teacher.onnx"
    path.write_bytes(model.SerializeToString())
    assert macs_of(path, "teacher", 10, 32) == count_macs(
        load_network(MODELS / "digits-teacher.safetensors", "teacher", 10), 32
    )
    assert exported(path, "teacher", 10)


def test_the_hash_of_a_model_covers_what_lies_beside_it(tmp_path: Path) -> None:
    model = onnx.load_from_string(exported(MODELS / "digits-student.safetensors", "student", 10))
    path = tmp_path / "student.onnx"
    onnx.save_model(model, path, save_as_external_data=True, location="student.onnx.data", size_threshold=0)
    before = sha256(path)
    beside = tmp_path / "student.onnx.data"
    content = bytearray(beside.read_bytes())
    content[100] ^= 1
    beside.write_bytes(bytes(content))
    assert sha256(path) != before
