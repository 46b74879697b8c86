"""Every script in examples/ runs as it stands and reaches the accuracy that its task allows."""

import re
import runpy
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))


@pytest.mark.parametrize("example", EXAMPLES, ids=[e.stem for e in EXAMPLES])
def test_an_example_trains(example, tmp_path, monkeypatch, capsys):
    for module in re.findall(r"^(?:import|from) (torch)\b", example.read_text(), re.MULTILINE):
        pytest.importorskip(module)
    if 'load("digits")' in example.read_text():
        pytest.importorskip("sklearn")
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(example), run_name="__main__")
    printed = capsys.readouterr().out
    assert float(re.findall(r"accuracy\W+([\d.]+)", printed)[-1]) > 0.95
    assert list(tmp_path.iterdir()) == []
