"""The campaign file (``campaign.toml``) as pydantic models, one model per table.

The models are also the settings objects of the rooms: immutable values with units in their descriptions.
Reading the file, and turning validation errors into sentences that help, is in ``config_file.py``.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from ase.data import chemical_symbols
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

#: Elements that have a chemical symbol; ``X`` (number 0) is not one.
_ELEMENTS = frozenset(chemical_symbols[1:])


class Table(BaseModel):
    """Base of all tables: unknown keys are refused, values cannot be changed."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def _ordered(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] > bounds[1]:
        raise ValueError(f"the lower bound {bounds[0]:g} is above the upper bound {bounds[1]:g}")
    return bounds


def _element(symbol: str) -> str:
    if symbol not in _ELEMENTS:
        raise ValueError(f"{symbol!r} is not a chemical symbol")
    return symbol


def _not_negative(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] < 0:
        raise ValueError(f"the lower bound {bounds[0]:g} is negative")
    return bounds


#: A closed interval [low, high] from which values are drawn uniformly.
Range = Annotated[tuple[float, float], AfterValidator(_ordered)]
PositiveRange = Annotated[tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]], AfterValidator(_ordered)]
CountRange = Annotated[tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]], AfterValidator(_ordered)]
Element = Annotated[str, AfterValidator(_element)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]


# ----------------------------------------------------------------------------------------------- material


class PackingStarts(Table):
    """Disordered packings: atoms dropped at random into a periodic cube, no two too close."""

    kind: Literal["packing"] = "packing"
    weight: Positive = Field(1.0, description="share of the starts drawn from this table, relative to the others")
    atoms: CountRange = Field((55, 250), description="number of atoms; the paper used cells of this size")
    density: PositiveRange | None = Field(
        None,
        description="mass density in g/cm³; by default 0.67 to 1.5 times that of the elements at normal conditions,"
        " which for Al is the paper's 1.80 to 4.05",
    )
    min_distance_factor: Positive = Field(
        0.75,
        description="closest approach allowed, as a fraction of the sum of the two covalent radii;"
        " 0.75 is the paper's 1.8 Å for Al. Lowered by itself where the density does not permit it",
    )


class CrystalStarts(Table):
    """Crystals (supercells of a prototype) with random strain, rattle and point defects."""

    kind: Literal["crystal"] = "crystal"
    weight: Positive = Field(1.0, description="share of the starts drawn from this table, relative to the others")
    prototypes: tuple[Literal["fcc", "bcc", "hcp", "sc", "diamond", "a15"], ...] = Field(
        ("fcc", "bcc", "hcp", "sc", "diamond", "a15"),
        min_length=1,
        description="prototype lattices, drawn with equal chance",
    )
    atoms: CountRange = Field((30, 120), description="number of atoms of the supercell before defects are made")
    density: PositiveRange | None = Field(
        None,
        description="mass density in g/cm³; by default 0.67 to 1.5 times that of the elements at normal conditions",
    )
    strain: Annotated[float, Field(ge=0, lt=0.5)] = Field(
        0.05, description="largest component of the random symmetric strain (no unit)"
    )
    rattle: Annotated[Range, AfterValidator(_not_negative)] = Field(
        (0.0, 0.2), description="standard deviation in Å of Gaussian displacements, drawn per start"
    )
    vacancy_chance: Fraction = Field(0.2, description="chance that a start has vacancies (1 to 3 of them)")
    interstitial_chance: Fraction = Field(0.1, description="chance that a start has one interstitial atom")


class FileStarts(Table):
    """Structures from a file in any format that ASE reads."""

    kind: Literal["file"] = "file"
    weight: Positive = Field(1.0, description="share of the starts drawn from this table, relative to the others")
    path: str = Field(description="file name, relative to the campaign file")
    index: str = Field(":", description="which frames, in ASE's notation")
    rattle: Annotated[Range, AfterValidator(_not_negative)] = Field(
        (0.0, 0.0), description="standard deviation in Å of Gaussian displacements, drawn per start"
    )


Starts = Annotated[PackingStarts | CrystalStarts | FileStarts, Field(discriminator="kind")]


class Material(Table):
    """What the potential is for."""

    elements: tuple[Element, ...] = Field(min_length=1, description='chemical symbols, e.g. ["Al"]')
    composition: dict[Element, tuple[Fraction, Fraction]] | None = Field(
        None,
        description="range of the atomic fraction of each element, e.g. {Ni = [0.4, 0.6], Al = [0.4, 0.6]};"
        " by default any composition",
    )
    starts: tuple[Starts, ...] = Field(
        (PackingStarts(), CrystalStarts()),
        min_length=1,
        description="where walkers and the first labels come from; tables of kind packing, crystal or file",
    )
    initial_labels: tuple[str, ...] = Field(
        (),
        description="files of frames that are labelled already (extxyz with REF_energy and REF_forces, or ANI-style"
        " HDF5), relative to the campaign file",
    )

    @model_validator(mode="after")
    def _composition_matches_elements(self) -> Material:
        if len(set(self.elements)) != len(self.elements):
            raise ValueError(f"elements lists an element twice: {list(self.elements)}")
        if self.composition is not None:
            if set(self.composition) != set(self.elements):
                raise ValueError(
                    f"composition names {sorted(self.composition)}, but elements are {sorted(self.elements)};"
                    " both must name the same elements"
                )
            low = sum(bounds[0] for bounds in self.composition.values())
            high = sum(bounds[1] for bounds in self.composition.values())
            if not low <= 1.0 <= high or any(a > b for a, b in self.composition.values()):
                raise ValueError("no composition lies inside these ranges: the fractions cannot add up to 1")
        return self


# -------------------------------------------------------------------------------------------- exploration


class Exploration(Table):
    """Molecular dynamics with the current ensemble until it disagrees with itself."""

    walkers: int = Field(32, ge=1, description="walkers that advance together in one batch")
    walkers_per_task: int = Field(
        64, ge=1, description="walkers that one explore task runs in all; a finished one is replaced"
    )
    timestep: Positive = Field(
        1.0, description="time step in fs; 1 fs is safe for light and hot atoms, heavy ones bear 3 fs"
    )
    friction: Positive = Field(
        0.02, description="Langevin friction in 1/fs; 0.02 thermalises within 50 fs, fast against the T(t) period"
    )
    max_time: Positive = Field(
        50.0, description="longest run of a walker in ps; the paper let walkers run for up to 250 ps"
    )
    temperature_start: PositiveRange = Field((10.0, 1000.0), description="range of T_start in K, drawn per walker")
    temperature_end: PositiveRange = Field((10.0, 1000.0), description="range of T_end in K, drawn per walker")
    temperature_amplitude: Annotated[Range, AfterValidator(_not_negative)] = Field(
        (0.0, 1500.0), description="range of T_amp in K, drawn per walker"
    )
    temperature_period: PositiveRange = Field((1.0, 50.0), description="range of T_per in ps, drawn per walker")
    density_end: PositiveRange | None = Field(
        None,
        description="range of the density at the end of the run in g/cm³, drawn per walker; by default the density is"
        " kept",
    )
    density_amplitude: Range = Field(
        (0.0, 0.0), description="range of the oscillation of the density in g/cm³, drawn per walker"
    )
    density_period: PositiveRange = Field(
        (1.0, 50.0), description="range of the period of the density in ps, drawn per walker"
    )
    check_interval: int = Field(10, ge=1, description="time steps between two checks of uncertainty and contacts")
    max_force_error: Positive = Field(
        0.3, description="a walker stops when the expected force error of its worst atom exceeds this, in eV/Å"
    )
    mean_force_error: Positive = Field(
        0.1, description="a walker stops when the expected force error, averaged over atoms, exceeds this, in eV/Å"
    )
    contact_factor: Positive = Field(
        0.6,
        description="two atoms closer than this fraction of the sum of their covalent radii are in contact:"
        " the walker ends and is rewound to its last good frame",
    )
    audit_share: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.1,
        description="share of walkers that give one frame at a random time, certain or not; these labels are never"
        " trained on and are the only honest measurement of the error",
    )


# ---------------------------------------------------------------------------------------------- reference


class Dft(Table):
    """A density-functional calculation in physical terms, the same for all codes."""

    functional: str = Field(
        "PBE",
        description="exchange and correlation: LDA, PBE, PBEsol, RPBE, revPBE, SCAN, r2SCAN, PBE0, HSE06, or what the"
        " code itself calls it",
    )
    cutoff: Positive | None = Field(
        None,
        description="kinetic energy cutoff of the plane waves in eV (cp2k: of its density grid, whose usual values are"
        " 10 times as large); orca has none, all others need it. What it must be depends on the pseudopotentials;"
        " `alpot converge` finds out",
    )
    density_cutoff: Positive | None = Field(
        None,
        description="cutoff of the density in eV; by default 4 times that of the plane waves. Ultrasoft"
        " pseudopotentials need 8 to 12 times",
    )
    material: Literal["metal", "insulator"] = Field(
        "metal",
        description="chooses the defaults of k points and smearing; a campaign that melts a semiconductor is"
        " one for a metal",
    )
    kpoint_density: Positive | None = Field(
        None,
        description="k points in Å: a direction gets this many, divided by the spacing of its lattice planes, rounded"
        " up, so that cells of all sizes are sampled alike; one where pbc is off. By default 40 for metals, 20 for"
        " insulators",
    )
    smearing: Literal["cold", "methfessel-paxton", "gaussian", "fermi-dirac", "none"] | None = Field(
        None,
        description="smearing of the occupations; by default cold (Marzari-Vanderbilt) for metals, where the code"
        " has it, and none for insulators",
    )
    smearing_width: Positive | None = Field(
        None,
        description="width of the smearing in eV (fermi-dirac: k_B T); by default 0.27 (0.02 Ry), with fermi-dirac 0.1",
    )
    spin: Literal["none", "collinear"] = Field("none", description="spin polarisation")
    magnetic_moments: dict[Element, float] = Field(
        default_factory=dict, description="initial magnetic moment per atom of an element in Bohr magnetons"
    )
    charge: float = Field(0.0, description="charge of the cell in elementary charges")
    pseudopotentials: dict[Element, str] = Field(
        default_factory=dict,
        description="pseudopotential of each element: a file relative to the campaign file or in"
        " pseudopotential_folder; for cp2k, gpaw and vasp its name, e.g. GTH-PBE-q3 or Al_sv",
    )
    pseudopotential_folder: str | None = Field(
        None,
        description="folder in which the pseudopotentials are, relative to the campaign file; by default the"
        " code's own",
    )
    basis: dict[Element, str] = Field(
        default_factory=dict,
        description="basis set of each element; cp2k: by default TZV2P-MOLOPT; orca: all of them, e.g. def2-TZVP",
    )
    scf_tolerance: Positive = Field(
        1e-7, description="the self-consistent field has converged when the energy is known to this, in eV per atom"
    )
    program: str | None = Field(
        None,
        description="the code's program, if it is not on the PATH by its usual name; a path is relative to the campaign"
        " file. No part of the level of theory",
    )

    @model_validator(mode="after")
    def _spin_for_moments(self) -> Dft:
        if self.magnetic_moments and self.spin == "none":
            raise ValueError('magnetic_moments need spin = "collinear"')
        if self.smearing == "none" and self.smearing_width is not None:
            raise ValueError('smearing_width goes with a smearing; there is smearing = "none"')
        return self

    @property
    def kpoints_per_length(self) -> float:
        """``kpoint_density`` in Å, by default that of the material."""
        return self.kpoint_density or (40.0 if self.material == "metal" else 20.0)


class CheapReference(Table):
    """A second, cheap level of theory beside the reference. It is never a label."""

    code: str = Field(description="name or import path of the calculator, as in [reference]")
    dft: Dft | None = Field(
        None, description="for the density-functional codes, which can only screen: their level of theory"
    )
    arguments: dict[str, Any] = Field(default_factory=dict, description="keyword arguments, as in [reference]")
    use: tuple[Literal["screen", "baseline"], ...] = Field(
        ("screen",),
        min_length=1,
        description="what it is for. screen: it computes each frame first; what it finds unphysical is not labelled."
        " baseline: the potential learns the difference between the reference and it (Δ-learning), and every use of the"
        " potential computes both; a density-functional code cannot be one",
    )
    max_force: Positive = Field(
        100.0,
        description="screen: a frame with a larger force on any atom, in eV/Å, is rejected as unphysical; above"
        " reference.max_force, since a cheap method errs",
    )


class Reference(Table):
    """Where truth comes from."""

    code: str = Field(
        description="name of a reference calculator (espresso, gpaw, cp2k, abinit, vasp, orca; emt, lj, eam, ani; or"
        ' one of an installed plug-in), or the import path of any ASE calculator, e.g. "ase.calculators.emt:EMT"'
    )
    dft: Dft | None = Field(None, description="for espresso, gpaw, cp2k, abinit, vasp and orca: the level of theory")
    arguments: dict[str, Any] = Field(
        default_factory=dict,
        description="keyword arguments of the calculator, or whatever else the code can do in its own words; they are"
        " part of the level of theory",
    )
    max_force: Positive = Field(
        50.0, description="a label with a larger force on any atom, in eV/Å, is rejected as unphysical"
    )
    time_limit: Positive = Field(
        86400.0, description="wall time in s after which a reference calculation is ended, with all its ways of trying"
    )
    attempts: int = Field(3, ge=1, description="how often a label is tried before it is rejected")
    cheap: CheapReference | None = Field(
        None,
        description="A cheap level of theory that screens frames, or that the potential corrects; by default none.",
    )
    isolated_atoms: bool | None = Field(
        None,
        description="whether the energy of an isolated atom of each element is computed too, once per campaign, in"
        " addition to stopping.max_labels; it is recorded with the potential and never trained on. By default yes,"
        " but for ani, whose weights know condensed phases only, and with dft.charge, which is that of the cell",
    )

    @property
    def wants_isolated_atoms(self) -> bool:
        """Whether energies of isolated atoms are to be computed."""
        if self.isolated_atoms is not None:
            return self.isolated_atoms
        return self.code != "ani" and not (self.dft is not None and self.dft.charge)


# ---------------------------------------------------------------------------------------------- potential


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


# ----------------------------------------------------------------------------------------------- training


class Training(Table):
    """How the ensemble is fitted."""

    initial_labels: int = Field(100, ge=2, description="labels of random starts before the first training")
    labels_per_generation: int = Field(100, ge=1, description="new labels that start the next training")
    blocks: int = Field(
        16, ge=3, description="blocks of the cross-validation; the paper used 16: 13 to train, 2 to validate, 1 to test"
    )
    validation_blocks: int = Field(2, ge=1, description="blocks that decide when a member stops learning")
    test_blocks: int = Field(1, ge=0, description="blocks of each member's own test set")
    batch_frames: int = Field(4, ge=1, description="frames in one step of the optimizer")
    max_epochs: int = Field(300, ge=1, description="passes through the data at most")
    learning_rate: Positive = Field(3e-3, description="(peak) learning rate of Adam; the paper's is 1e-3")
    schedule: Literal["plateau", "one-cycle"] = Field(
        "one-cycle",
        description="one-cycle: rise and fall once within max_epochs, and keep the last weights; plateau: halve the"
        " rate of a member that stopped improving, as in the paper, and keep its best weights, which takes about ten"
        " times the epochs",
    )
    patience: int = Field(
        50, ge=1, description="plateau: epochs without gain before the rate is halved; the paper waited 100"
    )
    min_learning_rate: Positive = Field(
        1e-5, description="plateau: a member whose rate falls below this has finished; the paper's is 1e-5"
    )
    weight_decay: Annotated[float, Field(ge=0)] = Field(
        0.0,
        description="share of itself that a weight loses per step and unit of learning rate; 0.1 makes fits of few"
        " labels smoother, the paper used none",
    )
    energy_weight: Annotated[float, Field(ge=0)] = Field(
        1.0, description="weight of the squared energy error per atom, in 1/(0.05 eV/atom)²"
    )
    energy_weight_growth: Annotated[float, Field(ge=1)] = Field(
        10.0,
        description="one-cycle: by this factor energy_weight has grown at the end; forces shape the potential first,"
        " energies settle while the learning rate falls",
    )
    force_weight: Annotated[float, Field(ge=0)] = Field(
        1.0, description="weight of the squared force error, in 1/(0.1 eV/Å)²"
    )
    stress_weight: Annotated[float, Field(ge=0)] = Field(
        0.1, description="weight of the squared error of stress × volume per atom (the virial), in 1/(0.1 eV/atom)²"
    )
    warm_start: bool = Field(False, description="begin from the last generation's weights instead of random ones")

    @model_validator(mode="after")
    def _some_blocks_left_to_train(self) -> Training:
        if self.validation_blocks + self.test_blocks >= self.blocks:
            raise ValueError(
                f"validation_blocks + test_blocks = {self.validation_blocks + self.test_blocks} leave none of the"
                f" {self.blocks} blocks to train on"
            )
        return self


# ---------------------------------------------------------------------------- assessment, stopping, resources


PropertyName = Literal["lattice", "elastic", "phases", "vacancy", "fresh_frames", "nve", "langevin"]


class Assessment(Table):
    """Is it good enough? Errors on audit labels each generation, physical properties at the end."""

    properties: tuple[PropertyName, ...] = Field(
        ("lattice", "elastic", "phases", "vacancy"),
        description="physical properties evaluated at the end of the campaign",
    )
    compare_reference: bool = Field(
        False, description="evaluate the same properties with the reference too; only sensible where it is cheap"
    )


class Stopping(Table):
    """When the campaign ends: the first of these that is met."""

    max_labels: int = Field(5000, ge=1, description="budget of reference calculations, the audit's included")
    max_generations: int | None = Field(None, ge=1, description="trainings at most")
    force_error: Positive | None = Field(
        None, description="target: root-mean-square force error on audit labels in eV/Å"
    )
    audit_labels: int = Field(20, ge=2, description="audit labels needed before the target counts as met")
    quiet_time: Positive | None = Field(
        None, description="stop when the promoted generation found nothing uncertain in this many simulated ps"
    )
    max_failures: int = Field(
        50, ge=0, description="failure budget: tasks that may fail for good before the campaign stops"
    )


def _one_line(text: str) -> str:
    if not text or not text.isprintable():
        raise ValueError("it must be one line without control characters")
    return text


def _shell_line(text: str) -> str:
    return _one_line(text.replace("\t", "    "))


def _name(text: str) -> str:
    # These reach job scripts and commands of schedulers whose quoting differs: only what needs none is let through.
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.,:=@%+/-]*", text, re.ASCII):
        raise ValueError("only letters, digits and _ . , : = @ % + / - may occur, and it must not begin with a -")
    return text


def _constraint(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_(\[][A-Za-z0-9_.,:=&|*()\[\]-]*", text, re.ASCII):
        raise ValueError("only letters, digits and _ . , : = & | * ( ) [ ] - may occur")
    return text


def _scheduler_option(text: str) -> str:
    if not _one_line(text).startswith("-"):
        raise ValueError('it must be one option as it would follow #SBATCH, #PBS or #BSUB, e.g. "--mail-type=END"')
    return text


def _walltime(text: str) -> str:
    match = re.fullmatch(r"(\d{1,4}):([0-5]\d):([0-5]\d)", text, re.ASCII)
    if not match or match[3] != "00" or int(match[1]) * 60 + int(match[2]) < 1:
        raise ValueError('it must be "HH:MM:00": whole minutes (schedulers count them), and at least one')
    return text


Name = Annotated[str, AfterValidator(_name)]
SchedulerOption = Annotated[str, AfterValidator(_scheduler_option)]
ShellLine = Annotated[str, AfterValidator(_shell_line)]
Starter = Literal["srun", "mpirun", "mpiexec", "jsrun", "aprun"]


class Pool(Table):
    """Workers on a cluster for one kind of work. A block is one job of the scheduler."""

    nodes: int = Field(1, ge=1, description="nodes of one block")
    blocks: Annotated[tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=1)]], AfterValidator(_ordered)] = (
        Field((0, 1), description="blocks that are kept at least, and started at most as work demands")
    )
    walltime: Annotated[str, AfterValidator(_walltime)] = Field(
        "01:00:00", description='time limit of a block, "HH:MM:00"'
    )
    drain: Annotated[float, Field(ge=0)] | None = Field(
        None,
        description="time in s before the walltime from which a block takes no new task; set it to what one label"
        " takes. By default a quarter of the walltime for labels, and for work that can be continued elsewhere a"
        " tenth, at most 300 s",
    )
    account: Name | None = Field(None, description="account or project that is charged")
    partition: Name | None = Field(None, description="partition (Slurm) or queue (PBS, LSF)")
    qos: Name | None = Field(None, description="quality of service (Slurm only)")
    constraint: Annotated[str, AfterValidator(_constraint)] | None = Field(
        None, description='features that the nodes must have (Slurm only), e.g. "haswell&ssd"'
    )
    scheduler_options: tuple[SchedulerOption, ...] = Field(
        (), description='further options for the scheduler, one each, e.g. ["--exclusive", "--mail-type=END"]'
    )
    worker_init: tuple[ShellLine, ...] = Field(
        (), description='lines of shell that the job runs first, e.g. ["module load qe/7.3"]; nowhere else is shell'
    )
    workers_per_node: int = Field(1, ge=1, description="tasks that run on a node at the same time")
    cores_per_worker: int | None = Field(
        None, ge=1, description="processor cores of one worker; by default ranks × threads_per_rank"
    )
    gpus_per_worker: int = Field(0, ge=0, description="GPUs of one worker; it sees no others")
    memory: int | None = Field(
        None, ge=1, description="memory per node in GB that is requested; by default what the scheduler gives"
    )
    launcher: Literal["single", Starter] | None = Field(
        None,
        description="how workers are started on the nodes of a block. single: on the first node only, whose tasks may"
        " use the others through MPI; by default single for blocks of one node, otherwise srun (Slurm), mpiexec (PBS)"
        " or jsrun (LSF)",
    )
    ranks: int = Field(1, ge=1, description="MPI ranks of one reference calculation")
    threads_per_rank: int = Field(1, ge=1, description="threads of one rank (OMP_NUM_THREADS)")
    mpi: Starter | None = Field(
        None,
        description="program that starts the ranks; by default none for one rank, otherwise srun (Slurm), mpiexec (PBS)"
        " or jsrun (LSF)",
    )

    @property
    def walltime_s(self) -> int:
        """The walltime in s."""
        hours, minutes, seconds = map(int, self.walltime.split(":"))
        return hours * 3600 + minutes * 60 + seconds

    @property
    def cores(self) -> int:
        """Processor cores of one worker."""
        return self.cores_per_worker or self.ranks * self.threads_per_rank

    @model_validator(mode="after")
    def _drained_before_it_ends(self) -> Pool:
        if self.drain is not None and self.drain >= self.walltime_s:
            raise ValueError(
                f"drain {self.drain:g} s is not below the walltime of {self.walltime_s} s; no task would ever start"
            )
        return self


class Resources(Table):
    """Where the work runs."""

    platform: str = Field(
        "laptop", description="name of a platform: laptop, slurm, pbs, lsf, parsl, or one from an installed plug-in"
    )
    workers: int | None = Field(
        None, ge=1, description="laptop: tasks that run at the same time; by default as many as there are cores for"
    )
    ranks: int = Field(
        1, ge=1, description="laptop: MPI ranks of one reference calculation, started with mpirun if there are several"
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="where potentials are trained and explored; auto takes a GPU where there is one"
    )
    waiting_candidates: int = Field(
        200,
        ge=1,
        description="exploration pauses while more candidates wait than this, and than there are label workers",
    )
    checkpoint_interval: Positive = Field(
        300.0, description="time in s between two checkpoints of a task that explores or trains"
    )
    interface: Name | None = Field(
        None,
        description='network interface of this machine that the nodes reach, e.g. "ib0"; by default that of its host'
        " name (slurm, pbs, lsf)",
    )
    poll_interval: int = Field(
        10, ge=1, description="time in s between two questions to the scheduler about our jobs (slurm, pbs, lsf)"
    )
    parsl_config: str | None = Field(
        None,
        description="parsl: absolute path of a Python file that defines `config`, a parsl.Config whose executors are"
        " labelled explore, label, train. The file is code and is run",
    )
    explore: Pool | None = Field(
        None, description="Explores (slurm, pbs, lsf); by default shares the workers of train."
    )
    label: Pool | None = Field(
        None, description="Computes labels (slurm, pbs, lsf); by default shares those of explore."
    )
    train: Pool | None = Field(
        None, description="Trains, assesses and scores (slurm, pbs, lsf); by default shares the workers of explore."
    )


class Campaign(Table):
    """The whole campaign file."""

    seed: Annotated[int, Field(ge=0)] = Field(
        0, description="seed of all randomness; the same seed on one worker takes the same decisions"
    )
    material: Material
    exploration: Exploration = Exploration()
    reference: Reference
    potential: Potential = Potential()
    training: Training = Training()
    assessment: Assessment = Assessment()
    stopping: Stopping = Stopping()
    resources: Resources = Resources()
