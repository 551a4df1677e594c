"""Compiles the GPU kernels for a Hopper GPU, which needs none; prints registers and stack of each as JSON.

A program of its own, because Triton decides at its import whether kernels are compiled or interpreted.
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from alpot.potential import aev_gpu, neighbors_gpu

HOPPER = GPUTarget("cuda", 90, 32)
INT32 = ("species", "frame", "neighbor", "shift", "site_atom", "site_end")
INT32 += ("is_open", "image", "coordinates", "atoms", "shape", "reach")
POINTERS = {
    **dict.fromkeys(INT32, "*i32"),
    **dict.fromkeys(("first_pair", "first_atom", "first"), "*i64"),
    **dict.fromkeys(("positions", "cells", "square", "forces", "virials"), "*fp64"),
}
#: The published potential of aluminum.
RADIAL = {"RADIAL_CUTOFF": 7.0, "RADIAL_ETA": 43.9, "N_RADIAL": 32}
ANGULAR = {"N_SHIFTS": 8, "N_SECTIONS": 8, "SECTIONS": 8, "ETA": 6.5, "ZETA": 69.4, "N_RADIAL": 32}


def resources(kernel, dtype: str, **constants) -> dict[str, int]:
    """Registers and bytes of stack per thread."""
    types = {"begin": "i32", "n_slots": "i32", **POINTERS, **dict.fromkeys(constants, "constexpr")}
    signature = {name: types.get(name, f"*{dtype}") for name in kernel.arg_names}
    aligned = [name for name in signature if signature[name].startswith("*") or name == "n_slots"]
    attributes = {(kernel.arg_names.index(name),): [["tt.divisibility", 16]] for name in aligned}
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=attributes)
    options = {"num_warps": 1, "num_stages": 1, "enable_fp_fusion": True}
    compiled = triton.compile(source, target=HOPPER, options=options)
    reader = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        run = subprocess.run([reader, "--dump-resource-usage", file.name], capture_output=True, text=True, check=True)
    return {name: int(value) for name, value in re.findall(r"(REG|STACK):(\d+)", run.stdout)}


def main() -> None:
    found = {}
    for n_elements in (1, 3):
        of_element = {"N_ELEMENTS": n_elements, "N_FEATURES": 32 * n_elements + 32 * n_elements * (n_elements + 1)}
        angular = {**ANGULAR, **of_element}
        angular_cutoff = {"ANGULAR_CUTOFF": 5.0, "SHIFTS": 32, "PAIRS": 32}
        kernels = {
            "collect": (aev_gpu._collect, {**RADIAL, **of_element, **angular_cutoff}),
            "angular_features": (aev_gpu._angular_features, {**angular, "SHIFTS": 8, "TRIPLES": 32}),
        }
        for members in (1, 8):
            of_members = {"N_MEMBERS": members, "MEMBERS": members, "COLUMNS": members}
            radial = {**RADIAL, "N_FEATURES": of_element["N_FEATURES"], **of_members, "PAIRS": 128}
            kernels[f"radial_forces_{members}"] = aev_gpu._radial_forces, radial
            lanes = {"LANES": 32, "SIDE": 16}
            kernels[f"angular_forces_{members}"] = aev_gpu._angular_forces, {**angular, **of_members, **lanes}
        for dtype in ("fp32", "fp64") if n_elements == 1 else ("fp32",):
            for name, (kernel, constants) in kernels.items():
                found[f"{name} {n_elements} {dtype}"] = resources(kernel, dtype, **constants)
    for fill in (False, True):
        found[f"search {fill}"] = resources(neighbors_gpu._search, "fp64", FILL=fill, BINS=32)
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
