"""The list of planted mistakes (tests/mutants) stays true: nothing is built or planted here."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "mutants"))
try:
    from entries import CPP, MUTANTS
finally:
    sys.path.pop(0)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_can_be_planted(mutant):
    count = (ROOT / mutant.file).read_text(encoding="utf-8").count(mutant.find)
    assert count == 1, (
        f"{mutant.find!r} occurs {count} times in {mutant.file}, expected once: write the text as "
        f"it is now into the entry {mutant.name!r} in tests/mutants"
    )
    assert mutant.find != mutant.put
    assert (mutant in CPP) == mutant.file.startswith("csrc/")
    assert mutant.tests, f"{mutant.name}: no test must see it"
    for test in mutant.tests:
        path, _, name = test.partition("::")
        name = name.partition("[")[0]
        text = (ROOT / path).read_text(encoding="utf-8")
        assert re.search(rf"^def {name}\(" if name else "^def test_", text, re.MULTILINE), (
            f"{mutant.name!r} names {test}, which is not there"
        )


def test_names_are_unique():
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
