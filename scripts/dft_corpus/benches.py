"""How each code is run cheaply, and how it is brought into trouble."""

from __future__ import annotations

from alpot.errors import FailureClass
from dft_corpus.case import Bench
from dft_corpus.espresso import espresso_cases

#: By the codes' names.
BENCHES = {
    "espresso": Bench(
        dft={
            "functional": "LDA", "cutoff": 200.0, "kpoint_density": 8.0, "smearing_width": 0.15,
            "pseudopotentials": {"Al": "Al.pz-vbc.UPF"},
        },
        pseudopotentials={"Al": "Al.UPF"},
        few_steps={"electrons": {"electron_maxstep": 2}},
        nonsense={"electrons": {"mixing_mode": "nonsense"}},
        other_levels={
            "cutoff": {"cutoff": 180.0},
            "density-cutoff": {"density_cutoff": 900.0},
            "kpoints": {"kpoint_density": 5.0},
            "smearing": {"smearing": "gaussian"},
            "width": {"smearing_width": 0.16},
            "functional": {"functional": "PBE"},
            "charge": {"charge": 1.0},
            "spin": {"spin": "collinear"},
        },
        regions={"energy": r"^!.*$|<etot>.*?<", "forces": r"force =.*$|<forces(?s:.*?)</forces>"},
        own=espresso_cases,
    ),
    "cp2k": Bench(
        dft={
            "cutoff": 1500.0, "kpoint_density": 6.0, "pseudopotentials": {"Al": "GTH-PBE"},
            "basis": {"Al": "SZV-MOLOPT-SR-GTH"},
        },
        arguments={"FORCE_EVAL": {"DFT": {"MGRID": {"REL_CUTOFF": "[Ry] 40"}, "QS": {"EPS_DEFAULT": 1e-10}}}},
        few_steps={"FORCE_EVAL": {"DFT": {"SCF": {"MAX_SCF": 3}}}},
        nonsense={"FORCE_EVAL": {"DFT": {"SCF": {"NONSENSE": 3}}}},
        other_levels={
            "cutoff": {"cutoff": 1300.0},
            "kpoints": {"kpoint_density": 4.0},
            "width": {"smearing_width": 0.12},
            "functional": {"functional": "LDA"},
            "variant": {"functional": "PBEsol"},
            "charge": {"charge": 1.0},
            "spin": {"spin": "collinear", "magnetic_moments": {"Al": 1.0}},
        },
        of_nan=(FailureClass.NOT_CONVERGED, "diagonalization"),
        regions={"energy": r"ENERGY\| Total.*$|E =.*$", "forces": r"^ +\d+ +\d+ +Al .*$|^ *Al .*$|^ *FORCES\|.*$"},
    ),
    "gpaw": Bench(
        dft={"cutoff": 150.0, "kpoint_density": 6.0, "functional": "LDA", "pseudopotentials": {"Al": "paw"}},
        results="gpaw.txt",
        progress="gpaw.txt",
        few_steps={"maxiter": 3},
        nonsense={"nonsense": 3},
        of_unconverged_log=(FailureClass.BAD_OUTPUT, None),
        other_levels={
            "cutoff": {"cutoff": 140.0},
            "kpoints": {"kpoint_density": 4.0},
            "width": {"smearing_width": 0.16},
            "smearing": {"smearing": "gaussian"},
            "functional": {"functional": "PBE"},
            "charge": {"charge": 1.0},
            "spin": {"spin": "collinear", "magnetic_moments": {"Al": 1.0}},
        },
        regions={
            "energy": r"^  (Extrapolated|Free energy):.*$|\"(free_)?energy\": [^,]*,",
            "forces": r"^\|.*# Al +\d+$|\"forces\": .*?\]\]",
        },
    ),
    "abinit": Bench(
        dft={
            "cutoff": 200.0, "kpoint_density": 7.0, "smearing": "fermi-dirac",
            "pseudopotentials": {"Al": "Pseudodojo_nc_sr_04_pbe_standard_psp8/Al.psp8"},
        },
        results="abinit.abo",
        of_nan=(FailureClass.NOT_CONVERGED, "kpoint_symmetry"),
        arguments={"fband": 2.0},
        few_steps={"nstep": 3},
        nonsense={"nonsense": 3},
        other_levels={
            "cutoff": {"cutoff": 180.0},
            "kpoints": {"kpoint_density": 5.0},
            "smearing": {"smearing": "gaussian"},
            "width": {"smearing_width": 0.16},
            "charge": {"charge": 1.0},
            "spin": {"spin": "collinear", "magnetic_moments": {"Al": 1.0}},
        },
        regions={"energy": r"^ *etotal +.*$|^total_energy_eV.*$", "forces": r"^ *fcart(?s:.*?)^ +[a-z]|^- \[.*$"},
    ),
}  # fmt: skip
