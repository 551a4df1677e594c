"""How configurations begin: disordered packings, crystals with strain and defects, structures from files."""

from alpot.structures.contacts import closest_approach, contact_distance
from alpot.structures.isolated import is_isolated_atom, isolated_atom
from alpot.structures.starts import draw_start

__all__ = ["closest_approach", "contact_distance", "draw_start", "is_isolated_atom", "isolated_atom"]
