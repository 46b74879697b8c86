"""Plants the mistakes of entries.py, one at a time, in a copy of the tree; runs the tests that must
see each.

    python tests/mutants/run.py [--only PATTERN] [--python | --cpp] [--folder FOLDER] [--list]

Prints a line per mutant. The exit status is 1 if one survived or could not be tested. See README.md
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from entries import CPP, MUTANTS, PYTHON
from mutant import Mutant

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "python/onepass/"
LONGEST = 900  # seconds; a mutant that hangs is seen


class Tree:
    """A copy of the tree with the package installed in it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.site = folder, folder / "build" / "site"
        listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
        names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        for name in filter(None, names.split("\0")):
            if (ROOT / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(ROOT / name, folder / name)
                shutil.copymode(ROOT / name, folder / name)
        self.built = ""  # the mutant that the extension has, "" for none

    def build(self, mutant: str = "") -> subprocess.CompletedProcess[str]:
        """Installs the package; only what has changed is compiled."""
        command = [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
            *("--no-index", "--no-build-isolation", "--no-deps", "--upgrade"),
            *("--target", str(self.site), "-Cbuild-dir=build/cmake", "."),
        ]
        done = self._run(command, ONEPASS_CUDA="OFF")
        self.built = mutant if done.returncode == 0 else "unknown"
        return done

    def test(self, selection: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
        command = [*(sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider")]
        return self._run(
            [*command, *selection], PYTHONPATH=str(self.site), PYTHONDONTWRITEBYTECODE="1"
        )

    def _run(self, command: list[str], **more: str) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(
                command, cwd=self.folder, env=os.environ | more, timeout=LONGEST, check=False,
                capture_output=True, text=True, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return subprocess.CompletedProcess(command, 1, f"longer than {LONGEST} s\n", "")

    @contextmanager
    def planted(self, mutant: Mutant) -> Iterator[None]:
        """The mistake in the file, and in the installed copy of a Python module."""
        paths = [self.folder / mutant.file]
        if mutant.file.startswith(PACKAGE):
            paths.append(self.site / "onepass" / mutant.file.removeprefix(PACKAGE))
        texts = [path.read_text(encoding="utf-8") for path in paths]
        try:
            for path, text in zip(paths, texts, strict=True):
                if text.count(mutant.find) != 1:
                    raise LookupError(f"{path}: {text.count(mutant.find)} times, expected once")
                path.write_text(text.replace(mutant.find, mutant.put), encoding="utf-8")
            yield
        finally:
            for path, text in zip(paths, texts, strict=True):
                path.write_text(text, encoding="utf-8")


def verdict(tree: Tree, mutant: Mutant) -> str:
    """Killed by which test, survived, or why it could not be tested."""
    try:
        with tree.planted(mutant):
            if mutant in CPP:
                built = tree.build(mutant.name)
                if built.returncode != 0:
                    return "does not compile: " + last(built)
            elif tree.built:
                tree.build()
            done = tree.test(mutant.tests)
    except LookupError as error:
        return f"cannot be planted: {error}"
    if done.returncode == 0:
        return "survived" if " passed" in done.stdout else "skipped: " + last(done)
    if done.returncode == 1:
        failed = re.search(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.MULTILINE)
        return "killed by " + (failed[1] if failed else last(done))
    if done.returncode < 0:  # e.g. of a misaligned store
        return f"killed by signal {-done.returncode}"
    return f"pytest exits with {done.returncode}: " + last(done)


def last(done: subprocess.CompletedProcess[str]) -> str:
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    return lines[-1] if lines else "no output"


def check(tree: Tree, mutants: list[Mutant]) -> str:
    """The failure before any mistake is planted; "" if none. A failing test would kill them all."""
    built = tree.build()
    if built.returncode != 0:
        return "the tree does not build: " + last(built)
    done = tree.test(tuple(dict.fromkeys(test for m in mutants for test in m.tests)))
    return "" if done.returncode == 0 else "the tests fail without a mutant: " + done.stdout[-2000:]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", type=re.compile, metavar="PATTERN", help="names that match")
    parser.add_argument("--python", action="store_true", help="those that compile nothing")
    parser.add_argument("--cpp", action="store_true", help="those that compile C++")
    parser.add_argument("--folder", type=Path, help="where to put the copy; default: a new one")
    parser.add_argument("--list", action="store_true", help="print the names and stop")
    options = parser.parse_args()
    chosen = PYTHON if options.python else CPP if options.cpp else MUTANTS
    chosen = [m for m in chosen if options.only is None or options.only.search(m.name)]
    if options.list or not chosen:
        print("\n".join(m.name for m in chosen) or "no mutant has such a name", flush=True)
        return 0 if chosen else 2
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="mutants-") as folder:
        tree = Tree(Path(folder).resolve())
        if wrong := check(tree, chosen):
            print(wrong)
            return 1
        verdicts = []
        for mutant in chosen:
            verdicts.append(verdict(tree, mutant))
            print(f"{mutant.name}\n    {mutant.file}: {verdicts[-1]}", flush=True)
    killed = sum(text.startswith("killed") for text in verdicts)
    print(f"{killed} of {len(chosen)} killed, {verdicts.count('survived')} survived")
    return 0 if killed == len(chosen) else 1


if __name__ == "__main__":
    sys.exit(main())
