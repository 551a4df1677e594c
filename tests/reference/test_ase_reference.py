import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.calculator import Calculator, FileIOCalculator, PropertyNotImplementedError
from ase.calculators.emt import EMT
from ase.calculators.genericfileio import CalculatorTemplate, GenericFileIOCalculator
from ase.calculators.singlepoint import SinglePointCalculator

from alpot.config import Reference
from alpot.errors import FailureClass, ReferenceError, UsageError
from alpot.reference import open_reference
from alpot.reference.ase_reference import AseReference


class Counting(EMT):
    """EMT that counts its calculations and remembers what it was asked for."""

    asked: ClassVar[list[list[str]]] = []

    def calculate(self, atoms: Any = None, properties: Any = ("energy",), system_changes: Any = ()) -> None:
        Counting.asked.append(list(properties))
        super().calculate(atoms, properties, system_changes)


class WithoutStress(Counting):
    """Lists stress and then has none, like some modes of some codes."""

    def calculate(self, atoms: Any = None, properties: Any = ("energy",), system_changes: Any = ()) -> None:
        if "stress" in properties:
            raise PropertyNotImplementedError("no stress in this mode")
        super().calculate(atoms, properties, system_changes)
        self.results.pop("stress", None)


class Smeared(EMT):
    """Energy and free energy differ, as with smeared occupations."""

    def calculate(self, *args: Any, **kwargs: Any) -> None:
        super().calculate(*args, **kwargs)
        self.results["energy"] = self.results["free_energy"] + 0.5


class Unconverged(EMT):
    converged = False


class Program(FileIOCalculator):
    """A code that is a program."""

    implemented_properties: ClassVar[list[str]] = ["energy", "forces"]

    def __init__(self, command: str, **kwargs: Any) -> None:
        super().__init__(command=command, **kwargs)


class Template(CalculatorTemplate):
    """Files in, program, files out: the way of Espresso, Abinit and others in ASE."""

    runs = 0

    def __init__(self) -> None:
        super().__init__("template", ["energy", "free_energy", "forces", "stress"])

    def write_input(self, profile: Any, directory: Any, atoms: Any, parameters: Any, properties: Any) -> None:
        (Path(directory) / "properties.json").write_text(json.dumps(list(properties)))

    def execute(self, directory: Any, profile: Any) -> None:
        Template.runs += 1

    def read_results(self, directory: Any) -> dict[str, Any]:
        asked = json.loads((Path(directory) / "properties.json").read_text())
        values = {"energy": 1.0, "forces": np.zeros((4, 3)), "stress": np.zeros(6)}
        return {name: values[name] for name in asked}

    def load_profile(self, cfg: Any) -> None:
        """There is nothing to configure."""


class ByTemplate(GenericFileIOCalculator):
    def __init__(self, *, directory: str = ".") -> None:
        super().__init__(template=Template(), profile=object(), directory=directory)


@pytest.fixture(autouse=True)
def _forget() -> None:
    Counting.asked.clear()


def test_one_calculation_gives_all(aluminum: Atoms, tmp_path: Path) -> None:
    result = AseReference(name="x", make=Counting).compute(aluminum, tmp_path)
    assert Counting.asked == [["energy", "forces", "stress"]]
    aluminum.calc = EMT()
    assert result.energy == aluminum.get_potential_energy()
    np.testing.assert_array_equal(result.forces, aluminum.get_forces())
    np.testing.assert_array_equal(result.stress, aluminum.get_stress())


def test_programs_run_once_for_energy_forces_and_stress(aluminum: Atoms, tmp_path: Path) -> None:
    Template.runs = 0
    result = AseReference(name="x", make=ByTemplate).compute(aluminum, tmp_path)
    assert Template.runs == 1
    assert result.stress is not None
    assert result.details["energy"] == "energy"


def test_what_is_no_ase_calculator_is_refused() -> None:
    with pytest.raises(UsageError, match="type dict, which is no ASE calculator"):
        AseReference(name="x", make=dict).check(["Al"])


def test_no_stress_of_a_slab(aluminum: Atoms, tmp_path: Path) -> None:
    aluminum.pbc = (True, True, False)
    assert AseReference(name="x", make=Counting).compute(aluminum, tmp_path).stress is None
    assert Counting.asked == [["energy", "forces"]]


def test_code_without_stress(aluminum: Atoms, tmp_path: Path) -> None:
    result = AseReference(name="x", make=WithoutStress).compute(aluminum, tmp_path)
    assert result.stress is None
    assert result.forces.shape == (4, 3)


def test_free_energy_is_taken_because_forces_are_its_derivatives(aluminum: Atoms, tmp_path: Path) -> None:
    result = AseReference(name="x", make=Smeared).compute(aluminum, tmp_path)
    exact = AseReference(name="x", make=EMT).compute(aluminum, tmp_path)
    assert result.energy == exact.energy
    assert result.details["energy"] == "free_energy"


def test_convergence_flag(aluminum: Atoms, tmp_path: Path) -> None:
    with pytest.raises(ReferenceError) as caught:
        AseReference(name="x", make=Unconverged).compute(aluminum, tmp_path)
    assert caught.value.failure is FailureClass.NOT_CONVERGED


def test_calculator_without_forces(aluminum: Atoms, tmp_path: Path) -> None:
    def make() -> Calculator:
        return SinglePointCalculator(aluminum, energy=1.0)

    with pytest.raises(ReferenceError) as caught:
        AseReference(name="x", make=make).compute(aluminum, tmp_path)
    assert caught.value.failure in (FailureClass.BAD_OUTPUT, FailureClass.UNKNOWN)


def test_calculation_runs_in_its_own_directory(tmp_path: Path) -> None:
    reference = AseReference(name="x", make=Program, arguments={"command": "true"})
    assert Path(reference.calculator(tmp_path).directory) == tmp_path


def test_missing_program_is_found_before_anything_is_spent() -> None:
    with pytest.raises(UsageError, match="no-such-program"):
        AseReference(name="x", make=Program, arguments={"command": "no-such-program < in"}).check(["Al"])


@pytest.mark.parametrize(
    ("command", "failure"),
    [
        ("no-such-program", FailureClass.MISSING_PROGRAM),
        ("echo 'last words' > out.log; exit 3", FailureClass.UNKNOWN),
        ("kill -9 $$", FailureClass.OUT_OF_MEMORY),
    ],
)
def test_failures_of_a_program(command: str, failure: FailureClass, aluminum: Atoms, tmp_path: Path) -> None:
    with pytest.raises(ReferenceError) as caught:
        AseReference(name="x", make=Program, arguments={"command": command}).compute(aluminum, tmp_path)
    assert caught.value.failure is failure
    assert "'x'" in str(caught.value)
    assert ("last words" in caught.value.evidence) == (failure is FailureClass.UNKNOWN)


def test_calculator_that_cannot_be_set_up() -> None:
    reference = open_reference(Reference(code="aims"), base_directory=Path())
    with pytest.raises(UsageError, match="'aims' cannot be set up"):
        reference.check(["Al"])


def test_unknown_elements_are_named() -> None:
    reference = open_reference(Reference(code="emt"), base_directory=Path())
    with pytest.raises(UsageError, match=r"elements Fe, Zr; it knows .*Al"):
        reference.check(["Al", "Fe", "Zr"])
