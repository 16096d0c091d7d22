"""Simulate, evaluate and deploy the split of an edge server's compute between retraining and inference.

Names are imported when they are first used, so `import orric` costs nothing that is not needed.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orric.allocators import ALLOCATORS, TRIGGERS, make_allocator
    from orric.allocators.adainf import AdaInf
    from orric.allocators.base import Allocator, MicroProfiled, SingleStreamAllocator, Slot, StreamTask, Task
    from orric.allocators.chord import ChordOrric, JointChordOrric
    from orric.allocators.detectors import Adwin, Detector, Kswin, PageHinkley
    from orric.allocators.greedy import InferenceGreedy, InferenceOnly, KnowledgeDistillation, RetrainingGreedy
    from orric.allocators.guided import GuidedOrric
    from orric.allocators.joint import ExactJointOrric, JointOrric
    from orric.allocators.orric import FocusShift, Orric
    from orric.allocators.placing import PlacingOrric
    from orric.allocators.random_pairs import RandomPairs
    from orric.allocators.streams import MultiStreamAllocator
    from orric.allocators.thief import FairShare, Thief
    from orric.allocators.triggers import DriftTriggered, GainTriggered, Trigger
    from orric.allocators.turns import RoundRobin, WorstFirst
    from orric.allocators.uniform import Uniform30, Uniform50, Uniform90
    from orric.comparison import simulate
    from orric.competitive.adversary import Search, WorstCase, search_worst_case
    from orric.competitive.bounds import Bounds, bounds, joint_bound
    from orric.competitive.certificate import Certificate, verify
    from orric.competitive.exact import exact_optimum
    from orric.competitive.optimum import OfflineOptimum, offline_optimum
    from orric.competitive.ranges import TraceRange
    from orric.competitive.ratio import CompetitiveRatio, competitive_ratio
    from orric.configuration import Allocation, InferenceConfiguration, RetrainingConfiguration, StreamAllocation
    from orric.devices import Device
    from orric.drift import Drift
    from orric.exceptions import (
        AllocatorError,
        BudgetError,
        CalibrationError,
        CertificateError,
        ExplanationError,
        MissingExtraError,
        OrricError,
        ProfileError,
        ScenarioError,
        SelectionError,
        SimulationError,
        TraceError,
    )
    from orric.learning import Exponential, LearningCurve, LearningExtent, Logarithmic, Power, Tabulated, TimeVarying
    from orric.profile import Profile
    from orric.records import Observation, Result, SlotRecord
    from orric.scenario import Scenario, load_scenario
    from orric.slot_model import evaluate
    from orric.timeliness import ArrivalProcess, Correction, Timeliness
    from orric.timestamps import Timestamps
    from orric.trace import Trace

__version__ = "0.1.0"

# From 1.29.0 on ONNX Runtime reports its use to its maker unless this is set before it is first imported; see
# findings/onnxruntime-telemetry.sh. Whoever wants that sets it to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

_HOMES = {
    "orric.allocators": ("ALLOCATORS", "TRIGGERS", "make_allocator"),
    "orric.allocators.adainf": ("AdaInf",),
    "orric.allocators.base": ("Allocator", "MicroProfiled", "SingleStreamAllocator", "Slot", "StreamTask", "Task"),
    "orric.allocators.detectors": ("Adwin", "Detector", "Kswin", "PageHinkley"),
    "orric.allocators.greedy": ("InferenceGreedy", "InferenceOnly", "KnowledgeDistillation", "RetrainingGreedy"),
    "orric.allocators.chord": ("ChordOrric", "JointChordOrric"),
    "orric.allocators.guided": ("GuidedOrric",),
    "orric.allocators.joint": ("ExactJointOrric", "JointOrric"),
    "orric.allocators.orric": ("FocusShift", "Orric"),
    "orric.allocators.placing": ("PlacingOrric",),
    "orric.allocators.thief": ("FairShare", "Thief"),
    "orric.allocators.random_pairs": ("RandomPairs",),
    "orric.allocators.streams": ("MultiStreamAllocator",),
    "orric.allocators.triggers": ("DriftTriggered", "GainTriggered", "Trigger"),
    "orric.allocators.turns": ("RoundRobin", "WorstFirst"),
    "orric.allocators.uniform": ("Uniform30", "Uniform50", "Uniform90"),
    "orric.configuration": ("Allocation", "InferenceConfiguration", "RetrainingConfiguration", "StreamAllocation"),
    "orric.devices": ("Device",),
    "orric.drift": ("Drift",),
    "orric.exceptions": (
        "AllocatorError",
        "BudgetError",
        "CalibrationError",
        "CertificateError",
        "ExplanationError",
        "MissingExtraError",
        "OrricError",
        "ProfileError",
        "ScenarioError",
        "SelectionError",
        "SimulationError",
        "TraceError",
    ),
    "orric.learning": (
        "Exponential",
        "LearningCurve",
        "LearningExtent",
        "Logarithmic",
        "Power",
        "Tabulated",
        "TimeVarying",
    ),
    "orric.profile": ("Profile",),
    "orric.records": ("Observation", "Result", "SlotRecord"),
    "orric.scenario": ("Scenario", "load_scenario"),
    "orric.comparison": ("simulate",),
    "orric.competitive.adversary": ("Search", "WorstCase", "search_worst_case"),
    "orric.competitive.bounds": ("Bounds", "bounds", "joint_bound"),
    "orric.competitive.certificate": ("Certificate", "verify"),
    "orric.competitive.exact": ("exact_optimum",),
    "orric.competitive.optimum": ("OfflineOptimum", "offline_optimum"),
    "orric.competitive.ranges": ("TraceRange",),
    "orric.competitive.ratio": ("CompetitiveRatio", "competitive_ratio"),
    "orric.slot_model": ("evaluate",),
    "orric.timeliness": ("ArrivalProcess", "Correction", "Timeliness"),
    "orric.timestamps": ("Timestamps",),
    "orric.trace": ("Trace",),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [  # noqa: RUF022  # kept in the order of the modules
    "ALLOCATORS", "make_allocator", "Allocator", "MicroProfiled", "SingleStreamAllocator", "Slot", "StreamTask", "Task",
    "InferenceGreedy", "InferenceOnly", "KnowledgeDistillation", "RetrainingGreedy", "FocusShift", "Orric",
    "FairShare", "Thief", "AdaInf",
    "Adwin", "Detector", "Kswin", "PageHinkley",
    "RandomPairs", "MultiStreamAllocator", "DriftTriggered", "GainTriggered", "Trigger", "RoundRobin", "WorstFirst",
    "Uniform30", "Uniform50", "Uniform90", "TRIGGERS",
    "Allocation", "InferenceConfiguration", "RetrainingConfiguration", "StreamAllocation", "Drift",
    "AllocatorError", "BudgetError", "CalibrationError", "CertificateError", "ExplanationError", "MissingExtraError",
    "OrricError", "ProfileError", "ScenarioError", "SelectionError", "SimulationError", "TraceError",
    "Exponential", "LearningCurve", "LearningExtent", "Logarithmic", "Power", "Tabulated", "TimeVarying",
    "Profile", "Observation", "Result", "SlotRecord", "Scenario",
    "ArrivalProcess", "Correction", "Device", "Timeliness",
    "load_scenario", "simulate", "evaluate", "Timestamps", "Trace", "Search", "WorstCase", "search_worst_case",
    "Bounds", "bounds", "joint_bound", "Certificate", "verify", "exact_optimum", "OfflineOptimum", "offline_optimum",
    "TraceRange", "ExactJointOrric", "JointOrric", "PlacingOrric", "GuidedOrric", "ChordOrric", "JointChordOrric",
    "CompetitiveRatio", "competitive_ratio",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _HOME_OF:
        value = getattr(import_module(_HOME_OF[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'orric' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
