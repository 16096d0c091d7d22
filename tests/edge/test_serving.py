"""Batches and swaps: every answer is wholly one version's, and uploads are counted and sampled fairly."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from orric.edge.config import Samples, Server
from orric.edge.serving import FEW, Batcher, Model, OverloadedError, available
from orric.edge.uploads import Uploads
from orric.exceptions import EdgeError
from orric.vision.datasets import to_input

CPU = "CPUExecutionProvider"


@pytest.fixture(scope="module")
def models(onnx_student: Path) -> tuple[Model, Model]:
    """Return two versions of a student that answer otherwise."""
    first = onnx.load(onnx_student.with_name("student.onnx"))
    second = onnx.ModelProto()
    second.CopyFrom(first)
    for one in second.graph.initializer:
        values = onnx.numpy_helper.to_array(one)
        if values.dtype == np.float32:
            one.CopyFrom(onnx.numpy_helper.from_array(values * np.float32(0.9), one.name))
    return tuple(
        Model.open(one.SerializeToString(), number, CPU, 1, (32, 28)) for number, one in enumerate((first, second), 1)
    )


@pytest.mark.parametrize("count", [1, 7, 8, FEW, FEW + 1, 100])
def test_answers_are_onnx_runtimes_own(models, images: np.ndarray, count: int) -> None:
    async def ask() -> np.ndarray:
        batcher = Batcher(models[0], 28, Server())
        try:
            outputs, model = await batcher.submit(images[:count])
            assert model is models[0]
            return outputs
        finally:
            batcher.stop()

    expected = models[0].session.run(None, {"images": to_input(images[:count], 28)})[0]
    assert asyncio.run(ask()) == pytest.approx(expected, abs=1e-5)


def test_a_thousand_swaps_under_load_mix_no_answers(models, images: np.ndarray) -> None:
    sizes = [1, 3, 9, 40]
    expected = {
        (model.version, size): model.session.run(None, {"images": to_input(images[:size], 32)})[0]
        for model in models for size in sizes
    }  # fmt: skip

    async def ask() -> tuple[int, set[int]]:
        batcher = Batcher(models[0], 32, Server(longest_wait_s=0.0))
        swaps, answers, seen, done = 0, 0, set(), False

        async def client(number: int) -> None:
            nonlocal answers
            size = sizes[number % len(sizes)]
            while not done:
                outputs, model = await batcher.submit(images[:size])
                assert np.abs(outputs - expected[model.version, size]).max() < 1e-5
                seen.add(model.version)
                answers += 1

        clients = [asyncio.create_task(client(number)) for number in range(8)]
        for swaps in range(1, 1001):
            batcher.model = models[swaps % 2]
            while answers < swaps * 2:
                await asyncio.sleep(0)
        done = True
        await asyncio.gather(*clients)
        batcher.stop()
        return swaps, seen

    assert asyncio.run(ask()) == (1000, {1, 2})


def test_a_full_queue_and_a_spent_slot_turn_requests_away(models, images: np.ndarray) -> None:
    async def ask() -> None:
        batcher = Batcher(models[0], 32, Server(queue_images=50))
        waiting = [batcher.submit(images[:40])]
        with suppress(OverloadedError):
            while len(waiting) < 50:
                waiting.append(batcher.submit(images[:40]))
        assert len(waiting) < 50, "more than fifty images do not wait"
        await asyncio.gather(*waiting)
        batcher.limit = 5
        await batcher.submit(images[:3])
        with pytest.raises(OverloadedError):
            batcher.submit(images[:3])
        await batcher.submit(images[:2])
        batcher.stop()
        with pytest.raises(OverloadedError):
            batcher.submit(images[:1])

    asyncio.run(ask())


def test_a_model_that_fails_fails_its_requests_alone(models, images: np.ndarray) -> None:
    class Broken:
        def run(self, *given: object) -> None:
            raise RuntimeError("no")

    async def ask() -> None:
        batcher = Batcher(replace(models[0], session=Broken()), 32, Server())
        with pytest.raises(RuntimeError, match="no"):
            await batcher.submit(images[:2])
        batcher.model = models[1]
        assert (await batcher.submit(images[:2]))[1] is models[1]
        batcher.stop()

    asyncio.run(ask())


def test_requests_of_few_images_do_not_wait_for_all_of_many(models, images: np.ndarray) -> None:
    begun, go_on, served = threading.Event(), threading.Event(), []

    class Recording:
        def __init__(self, model: Model) -> None:
            self.model = model

        def run(self, names: object, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
            served.append((self.model.version, len(inputs[self.model.name])))
            begun.set()
            assert go_on.wait(30)
            return self.model.session.run(names, inputs)

    async def ask() -> tuple[np.ndarray, np.ndarray]:
        recording = [replace(model, session=Recording(model)) for model in models]
        batcher = Batcher(recording[0], 32, Server())
        many = batcher.submit(images[: 3 * FEW])
        assert begun.wait(30)
        few, behind = [batcher.submit(images[:2]) for _ in range(3)], batcher.submit(images[:FEW])
        assert batcher.waiting == 2 * FEW + 3 * 2 + FEW
        batcher.model = recording[1]
        go_on.set()
        found = await asyncio.gather(many, *few, behind)
        assert batcher.waiting == 0
        assert [model.version for _, model in found] == [1, 2, 2, 2, 2], "the model that it began with"
        batcher.stop()
        return found[0][0], found[-1][0]

    many, behind = asyncio.run(ask())
    assert served == [(1, FEW), (2, 6), (1, FEW), (1, FEW), (2, FEW)]
    for outputs, count, model in ((many, 3 * FEW, models[0]), (behind, FEW, models[1])):
        expected = model.session.run(None, {model.name: to_input(images[:count], 32)})[0]
        assert outputs == pytest.approx(expected, abs=1e-5)


def test_a_part_that_fails_ends_its_request_alone(models, images: np.ndarray) -> None:
    class Failing:
        def run(self, names: object, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
            raise RuntimeError("no")

    async def ask() -> None:
        batcher = Batcher(replace(models[0], session=Failing()), 32, Server())
        with pytest.raises(RuntimeError, match="no"):
            await batcher.submit(images[: 3 * FEW])
        assert batcher.waiting == 0
        batcher.model = models[1]
        assert len((await batcher.submit(images[: 2 * FEW]))[0]) == 2 * FEW
        batcher.stop()

    asyncio.run(ask())


def test_models_that_are_none_are_refused() -> None:
    with pytest.raises(EdgeError, match="version 7: does not run"):
        Model.open(b"nothing", 7, CPU, 1, (32,))


def test_students_of_eight_bit_numbers_serve(onnx_student: Path, tmp_path: Path, images: np.ndarray) -> None:
    quantization = pytest.importorskip("onnxruntime.quantization")
    source, target = onnx_student.with_name("student.onnx"), tmp_path / "int8.onnx"
    plain_graph = onnx.load(source)
    del plain_graph.graph.value_info[:]  # shapes of initializers that the folding of batch norms has changed
    onnx.save(plain_graph, tmp_path / "plain.onnx")
    quantization.quantize_dynamic(tmp_path / "plain.onnx", target, weight_type=quantization.QuantType.QUInt8)
    model = Model.open(target.read_bytes(), 1, CPU, 1, (32, 28))
    plain = Model.open(source.read_bytes(), 1, CPU, 1, (32, 28))
    inputs = to_input(images, 32)
    assert (model.logits(inputs).argmax(axis=1) == plain.logits(inputs).argmax(axis=1)).mean() > 0.8


def test_a_provider_that_is_absent_is_named() -> None:
    there = onnxruntime.get_available_providers()
    assert available(Server()) == (CPU, None)
    for name, long in (("cuda", "CUDAExecutionProvider"), ("tensorrt", "TensorrtExecutionProvider")):
        found, told = available(Server(provider=name))
        if long not in there:
            assert found == CPU
            assert told is not None
            assert f"provider {name!r} is absent" in told


def numbered(first: int, count: int) -> np.ndarray:
    """Return pictures of which no two are the same."""
    images = np.zeros((count, 32, 32, 3), np.uint8)
    images[:, 0, 0, :2] = np.stack(np.divmod(np.arange(first, first + count), 256), axis=1)
    return images


def test_uploads_are_counted_and_sampled_fairly() -> None:
    now = [0.0]
    uploads = Uploads(Samples(most=500, retention_s=100.0), 0.5, np.random.default_rng(1), lambda: now[0])
    for number in range(4000):
        uploads.arrive(numbered(number, 1))
    uploads.arrive(numbered(4000, 300))
    uploads.turn_away(7)
    uploads.answer([1, 3], [0.1, 0.9])
    counts = uploads.close_slot()
    assert (counts.arrived, counts.served, counts.late, counts.shed) == (4307, 4, 3, 7)
    kept = collected(uploads)
    assert kept.shape == (500, 32, 32, 3)
    # 300 of 4,300 images came together: about as large a part of them is kept.
    assert 10 < (kept[:, 0, 0, 0].astype(int) * 256 + kept[:, 0, 0, 1] >= 4000).sum() < 60
    assert uploads.outcomes["quota"] == 3800
    assert uploads.close_slot().arrived == 0
    assert len(collected(uploads)) == 0


def collected(uploads: Uploads) -> np.ndarray:
    """Return all that may be learnt from."""
    return uploads.drawn(lambda there: there, np.random.default_rng(0)).images


def test_images_and_answers_go_after_their_retention() -> None:
    now = [0.0]
    uploads = Uploads(Samples(retention_s=10.0), None, np.random.default_rng(1), lambda: now[0])
    uploads.arrive(numbered(0, 5))
    uploads.remember("a", np.array([1, 2, 3]), 1)
    uploads.remember("b", np.array([1]), 2)
    assert uploads.label("a", [1, 2]) is None, "of another number of images"
    assert uploads.label("a", [1, 2, 4]) == 2
    assert uploads.label("a", [1, 2, 4]) is None, "once"
    counts = uploads.close_slot()
    assert (counts.labelled, counts.right) == (3, 2)
    assert len(collected(uploads)) == 5
    now[0] = 10.1
    assert len(collected(uploads)) == 0
    assert uploads.label("b", [1]) is None
    uploads.arrive(numbered(0, 5))
    now[0] = 18.0
    uploads.arrive(numbered(9, 3))
    now[0] = 21.0  # in one long slot
    uploads.close_slot()
    assert len(collected(uploads)) == 3
