"""The campaign file is read, its mistakes are explained, and the template cannot drift from the models."""

import json
import re
import tomllib

import pytest

from alpot.config import Campaign, Dft, FileStarts, Pool
from alpot.config_file import json_schema, parse_campaign, read_campaign, template, written
from alpot.errors import ConfigError

MINIMAL = '[material]\nelements = ["Al"]\n[reference]\ncode = "emt"\n'


def _complaint(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_campaign(text, "al.toml")
    return str(caught.value)


def test_minimal_file_has_the_defaults(tmp_path):
    (tmp_path / "c.toml").write_text(MINIMAL)
    assert read_campaign(tmp_path / "c.toml") == Campaign.model_validate(tomllib.loads(MINIMAL))


def test_template_parses_back_to_the_defaults():
    assert parse_campaign(template(["Al"]), "template") == parse_campaign(MINIMAL, "minimal")
    alloy = parse_campaign(template(["Ni", "Al"]), "template")
    assert alloy.material.elements == ("Ni", "Al")


def test_template_shows_every_key_with_its_description():
    text = template(["Al"])
    unwrapped = re.sub(r"\n# ", " ", text)

    def check(model: type) -> None:
        for key, field in model.model_fields.items():
            assert re.search(rf"^(# )?({key} = |\[\[?([a-z]+\.)?{key}\])", text, re.MULTILINE), key
            if field.description:
                assert field.description in unwrapped, key
            default = field.get_default(call_default_factory=True)
            for table in default if isinstance(default, tuple) else (default,):
                if hasattr(type(table), "model_fields"):
                    check(type(table))

    check(Campaign)
    for required in ("material", "reference"):
        check(Campaign.model_fields[required].annotation)


def test_template_without_an_embedded_reference_must_be_filled_in():
    text = template(["Si", "Al"])
    assert text.count("# REPLACE") == 1  # not that of a table that is not there
    complaint = _complaint(text)
    assert complaint.startswith("al.toml: table [reference], key code: is missing")
    assert "name of a reference calculator (espresso, gpaw, cp2k, abinit" in complaint
    filled = text.replace('# code = "..."', 'code = "lj"', 1)
    assert parse_campaign(filled, "filled").reference.code == "lj"


@pytest.mark.parametrize("elements", [["Qq"], [], ["Al", "Al"]])
def test_template_of_what_is_not_an_element(elements):
    with pytest.raises(ConfigError, match="elements"):
        template(elements)


def test_schema_is_json_with_units():
    schema = json.loads(json.dumps(json_schema()))
    assert "in fs" in schema["$defs"]["Exploration"]["properties"]["timestep"]["description"]
    assert schema["additionalProperties"] is False


def test_file_that_cannot_be_read(tmp_path):
    with pytest.raises(ConfigError, match=r"cannot read the campaign file .*none\.toml: No such file"):
        read_campaign(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match="it is not a regular file"):
        read_campaign(tmp_path)
    (tmp_path / "latin.toml").write_bytes(b"seed = 1 # \xe5ngstr\xf6m")
    with pytest.raises(ConfigError, match=r"not a text file in UTF-8: .* at byte 11"):
        read_campaign(tmp_path / "latin.toml")


def test_syntax_errors_quote_the_line():
    assert _complaint(MINIMAL + "attempts 3\n").endswith("line 5: attempts 3")
    assert "al.toml is not valid TOML" in _complaint("x = [")
    assert "al.toml" in _complaint("seed = 1\nseed = 2\n")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[exploration]\ntime_step = 1", "table [exploration], key time_step: there is no such key (its value: 1);"),
        ("[exploration]\ntime_step = 1", "did you mean 'timestep'? Allowed are: walkers, walkers_per_task, timestep"),
        ("[exploration]\npatience = 3", "it belongs into [training]"),
        ("[stoping]\nmax_labels = 1", "key stoping: there is no such table"),
        ("[stoping]\nmax_labels = 1", "did you mean 'stopping'?"),
        (
            "[exploration]\ntimestep = -1.5",
            "key timestep: -1.5 is not allowed: it must be greater than 0 (time step in fs;",
        ),
        ("[exploration]\ntimestep = inf", "inf is not allowed: it must be a finite number"),
        ('[exploration]\nwalkers = "many"', 'key walkers: "many" is not allowed: it must be a valid integer'),
        (
            "[exploration]\ntemperature_end = [9, 3]",
            "[9, 3] is not allowed: the lower bound 9 is above the upper bound 3",
        ),
        ("[exploration]\ntemperature_end = [9]", "key temperature_end, number 2: is missing (range of T_end in K"),
        ("[exploration]\ntemperature_end = [1, 2, 3]", "the list must have at most 2 items, not 3"),
        ('[potential]\nactivation = "cleu"', "it must be 'celu' or 'silu'; did you mean 'celu'?"),
        (
            "[potential.descriptor]\nradial_cutof = 5",
            "table [potential.descriptor], key radial_cutof: there is no such key",
        ),
        ("[potential.descriptor]\nangular_cutoff = 9", "table [potential.descriptor]: angular_cutoff 9 Å is above"),
        ('[assessment]\nproperties = ["lattice", "elastics"]', 'key properties, number 2: "elastics" is not allowed'),
        ('[assessment]\nproperties = ["lattice", "elastics"]', "did you mean 'elastic'?"),
        ("training = 3", "table [training]: must be a table, but is the value 3"),
        ("[training]\nblocks = 3", "table [training]: validation_blocks + test_blocks = 3 leave none of the 3 blocks"),
        ('[[material.starts]]\nkind = "paking"', 'table [[material.starts]] number 1: kind = "paking" is not known'),
        ('[[material.starts]]\nkind = "paking"', "did you mean 'packing'?"),
        (
            "[[material.starts]]\nweight = 2",
            "the key kind is missing; it must be one of: packing, crystal, surface, file",
        ),
        (
            '[[material.starts]]\nkind = "file"',
            "table [[material.starts]] number 1, key path: is missing (file name, relative",
        ),
        (
            '[[material.starts]]\nkind = "crystal"\nratle = 1',
            "did you mean 'rattle'? Allowed are: weight, recoil, compression, bias, kind, prototypes",
        ),
        (
            '[[material.starts]]\nkind = "crystal"\ncompression = [0.1, 0.9]',
            "[0.1, 0.9] does not lie between 0 and 0.6; a strain of 0.25 shortens the cell by a quarter",
        ),
        (
            '[[material.starts]]\nkind = "packing"\nrecoil = [100, 5000]',
            "a recoil of 5000 eV is too much for a cell of some hundred atoms; the most is 1000",
        ),
    ],
)
def test_mistakes_are_explained(text, sentence):
    # What stands before the first table header belongs to the top level.
    whole = f"{text}\n{MINIMAL}" if not text.startswith("[[material") else f"{MINIMAL}{text}\n"
    complaint = _complaint(whole)
    assert complaint.startswith("al.toml: ") and "\n" not in complaint
    assert sentence in complaint


def test_missing_tables():
    complaint = _complaint("seed = 1")
    assert "table [material]: is missing (What the potential is for)" in complaint
    assert "table [reference]: is missing" in complaint


def test_composition():
    text = MINIMAL.replace('["Al"]', '["Ni", "Al"]\ncomposition = {Ni = [0.1, 0.2], Al = [0.1, 0.3]}')
    assert "table [material]: no composition lies inside these ranges" in _complaint(text)
    assert "key composition, entry Xx" in _complaint(text.replace("Ni = [0.1", "Xx = [0.1"))


def test_all_mistakes_are_told_at_once():
    text = (
        MINIMAL
        + '[exploration]\ntimestep = 0\nwalkrs = 3\n[[material.starts]]\nkind = "crystal"\nprototypes = ["fc"]\n'
    )
    lines = _complaint(text).splitlines()
    assert lines[0] == "al.toml has 3 errors:"
    assert len(lines) == 4
    assert all(line.startswith("  - table [") for line in lines[1:])


def test_starts_of_all_kinds():
    text = MINIMAL + '[[material.starts]]\nkind = "file"\npath = "x.xyz"\n[[material.starts]]\nkind = "packing"\n'
    starts = parse_campaign(text, "x").material.starts
    assert starts[0] == FileStarts(path="x.xyz")
    assert starts[1].kind == "packing"


# --------------------------------------------------------------------------------------------- the levels of theory


def test_the_cheap_level_has_a_table_of_its_own_for_density_functional_codes():
    cheap = '[reference.cheap]\ncode = "espresso"\n[reference.cheap.dft]\ncutoff = 150.0\n'
    reference = parse_campaign(MINIMAL + cheap, "al.toml").reference
    assert reference.dft is None and reference.cheap.dft == Dft(cutoff=150.0)
    complaint = _complaint(MINIMAL + cheap + "cutof = 3.0\n")
    assert "table [reference.cheap.dft], key cutof: there is no such key" in complaint
    properties = json_schema()["$defs"]["CheapReference"]["properties"]
    assert {"$ref": "#/$defs/Dft"} in properties["dft"]["anyOf"]


def test_the_template_explains_a_level_of_theory_once():
    text = template(["Al"])
    for key in Dft.model_fields:
        assert len(re.findall(rf"^# {key} = ", text, re.MULTILINE)) == 1, key
    assert "# [reference.cheap.dft]\n# Keys as in [reference.dft].\n" in text


# ------------------------------------------------------------------------------------------------ pools of a cluster


def test_the_template_explains_the_keys_of_pools_once():
    text = template(["Al"])
    for key, field in Pool.model_fields.items():
        assert len(re.findall(rf"^# {key} = ", text, re.MULTILINE)) == 1, key
        assert field.description in re.sub(r"\n# ", " ", text), key
    assert text.count("# Keys as in [resources.explore].") == 2


def test_the_pool_in_the_template_is_a_valid_one():
    text = template(["Al"])
    start = text.index("# [resources.explore]")
    lines = [line for line in text[start : text.index("# [resources.label]")].splitlines() if " = " in line]
    lines = [line.removeprefix("# ") for line in lines if re.match(r"# \w+ = [\[\"\d]", line)]
    config = parse_campaign(MINIMAL + "[resources.explore]\n" + "\n".join(lines), "al.toml")
    assert config.resources.explore == Pool()


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("waltime = '01:00:00'", "key waltime: there is no such key"),
        ("waltime = '01:00:00'", "did you mean 'walltime'?"),
        ('walltime = "1:00"', 'key walltime: "1:00" is not allowed: it must be "HH:MM:00"'),
        ('walltime = "00:00:30"', '"00:00:30" is not allowed'),
        ('walltime = "00:00:00"', "whole minutes (schedulers count them), and at least one"),
        ("blocks = [3, 1]", "[3, 1] is not allowed: the lower bound 3 is above the upper bound 1"),
        ("blocks = [0, 0]", "key blocks, number 2: 0 is not allowed"),
        ("drain = 3600", "drain 3600 s is not below the walltime of 3600 s"),
        ('partition = "a b"', 'key partition: "a b" is not allowed: only letters, digits'),
        ('account = "-x"', "it must not begin with a -"),
        ('constraint = "a;b"', 'key constraint: "a;b" is not allowed'),
        ('scheduler_options = ["--a\\n#SBATCH --b"]', "key scheduler_options, number 1: "),
        ('scheduler_options = ["#SBATCH --b"]', "it must be one option as it would follow #SBATCH"),
        ('worker_init = ["a\\nb"]', "it must be one line without control characters"),
        ('launcher = "sru"', "did you mean 'srun'?"),
        ("ranks = 0", "key ranks: 0 is not allowed: it must be greater than or equal to 1"),
    ],
)
def test_mistakes_in_a_pool(line, complaint):
    text = _complaint(f"{MINIMAL}[resources.label]\n{line}\n")
    assert text.startswith("al.toml: table [resources.label]") and complaint in text


def test_units_of_a_pool():
    pool = Pool(walltime="36:30:00", ranks=4, threads_per_rank=3)
    assert (pool.walltime_s, pool.cores) == (131400, 12)
    assert Pool(ranks=4, cores_per_worker=2).cores == 2


@pytest.mark.parametrize(
    "value",
    [
        ["module load orca/6.0.1", "export OMP_NUM_THREADS=1"] * 100,
        "%scf\n  MaxIter 300\nend\n" * 200,
        "\n" * 3000,
        ' "quoted" \\ and\ttabs' * 200,
        ["x" * 1500, ["y" * 900] * 5, {"z": ["w" * 600] * 3, "v": "\x01" * 500}],
        {"blocks": " " * 5000, "n": 1},
    ],
)
def test_what_is_long_is_written_in_lines_that_are_read_again(value):
    tables = {"reference": {"code": "emt", "arguments": {"long": value}}, "material": {"elements": ["Al"]}}
    text = written(tables)
    assert max(map(len, text.split("\n"))) < 2000
    assert parse_campaign(text, "written").reference.arguments == {"long": value}
