"""A campaign whose potential has the repulsion of nuclei as its baseline: a wall that no label shows."""

import numpy as np
from ase import Atoms
from tiny_campaign import controller_of, new_campaign, with_emt

import alpot
from alpot.potential.pair_repulsion import zbl_energy
from alpot.store.labels import read_label
from alpot.subjects.interatomic import InteratomicSubject

WITH_ZBL = ('code = "emt"\n', 'code = "emt"\n\n[reference.cheap]\ncode = "zbl"\nuse = ["baseline", "screen"]\n')


def test_exploration_training_and_loading_know_the_wall(tmp_path, without_waiting_for_the_disk):
    directory = new_campaign(tmp_path / "walled", WITH_ZBL)
    ended = controller_of(directory).run()
    assert ended.status == "finished"
    for path in (directory.path / "labels").glob("*/*.h5"):  # labels stay those of the reference
        label = read_label(path)
        np.testing.assert_allclose(label.forces, with_emt(label.atoms).get_forces(), atol=1e-12)
    calculator = alpot.load(directory.model_path(ended.state.generations))
    assert calculator.card.baseline["code"] == "zbl"
    assert calculator.card.baseline["hash"] == InteratomicSubject(directory.path).baseline.identity
    # Closer than 0.5 Å the descriptor sees nothing, and the networks add a constant.
    near, nearer = (
        calculator.get_property("energy", Atoms("Al2", positions=[[0.0, 0.0, 0.0], [0.0, 0.0, distance]]))
        for distance in (0.5, 0.3)
    )
    rise = float(zbl_energy(13, 13, 0.3) - zbl_energy(13, 13, 0.5))
    assert nearer - near > 0.9 * rise > 900.0
