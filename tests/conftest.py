"""Settings that a test changes are put back after it."""

import signal
import sys

import pytest


@pytest.fixture(autouse=True)
def settings():
    """Threads and instruction set as they were before the test."""
    if "onepass" not in sys.modules:
        yield
        return
    from onepass import config

    threads, level = config.get_num_threads(), config.cpu_level()
    yield
    if config.get_num_threads() != threads:
        config.set_num_threads(threads)
    if config.cpu_level() != level:
        config.set_cpu_level(level)


# A background job starts with SIGINT ignored, and so would every process that the tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
