"""``[potential]``: the networks and their descriptor."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from alpot.config.table import Positive, Table


class Descriptor(Table):
    """Atomic environment vector (ANI); cutoffs and shifts are the published ANI-Al's, the functions are smoother."""

    # Published: radial_eta 43.9, angular_eta 6.5, angular_zeta 69.4. Smoother ones fit better: forces of copper by a
    # quarter (scripts/bench_accuracy.py, reference_data/benchmarks/accuracy_ablation.md).
    radial_cutoff: Positive = Field(7.0, description="cutoff of the radial functions in Å")
    radial_eta: Positive = Field(16.0, description="width parameter of the radial functions in 1/Å²")
    radial_shifts: int = Field(
        32, ge=1, description="number of radial functions, spread evenly from shift_start to the cutoff"
    )
    angular_cutoff: Positive = Field(5.0, description="cutoff of the angular functions in Å")
    angular_eta: Positive = Field(4.0, description="width parameter of the angular functions' radial part in 1/Å²")
    angular_shifts: int = Field(8, ge=1, description="number of radial shifts of the angular functions")
    angle_sections: int = Field(8, ge=1, description="number of angles of the angular functions")
    angular_zeta: Positive = Field(32.0, description="sharpness of the angular functions (no unit)")
    shift_start: Positive = Field(1.25, description="first shift of radial and angular functions in Å")

    @model_validator(mode="after")
    def _angular_inside_radial(self) -> Descriptor:
        if self.angular_cutoff > self.radial_cutoff:
            raise ValueError(
                f"angular_cutoff {self.angular_cutoff:g} Å is above radial_cutoff {self.radial_cutoff:g} Å;"
                " it must not be"
            )
        if self.shift_start >= self.angular_cutoff:
            raise ValueError(
                f"shift_start {self.shift_start:g} Å must be below angular_cutoff {self.angular_cutoff:g} Å"
            )
        return self


class Potential(Table):
    """What is learned: an ensemble of networks on one shared descriptor."""

    members: int = Field(8, ge=2, le=64, description="number of networks in the ensemble; the paper used 8")
    hidden: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (96, 96, 64), min_length=1, description="widths of the hidden layers; the default is the paper's"
    )
    activation: Literal["celu", "silu"] = Field("silu", description="activation function; the paper used CELU")
    descriptor: Descriptor = Descriptor()
