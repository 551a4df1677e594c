"""A synthetic assessment file, of any size: errors, a map that grows with the generations, hard frames."""

import numpy as np
from ase.build import bulk

from alpot.store.assessment_file import (
    MAX_MAP,
    MAX_PARITY,
    AssessmentFile,
    AuditFrame,
    ForceParity,
    HardFrame,
    MapPoint,
    SigmaBin,
)


def assessment(
    generation: int, *, n_audit: int = 120, n_map: int = 800, n_hard: int = 6, repeat: int = 2, text: str = ""
) -> AssessmentFile:
    """``text`` stands for every word that a campaign chooses."""
    rng = np.random.default_rng(generation)
    scale = 0.25 / generation
    sigma = np.geomspace(0.2, 4.0, 10) * scale
    forces = rng.normal(0.0, 2.0, MAX_PARITY)
    return AssessmentFile(
        generation=generation,
        audit=[_audit(rng, number, scale, text) for number in range(n_audit)],
        force_parity=ForceParity(
            reference=forces.round(5).tolist(),
            predicted=(forces + rng.normal(0.0, scale, len(forces))).round(5).tolist(),
            total=9 * MAX_PARITY,
        ),
        sigma_bins=[
            SigmaBin(
                sigma=float(s),
                error=float(1.4 * s * rng.lognormal(0.0, 0.15)),
                error_quantile=float(2.3 * s),
                count=int(rng.integers(200, 900)),
            )
            for s in sigma
        ],
        map=[_point(rng, number, n_map, generation, text) for number in range(min(n_map, MAX_MAP))],
        map_total=n_map if n_map > MAX_MAP else None,
        hard=[_hard(rng, number, scale, repeat, text) for number in range(n_hard)],
    )


def _audit(rng, number, scale, text) -> AuditFrame:
    energy, error = float(rng.normal(-3.2, 0.25)), float(rng.normal(0.0, scale / 20))
    force = float(scale * rng.lognormal(0.0, 0.4))
    return AuditFrame(
        key=f"{number:064x}",
        reason=text or ("audit", "imported")[number % 4 == 0],
        n_atoms=int(rng.integers(30, 120)),
        energy_error=error,
        energy=energy,
        energy_predicted=energy + error,
        force_rmse=force,
        force_max_error=4 * force,
        sigma_mean=force / 2,
        sigma_max=force,
    )


def _point(rng, number, n_map, generations, text) -> MapPoint:
    generation = int((generations + 1) * number / n_map)
    density = float(np.clip(rng.normal(2.6, 0.08 + 0.12 * generation), 0.4, 5.0))
    temperature = float(np.clip(rng.normal(900 + 400 * generation, 250), 50, 6000))
    angle, radius = rng.uniform(0.0, 2.6) + 0.4 * generation, rng.gamma(2.0 + generation, 0.6)
    return MapPoint(
        x=round(float(radius * np.cos(angle)), 5),
        y=round(float(0.6 * radius * np.sin(angle) + rng.normal(0.0, 0.2)), 5),
        generation=generation,
        reason=text or ("uncertain" if generation else "initial"),
        audit=number % 9 == 0,
        density=round(density, 5),
        temperature=None if number % 10 == 3 else round(temperature, 2),
        energy=round(-3.6 + 1.3e-4 * temperature + 0.3 * (density - 2.7) ** 2, 6),
        n_atoms=int(rng.integers(30, 120)),
    )


def _hard(rng, number, scale, repeat, text) -> HardFrame:
    atoms = bulk("Al", cubic=True) * (repeat, repeat, repeat)
    atoms.rattle(0.15 + 0.05 * number, seed=number)
    del atoms[: 3 * number]
    errors = scale * rng.lognormal(0.3, 0.6, len(atoms))
    return HardFrame(
        key=f"{number + 99:064x}",
        why="worst predicted" if number % 2 == 0 else "most uncertain",
        force_rmse=float(errors.mean()),
        sigma_max=float(errors.max() / 2),
        reason=text or "uncertain",
        symbols=[text] * len(atoms) if text else list(atoms.symbols),
        positions=atoms.positions.round(4).tolist(),
        cell=atoms.cell.array.tolist(),
        pbc=(True, True, True),
        atom_errors=errors.round(5).tolist(),
    )
