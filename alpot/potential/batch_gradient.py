"""Losses of all members on some frames and their exact gradients by the weights; compiled for the CPU.

No graph is recorded: networks are evaluated, the Jacobian turns their gradients into forces, the derivative of the loss
by energies, forces and virials goes back through both (``jacobian_products``, ``double_backward``).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from alpot.potential.descriptor_derivatives import Neighborhoods, fill_jacobian, scale_jacobian
from alpot.potential.double_backward import (
    Activity,
    NetworkShape,
    add_gradient,
    evaluate_network,
    transpose_weights,
)
from alpot.potential.frame_cache import FrameCache
from alpot.potential.jacobian import Functions, Jacobian
from alpot.potential.jacobian_products import Scratch, add_forces, gradients_from_forces
from alpot.potential.matrix_tiles import COLUMNS, COMPILE, COMPILE_INNER, ROWS, clear
from alpot.potential.simd import load, store

Array = NDArray[Any]
#: Frames are taken together until they have this many atoms: enough rows for the tiles, few enough for the cache.
ATOMS_PER_CHUNK = 128


class Frames(NamedTuple):
    """All frames, one after the other.

    Attributes:
        offsets: (n_frames + 1,) frame f owns the atoms offsets[f]:offsets[f + 1].
        species: (n_atoms,) element indices.
        features: (n_atoms, width) standardised, padded.
        energy_scales: (n_elements,) eV per unit of a network's output.
        geometry, functions: from which derivatives are computed if they are not stored.
        scales: (n_elements, width) what those are multiplied by.
    """

    offsets: NDArray[np.int64]
    species: NDArray[np.int32]
    features: Array
    energy_scales: Array
    geometry: Neighborhoods
    functions: Functions
    scales: Array


class Targets(NamedTuple):
    """What the frames should have, and what a deviation costs: weight × deviation², summed.

    Attributes:
        energies, energy_weights: (n_frames,) eV, 1/eV².
        forces, force_weights: (n_atoms · 3,) eV/Å, (n_atoms,) Å²/eV².
        virials, virial_weights: (n_frames · 6,) eV in Voigt order, (n_frames,) 1/eV²; weight 0 where there is none.
    """

    energies: NDArray[np.float64]
    energy_weights: NDArray[np.float64]
    forces: Array
    force_weights: Array
    virials: Array
    virial_weights: NDArray[np.float64]

    @classmethod
    def of(
        cls,
        cache: FrameCache,
        *,
        energy_weights: NDArray[np.float64],
        force_weights: NDArray[np.float64],
        virial_weights: NDArray[np.float64],
    ) -> Targets:
        """Of labelled frames; the virial of one that has none counts nothing."""
        dtype, known = cache.features.dtype, np.isfinite(cache.virials[:, 0])
        return cls(
            energies=cache.energies,
            energy_weights=energy_weights,
            forces=cache.forces.astype(dtype).reshape(-1),
            force_weights=force_weights.astype(dtype),
            virials=np.where(known[:, None], cache.virials, 0.0).astype(dtype).reshape(-1),
            virial_weights=np.where(known, virial_weights, 0.0),
        )


class Workspace(NamedTuple):
    """Intermediate results of one chunk.

    Attributes:
        x: (n_rows, width) features, element by element.
        features: (n_rows, width) those that come with derivatives that are not stored; unused.
        row_of: (n_rows,) row of each atom of the chunk.
        outputs, by_outputs: (M, n_rows) of the networks, and the derivative of the loss by them.
        gradients: (M, n_rows, width) of the networks by the features, then the derivative of the loss by those.
        activity: (M, n_rows · n_neurons) arrays.
        layers: (2, n_rows · widest layer).
        forces: (most atoms of a frame · 3 · M,), then the derivative of the loss by them.
        virials: (6 · M,) likewise.
        products: scratch of the products with the Jacobian.
    """

    x: Array
    features: Array
    row_of: NDArray[np.int64]
    outputs: Array
    by_outputs: Array
    gradients: Array
    activity: Activity
    layers: Array
    forces: Array
    virials: Array
    products: Scratch

    @classmethod
    def allocate(
        cls, frames: Frames, shape: NetworkShape, n_members: int, most_pairs: int, most_items: int
    ) -> Workspace:
        """For that many members, and centers with so many pairs and items at most; padded to whole tiles."""
        dtype, width = frames.features.dtype, frames.functions.width
        largest = int(np.diff(frames.offsets).max())
        n_rows = -(-(max(ATOMS_PER_CHUNK, largest) + ROWS * frames.functions.n_elements) // ROWS) * ROWS
        whole = -(-n_members // ROWS) * ROWS
        n_neurons = int(shape.widths[1:].sum())
        return cls(
            x=np.zeros((n_rows, width), dtype),
            features=np.zeros((n_rows, width), dtype),
            row_of=np.zeros(n_rows, np.int64),
            outputs=np.zeros((n_members, n_rows), dtype),
            by_outputs=np.zeros((n_members, n_rows), dtype),
            gradients=np.zeros((whole, n_rows, width), dtype),
            activity=Activity(*(np.zeros((n_members, n_rows * n_neurons), dtype) for _ in Activity._fields)),
            layers=np.zeros((2, n_rows * int(shape.widths[1:].max())), dtype),
            forces=np.zeros(largest * 3 * whole, dtype),
            virials=np.zeros(6 * whole, dtype),
            products=Scratch.allocate(frames.functions, most_pairs, most_items, whole),
        )


@njit(**COMPILE_INNER)
def _arrange(frames: Frames, chunk: NDArray[np.int64], work: Workspace, element_begin: NDArray[np.int64]) -> int:
    """Features of some frames in rows, element by element, each padded to whole tiles; returns the number of atoms.

    ``element_begin`` (n_elements + 1,) is filled with where the rows of each element begin.
    """
    row, n_atoms, width = 0, 0, frames.functions.width
    source, target = frames.features.reshape(frames.features.size), work.x.reshape(work.x.size)
    for element in range(len(element_begin) - 1):
        element_begin[element] = row
        n_atoms = 0
        for frame in chunk:
            for atom in range(frames.offsets[frame], frames.offsets[frame + 1]):
                if frames.species[atom] == element:
                    for k in range(0, width, COLUMNS):
                        store(target, row * width + k, load(source, atom * width + k, COLUMNS))
                    work.row_of[n_atoms] = row
                    row += 1
                n_atoms += 1
        while row % ROWS:
            clear(target[row * width : (row + 1) * width])
            row += 1
    element_begin[-1] = row
    return n_atoms


@njit(inline="always")
def _part_of(activity: Activity, member: int, begin: int, end: int) -> Activity:
    return Activity(
        activity.value[member, begin:end],
        activity.slope[member, begin:end],
        activity.bend[member, begin:end],
        activity.chain[member, begin:end],
    )


@njit(**COMPILE_INNER)
def _score_frame(
    targets: Targets,
    frame: int,
    atoms: slice,
    energies: Array,
    forces: Array,
    virials: Array,
    shares: Array,
    losses: Array,
) -> None:
    """Losses of one frame; energies, forces and virials become the derivatives of the loss by them.

    Args:
        targets: see there.
        frame, atoms: index of the frame, and where its atoms are.
        energies, forces, virials: (M,), (n_atoms · 3 · M'), (6 · M'), with M' the padded number of members.
        shares: (M,) what the frame counts in each member's loss.
        losses: (3, M) filled, by energy, forces and virial.
    """
    n_members, whole = len(energies), len(virials) // 6
    for m in range(n_members):
        off, weight = energies[m] - targets.energies[frame], targets.energy_weights[frame]
        losses[0, m], energies[m] = weight * off * off, 2.0 * weight * shares[m] * off
        losses[1, m] = losses[2, m] = 0.0
    for i in range(atoms.stop - atoms.start):
        weight = targets.force_weights[atoms.start + i]
        for d in range(3):
            goal, start = targets.forces[3 * (atoms.start + i) + d], (3 * i + d) * whole
            for m in range(n_members):
                off = forces[start + m] - goal
                losses[1, m] += weight * off * off
                forces[start + m] = 2.0 * weight * shares[m] * off
    for component in range(6):
        goal, weight = targets.virials[6 * frame + component], targets.virial_weights[frame]
        for m in range(n_members):
            off = virials[component * whole + m] - goal
            losses[2, m] += weight * off * off
            virials[component * whole + m] = 2.0 * weight * shares[m] * off


@njit(**COMPILE_INNER)
def _evaluate_networks(
    parameters: Array, transposed: Array, shape: NetworkShape, work: Workspace, element_begin: NDArray[np.int64]
) -> None:
    n_neurons, size = shape.neurons[-1] + shape.widths[-1], shape.size
    for m in range(len(parameters)):
        for e in range(len(element_begin) - 1):
            begin, end = element_begin[e], element_begin[e + 1]
            if end > begin:
                evaluate_network(
                    parameters[m, e * size : (e + 1) * size], transposed[m, e * size : (e + 1) * size], shape,
                    work.x[begin:end], _part_of(work.activity, m, begin * n_neurons, end * n_neurons),
                    work.outputs[m, begin:end], work.gradients[m, begin:end],
                )  # fmt: skip


@njit(**COMPILE_INNER)
def _add_gradients(
    parameters: Array, transposed: Array, shape: NetworkShape, work: Workspace, element_begin: NDArray[np.int64],
    m: int, gradient: Array,
) -> None:  # fmt: skip
    n_neurons, size = shape.neurons[-1] + shape.widths[-1], shape.size
    for e in range(len(element_begin) - 1):
        begin, end = element_begin[e], element_begin[e + 1]
        if end > begin:
            add_gradient(
                parameters[m, e * size : (e + 1) * size], transposed[m, e * size : (e + 1) * size], shape,
                work.x[begin:end], _part_of(work.activity, m, begin * n_neurons, end * n_neurons),
                work.by_outputs[m, begin:end], work.gradients[m, begin:end], work.layers,
                gradient[m, e * size : (e + 1) * size],
            )  # fmt: skip


@njit(**COMPILE)
def add_chunk(
    parameters: Array,
    transposed: Array,
    is_first: bool,
    shape: NetworkShape,
    frames: Frames,
    targets: Targets,
    chunk: NDArray[np.int64],
    shares: Array,
    jacobian: Jacobian,
    is_stored: bool,
    work: Workspace,
    losses: Array,
    gradient: Array,
) -> None:
    """Losses of all members on some frames, and the gradient of Σ shares · losses.

    Args:
        parameters: (M, n_elements · shape.size) of all networks.
        transposed: as ``parameters``; scratch.
        is_first: of the chunks of a batch, between which the weights stay the same and gradients are summed.
        shape: of the network of each element.
        frames, targets: see there.
        chunk: (n,) indices of frames, no more atoms together than the work space has rows.
        shares: (n, M) what each of them counts in each member's loss.
        jacobian: of all frames; or room for this chunk, if it is not stored.
        is_stored: which of the two.
        work: work space.
        losses: (n, 3, M) filled, by energy, forces and virial.
        gradient: as ``parameters``, filled or added to.
    """
    f, n_members, whole = frames.functions, len(parameters), len(work.gradients)
    if is_first:
        for m in range(n_members):
            clear(gradient[m])
            for e in range(f.n_elements):
                own = slice(e * shape.size, (e + 1) * shape.size)
                transpose_weights(parameters[m, own], shape, transposed[m, own])
    element_begin, energies = np.zeros(f.n_elements + 1, np.int64), np.zeros(n_members)
    n_atoms = _arrange(frames, chunk, work, element_begin)
    _evaluate_networks(parameters, transposed, shape, work, element_begin)
    is_padding = np.ones(element_begin[-1], np.bool_)
    for atom in range(n_atoms):
        is_padding[work.row_of[atom]] = False
    for row in range(element_begin[-1]):
        if is_padding[row]:
            for m in range(n_members):
                clear(work.gradients[m, row])
                work.by_outputs[m, row] = 0.0
    first = 0
    for index in range(len(chunk)):
        frame = chunk[index]
        begin, end = frames.offsets[frame], frames.offsets[frame + 1]
        n = end - begin
        rows, forces = work.row_of[first : first + n], work.forces[: n * 3 * whole]
        with_virials = targets.virial_weights[frame] > 0.0
        center = begin if is_stored else first
        if not is_stored:
            features = work.features[:n]
            fill_jacobian(frames.geometry, f, begin, end, jacobian, center, with_virials, features)
            scale_jacobian(jacobian, f, center, center + n, frames.species[begin:end], frames.scales, with_virials)
        clear(forces)
        clear(work.virials)
        add_forces(jacobian, f, center, rows, work.gradients, work.products, forces, work.virials, with_virials)
        for m in range(n_members):
            energies[m] = 0.0
            for i in range(n):
                energies[m] += work.outputs[m, rows[i]] * frames.energy_scales[frames.species[begin + i]]
        _score_frame(targets, frame, slice(begin, end), energies, forces, work.virials, shares[index], losses[index])
        for m in range(n_members):
            for i in range(n):
                work.by_outputs[m, rows[i]] = energies[m] * frames.energy_scales[frames.species[begin + i]]
        following = (0, 0)
        if is_stored and index + 1 < len(chunk):
            following = (frames.offsets[chunk[index + 1]], frames.offsets[chunk[index + 1] + 1])
        if shares[index].any():
            gradients_from_forces(
                jacobian, f, center, rows, forces, work.virials, with_virials, following, work.products, work.gradients
            )
        else:
            for m in range(n_members):
                for i in range(n):
                    clear(work.gradients[m, rows[i]])
        first += n
    for m in range(n_members):
        if shares[:, m].any():
            _add_gradients(parameters, transposed, shape, work, element_begin, m, gradient)
