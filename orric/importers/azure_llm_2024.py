"""The Azure LLM inference trace 2024: two services over a week of May 2024, some 17 and 27 million requests.

Stojkovic et al., "DynamoLLM: Designing LLM Inference Clusters for Performance and Energy Efficiency", HPCA 2025. In
Azure/AzurePublicDataset as `AzureLLMInferenceTrace_code_1week.csv` and `AzureLLMInferenceTrace_conv_1week.csv`, CC BY
4.0. Times have a time zone, and six digits behind the second but where these are zero.
"""

from __future__ import annotations

from pathlib import Path

from orric.arrivals import Arrivals
from orric.importers.azure_llm import arrivals_of
from orric.importers.format import Format, Origin
from orric.timestamps import Timestamps


def arrivals(path: str | Path) -> Arrivals:
    """Open a file of the Azure LLM inference trace 2024 to be read in chunks; see `azure_llm_2024`."""
    return arrivals_of(path, 2024)


def azure_llm_2024(path: str | Path) -> Timestamps:
    """Read a file of the Azure LLM inference trace 2024: TIMESTAMP,ContextTokens,GeneratedTokens.

    Time counts from the first request. Requests of equal time are kept; the tokens are not used.

    Raises:
        TraceError: With file and line of the first thing that is wrong.
    """
    return arrivals(path).timestamps()


ORIGIN = Origin("Azure LLM inference trace 2024; Stojkovic et al., DynamoLLM, HPCA 2025", "CC BY 4.0")
AZURE_LLM_2024 = Format(
    "azure-llm-2024",
    azure_llm_2024,
    arrivals,
    ORIGIN,
)
