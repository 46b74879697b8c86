"""python -m fuzz TARGET --seconds N: feeds a target with bytes until the time is over.

With atheris, which follows what the bytes reach in Python; of compiled code, the array border above
all, it sees results and crashes alone. An input that fails is kept below build/fuzz.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["onepass", "numpy.lib", "zipfile", "json"]):
    from fuzz.targets import TARGETS

HOME = Path(__file__).resolve().parents[2] / "build" / "fuzz"
LONGEST, MOST = 20, 2048  # seconds of an input, MiB


def main() -> None:
    parser = argparse.ArgumentParser(prog="fuzz")
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--seconds", type=int, default=60)
    given = parser.parse_args()
    target = TARGETS[given.target]
    corpus, failed = HOME / given.target / "corpus", HOME / given.target / "failed"
    for folder in (corpus, failed):
        folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(target.seeds()):
        (corpus / f"seed-{number}").write_bytes(seed)
    options = [
        f"-max_total_time={given.seconds}",
        f"-artifact_prefix={failed}/",
        f"-timeout={LONGEST}",
        f"-rss_limit_mb={MOST}",
        "-max_len=8192",
        "-print_final_stats=1",
    ]
    atheris.Setup([sys.argv[0], str(corpus), *options], target.run)
    atheris.Fuzz()


main()
