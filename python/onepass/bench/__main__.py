"""``python -m onepass.bench``: the same as ``onepass bench``."""

from onepass._interruptions import end_by_status
from onepass.bench._command import main

if __name__ == "__main__":
    status = main()
    end_by_status()
    raise SystemExit(status)
