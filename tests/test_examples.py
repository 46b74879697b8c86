"""Every script in examples/ runs as it stands and reaches the accuracy that its task allows.

The one that takes half a minute runs fewer epochs, but for --all-labs.
"""

import re
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))
SHORTENED = {"resnet_digits": 6}  # epochs


@pytest.mark.parametrize("example", EXAMPLES, ids=[e.stem for e in EXAMPLES])
def test_an_example_trains(example, request, tmp_path, monkeypatch, capsys):
    for module in re.findall(r"^(?:import|from) (torch)\b", example.read_text(), re.MULTILINE):
        pytest.importorskip(module)
    if 'load("digits")' in example.read_text():
        pytest.importorskip("sklearn")
    source, epochs = example.read_text(), SHORTENED.get(example.stem)
    if epochs is not None and not request.config.getoption("--all-labs"):
        source, count = re.subn(r"\b(max_epochs|T_max)=\d+", rf"\1={epochs}", source)
        assert count == 2
    monkeypatch.chdir(tmp_path)
    exec(compile(source, str(example), "exec"), {"__name__": "__main__"})
    printed = capsys.readouterr().out
    assert float(re.findall(r"accuracy\W+([\d.]+)", printed)[-1]) > 0.95
    assert list(tmp_path.iterdir()) == []
