"""Finds the reference that a campaign file names: built in, from a plug-in, or any ASE calculator."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from ase.calculators import calculator as ase_calculator
from ase.calculators.calculator import BaseCalculator
from ase.calculators.names import names as ase_names

from alpot.config import Reference
from alpot.config.spelling import did_you_mean
from alpot.errors import ConfigError, UsageError
from alpot.reference.ase_reference import AseReference
from alpot.reference.dft import DftReference
from alpot.reference.inputs import with_inputs
from alpot.reference.protocol import ReferenceCalculator, level_of_theory

#: Entry point group of plug-ins: each entry is a factory ``(*, base_directory: Path, **arguments)``.
ENTRY_POINT_GROUP = "alpot.references"

#: Factories of the same signature; their modules are imported when they are asked for.
BUILT_IN = {
    "emt": "alpot.reference.emt:open_emt",
    "lj": "alpot.reference.lj:open_lj",
    "eam": "alpot.reference.eam:open_eam",
    "ani": "alpot.reference.ani:open_ani",
    "zbl": "alpot.reference.zbl:open_zbl",
}

#: Density-functional codes: subclasses of ``DftCode``; their modules are imported when they are asked for.
DFT_CODES = {
    "espresso": "alpot.reference.espresso:Espresso",
    "gpaw": "alpot.reference.gpaw:Gpaw",
    "cp2k": "alpot.reference.cp2k:Cp2k",
    "abinit": "alpot.reference.abinit:Abinit",
    "vasp": "alpot.reference.vasp:Vasp",
    "orca": "alpot.reference.orca:Orca",
}

#: Arguments of ASE calculators that alpot sets by itself.
_RESERVED = ("atoms", "directory", "restart", "label")


def open_reference(settings: Reference, *, base_directory: Path) -> ReferenceCalculator:
    """Opens the reference of a campaign. It costs next to nothing: see ``check`` for what can be known further.

    A string among the arguments of an ASE calculator that begins with ``./`` or ``../`` names a file or folder: it is
    found relative to ``base_directory`` and enters the level of theory by its content.

    Args:
        settings: the table ``[reference]``.
        base_directory: folder of the campaign file.

    Raises:
        ConfigError: the name or an argument is not known.
        UsageError: the module of an import path, or of an ASE calculator, is not installed.
    """
    code = settings.code
    plugins = {point.name: point for point in entry_points(group=ENTRY_POINT_GROUP)}
    _refuse_unknown(code, [*DFT_CODES, *BUILT_IN, *plugins])
    if settings.dft is not None and code not in DFT_CODES:
        raise ConfigError(
            f"there is a table [reference.dft], but reference.code = {code!r} does not use it; choose one of"
            f" {', '.join(DFT_CODES)}, or remove the table"
        )
    if code in BUILT_IN:
        reference = _from_factory(code, _import(BUILT_IN[code], code), settings, base_directory)
    elif code in DFT_CODES:
        reference = _from_dft_code(code, settings, base_directory)
    elif code in plugins:
        reference = _from_factory(code, _load(plugins[code]), settings, base_directory)
    elif ":" in code:
        made = _import(code, code)
        _refuse_other_than_calculators(code, made)
        reference = _from_ase(code, made, settings, base_directory)
    else:
        reference = _from_ase(code, _ase_class(code), settings, base_directory)
    # Better to learn now than with the first label that the settings cannot be recorded.
    level_of_theory(reference)
    return reference


def _refuse_unknown(code: str, ours: Sequence[str]) -> None:
    ases = _registered_in_ase()
    if ":" not in code and code not in (*ours, *ases):
        raise ConfigError(
            f"reference.code = {code!r} is not known;{did_you_mean(code, [*ours, *ases])} there are {', '.join(ours)},"
            f" ASE's calculators ({', '.join(ases)}), and import paths such as"
            ' "ase.calculators.emt:EMT"'
        )


def _from_factory(
    code: str, factory: Callable[..., ReferenceCalculator], settings: Reference, base_directory: Path
) -> ReferenceCalculator:
    _check_arguments(code, factory, settings.arguments, hidden=("base_directory",))
    return factory(base_directory=base_directory, **settings.arguments)


def _from_dft_code(code: str, settings: Reference, base_directory: Path) -> DftReference:
    if settings.dft is None:
        raise ConfigError(
            f"reference.code = {code!r} needs a table [reference.dft] with its level of theory: functional, cutoff of"
            " the plane waves in eV, pseudopotentials (orca: basis); `alpot schema` lists all keys"
        )
    arguments, described = with_inputs(settings.arguments, base_directory)
    dft = settings.dft
    if dft.program is not None and "/" in dft.program:  # it runs elsewhere than where the campaign file is
        program = (base_directory / Path(dft.program).expanduser()).absolute()
        dft = dft.model_copy(update={"program": str(program)})
    return DftReference(
        code=_import(DFT_CODES[code], code)(),
        dft=dft,
        arguments=arguments,
        described=described,
        base_directory=base_directory,
    )


def _from_ase(code: str, make: Callable[..., Any], settings: Reference, base_directory: Path) -> AseReference:
    reserved = [key for key in settings.arguments if key in _RESERVED]
    if reserved:
        raise ConfigError(
            f"reference.arguments may not set {', '.join(reserved)}: alpot gives every calculation of {code!r} its own"
            " directory; remove it"
        )
    _check_arguments(code, make, settings.arguments, hidden=_RESERVED)
    arguments, described = with_inputs(settings.arguments, base_directory)
    return AseReference(name=code, make=make, arguments=arguments, described=described)


def _check_arguments(code: str, make: Callable[..., Any], arguments: dict[str, Any], *, hidden: Iterable[str]) -> None:
    """Refuses arguments that ``make`` does not take and asks for those that it needs.

    Many ASE calculators take any keyword; what they make of it is seen when ``check`` builds one.
    """
    parameters = {
        name: parameter
        for name, parameter in inspect.signature(make).parameters.items()
        if name not in hidden and parameter.kind is not inspect.Parameter.VAR_POSITIONAL
    }
    takes_any = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
    named = [name for name, p in parameters.items() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    unknown = [] if takes_any else [key for key in arguments if key not in named]
    if unknown:
        raise ConfigError(
            f"reference.arguments: {code!r} does not take {', '.join(map(repr, unknown))};"
            f"{did_you_mean(unknown[0], named)} it takes {', '.join(named) or 'no arguments'}"
        )
    needed = [name for name in named if parameters[name].default is inspect.Parameter.empty and name not in arguments]
    if needed:
        raise ConfigError(f"reference.arguments: {code!r} needs {', '.join(needed)}; it takes {', '.join(named)}")


def _import(path: str, code: str) -> Callable[..., Any]:
    module_name, _, attribute = path.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise UsageError(
            f"reference.code = {code!r}: the module {module_name!r} cannot be imported ({error}); install the package"
            " that has it into this Python environment, or correct the name"
        ) from error
    made = getattr(module, attribute, None)
    if not callable(made):
        public = [name for name in vars(module) if not name.startswith("_")]
        raise ConfigError(
            f"reference.code = {code!r}: the module {module_name!r} has no class {attribute!r};"
            f'{did_you_mean(attribute, public)} write "module:Class"'
        )
    return made


def _refuse_other_than_calculators(code: str, made: Callable[..., Any]) -> None:
    """Refuses what an import path may name besides calculators, before it is called with the file's arguments.

    Some packages offer functions that make a calculator; those of Python's own library start programs and delete files.
    """
    if inspect.isclass(made):
        is_calculator = issubclass(made, BaseCalculator)
    else:
        homes = {code.partition(":")[0].partition(".")[0], str(made.__module__).partition(".")[0]}
        is_calculator = inspect.isfunction(made) and not homes & sys.stdlib_module_names
    if not is_calculator:
        raise ConfigError(
            f"reference.code = {code!r} is neither an ASE calculator (a subclass of"
            " ase.calculators.calculator.BaseCalculator) nor a package's function that makes one"
        )


def _load(point: EntryPoint) -> Callable[..., ReferenceCalculator]:
    try:
        return point.load()
    except (ImportError, AttributeError) as error:
        raise UsageError(
            f"reference.code = {point.name!r}: the plug-in {point.value!r} cannot be imported ({error}); reinstall the"
            " package that announces it"
        ) from error


def _registered_in_ase() -> list[str]:
    return sorted({*ase_names, *ase_calculator.external_calculators} - set(BUILT_IN) - set(DFT_CODES))


def _ase_class(name: str) -> Callable[..., Any]:
    try:
        return ase_calculator.get_calculator_class(name)
    except (ImportError, AttributeError) as error:
        raise UsageError(
            f"reference.code = {name!r} is an ASE calculator, but its class cannot be imported ({error}); install the"
            " package that it comes from, or give its import path"
        ) from error
