"""Is it any good: physical properties and errors on fresh frames, for any ASE calculator."""

from alpot.validation.properties import PropertyValue
from alpot.validation.suite import PropertyRow, validate

__all__ = ["PropertyRow", "PropertyValue", "validate"]
