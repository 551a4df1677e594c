"""A few hundred damaged outputs of each code; scripts/fuzz_parsers.py does a hundred thousand."""

from pathlib import Path

import pytest

from tests.reference.dft_corpus import codes
from tests.reference.fuzzing import Fuzzer


@pytest.mark.parametrize("code", codes())
def test_a_damaged_output_is_the_true_label_or_a_named_error(code: str, tmp_path: Path) -> None:
    fuzzer = Fuzzer(code, tmp_path)
    verdicts = list(fuzzer.run(range(300)))
    assert [verdict for verdict in verdicts if verdict.kind not in ("true label", "named error")] == []
    # Neither is everything refused, nor does the damage miss what is read.
    assert all(sum(verdict.kind == kind for verdict in verdicts) > 30 for kind in ("true label", "named error"))


@pytest.mark.parametrize("code", codes())
def test_a_mutation_can_be_made_again_from_its_number(code: str, tmp_path: Path) -> None:
    assert Fuzzer(code, tmp_path).mutated(7)[1:] == Fuzzer(code, tmp_path).mutated(7)[1:]
