"""Molecular dynamics with a potential of alpot and plain ASE: NVE, NPT, and how sure the potential is of the end.

    python run_md.py potential/ --temperature 600 --steps 1000

Made to be read and changed; what an option does: ``python run_md.py --help``.
"""
# ruff: noqa: T201 - a script talks to the terminal

from __future__ import annotations

import argparse
import sys

import numpy as np
from ase import Atoms, units
from ase.build import bulk
from ase.io import read
from ase.io.formats import UnknownFileTypeError
from ase.md.nose_hoover_chain import IsotropicMTKNPT
from ase.md.verlet import VelocityVerlet

import alpot
from alpot.errors import AlpotError
from alpot.potential.calibration import ErrorBound

GRAM_PER_CM3 = 1e-3 * units.kg / (1e-2 * units.m) ** 3  # in amu/Å³


def parse_options() -> argparse.Namespace:
    """What the user asks for; units are in the help."""
    parser = argparse.ArgumentParser(description="NVE and NPT molecular dynamics with a potential of alpot")
    parser.add_argument("potential", help="folder written by `alpot export`, or of published NeuroChem weights")
    parser.add_argument("--structure", help="file that ASE reads; default: a cubic crystal of the potential's element")
    parser.add_argument("--repeat", type=int, default=3, help="copies of the cell in each direction (default: 3)")
    parser.add_argument("--temperature", type=float, default=300.0, help="K (default: 300)")
    parser.add_argument("--pressure", type=float, default=0.0, help="GPa, of the NPT run (default: 0)")
    parser.add_argument("--timestep", type=float, default=2.0, help="fs (default: 2)")
    parser.add_argument("--steps", type=int, default=1000, help="time steps of each run (default: 1000)")
    parser.add_argument("--seed", type=int, default=0, help="of the first velocities (default: 0)")
    options = parser.parse_args()
    for name, least in (("repeat", 1), ("steps", 2), ("temperature", 1e-3), ("timestep", 1e-3)):
        if not getattr(options, name) >= least:
            parser.error(f"--{name} is {getattr(options, name)}; it must be at least {least}")
    return options


def make_atoms(options: argparse.Namespace, elements: tuple[str, ...]) -> Atoms:
    """The atoms to begin with, periodic in all directions."""
    if options.structure:
        try:
            atoms = read(options.structure)
        except (OSError, ValueError, UnknownFileTypeError) as error:
            sys.exit(f"error: ASE cannot read a structure from {options.structure}: {error!r}")
    elif len(elements) == 1:
        try:
            atoms = bulk(elements[0], cubic=True)
        except (RuntimeError, ValueError) as error:
            sys.exit(f"error: ASE makes no cubic cell of {elements[0]} ({error}); give a file: --structure FILE")
    else:
        sys.exit(f"error: the potential knows {', '.join(elements)}; give a file to begin with: --structure FILE")
    if not atoms.pbc.all():
        sys.exit(f"error: NPT needs a cell that is periodic in all directions; this one has pbc = {atoms.pbc.tolist()}")
    return atoms.repeat(options.repeat)


def set_velocities(atoms: Atoms, temperature: float, rng: np.random.Generator) -> None:
    """Maxwell-Boltzmann velocities at a temperature in K; the atoms as a whole are at rest."""
    masses = atoms.get_masses()[:, None]  # (n_atoms, 1) amu
    momenta = rng.standard_normal((len(atoms), 3)) * np.sqrt(masses * units.kB * temperature)
    momenta -= masses * momenta.sum(axis=0) / masses.sum()
    atoms.set_momenta(momenta)


def run_nve(atoms: Atoms, options: argparse.Namespace) -> None:
    """Conserves the energy if forces are its derivatives; prints by how much it drifts."""
    dynamics = VelocityVerlet(atoms, timestep=options.timestep * units.fs)
    times, energies = [], []  # ps, meV/atom

    def sample() -> None:
        times.append(dynamics.nsteps * options.timestep / 1000)
        energies.append(1000 * atoms.get_total_energy() / len(atoms))

    def tell() -> None:
        print(f"NVE {times[-1]:8.3f} ps   {atoms.get_temperature():7.1f} K   {energies[-1]:14.4f} meV/atom")

    dynamics.attach(sample, interval=1)
    dynamics.attach(tell, interval=max(1, options.steps // 5))
    dynamics.run(options.steps)
    # The slope of a straight line: what a symplectic integrator oscillates averages out.
    drift = np.polyfit(times, energies, 1)[0] * (times[-1] - times[0])
    print(f"NVE energy drift: {drift:+.4f} meV/atom in {times[-1]:.3f} ps")


def run_npt(atoms: Atoms, options: argparse.Namespace) -> None:
    """Lets the volume follow temperature and pressure; prints means over the second half of the run."""
    step = options.timestep * units.fs
    dynamics = IsotropicMTKNPT(
        atoms,
        timestep=step,
        temperature_K=options.temperature,
        pressure_au=options.pressure * units.GPa,
        tdamp=100 * step,
        pdamp=1000 * step,
    )
    temperatures, volumes = [], []  # K, Å³

    def sample() -> None:
        temperatures.append(atoms.get_temperature())
        volumes.append(atoms.get_volume())

    def tell() -> None:
        time = dynamics.nsteps * options.timestep / 1000
        print(f"NPT {time:8.3f} ps   {temperatures[-1]:7.1f} K   {volumes[-1] / len(atoms):9.4f} Å³/atom")

    dynamics.attach(sample, interval=1)
    dynamics.attach(tell, interval=max(1, options.steps // 5))
    dynamics.run(options.steps)
    half = len(volumes) // 2
    volume = float(np.mean(volumes[half:]))
    density = atoms.get_masses().sum() / volume / GRAM_PER_CM3
    print(
        f"NPT means of the second half: {np.mean(temperatures[half:]):.1f} K,"
        f" {volume / len(atoms):.4f} Å³/atom, {density:.4f} g/cm³"
    )


def print_uncertainty(atoms: Atoms, folder: str) -> None:
    """How large the errors on the last frame are at most, by what labels never trained on have taught."""
    calculator = alpot.load(folder)  # this time with the forces of all members
    frame = atoms.copy()
    frame.calc = calculator
    frame.get_forces()
    card, forces = calculator.card, calculator.results["forces_bound"]  # (n_atoms,) eV/Å
    energy = 1000 * calculator.results["energy_bound"] / len(frame)
    print(f"error of the energy of the last frame: at most {energy:.3f} meV/atom, {origin(card.energy_bound)}")
    print(
        f"error of the force on an atom: at most {forces.mean():.4f} eV/Å on average, {forces.max():.4f} eV/Å for the"
        f" worst, {origin(card.force_bound)}"
    )


def origin(bound: ErrorBound) -> str:
    """What a bound promises, and where it comes from."""
    known = f"learned from {bound.n_frames} labels" if bound.n_frames else "assumed, not measured"
    return f"with {100 * bound.confidence:.0f} % confidence ({known})"


def main() -> None:
    """Runs NVE, then NPT from where it ended."""
    options = parse_options()
    # The mean of the members is all that the dynamics needs, at about half of the cost.
    calculator = alpot.load(options.potential, mean_forces_only=True)
    atoms = make_atoms(options, calculator.card.elements)
    atoms.calc = calculator
    print(f"{atoms.symbols}, potential {options.potential}, time step {options.timestep:g} fs")
    # Twice the temperature: atoms on their sites turn half of it into potential energy.
    set_velocities(atoms, (1 if options.structure else 2) * options.temperature, np.random.default_rng(options.seed))
    run_nve(atoms, options)
    run_npt(atoms, options)
    print_uncertainty(atoms, options.potential)


if __name__ == "__main__":
    try:
        main()
    except AlpotError as error:
        sys.exit(f"error: {error}")
