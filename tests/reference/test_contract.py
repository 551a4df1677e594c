from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms

from alpot.config import Reference
from alpot.reference import ReferenceResult, open_reference
from alpot.reference.ase_reference import AseReference
from alpot.reference.contract import ContractError, check_reference_contract

ANI_AL = Path(__file__).parents[2].parent / "shared" / "ani-al"


def opener(code: str, base: Path, **arguments: Any) -> Callable[[], Any]:
    return lambda: open_reference(Reference(code=code, arguments=arguments), base_directory=base)


def test_emt(aluminum: Atoms, tmp_path: Path) -> None:
    check_reference_contract(opener("emt", tmp_path), aluminum)


def test_emt_of_a_molecule_without_stress(tmp_path: Path) -> None:
    molecule = Atoms("Cu2Al", positions=[(0, 0, 0), (0, 0, 2.3), (0.3, 2.1, 1.0)])
    check_reference_contract(opener("emt", tmp_path), molecule)


def test_lennard_jones(aluminum: Atoms, tmp_path: Path) -> None:
    aluminum.set_cell(aluminum.cell.array * 5.26 / 4.05, scale_atoms=True)
    check_reference_contract(opener("lj", tmp_path, sigma=3.4, epsilon=0.0104), aluminum, refused_element=None)


def test_zbl(aluminum: Atoms, tmp_path: Path) -> None:
    aluminum.set_cell(aluminum.cell.array * 0.7, scale_atoms=True)  # else no two atoms meet
    check_reference_contract(opener("zbl", tmp_path), aluminum, refused_element=None)


def test_eam(aluminum: Atoms, eam_file: Path) -> None:
    check_reference_contract(opener("eam", eam_file.parent, potential=eam_file.name), aluminum)


def test_any_ase_calculator_by_import_path(aluminum: Atoms, tmp_path: Path) -> None:
    make = opener("ase.calculators.emt:EMT", tmp_path)
    check_reference_contract(make, aluminum, refused_element=None)


def test_registered_ase_calculator(aluminum: Atoms, tmp_path: Path) -> None:
    make = opener("morse", tmp_path, epsilon=0.3, r0=2.8)
    check_reference_contract(make, aluminum, refused_element=None)


@pytest.mark.skipif(not ANI_AL.is_dir(), reason="the published ANI-Al weights are not in ../shared/ani-al")
def test_ani(aluminum: Atoms) -> None:
    check_reference_contract(opener("ani", ANI_AL.parent, folder="ani-al"), aluminum)


class Broken(AseReference):
    """EMT with one defect."""

    defect = ""

    def compute(self, atoms: Atoms, directory: Path) -> ReferenceResult:
        result = super().compute(atoms, directory)
        match self.defect:
            case "force sign":
                return replace(result, forces=-result.forces)
            case "stress sign":
                return replace(result, stress=-result.stress)  # type: ignore[operator]
            case "stress order":
                return replace(result, stress=result.stress[[0, 1, 2, 5, 4, 3]])  # type: ignore[index]
            case "mutation":
                atoms.positions += 1.0
            case "not invariant":
                return replace(result, energy=result.energy + atoms.positions[0, 0])
            case "memory":
                self.described["calls"] = self.described.get("calls", 0) + 1  # type: ignore[index]
                return replace(result, energy=result.energy + 0.001 * self.described["calls"])
            case "nan":
                return replace(result, energy=np.nan)
            case "shape":
                return replace(result, forces=result.forces[:-1])
        return result

    def settings(self) -> dict[str, Any]:
        return {"code": object()} if self.defect == "settings" else {"code": self.name}


@pytest.mark.parametrize(
    ("defect", "message"),
    [
        ("force sign", "−dE/dx"),
        ("stress sign", "component 0"),
        ("stress order", "component 5"),
        ("mutation", "changes the atoms"),
        ("not invariant", "translation"),
        ("memory", "after another frame"),
        ("nan", "energy is nan"),
        ("shape", "shape"),
        ("settings", "JSON"),
    ],
)
def test_defects_are_found(defect: str, message: str, aluminum: Atoms, tmp_path: Path) -> None:
    emt = opener("emt", tmp_path)()
    # A shear, so that the components xy and yz of the stress differ by more than the tolerance.
    aluminum.set_cell(aluminum.cell.array @ [[1.0, 0.1, 0.0], [0.0, 1.05, 0.0], [0.0, 0.0, 1.0]], scale_atoms=True)
    kind = type("Broken", (Broken,), {"defect": defect})
    with pytest.raises(ContractError, match=message):
        check_reference_contract(lambda: kind(name="broken", make=emt.make, elements=emt.elements), aluminum)


def test_a_reference_that_takes_any_element_is_found(aluminum: Atoms, tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="accepts Og"):
        check_reference_contract(opener("morse", tmp_path, epsilon=0.3, r0=2.8), aluminum)
