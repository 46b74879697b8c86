"""docs/training.md has the options of what trains, as the docstrings describe them."""

import importlib.machinery
import importlib.util
import inspect
import re
from pathlib import Path

import pytest
from onepass import train
from onepass.optim import full_batch, lr_scheduler
from onepass.train import regularizers

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def reference():
    loader = importlib.machinery.SourceFileLoader("reference", str(ROOT / "scripts/reference"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("reference", loader))
    loader.exec_module(module)
    return module


def test_the_page_is_what_the_docstrings_say(reference, capsys) -> None:
    assert reference.main(["--check"]) == 0, capsys.readouterr().out


def test_every_option_has_a_row_with_its_default() -> None:
    text = (ROOT / "docs/training.md").read_text(encoding="utf-8")
    found = dict(re.findall(r"^### (\S+)\n(.*?)(?=^##|\Z)", text, re.M | re.S))
    parts = [("Trainer.fit", train.Trainer.fit)]
    for module in (train, regularizers, lr_scheduler, full_batch):
        parts += [(name, getattr(module, name)) for name in module.__all__]
    skipped = {"CheckpointError", "History", "LRFinderResult", "Run", "Restart"}
    skipped |= {"regularizers"}  # nobody makes them, or they have no options
    for name, part in parts:
        if name in skipped:
            continue
        assert name in found, f"docs/training.md lacks {name}"
        for parameter in inspect.signature(part).parameters.values():
            if parameter.kind is parameter.VAR_KEYWORD or parameter.name in ("self", "args"):
                continue
            default = "" if parameter.default is parameter.empty else f"`{parameter.default!r}`"
            row = f"| `{parameter.name}` | {default} | "
            assert row in found[name], f"docs/training.md, {name}: no row {row}"


def test_an_option_without_a_description_is_seen(reference) -> None:
    def undescribed(a, b=3):
        """Adds.

        Args:
            a: the first.
        """

    with pytest.raises(LookupError, match="undescribed: 'b' is not described"):
        reference.options("undescribed", undescribed)

    def described(a, b=3):
        """Adds
        both.

        Args:
            a, b: numbers, of which
                there are two.

        Raises:
            TypeError: others.
        """

    rows = reference.options("described", described)
    assert "Adds both." in rows
    assert "| `b` | `3` | numbers, of which there are two. |" in rows


@pytest.mark.parametrize("text", ["see above; >= 0.", "> 0.", "of v.", "Above."])
def test_a_description_that_cannot_stand_alone_is_refused(reference, text) -> None:
    def described(a):
        pass

    described.__doc__ = f"Adds.\n\nArgs:\n    a: {text}\n"
    with pytest.raises(LookupError, match=r"'a' is described as .* expected words"):
        reference.options("described", described)


def test_a_page_that_is_not_current_is_seen(reference, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(reference, "PAGE", tmp_path / "training.md")
    assert reference.main(["--check"]) == 1
    assert reference.main([]) == 0
    assert reference.main(["--check"]) == 0
    (tmp_path / "training.md").write_text(reference.page().replace("`patience`", "`patient`"))
    assert reference.main(["--check"]) == 1
