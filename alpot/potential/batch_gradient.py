"""Losses of all members on batches of frames, their exact gradients by the weights, and descent; compiled for the CPU.

No graph is recorded: networks are evaluated, the Jacobian turns their gradients into forces, the derivative of the loss
by energies, forces and virials goes back through both (``jacobian_products``, ``double_backward``).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from alpot.potential.descriptor_derivatives import fill_jacobian, scale_jacobian
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
from alpot.potential.kernels import GeometryArrays
from alpot.potential.matrix_tiles import COLUMNS, COMPILE, COMPILE_INNER, ROWS, clear
from alpot.potential.optimizer import AdamSettings, update_members
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
    geometry: GeometryArrays
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


class Weights(NamedTuple):
    """Of all members, (M, n_elements · shape.size) each.

    Attributes:
        parameters: of all networks, see ``NetworkShape``.
        transposed: the matrices among them, see ``transpose_weights``; scratch.
        gradient: of Σ shares · losses on the last batch.
        first, second: moments of the optimizer.
    """

    parameters: Array
    transposed: Array
    gradient: Array
    first: Array
    second: Array


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
        virials, energies: (6 · M,), (M,) likewise.
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
    energies: NDArray[np.float64]
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
            energies=np.zeros(n_members),
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
def _begin_batch(weights: Weights, shape: NetworkShape, n_elements: int) -> None:
    for m in range(len(weights.parameters)):
        clear(weights.gradient[m])
        for e in range(n_elements):
            own = slice(e * shape.size, (e + 1) * shape.size)
            transpose_weights(weights.parameters[m, own], shape, weights.transposed[m, own])


@njit(**COMPILE_INNER)
def _evaluate_networks(
    weights: Weights, shape: NetworkShape, work: Workspace, element_begin: NDArray[np.int64]
) -> None:
    n_neurons = shape.neurons[-1] + shape.widths[-1]
    for m in range(len(weights.parameters)):
        for e in range(len(element_begin) - 1):
            begin, end = element_begin[e], element_begin[e + 1]
            own = slice(e * shape.size, (e + 1) * shape.size)
            if end > begin:
                evaluate_network(
                    weights.parameters[m, own], weights.transposed[m, own], shape, work.x[begin:end],
                    _part_of(work.activity, m, begin * n_neurons, end * n_neurons), work.outputs[m, begin:end],
                    work.gradients[m, begin:end],
                )  # fmt: skip


@njit(**COMPILE_INNER)
def _add_gradients(
    weights: Weights, shape: NetworkShape, work: Workspace, element_begin: NDArray[np.int64], m: int
) -> None:
    n_neurons = shape.neurons[-1] + shape.widths[-1]
    for e in range(len(element_begin) - 1):
        begin, end = element_begin[e], element_begin[e + 1]
        own = slice(e * shape.size, (e + 1) * shape.size)
        if end > begin:
            add_gradient(
                weights.parameters[m, own], weights.transposed[m, own], shape, work.x[begin:end],
                _part_of(work.activity, m, begin * n_neurons, end * n_neurons), work.by_outputs[m, begin:end],
                work.gradients[m, begin:end], work.layers, weights.gradient[m, own],
            )  # fmt: skip


@njit(**COMPILE_INNER)
def _clear_padding(work: Workspace, n_atoms: int, element_begin: NDArray[np.int64]) -> None:
    """Rows that are no atoms, behind those of each element, must not count in the gradient."""
    row = 0
    for e in range(len(element_begin) - 1):
        n_own = 0
        for atom in range(n_atoms):
            n_own += element_begin[e] <= work.row_of[atom] < element_begin[e + 1]
        for row in range(element_begin[e] + n_own, element_begin[e + 1]):
            for m in range(len(work.outputs)):
                clear(work.gradients[m, row])
                work.by_outputs[m, row] = 0.0


@njit(**COMPILE_INNER)
def _score_frame_and_go_back(
    frames: Frames, targets: Targets, frame: int, following: int, first: int, shares: Array, jacobian: Jacobian,
    is_stored: bool, work: Workspace, losses: Array,
) -> None:  # fmt: skip
    """Forces and losses of one frame of a chunk; its rows become the derivatives of the loss.

    Args:
        frames, targets, jacobian, is_stored, work: as of ``run_batches``.
        frame: its index.
        following: index of the frame that is next, or −1.
        first: its first atom's place in the chunk.
        shares: (M,) what it counts in each member's loss.
        losses: (3, M) filled.
    """
    f, n_members, whole = frames.functions, len(work.outputs), len(work.gradients)
    begin, end = frames.offsets[frame], frames.offsets[frame + 1]
    n = end - begin
    rows, species = work.row_of[first : first + n], frames.species[begin:end]
    forces, virials, energies = work.forces[: n * 3 * whole], work.virials, work.energies
    with_virials = targets.virial_weights[frame] > 0.0
    center, next_centers = begin, (0, 0)
    if not is_stored:
        center = first
        fill_jacobian(frames.geometry, f, begin, end, jacobian, center, with_virials, work.features[:n])
        scale_jacobian(jacobian, f, center, center + n, species, frames.scales, with_virials)
    elif following >= 0:
        next_centers = (frames.offsets[following], frames.offsets[following + 1])
    clear(forces)
    clear(virials)
    add_forces(jacobian, f, center, rows, work.gradients, work.products, forces, virials, with_virials)
    for m in range(n_members):
        energies[m] = 0.0
        for i in range(n):
            energies[m] += work.outputs[m, rows[i]] * frames.energy_scales[species[i]]
    _score_frame(targets, frame, slice(begin, end), energies, forces, virials, shares, losses)
    for m in range(n_members):
        for i in range(n):
            work.by_outputs[m, rows[i]] = energies[m] * frames.energy_scales[species[i]]
    if shares.any():
        gradients_from_forces(
            jacobian, f, center, rows, forces, virials, with_virials, next_centers, work.products, work.gradients
        )
    else:
        for m in range(n_members):
            for i in range(n):
                clear(work.gradients[m, rows[i]])


@njit(**COMPILE_INNER)
def _end_of_chunk(offsets: NDArray[np.int64], order: NDArray[np.int64], begin: int, end: int) -> int:
    """Consecutive frames with at most ``ATOMS_PER_CHUNK`` atoms together, or one larger frame."""
    n_atoms = 0
    for place in range(begin, end):
        n_atoms += offsets[order[place] + 1] - offsets[order[place]]
        if n_atoms > ATOMS_PER_CHUNK and place > begin:
            return place
    return end


@njit(**COMPILE)
def run_batches(
    weights: Weights,
    shape: NetworkShape,
    frames: Frames,
    targets: Targets,
    order: NDArray[np.int64],
    batch_frames: int,
    shares: Array,
    rates: Array,
    adam: AdamSettings,
    steps: int,
    jacobian: Jacobian,
    is_stored: bool,
    work: Workspace,
    losses: Array,
) -> None:
    """Losses of all members on batches of frames, with a step of the optimizer after each.

    Args:
        weights: see there; changed.
        shape: of the network of each element.
        frames, targets: see there.
        order: (n,) indices of frames.
        batch_frames: that many of them make a batch.
        shares: (n, M) what each counts in each member's loss, of which the gradient is taken.
        rates: (n_batches, M) learning rates; (0, M) for the gradient only.
        adam: settings of the optimizer.
        steps: that it has made before.
        jacobian: of all frames; or room for one chunk, if it is not stored.
        is_stored: which of the two.
        work: work space.
        losses: (n, 3, M) filled, by energy, forces and virial, each before its batch's step.
    """
    element_begin = np.zeros(frames.functions.n_elements + 1, np.int64)
    for batch_begin in range(0, len(order), batch_frames):
        batch_end = min(batch_begin + batch_frames, len(order))
        _begin_batch(weights, shape, frames.functions.n_elements)
        begin = batch_begin
        while begin < batch_end:
            end = _end_of_chunk(frames.offsets, order, begin, batch_end)
            n_atoms, first = _arrange(frames, order[begin:end], work, element_begin), 0
            _evaluate_networks(weights, shape, work, element_begin)
            _clear_padding(work, n_atoms, element_begin)
            for place in range(begin, end):
                following = order[place + 1] if place + 1 < end else -1
                _score_frame_and_go_back(
                    frames, targets, order[place], following, first, shares[place], jacobian, is_stored, work,
                    losses[place],
                )  # fmt: skip
                first += frames.offsets[order[place] + 1] - frames.offsets[order[place]]
            for m in range(len(weights.parameters)):
                if shares[begin:end, m].any():
                    _add_gradients(weights, shape, work, element_begin, m)
            begin = end
        if len(rates):
            batch = batch_begin // batch_frames
            update_members(
                weights.parameters, weights.gradient, weights.first, weights.second, rates[batch], adam,
                steps + batch + 1,
            )  # fmt: skip
