"""Is it any good: physical properties and errors on fresh frames, for any ASE calculator."""

from alpot.store.property_file import PropertyResult, PropertyRow
from alpot.validation.properties import PropertyValue
from alpot.validation.suite import Specimen, validate

__all__ = ["PropertyResult", "PropertyRow", "PropertyValue", "Specimen", "validate"]
