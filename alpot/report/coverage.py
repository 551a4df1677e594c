"""How often the bounds on force errors held, measured on audit labels that came after they were learned."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict


class Coverage(BaseModel):
    """How often a bound held.

    Attributes:
        share: of the atoms, whose force error was below it.
        atoms: of these labels.
        frames: labels that it was tested with.
    """

    model_config = ConfigDict(frozen=True)

    share: float
    atoms: int
    frames: int


def pooled(found: Iterable[Coverage | None]) -> Coverage | None:
    """All together, each atom counting the same; None where nothing was measured."""
    known = [coverage for coverage in found if coverage is not None]
    atoms = sum(coverage.atoms for coverage in known)
    if not atoms:
        return None
    share = sum(coverage.share * coverage.atoms for coverage in known) / atoms
    return Coverage(share=share, atoms=atoms, frames=sum(coverage.frames for coverage in known))
