"""Phonons of a crystal from finite displacements: frequencies at special points, dispersion, density of states.

Force constants, dynamical matrices and sums over the Brillouin zone are phonopy's: Togo, J. Phys. Soc. Jpn. 92, 012001
(2023).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.calculators.calculator import BaseCalculator
from ase.units import kJ, mol
from numpy.typing import NDArray
from phonopy import Phonopy
from phonopy.structure.atoms import PhonopyAtoms

from alpot.errors import NonFiniteError
from alpot.validation.crystals import Structure
from alpot.validation.lattice import Equilibrium
from alpot.validation.properties import Curve, Measured, PropertyValue, attached

#: Å. All frequencies of ANI-Al (cutoff 7 Å) then are within 0.2 % of those in twice as large a supercell, and those of
#: EMT too; at zone boundaries they are exact in any supercell.
_SUPERCELL_LENGTH = 16.0
#: Å. ANI-Al's softest zone boundary moves by 0.2 % between 0.003 and 0.01 Å, but by 1.6 % between 0.01 and 0.03 Å.
_DISPLACEMENT = 0.01
#: Å: a mesh of 26³ wave vectors for Al, on which the density of states is smooth.
_MESH_LENGTH = 60.0
_BAND_POINTS = 200
#: Share of the highest frequency. Acoustic modes at Γ are zero up to rounding; an unstable crystal is far beyond.
_NOISE = 0.01


@dataclass(frozen=True, kw_only=True)
class _Mode:
    """A mode at a special point.

    Attributes:
        name: point and branch.
        wave_vector: Cartesian, in 2π/a.
        polarization: Cartesian; for cells of two atoms, which move against each other.
    """

    name: str
    wave_vector: tuple[float, float, float] = (0, 0, 0)
    polarization: tuple[float, float, float]


#: Modes whose polarization is fixed by symmetry, for the primitive cells of `crystals.build_crystal`.
SPECIAL_MODES: dict[Structure, tuple[_Mode, ...]] = {
    "fcc": (
        _Mode(name="X longitudinal", wave_vector=(1, 0, 0), polarization=(1, 0, 0)),
        _Mode(name="X transverse", wave_vector=(1, 0, 0), polarization=(0, 1, 0)),
        _Mode(name="L longitudinal", wave_vector=(0.5, 0.5, 0.5), polarization=(1, 1, 1)),
        _Mode(name="L transverse", wave_vector=(0.5, 0.5, 0.5), polarization=(1, -1, 0)),
    ),
    "bcc": (
        _Mode(name="H", wave_vector=(1, 0, 0), polarization=(1, 0, 0)),
        _Mode(name="N longitudinal", wave_vector=(0.5, 0.5, 0), polarization=(1, 1, 0)),
        _Mode(name="N transverse [1-10]", wave_vector=(0.5, 0.5, 0), polarization=(1, -1, 0)),
        _Mode(name="N transverse [001]", wave_vector=(0.5, 0.5, 0), polarization=(0, 0, 1)),
        _Mode(name="P", wave_vector=(0.5, 0.5, 0.5), polarization=(1, 0, 0)),
    ),
    "sc": (
        _Mode(name="X longitudinal", wave_vector=(0.5, 0, 0), polarization=(1, 0, 0)),
        _Mode(name="X transverse", wave_vector=(0.5, 0, 0), polarization=(0, 1, 0)),
        _Mode(name="R", wave_vector=(0.5, 0.5, 0.5), polarization=(1, 0, 0)),
    ),
    "hcp": (
        _Mode(name="Γ optical, in the basal plane (E2g)", polarization=(1, 0, 0)),
        _Mode(name="Γ optical, along c (B1g)", polarization=(0, 0, 1)),
    ),
    "diamond": (_Mode(name="Γ optical", polarization=(1, 0, 0)),),
}


def phonon_properties(
    calculator: BaseCalculator, crystal: Equilibrium, *, supercell_length: float = _SUPERCELL_LENGTH
) -> Measured:
    """Frequencies in THz at special points, dispersion, density of states, and whether the crystal is stable.

    Imaginary frequencies are given as negative numbers, as is usual; a crystal that has some is at no minimum of the
    energy, and has no zero-point energy.

    Args:
        calculator: any ASE calculator.
        crystal: from :func:`alpot.validation.lattice.equilibrium` with the same calculator.
        supercell_length: Å, smallest distance between images of the displaced atom.

    Raises:
        NonFiniteError: a force is NaN or infinite.
    """
    phonon = displaced_crystal(crystal, supercell_length)
    measure_force_constants(phonon, calculator)
    sample_modes(phonon)
    phonon.run_total_dos()
    instability = instability_of(phonon, crystal)
    values = [
        PropertyValue(name=f"phonon {mode.name}", value=_frequency(phonon, crystal, mode), unit="THz")
        for mode in SPECIAL_MODES[crystal.structure]
    ]
    values.append(PropertyValue(name="highest phonon", value=float(phonon.mesh.frequencies.max()), unit="THz"))
    share = 100 * instability.share if instability else 0.0
    values.append(PropertyValue(name="imaginary phonons", value=share, unit="%"))
    if not instability:
        energy = 1000 * vibrational_free_energy(phonon, np.zeros(1))[0]
        values.append(PropertyValue(name="zero-point energy", value=float(energy), unit="meV/atom"))
    return Measured(
        values=tuple(values),
        curves=(_dispersion(phonon, crystal), _density_of_states(phonon)),
        remarks=(instability.sentence,) if instability else (),
    )


def displaced_crystal(crystal: Equilibrium, supercell_length: float) -> Phonopy:
    """The displacements that give the force constants of a crystal, in a supercell of its primitive cell.

    The repeats are even, so that modes at zone boundaries fit into the supercell, which then gives them exactly.
    Multiples of primitive cells keep more distance between images than cubic blocks of as many atoms.

    Args:
        crystal: at equilibrium.
        supercell_length: Å, smallest distance between images of an atom.
    """
    atoms = crystal.primitive
    repeats = 2 * np.ceil(supercell_length / (2 * atoms.cell.lengths())).astype(int)
    cell = PhonopyAtoms(
        symbols=atoms.get_chemical_symbols(), cell=atoms.cell.array, scaled_positions=atoms.get_scaled_positions()
    )
    phonon = Phonopy(cell, supercell_matrix=np.diag(repeats), primitive_matrix="P")
    phonon.generate_displacements(distance=_DISPLACEMENT)
    return phonon


def measure_force_constants(phonon: Phonopy, calculator: BaseCalculator, *, stretch: float = 1.0) -> None:
    """Give a displaced crystal its force constants, those of the crystal stretched by a factor if there is one.

    Symmetry and displacements of the stretched crystal are those of the crystal itself, and so are wave vectors in
    reciprocal lattice vectors: phonopy's search for symmetry, which takes longer than the forces of a potential, need
    not be repeated for each volume.

    Args:
        phonon: from :func:`displaced_crystal`.
        calculator: any ASE calculator.
        stretch: of all lengths.

    Raises:
        NonFiniteError: a force is NaN or infinite.
    """
    forces = []
    for supercell in phonon.supercells_with_displacements:
        atoms = Atoms(supercell.symbols, cell=supercell.cell, scaled_positions=supercell.scaled_positions, pbc=True)
        atoms.set_cell(stretch * atoms.cell, scale_atoms=True)
        forces.append(_finite_forces(attached(calculator, atoms)))
    # The displacements were stretched as well, and phonopy does not know it.
    phonon.forces = np.array(forces) / stretch
    phonon.produce_force_constants(calculate_full_force_constants=False, show_drift=False)
    phonon.symmetrize_force_constants(show_drift=False)


def sample_modes(phonon: Phonopy) -> None:
    """Compute the frequencies on a mesh over the Brillouin zone, which contains Γ and the corners of the zone.

    Args:
        phonon: with force constants.
    """
    reciprocal = np.linalg.norm(np.linalg.inv(phonon.primitive.cell), axis=0)  # 1/Å, without 2π
    numbers = 2 * np.ceil(_MESH_LENGTH * reciprocal / 2).astype(int)
    phonon.run_mesh(numbers, is_gamma_center=True)


def _finite_forces(atoms: Atoms) -> NDArray[np.float64]:
    """(n_atoms, 3) eV/Å."""
    forces = atoms.get_forces()
    if not np.isfinite(forces).all():
        raise NonFiniteError(f"forces of {atoms.symbols} with a displaced atom are not finite numbers (eV/Å)")
    return forces


@dataclass(frozen=True, kw_only=True)
class Instability:
    """Imaginary modes of a crystal.

    Attributes:
        share: of all modes of the mesh, between 0 and 1.
        sentence: which mode is the worst.
    """

    share: float
    sentence: str


def instability_of(phonon: Phonopy, crystal: Equilibrium) -> Instability | None:
    """The imaginary modes on the mesh of a phonon calculation, or None.

    Args:
        phonon: with a mesh.
        crystal: that it was made of.
    """
    frequencies = phonon.mesh.frequencies  # (q, branches) THz
    imaginary = (frequencies < -_NOISE * np.abs(frequencies).max()).sum(axis=1)
    if not imaginary.any():
        return None
    share = float(np.average(imaginary, weights=phonon.mesh.weights) / frequencies.shape[1])
    worst, _ = np.unravel_index(frequencies.argmin(), frequencies.shape)
    q = crystal.lattice_constant * np.linalg.inv(phonon.primitive.cell) @ phonon.mesh.qpoints[worst]
    where = ", ".join(f"{component:.2f}" for component in np.abs(q))
    return Instability(
        share=share,
        sentence=(
            f"{crystal.structure} {crystal.element} is unstable: {100 * share:.1f} % of its modes are imaginary, the"
            f" worst with {-frequencies.min():.2f}i THz at q = ({where}) 2π/a."
        ),
    )


def vibrational_free_energy(phonon: Phonopy, temperatures: NDArray[np.float64]) -> NDArray[np.float64]:
    """Free energy in eV/atom (n,) of the harmonic crystal, with its zero-point energy, at temperatures (n,) in K.

    Args:
        phonon: with a mesh of a stable crystal.
        temperatures: K.
    """
    # Acoustic modes at Γ have none: their logarithm of zero is left out.
    noise = _NOISE * float(phonon.mesh.frequencies.max())
    phonon.run_thermal_properties(temperatures=temperatures, cutoff_frequency=noise)
    return phonon.thermal_properties.free_energy * (kJ / mol) / len(phonon.primitive)


def _frequency(phonon: Phonopy, crystal: Equilibrium, mode: _Mode) -> float:
    """THz, negative if imaginary, of the mode with the polarization asked for."""
    q = phonon.primitive.cell @ np.array(mode.wave_vector) / crystal.lattice_constant
    phonon.run_qpoints([q], with_eigenvectors=True)
    signs = [1.0, -1.0][: len(phonon.primitive)]
    overlap = np.abs(np.kron(signs, mode.polarization) @ phonon.qpoints.eigenvectors[0])  # (branches,)
    return float(phonon.qpoints.frequencies[0, overlap.argmax()])


def _dispersion(phonon: Phonopy, crystal: Equilibrium) -> Curve:
    """Branches, lowest first, along the path of Setyawan and Curtarolo, Comput. Mater. Sci. 49, 299 (2010)."""
    path = crystal.primitive.cell.bandpath(npoints=_BAND_POINTS)
    x, positions, labels = path.get_linear_kpoint_axis()  # 1/Å, with 2π
    unit = 2 * np.pi / crystal.lattice_constant
    phonon.run_qpoints(path.kpts)
    branches = phonon.qpoints.frequencies.T
    name = "phonon dispersion"
    names = [name, *(f"branch {number}" for number in range(2, len(branches) + 1))]
    ticks: dict[float, str] = {}
    for position, label in zip(positions / unit, labels, strict=True):
        # The path jumps where two points share a position.
        known = ticks.get(float(position))
        ticks[float(position)] = (f"{known}|" if known else "") + label.replace("G", "Γ")
    return Curve(
        name=name,
        x_label="wave vector (2π/a)",
        y_label="frequency (THz)",
        x=tuple(x / unit),
        lines={label: tuple(branch) for label, branch in zip(names, branches, strict=True)},
        ticks=tuple(ticks.items()),
    )


def _density_of_states(phonon: Phonopy) -> Curve:
    """Integrates to the three modes of each atom; imaginary frequencies are negative."""
    name = "phonon density of states"
    return Curve(
        name=name,
        x_label="frequency (THz)",
        y_label="states per atom (1/THz)",
        x=tuple(phonon.total_dos.frequency_points),
        lines={name: tuple(phonon.total_dos.dos / len(phonon.primitive))},
    )
