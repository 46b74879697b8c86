"""``python -m onepass.bench``: the same as ``onepass bench``."""

import sys

from onepass.cli import main

if __name__ == "__main__":
    sys.exit(main(["bench", *sys.argv[1:]]))
