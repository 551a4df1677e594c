"""``[exploration]``: how walkers move, and when they stop."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from alpot.config.table import NotNegativeRange, Positive, PositiveRange, Range, Table


class Exploration(Table):
    """Molecular dynamics with the current ensemble until it disagrees with itself."""

    walkers: int = Field(32, ge=1, description="walkers that advance together in one batch")
    walkers_per_task: int = Field(
        64, ge=1, description="walkers that one explore task runs in all; a finished one is replaced"
    )
    timestep: Positive = Field(
        1.0, description="time step in fs; 1 fs is safe for light and hot atoms, heavy ones bear 3 fs"
    )
    friction: Positive = Field(
        0.02, description="Langevin friction in 1/fs; 0.02 thermalises within 50 fs, fast against the T(t) period"
    )
    max_time: Positive = Field(
        50.0, description="longest run of a walker in ps; the paper let walkers run for up to 250 ps"
    )
    temperature_start: PositiveRange = Field((10.0, 1000.0), description="range of T_start in K, drawn per walker")
    temperature_end: PositiveRange = Field((10.0, 1000.0), description="range of T_end in K, drawn per walker")
    temperature_amplitude: NotNegativeRange = Field((0.0, 1500.0), description="range of T_amp in K, drawn per walker")
    temperature_period: PositiveRange = Field((1.0, 50.0), description="range of T_per in ps, drawn per walker")
    density_end: PositiveRange | None = Field(
        None,
        description="range of the density at the end of the run in g/cm³, drawn per walker; by default the density is"
        " kept",
    )
    density_amplitude: Range = Field(
        (0.0, 0.0), description="range of the oscillation of the density in g/cm³, drawn per walker"
    )
    density_period: PositiveRange = Field(
        (1.0, 50.0), description="range of the period of the density in ps, drawn per walker"
    )
    check_interval: int = Field(10, ge=1, description="time steps between two checks of uncertainty and contacts")
    confidence: float = Field(
        0.9,
        ge=0.5,
        le=0.99,
        description="share of true force errors that the bounds on them shall cover; learned from audit labels once"
        " there are enough of them, 9 for 0.9 and 19 for 0.95",
    )
    max_force_error: Positive = Field(
        0.2,
        description="the force error of its worst atom that is accepted in a frame, in eV/Å: where the bound on it,"
        " calibrated to hold with `confidence`, is larger, the frame is worth a label. A walker goes on until it is"
        " ten times as large",
    )
    mean_force_error: Positive = Field(
        0.08,
        description="the force error, averaged over atoms, that is accepted in a frame, in eV/Å; compared with the mean"
        " of the atoms' bounds in the same way",
    )
    contact_factor: Positive = Field(
        0.6,
        description="two atoms closer than this fraction of the sum of their covalent radii are in contact:"
        " the walker ends and is rewound to its last good frame",
    )
    audit_share: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.1,
        description="share of walkers that give one frame at a random time, certain or not; these labels are never"
        " trained on and are the only honest measurement of the error",
    )
