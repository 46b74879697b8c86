"""--quick for the inner loop; settings that a test changes are put back after it."""

from __future__ import annotations

import collections
import itertools
import shutil
import signal
import sys

import missing
import pytest

# A quick run leaves these out: they compile, or start a process for each of many cases.
SLOW_FILES = {
    "test_cuda_backend.py", "test_cuda_arrays.py", "test_cuda_build.py", "test_cuda_sim.py",
    "test_cuda_launch.py", "test_cuda_memory.py", "test_cuda_sanitizers.py", "test_cuda_streams.py",
    "test_device.py", "test_gpu.py", "test_gpu_layers.py", "test_gpu_scripts.py",
    "test_gpu_stages.py", "test_core.py", "test_pool.py", "test_site.py",
}  # fmt: skip
SLOW_TESTS = {
    "test_mypy", "test_stub_tells_the_truth", "test_no_symbol_is_shared_between_instruction_sets",
    "test_trajectory", "test_trajectory_equals_torch", "test_the_command_line_on_a_device",
    "test_mypy_knows_the_options", "test_the_simulator_gives_the_same_bits",
    "test_digits_reaches_its_accuracy", "test_killed_processes_resume",
    "test_training_a_torch_network",
}  # fmt: skip

# Those of more than half a minute, the longest first, as --file-times tells; the two that share the
# simulator before them. Processes that share the files begin with them and fill up with the rest,
# so they end together.
LONG_FILES = [
    "test_cuda_backend.py", "test_cuda_arrays.py", "test_cuda_sanitizers.py", "test_optim.py",
    "test_codebase.py", "test_layouts.py", "test_parallel_engines.py", "test_jax.py",
    "test_parallel_cli.py", "test_parallel_failures.py", "test_cli_predict.py", "test_threads.py",
    "test_cli_runs.py", "test_kernels.py", "test_site.py", "test_bench_parallel.py",
    "test_cli_schedules.py", "test_cuda_sim.py", "test_cli_training.py", "test_reference.py",
    "test_optim_riders.py", "test_parallel_trainer_processes.py", "test_sklearn.py",
    "test_bench_rivals.py", "test_cli.py", "test_parallel_gradients.py", "test_cuda_build.py",
    "test_lab.py", "test_lr_finder.py", "test_cross_validation_cli.py", "test_cli_kill.py",
    "test_core.py", "test_jax_optim.py", "test_regularizers.py", "test_torch_compile.py",
    "test_cli_start.py", "test_pool.py",
]  # fmt: skip


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--quick",
        action="store_true",
        help="leave out simulator, sanitizers, type checks and long runs; of tests over two "
        "parameters a sample in which every value occurs",
    )
    parser.addoption(
        "--trainings",
        type=int,
        help="how many random trainings test_random_training.py interrupts and resumes",
    )
    parser.addoption(
        "--all-labs", action="store_true", help="also run the experiments that take seconds"
    )
    parser.addoption(
        "--all-cases",
        action="store_true",
        help="whole grids of tests over three parameters or more, of which a sample is run in "
        "which every pair of values occurs, and of cases that a test goes through by itself",
    )
    parser.addoption(
        "--file-times",
        action="store_true",
        help="at the end, how long the tests of each file took: what LONG_FILES is made from",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: left out by --quick")
    if config.getoption("--all-cases"):
        from helpers import Extent

        Extent.whole = True


@pytest.hookimpl(trylast=True)  # what -k and -m leave is a grid of its own
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):  # of xdist
        places = {name: place for place, name in enumerate(LONG_FILES)}
        items.sort(key=lambda item: places.get(item.path.name, len(places)))
    quick = config.getoption("--quick")
    kept = [item for item in items if not (quick and _is_slow(item))]
    if not config.getoption("--all-cases"):
        kept = [
            item
            for _, group in itertools.groupby(kept, key=lambda item: item.nodeid.partition("[")[0])
            for item in _sample(list(group), quick)
        ]
    chosen = set(map(id, kept))
    config.hook.pytest_deselected(items=[item for item in items if id(item) not in chosen])
    items[:] = kept


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    if not config.getoption("--file-times"):
        return
    seconds: collections.Counter[str] = collections.Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport):
                seconds[report.location[0]] += report.duration
    terminalreporter.section("seconds of each file")
    for name, took in seconds.most_common():
        if took >= 15:
            terminalreporter.write_line(f"{took:6.0f}  {name}")


def pytest_exception_interact(
    node: pytest.Item | pytest.Collector, call: pytest.CallInfo, report: pytest.CollectReport
) -> None:
    """One message for a mistake that lets no test file be imported, not a trace for each file."""
    if isinstance(node, pytest.Module) and call.when == "collect" and call.excinfo is not None:
        message = missing.stops_everything(call.excinfo.value)
        if message is not None and hasattr(node.config, "workerinput"):
            report.longrepr = message  # xdist would end in silence
        elif message is not None:
            pytest.exit(message, returncode=1)


def _is_slow(item: pytest.Item) -> bool:
    name = item.originalname if isinstance(item, pytest.Function) else item.name
    return (
        item.path.name in SLOW_FILES
        or name in SLOW_TESTS
        or item.get_closest_marker("slow") is not None
    )


def _values(item: pytest.Item) -> tuple[object, ...]:
    """The place of a test in the table of its parameters."""
    spec = getattr(item, "callspec", None)
    return () if spec is None else tuple(spec.indices.items())


def _sample(group: list[pytest.Item], quick: bool) -> list[pytest.Item]:
    """Of tests over three parameters or more, enough that every pair of values occurs; of tests
    over two in a quick run, enough that every value does, both walking at once."""
    size = len(_values(group[0]))
    if size < (2 if quick else 3):
        return group
    together = 2 if size > 2 else 1
    kept, covered = [], set()
    # By the sum of places: a step along one parameter is a step along the others.
    order = sorted(group, key=lambda item: _diagonal(_values(item)))
    for item in order:
        new = set(itertools.combinations(_values(item), together)) - covered
        if new:
            kept.append(item)
            covered |= new
    return sorted(kept, key=group.index)


def _diagonal(values: tuple[object, ...]) -> tuple[int, ...]:
    places = [place for _, place in values]
    return (max(places) - min(places), *places)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol():
    """Threads, instruction set and JAX's width are after a test as they were before. A hook, since
    a fixture for every test takes longer than many of them."""
    jax = sys.modules.get("jax")  # imported by the test itself, JAX has its own default before it
    wide = jax is not None and jax.config.jax_enable_x64
    try:
        return (yield from _with_settings_of_onepass())
    finally:
        jax = sys.modules.get("jax")
        if jax is not None and jax.config.jax_enable_x64 != wide:
            jax.config.update("jax_enable_x64", wide)


def _with_settings_of_onepass():
    if "onepass" not in sys.modules:
        return (yield)
    from onepass import config

    threads, level = config.get_num_threads(), config.cpu_level()
    try:
        return (yield)
    finally:
        if config.get_num_threads() != threads:
            config.set_num_threads(threads)
        if config.cpu_level() != level:
            config.set_cpu_level(level)


# A background job starts with SIGINT ignored, and so would every process that the tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def mesh():
    """A group of one process of torch.distributed."""
    import torch

    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield torch.distributed.init_device_mesh("cpu", (1,))
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="session")
def simulator():
    """The CUDA backend in the simulator, compiled where it is not there yet."""
    if shutil.which("g++") is None:
        pytest.skip("the simulator needs g++")
    import cuda_simulator

    return cuda_simulator.load()


@pytest.fixture
def cupy(monkeypatch, simulator):
    """CuPy, with the simulator behind it."""
    import fake_cupy
    from onepass import _C

    module = fake_cupy.install(monkeypatch)
    simulator.set_order("forward", 0, 4)
    simulator.current_device(0)
    simulator.device_calls()
    fake_cupy.state.recorder = simulator
    _C.set_test_cuda_backend(simulator.device_backend())
    yield module
    _C.set_test_cuda_backend(None)
