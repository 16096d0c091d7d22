"""Readers of public request traces, by the name of their format; each stands in a file of its own.

A format is read as a whole, into `Timestamps` or `IntervalCounts`, by its function in `IMPORTERS`. Formats of single
times can be read in chunks too, by their function in `STREAMS`, which takes the same options.
"""

from __future__ import annotations

from orric.importers.azure_functions import AZURE_FUNCTIONS, azure_functions
from orric.importers.azure_functions_2021 import AZURE_FUNCTIONS_2021, azure_functions_2021
from orric.importers.azure_llm_2023 import AZURE_LLM_2023, azure_llm_2023
from orric.importers.azure_llm_2024 import AZURE_LLM_2024, azure_llm_2024
from orric.importers.burstgpt import BURSTGPT, burstgpt
from orric.importers.counts import COUNTS, counts
from orric.importers.mooncake import MOONCAKE, mooncake
from orric.importers.timestamps import TIMESTAMPS, timestamps

__all__ = [
    "FORMATS",
    "IMPORTERS",
    "ORIGINS",
    "STREAMS",
    "azure_functions",
    "azure_functions_2021",
    "azure_llm_2023",
    "azure_llm_2024",
    "burstgpt",
    "counts",
    "mooncake",
    "timestamps",
]

FORMATS = (
    AZURE_LLM_2023,
    AZURE_LLM_2024,
    AZURE_FUNCTIONS,
    AZURE_FUNCTIONS_2021,
    BURSTGPT,
    MOONCAKE,
    TIMESTAMPS,
    COUNTS,
)
IMPORTERS = {one.name: one.read for one in FORMATS}
STREAMS = {one.name: one.stream for one in FORMATS if one.stream is not None}
ORIGINS = {one.name: one.origin for one in FORMATS if one.origin is not None}
