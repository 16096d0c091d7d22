"""What every importer keeps to, whatever its format: new ones are held to it by being in FORMATS."""

from __future__ import annotations

import gzip
import importlib
import inspect
import sys
from unittest.mock import patch

import numpy as np
import pytest

import orric
from orric import csv_chunks
from orric.arrivals import Arrivals
from orric.importers import FORMATS, IMPORTERS, ORIGINS, STREAMS, mooncake
from orric.interval_counts import IntervalCounts

from ..builders import ROOT

LLM = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
BURST = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
# A small file of each format, the options that it needs, and the seconds or counts in it.
SAMPLES = {
    "azure-llm-2023": (
        LLM + "2023-11-16 18:17:03.9799600,4808,10\n2023-11-16 18:17:03.9799600,3,8\n2023-11-16 18:17:04.0000000,1,2\n",
        {},
        [0.0, 0.0, 0.02004],
    ),
    "azure-llm-2024": (
        LLM + "2024-05-10 00:00:00.009930+00:00,2162,5\n2024-05-10 00:00:01+00:00,76,15\n"
        "2024-05-10 00:00:01.009930+00:00,9,1\n",
        {},
        [0.0, 0.99007, 1.0],
    ),
    "azure-functions": (
        "HashOwner,HashApp,HashFunction,Trigger,1,2,3\no,a,f,http,3,0,1\no,a,g,timer,1,1,0\n",
        {},
        [4, 1, 1],
    ),
    "azure-functions-2021": (
        "app,func,end_timestamp,duration\na,f,5.0,4.5\na,g,14.5,0.25\nb,f,29.5,28.0\nb,f,30.0,0\nb,f,2,3.5\n",
        {},
        [0.5, 1.5, 14.25, 30.0],
    ),
    "burstgpt": (
        BURST + "5,ChatGPT,472,18,490,Conversation log\n45,ChatGPT,0,0,0,API log\n45,GPT-4,417,276,693,API log\n",
        {},
        [5.0, 45.0, 45.0],
    ),
    "mooncake": (
        '{"timestamp": 0, "input_length": 6758, "hash_ids": [0, 1]}\n{"hash_ids": [], "timestamp": 27482}\n'
        '{"timestamp": 27482.5}\n',
        {},
        [0.0, 27.482, 27.4825],
    ),
    "timestamps": ("what,when\na,1.5\nb,2\nc,2.0\n", {"column": "when"}, [1.5, 2.0, 2.0]),
    "counts": (
        "time,hits\n2025-03-29T22:00:00,3\n2025-03-29T22:01:00,0\n2025-03-29T22:02:00,4\n",
        {"column": "hits"},
        [3, 0, 4],
    ),
}
every_format = pytest.mark.parametrize("name", [one.name for one in FORMATS])


@pytest.fixture
def sample(tmp_path):
    """Write the sample of a format, changed as is asked, and return its path."""

    def write(name, change=lambda content: content, ending=""):
        path = tmp_path / f"given{ending}"
        path.write_bytes(change(SAMPLES[name][0].encode()))
        return path

    return write


def values_of(name, path):
    """Read a file as a whole."""
    read = IMPORTERS[name](path, **SAMPLES[name][1])
    assert str(path) in read.source
    return (read.requests if isinstance(read, IntervalCounts) else read.arrival_s).tolist()


def refused(name, path):
    """Return the one line with which a file is refused, whichever way it is read."""
    told = set()
    ways = [lambda: IMPORTERS[name](path, **SAMPLES[name][1])]
    if name in STREAMS:
        ways.append(lambda: STREAMS[name](path, **SAMPLES[name][1]).counts(60.0))
    for way in ways:
        with pytest.raises(orric.TraceError) as caught:
            way()
        told.add(str(caught.value))
    (message,) = told
    assert message.startswith(f"{path}: ") or message.startswith(f"{path}:")
    assert "\n" not in message
    assert len(message) < 500
    return message


@every_format
def test_the_sample_is_read(sample, name):
    assert values_of(name, sample(name)) == SAMPLES[name][2]


@every_format
@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.rstrip(b"\n"),
        lambda content: content.replace(b"\n", b"\r\n"),
        lambda content: b"\xef\xbb\xbf" + content,
        lambda content: content.replace(b"\n", b"\n\n"),
        lambda content: b"\n" + content,
    ],
    ids=["no last line end", "CRLF", "byte order mark", "blank lines", "blank line first"],
)
def test_forms_of_text_make_no_difference(sample, name, change):
    assert values_of(name, sample(name, change)) == SAMPLES[name][2]


@every_format
def test_compressed_files_are_read(sample, name):
    assert values_of(name, sample(name, gzip.compress, ".csv.gz")) == SAMPLES[name][2]
    assert "gzip" in refused(name, sample(name, lambda content: content, ".csv.gz"))


@every_format
def test_neither_the_size_of_chunks_nor_pyarrow_makes_a_difference(sample, name):
    with (
        patch.multiple(csv_chunks, CHUNK_BYTES=30, CHUNK_ROWS=1),
        patch.object(sys.modules[mooncake.__module__], "CHUNK_ROWS", 1),
    ):
        assert values_of(name, sample(name)) == SAMPLES[name][2]
        with patch.dict(sys.modules, {"pyarrow": None, "pyarrow.csv": None}):
            assert values_of(name, sample(name)) == SAMPLES[name][2]


@every_format
@pytest.mark.parametrize(
    "content", [b"", b"\n\n", b"\xff\xfe\x00a", b"a;b\n1;2\n", b"{}\n", b"[[" * 9999, b"\x00" * 64, b"a,b\n1,2\n"]
)
def test_what_is_of_no_format_is_refused_in_one_line(sample, name, content):
    refused(name, sample(name, lambda _: content))


@every_format
def test_a_header_without_rows_is_refused_in_words_that_say_something(sample, name):
    if name == "mooncake":
        return
    message = refused(name, sample(name, lambda content: content.split(b"\n")[0]))
    assert "no rows follow the header" in message
    assert "one row per row" not in message


@every_format
def test_a_file_that_cannot_be_read_is_refused(tmp_path, name):
    assert "no such file" in refused(name, tmp_path / "none.csv")
    assert "folder" in refused(name, tmp_path)


@every_format
def test_streams_take_the_options_of_their_importer(name):
    chosen = next(one for one in FORMATS if one.name == name)
    if chosen.stream is not None:
        assert inspect.signature(chosen.stream).parameters.keys() == inspect.signature(chosen.read).parameters.keys()


@every_format
@pytest.mark.parametrize("slot_s", [0.01, 1.0, 7.0, 60.0])
@pytest.mark.parametrize(("part", "parts"), [(1, 1), (1, 2), (2, 2), (3, 3)])
@pytest.mark.parametrize("speedup", [1.0, 3.0, 0.1])
def test_counts_of_a_stream_are_those_of_its_timestamps(sample, name, slot_s, part, parts, speedup):
    if name not in STREAMS:
        return
    path, options = sample(name), SAMPLES[name][1]
    whole = IMPORTERS[name](path, **options)
    wanted = whole.share(part, parts).compressed(speedup)
    with patch.multiple(csv_chunks, CHUNK_BYTES=30, CHUNK_ROWS=1):
        stream = STREAMS[name](path, **options)
        assert isinstance(stream, Arrivals)
        assert stream.counts(slot_s, part, parts, speedup).tolist() == wanted.counts(slot_s).tolist()
        assert stream.timestamps(part, parts, speedup).arrival_s.tolist() == wanted.arrival_s.tolist()


def test_slots_are_counted_at_their_edges_as_timestamps_are():
    """Multiples of a tenth are above or below what they stand for."""
    arrival_s = np.sort(np.concatenate([np.arange(1000) * 0.1, np.arange(1000) / 10, [1e5]]))
    stream = Arrivals(lambda: iter(np.array_split(arrival_s, 7)), "f")
    for slot_s in (0.1, 0.3, 1 / 3, 7.0):
        assert stream.counts(slot_s).tolist() == orric.Timestamps(arrival_s).counts(slot_s).tolist()


@every_format
def test_every_format_stands_in_a_file_of_its_own_with_its_publication_and_is_in_the_guide(name):
    module = importlib.import_module(IMPORTERS[name].__module__)
    assert module.__name__ == f"orric.importers.{name.replace('-', '_')}"
    guide = (ROOT / "docs/guides/traces.md").read_text(encoding="utf-8")
    assert f"`{name}`" in guide
    assert (name in ORIGINS) == (name not in ("timestamps", "counts"))
    if name in ORIGINS:
        source, licence = ORIGINS[name]
        text = " ".join(module.__doc__.split())
        assert licence in text
        assert all(part.strip().split(",")[0] in text for part in source.split(";")[1:])
        assert licence in guide
        assert source.rsplit(" et al.", 1)[0].rsplit(" ", 1)[-1] in guide


def test_samples_are_there_for_every_format():
    assert SAMPLES.keys() == IMPORTERS.keys()
