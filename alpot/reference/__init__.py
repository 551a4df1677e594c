"""Where truth comes from: one small module per code, one protocol, failures by name."""

from alpot.reference.cheap import CheapLevel, open_cheap, screened_label
from alpot.reference.labelling import label
from alpot.reference.protocol import ReferenceCalculator, ReferenceResult, level_of_theory
from alpot.reference.registry import open_reference

__all__ = [
    "CheapLevel",
    "ReferenceCalculator",
    "ReferenceResult",
    "label",
    "level_of_theory",
    "open_cheap",
    "open_reference",
    "screened_label",
]
