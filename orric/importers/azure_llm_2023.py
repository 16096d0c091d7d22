"""The Azure LLM inference trace 2023: two services over one hour.

Patel et al., "Splitwise: Efficient generative LLM inference using phase splitting", ISCA 2024. In
Azure/AzurePublicDataset as `AzureLLMInferenceTrace_conv.csv` and `AzureLLMInferenceTrace_code.csv`, CC BY 4.0. Times
have seven digits behind the second and no time zone.
"""

from __future__ import annotations

from pathlib import Path

from orric.arrivals import Arrivals
from orric.importers.azure_llm import arrivals_of
from orric.importers.format import Format, Origin
from orric.timestamps import Timestamps


def arrivals(path: str | Path) -> Arrivals:
    """Open a file of the Azure LLM inference trace 2023 to be read in chunks; see `azure_llm_2023`."""
    return arrivals_of(path, 2023)


def azure_llm_2023(path: str | Path) -> Timestamps:
    """Read a file of the Azure LLM inference trace 2023: TIMESTAMP,ContextTokens,GeneratedTokens.

    Time counts from the first request. Requests of equal time are kept; the tokens are not used.

    Raises:
        TraceError: With file and line of the first thing that is wrong.
    """
    return arrivals(path).timestamps()


ORIGIN = Origin("Azure LLM inference trace 2023; Patel et al., Splitwise, ISCA 2024", "CC BY 4.0")
AZURE_LLM_2023 = Format(
    "azure-llm-2023",
    azure_llm_2023,
    arrivals,
    ORIGIN,
)
