"""``python -m onepass.bench``: the same as ``onepass bench``."""

from onepass.bench._command import main

if __name__ == "__main__":
    raise SystemExit(main())
