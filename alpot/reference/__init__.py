"""Where truth comes from: one small module per code, one protocol, failures by name."""

from alpot.reference.labelling import label
from alpot.reference.protocol import ReferenceCalculator, ReferenceResult, level_of_theory
from alpot.reference.registry import open_reference

__all__ = ["ReferenceCalculator", "ReferenceResult", "label", "level_of_theory", "open_reference"]
