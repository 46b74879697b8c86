"""The benchmark's rivals do the work that ours does, where they are installed; one that is not, or
raises, is a line of the table."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import os
import time

import numpy as np
import pytest
from onepass.bench import _end_to_end, _front, _networks, _peers, _run, _table, _training
from onepass.bench._peers import LIBRARIES
from onepass.bench._peers._library import CLASSES_ALONE, Lacks, Library, Step
from onepass.bench._records import cases
from onepass.bench._row import Context, Row, Workload

pytestmark = pytest.mark.filterwarnings("default")  # of libraries that are not ours

# Of results that a rival's function does not have, or has by another formula, those before them
# are compared: Keras has another moving variance; PyTorch's forward of a norm gives y alone, and
# its gradient has no statistics; its pooling numbers elements, not taps; JAX has another slope of
# |x| at 0.
SEEN = {
    ("jax", "l1_loss"): 1,
    ("keras", "batch_norm"): 2,
    ("torch", "batch_norm"): 1,
    ("torch", "max_pool2d"): 1,
    ("torch", "batch_renorm"): 1,
    ("torch", "batch_renorm_backward"): 3,
}
# So that a second call gives what the first gave, and no bits are drawn.
STEADY = {
    "batch_norm": {"momentum": 1.0},
    "batch_renorm": {"momentum": 0.0},
    "bias_act": {"dropout_p": 0.0},
    "bias_act_backward": {"dropout_p": 0.0},
}
# torch.compile takes seconds for each row, and half a minute for a step.
COMPILED = ("gelu", "batch_norm_backward", "cross_entropy")
WHOLE = os.environ.get("ONEPASS_TEST_WHOLE", "0") == "1"
COMPILED = COMPILED if WHOLE else COMPILED[:1]
PAIRS = [
    (library, row)
    for library in LIBRARIES
    for row in (COMPILED if library == "torch-compile" else LIBRARIES[library].kernels)
    if "cpu" in LIBRARIES[library].devices and "dropout" not in row  # it draws its own bits
]
SHAPES = {
    "norm": (6, 4, 3, 3),
    "channels": (6, 4, 3, 3),
    "row_norm": (6, 4, 3, 3),
    "loss": (6, 4),
    "rows": (6, 4),
    "windows": (2, 3, 8, 8),
}
SMALL = [
    _training.Mlp("mlp", (20, 33, 17, 10), 19, 0.2),
    _training.Blocks("blocks", (5, 8, 6, 7), 2, last=False),
    _training.Blocks("blocks channels last", (5, 8, 6, 7), 2, last=True),
]
# label -> (library, make); sklearn's network is another.
STEPS = {
    label: (library.name, make)
    for library in LIBRARIES.values()
    for label, make in library.networks.items()
    if library.name != "sklearn"
}


def needs(*names):
    for name in names:
        why = LIBRARIES[name].absent()
        if why is not None:
            pytest.skip(f"{name}: {why}")


def asked(*names):
    return Context(threads=2, against=frozenset(names))


def array(value):
    if hasattr(value, "detach"):
        value = value.detach()
        value = (value.to_dense() if value.is_mkldnn else value).numpy()
    return np.asarray(value, np.float64)


def inputs_of(case):
    options = case.bench_options or case.options[0]
    shape = SHAPES.get(case.family, (40,))
    options = options | STEADY.get(case.name, {})
    return case.inputs(shape, "float32", options), options, cases.keywords_of(options)


def of_library(found, name):
    assert not found.missing, found.missing
    functions = [f for label, f in found.functions.items() if _peers.library_of(label) == name]
    assert functions, f"no label of {list(found.functions)} begins with {name}"
    return functions


def close(got, want):
    scale = max(1e-30, np.abs(want).max())
    np.testing.assert_allclose(got.reshape(want.shape), want, rtol=0, atol=2e-6 * scale)


@pytest.mark.parametrize(("name", "row"), PAIRS, ids=lambda value: value)
def test_a_rival_has_the_results_of_the_row(name, row):
    needs(name)
    case = cases.BY_NAME[row]
    inputs, options, keywords = inputs_of(case)
    for function in of_library(_peers.kernel(asked(name), case, inputs, keywords), name):
        got = function()
        assert got is not None
        got = got if isinstance(got, (tuple, list)) else [got]
        want = [w for w in case.expect(inputs, options) if w is not None]
        count = SEEN.get((name, row), len(want))
        for g, w in zip(got[:count], want[:count], strict=True):
            close(array(g), np.asarray(w))


@pytest.mark.parametrize("name", [n for n, o in LIBRARIES.items() if o.both and "torch" not in n])
@pytest.mark.parametrize("row", ["batch_norm_backward", "layer_norm_backward"])
def test_forward_and_gradient_together(name, row):
    needs(name)
    case = cases.BY_NAME[row]
    inputs, options, keywords = inputs_of(case)
    (function,) = of_library(_peers.both(asked(name), case, inputs, keywords), name)
    want = [w for w in case.expect(inputs, options) if w is not None]
    for g, w in zip(function(), want, strict=True):
        close(array(g), np.asarray(w))


@pytest.mark.parametrize("name", ["jax"])
def test_a_rival_drops_a_share_and_scales_the_rest(name):
    needs(name)
    case = cases.BY_NAME["dropout"]
    x = np.ones(4096, np.float32)
    (function,) = of_library(_peers.kernel(asked(name), case, (x,), {"p": 0.25, "seed": 1}), name)
    first, second = array(function()), array(function())
    assert set(np.unique(first)) == {0.0, np.float64(np.float32(1 / 0.75))}
    assert 0.2 < (first == 0).mean() < 0.3
    assert (first != second).any()


@pytest.mark.parametrize(
    ("name", "optimizer"),
    [
        (n, v)
        for n, library in LIBRARIES.items()
        for v in library.optimizers
        if "cpu" in library.devices and n not in ("torch", "torch-compile")  # test_torch_optim.py
    ],
)
def test_a_rival_takes_our_step(name, optimizer):
    needs(name)
    variant, library = cases.optimizers.BY_NAME[optimizer], LIBRARIES[name]
    rng = np.random.default_rng(0)
    params, grads = (
        [rng.standard_normal(s).astype(np.float32) for s in ((64, 80), (7,))] for _ in range(2)
    )
    options = {"state_dtype": "int8"} if library.small_state else {}
    library.pin(2)
    (step,) = library.steps(variant, params, grads, variant.options | options).values()
    step.run()
    step.run()
    got = step.read()
    run = variant.trajectory(params)
    run.step(grads)
    run.step([g * 0 for g in grads] if name == "thinc" else grads)  # it clears them
    moved = max(float(np.abs(w - p).max()) for w, p in zip(run.params, params, strict=True))
    off = [np.abs(array(g) - w) for g, w in zip(got, run.params, strict=True)]
    if library.small_state:  # the values of a state are off by a hundredth of the largest
        assert max(float(np.median(o)) for o in off) < 0.02 * moved
    else:
        # An epsilon stands elsewhere in some, which the smallest gradients feel.
        assert max(float(o.max()) for o in off) < 0.01 * moved
        assert max(float(np.median(o)) for o in off) < 1e-4 * moved + 2.0**-22


class Recorded:
    """Stands for a method: counts its calls."""

    def __init__(self, monkeypatch, owner, name):
        self.calls, self.keywords = 0, []
        plain = getattr(owner, name)

        def recorded(*args, **keywords):
            self.calls += 1
            self.keywords.append(keywords)
            return plain(*args, **keywords)

        monkeypatch.setattr(owner, name, recorded)


def drawn():
    rng = np.random.default_rng(0)
    shapes = ((64, 80), (7,))
    return [[rng.standard_normal(s).astype(np.float32) for s in shapes] for _ in range(2)]


@pytest.mark.parametrize("name", ["torch", "torch-compile"] if WHOLE else ["torch"])
def test_a_timed_step_looks_at_no_parameter(name, monkeypatch):
    """What reads them for a check costs as much as the step of a small tensor."""
    needs(name)
    import torch

    made = LIBRARIES[name].steps(cases.optimizers.BY_NAME["adamw"], *drawn(), {"lr": 0.1})
    detach = Recorded(monkeypatch, torch.Tensor, "detach")
    for step in made.values():
        step.run()  # compiled, if it is
        detach.calls = 0
        step.run()
        assert detach.calls == 0
        assert len(step.read()) == 2
        assert detach.calls == 2


FORMS = [f"torch {form}" for form in ("fused", "foreach", "eager")]


@pytest.mark.parametrize("optimizer", LIBRARIES["torch"].optimizers)
def test_pytorch_takes_part_in_each_form_that_it_has(optimizer):
    """Its default too, a loop over the tensors."""
    needs("torch")
    variant = cases.optimizers.BY_NAME[optimizer]
    found = _peers.steps(asked("torch"), variant, *drawn())
    assert {*found.functions, *found.missing} == set(FORMS)
    assert {"torch foreach", "torch eager"} <= set(found.functions)
    fused = found.missing.get("torch fused", "PyTorch has no fused")
    assert fused.startswith("PyTorch has no fused")


def test_the_eager_form_is_a_loop(monkeypatch):
    needs("torch")
    from torch.optim import adam

    made = LIBRARIES["torch"].steps(cases.optimizers.BY_NAME["adamw"], *drawn(), {"lr": 0.1})
    found = {}
    for kind in ("fused", "multi_tensor", "single_tensor"):
        found[kind] = Recorded(monkeypatch, adam, f"_{kind}_adam")
    for label, kind in zip(FORMS, found, strict=True):
        made[label].run()
        assert [kind for kind, recorded in found.items() if recorded.calls] == [kind]
        found[kind].calls = 0


def test_a_form_that_refuses_an_option_is_a_line():
    needs("torch")
    options = {"lr": 0.1, "no_such_option": 1}
    found = _peers.steps(asked("torch"), cases.optimizers.BY_NAME["adamw"], *drawn(), options)
    assert found.functions == {}
    assert set(found.missing) == set(FORMS)
    assert all("no_such_option" in line for line in found.missing.values())


@pytest.mark.parametrize("optimizer", LIBRARIES["torch"].optimizers)
def test_a_function_of_pytorch_takes_the_step_of_its_class(optimizer):
    needs("torch")
    variant, options = cases.optimizers.BY_NAME[optimizer], {}
    params, grads = drawn()
    by_class, by_function = (
        make(variant, params, grads, variant.options | options)
        for make in (LIBRARIES["torch"].steps, LIBRARIES["torch"].functional)
    )
    for label, step in by_class.items():
        other = by_function[label.replace("torch", "torch functional")]
        if isinstance(step, Lacks):
            assert str(other) == str(step)
            continue
        for _ in range(2):
            step.run()
            other.run()
        for want, got in zip(step.read(), other.read(), strict=True):
            np.testing.assert_array_equal(got.numpy(), want.numpy())


def test_beside_a_kernel_no_class_takes_the_step(monkeypatch):
    """Ours has none there: its function alone is called."""
    needs("torch")
    import torch

    case = cases.BY_NAME["adamw"]
    inputs, _, keywords = inputs_of(case)
    found = _peers.kernel(asked("torch", "thinc"), case, inputs, keywords)
    assert set(found.functions) == {label.replace("torch", "torch functional") for label in FORMS}
    whole = Recorded(monkeypatch, torch.optim.AdamW, "step")
    for function in found.functions.values():
        function()
    assert whole.calls == 0
    if LIBRARIES["thinc"].absent() is None:
        assert found.missing["thinc"] == CLASSES_ALONE


@pytest.mark.parametrize("row", [c.name for c in cases.CASES if c.both is not None])
def test_ours_makes_new_results_where_all_rivals_do(row, monkeypatch):
    from onepass import ops

    case = cases.BY_NAME[row]
    inputs, _, keywords = inputs_of(case)
    found = case.both(inputs, keywords)
    assert not any("out=" in label for label in found)
    names = (row, row.removesuffix("_backward"))
    calls = [Recorded(monkeypatch, ops, name) for name in names]
    case.both(inputs, keywords)["onepass"]()
    assert [recorded.calls for recorded in calls] == [1, 1]
    assert not any("out" in each for recorded in calls for each in recorded.keywords)


@pytest.mark.parametrize(
    ("row", "changes", "draws"),
    [
        ("relu", {}, False), ("softmax", {}, False), ("layer_norm", {}, False),
        ("relu_backward", {}, False), ("dropout", {"p": 0.5, "seed": 1}, True),
        ("batch_norm", {"training": True, "dropout_p": 0.5, "seed": 1}, True),
    ],
)  # fmt: skip
def test_jax_splits_a_key_only_where_bits_are_drawn(row, changes, draws, monkeypatch):
    needs("jax")
    import jax

    split = Recorded(monkeypatch, jax.random, "split")
    case = cases.BY_NAME[row]
    found = _peers.kernel(asked("jax"), case, inputs_of(case)[0], changes)
    assert list(found.functions) == ["jax jit"], found.missing
    assert (split.calls > 0) == draws


def test_what_other_threads_compute_is_not_counted():
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        x = np.ones(1 << 16, np.float32)

        def here():
            return np.exp(x)

        functions = {"onepass": here, "jax here": here,
                     "jax elsewhere": lambda: pool.submit(here).result()}  # fmt: skip
        found = _peers.counted(functions)
    assert list(found.functions) == ["onepass", "jax here"]
    assert found.missing == {"jax elsewhere": _peers.ELSEWHERE}


@pytest.mark.parametrize("name", ["jax", "optax", "keras"])
def test_one_thread_of_a_rival_is_the_one_that_calls(name):
    """So that a clock of that thread's processor time is right about it."""
    needs(name)
    context = dataclasses.replace(asked(name), threads=1)
    params, grads = ([np.ones(1 << 18, np.float32)] for _ in range(2))
    found = _peers.steps(context, cases.optimizers.BY_NAME["adam"], params, grads)
    if name == "jax":
        case = cases.BY_NAME["gelu"]
        found = _peers.kernel(context, case, (np.ones(1 << 18, np.float32),), {})
    assert _peers.counted(found.functions).functions


def test_processor_time_leaves_out_what_it_cannot_count(monkeypatch):
    workload = Workload({"onepass": lambda: 1, "jax jit": lambda: 2}, 1, 1.0, missing={"a": "b"})
    monkeypatch.setattr(_peers, "_computes_here", lambda function: False)
    row = Row("row", "optim", lambda context: workload)
    for clock, left in ((time.thread_time, []), (time.perf_counter, ["jax jit"])):
        entry = _run.measured(row, asked("jax"), _run.Meter(clock, 3))
        assert list(entry["ratios"]) == left
        assert entry["missing"].get("jax jit") == (None if left else _peers.ELSEWHERE)
        assert entry["missing"]["a"] == "b"


# ----------------------------------------------------------------------------- what is not there


def replaced(monkeypatch, **changes):
    library = Library("numpy", module="numpy", install="numpy", kernels=["softmax"], **changes)
    monkeypatch.setitem(_peers.LIBRARIES, "numpy", library)


def softmax(*names):
    case = cases.BY_NAME["softmax"]
    inputs, _, keywords = inputs_of(case)
    return _peers.kernel(asked(*names), case, inputs, keywords)


def test_a_library_that_is_not_installed_is_a_line(monkeypatch):
    known = _peers.LIBRARIES["numpy"]
    gone = dataclasses.replace(known, module="no_such_library", install="no-such")
    monkeypatch.setitem(_peers.LIBRARIES, "numpy", gone)
    found = softmax("numpy")
    assert found.functions == {}
    assert found.missing == {"numpy": "not installed (pip install no-such)"}
    assert gone.version() is None


def test_a_library_that_cannot_be_imported_is_a_line(monkeypatch, tmp_path):
    (tmp_path / "broken_library.py").write_text("raise OSError('libx.so: cannot open')")
    monkeypatch.syspath_prepend(tmp_path)
    gone = dataclasses.replace(_peers.LIBRARIES["numpy"], module="broken_library")
    monkeypatch.setitem(_peers.LIBRARIES, "numpy", gone)
    assert softmax("numpy").missing == {
        "numpy": "installed, but it cannot be imported: OSError: libx.so: cannot open"
    }


def test_a_rival_that_raises_is_a_line_and_the_others_go_on(monkeypatch):
    def kernel(case, inputs, keywords):
        def fails():
            raise ZeroDivisionError("no\nmore of it")

        return {"numpy bad": fails, "numpy good": lambda: 1}

    replaced(monkeypatch, kernel=kernel)
    found = softmax("numpy")
    assert list(found.functions) == ["numpy good"]
    assert found.missing == {"numpy bad": "ZeroDivisionError: no"}


@pytest.mark.parametrize("error", [Lacks("no axis=3"), RuntimeError("no axis=3")])
def test_an_option_that_a_library_lacks_is_a_line(monkeypatch, error):
    def kernel(case, inputs, keywords):
        raise error

    replaced(monkeypatch, kernel=kernel)
    (line,) = softmax("numpy").missing.values()
    assert line.endswith("no axis=3")


def test_a_dtype_that_a_library_lacks_is_a_line(monkeypatch):
    case = cases.BY_NAME["softmax"]
    inputs, _, keywords = inputs_of(case)
    context = Context(dtype="float16", against=frozenset(["numpy"]))
    # NumPy writes single elements in 16 bits, and sums nothing in them.
    found = _peers.kernel(context, case, (inputs[0].astype(np.float16),), keywords)
    assert found == ({}, {"numpy": "not in float16"})
    relu = np.array([-1, 2], np.float16)
    found = _peers.kernel(context, cases.BY_NAME["relu"], (relu,), {})
    assert (found.functions["numpy out="]().tolist(), found.missing) == ([0, 2], {})
    replaced(monkeypatch)
    assert _peers.kernel(context, case, inputs, keywords).missing == {"numpy": "not in float16"}


def test_only_those_asked_for():
    case = cases.BY_NAME["relu"]
    inputs, _, keywords = inputs_of(case)
    functions = _peers.kernel(asked("numpy"), case, inputs, keywords).functions
    assert {_peers.library_of(label) for label in functions} == {"numpy"}
    assert _peers.kernel(asked("thinc"), cases.BY_NAME["im2col"], inputs, {}) == ({}, {})


ON_DEMAND = "compiles for seconds a row; measured with --against torch-compile"


def test_what_is_measured_on_demand_alone_is_a_line(monkeypatch):
    """In rows that have it; where it cannot be had, that is the reason."""
    needs("torch")
    for name in LIBRARIES.keys() - {"torch", "torch-compile"}:
        monkeypatch.delitem(LIBRARIES, name)
    case = cases.BY_NAME["gelu"]
    inputs, _, keywords = inputs_of(case)

    assert _peers.kernel(Context(), case, inputs, keywords).missing["torch-compile"] == ON_DEMAND
    assert "torch-compile" not in _peers.kernel(asked("torch"), case, inputs, keywords).missing
    layer = next(row for row in _networks.rows() if row.name.startswith("global avg pool"))
    step = next(iter(_end_to_end.rows()))
    network = Row("small", "end-to-end", _networks._network("lenet", (2, 1, 8, 8)))
    for row in (layer, step, network):
        assert row.make(Context()).missing["torch-compile"] == ON_DEMAND
    (line,) = [x for x in _table.summary([missing_of(ON_DEMAND)], {}) if "torch-compile" in x]
    assert line == f"  torch-compile: {ON_DEMAND}"
    (line,) = [
        x
        for x in _table.summary([missing_of(ON_DEMAND)], {"torch-compile": "not installed"})
        if "torch-compile" in x
    ]
    assert line == "  torch-compile: not installed"


def missing_of(why):
    return {"wrong": False, "ratios": {}, "missing": {"torch-compile": why}}


@pytest.mark.parametrize("kind", ["layer", "network"])
def test_modules_that_are_compiled_have_the_gradients_of_ours(kind, monkeypatch):
    """Compiled in fact where ONEPASS_TEST_WHOLE=1; else the forms are told apart."""
    needs("torch")
    import torch

    made = []
    if not WHOLE:
        monkeypatch.setattr(
            torch, "compile", lambda f, dynamic, fullgraph: made.append(fullgraph) or f
        )
    context = Context(threads=1, against=frozenset(["torch", "torch-compile"]))
    if kind == "layer":
        layer = _networks.LAYERS["avg pool 2x2"]._replace(shape=(2, 3, 6, 6))
        found = _networks.layer_functions(context, layer, last=True)
        (eager,), (fast,) = (found.functions[f"torch {form}"]() for form in ("eager", "compile"))
        assert eager.abs().max() > 0
        torch.testing.assert_close(fast, eager)
        more = 0
    else:
        found = _networks.step_functions(context, _networks.lenet, (4, 1, 8, 8))
        more = 1
    assert not found.missing
    assert [label for label in found.functions if "compile" in label] == [
        "torch compile", "torch compile channels_last",
    ][: 1 + more]  # fmt: skip
    assert WHOLE or made == [True] * (1 + more)


@pytest.fixture
def graphs(monkeypatch):
    """How many graphs were made of what torch.compile traced. Nothing is compiled of them."""
    needs("torch")
    import torch
    from torch._dynamo.utils import counters

    plain = torch.compile
    monkeypatch.setattr(torch, "compile", lambda f, **how: plain(f, backend="eager", **how))
    torch._dynamo.reset()
    counters.clear()
    yield lambda: counters["stats"]["unique_graphs"]
    torch._dynamo.reset()


@pytest.mark.parametrize(
    "row", ["gelu", "softmax", "batch_norm_backward", "layer_norm", "cross_entropy", "dropout"]
)
def test_what_is_called_compiled_is_one_graph(row, graphs):
    """PyTorch calls without a word what it cannot trace."""
    case = cases.BY_NAME[row]
    inputs, _, keywords = inputs_of(case)
    found = _peers.kernel(asked("torch-compile"), case, inputs, keywords)
    assert (list(found.functions), found.missing, graphs()) == (["torch compile"], {}, 1)


def test_steps_that_are_called_compiled_are_graphs(graphs):
    found = networks(SMALL[0], "torch-compile")
    assert (list(found.functions), found.missing) == (
        ["torch compile", "onepass torch compile"],
        {},
    )
    assert graphs() == 2
    arrays = [[np.ones(5, np.float32)], [np.full(5, 0.1, np.float32)]]
    variant = cases.optimizers.BY_NAME["adamw"]
    assert _peers.steps(asked("torch-compile"), variant, *arrays).missing == {}
    assert graphs() > 2


@pytest.mark.parametrize("row", list(_front.rows()), ids=lambda row: row.name)
def test_modules_that_are_called_compiled_are_one_graph(row, graphs, monkeypatch):
    """The whole module or an error, and for its shape alone: the rule of all rows."""
    import torch

    traced, how = torch.compile, []
    monkeypatch.setattr(
        torch, "compile", lambda f, **given: how.append(given) or traced(f, **given)
    )
    found = row.make(Context(threads=1, against=frozenset(["torch-compile"])))
    assert (list(found.functions), found.missing) == (["onepass", "torch compile"], {})
    assert (graphs(), how) == (1, [{"dynamic": False, "fullgraph": True}])


def test_a_compiler_that_is_missing_is_a_line(monkeypatch):
    needs("torch")
    import torch

    def fails(function, dynamic, fullgraph):
        def call(*_):
            raise RuntimeError("no working C++ compiler\nfound")

        return call

    monkeypatch.setattr(torch, "compile", fails)
    found = networks(SMALL[0], "torch-compile")
    why = "RuntimeError: no working C++ compiler"
    assert found == ({}, {"torch compile": why, "onepass torch compile": why})
    context = Context(threads=1, against=frozenset(["torch-compile"]))
    layer = _networks.LAYERS["avg pool 2x2"]._replace(shape=(2, 3, 6, 6))
    assert _networks.layer_functions(context, layer, last=False).missing == {"torch compile": why}


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("torch fused", "torch"),
        ("torch compile", "torch-compile"),
        ("jax jit", "jax"),
        ("numpy", "numpy"),
        ("bitsandbytes cpu-fork 8-bit", "bitsandbytes"),
        ("mine", "mine"),
    ],
)
def test_the_library_of_a_label(label, name):
    assert _peers.library_of(label) == name


@pytest.mark.parametrize("library", LIBRARIES.values(), ids=lambda library: library.name)
def test_what_a_library_has_exists(library):
    assert set(library.kernels) <= set(cases.BY_NAME)
    assert set(library.optimizers) <= set(cases.optimizers.BY_NAME)
    assert library.kernels or library.optimizers
    assert (library.version() is None) == (library.absent() is not None)


# --------------------------------------------------------------------------------- end to end


def networks(network, *names):
    return _peers.networks(asked(*names), network, _training.AdamWOptions())


@pytest.mark.parametrize("network", SMALL, ids=lambda network: network.name)
def test_our_step_is_that_of_float64(network):
    assert _end_to_end.checked(network).error < 1


@pytest.mark.parametrize("network", SMALL, ids=lambda network: network.name)
@pytest.mark.parametrize("label", [label for label in STEPS if "compile" not in label])
def test_the_step_of_a_library_is_that_of_float64(network, label):
    library, make = STEPS[label]
    needs(library, *LIBRARIES[library].needs)
    assert _end_to_end.checked(network, make).error < 1


@pytest.mark.skipif(not WHOLE, reason="ONEPASS_TEST_WHOLE=1 compiles steps")
@pytest.mark.parametrize("label", [label for label in STEPS if "compile" in label])
def test_the_compiled_step_is_that_of_float64(label):
    library, make = STEPS[label]
    needs(library)
    assert _end_to_end.checked(SMALL[0], make).error < 1


@pytest.mark.parametrize("mistake", [1e-3 * _training.SMOOTH.lr, np.nan], ids=["small", "NaN"])
@pytest.mark.parametrize("place", [0, 4])
def test_the_check_of_a_step_sees_a_mistake(place, mistake):
    """One of a thousandth of the rate, in one element."""

    def wrong(network, options, dropout):
        step = _end_to_end.ours(network, options, dropout)

        def read():
            found = step.read()
            found[place].flat[7] += mistake
            return found

        return Step(step.run, read)

    assert _end_to_end.checked(SMALL[0], wrong).error > 1


def test_the_check_of_a_step_sees_a_loss_that_is_no_number():
    def wrong(network, options, dropout):
        step = _end_to_end.ours(network, options, dropout)
        return Step(lambda: step.run() * np.nan, step.read)

    assert _end_to_end.checked(SMALL[0], wrong).error > 1


def test_the_products_are_those_of_our_step(monkeypatch):
    """Shapes, and which of the factors lie transposed."""
    calls = []

    def recording(name):
        plain = getattr(np, name)

        def recorded(a, b, out=None):
            calls.append((name, a.shape, b.shape, a.flags.c_contiguous, b.flags.c_contiguous))
            return plain(a, b, out=out)

        return recorded

    network = SMALL[0]
    step, products = _end_to_end.ours(network, _training.AdamWOptions(), True), network.products()
    for name in ("dot", "matmul"):
        monkeypatch.setattr(np, name, recording(name))
    products()
    alone = calls.copy()
    calls.clear()
    step.run()
    assert sorted(calls) == sorted(alone)
    assert len(calls) == 3 * (len(network.sizes) - 1) - 1


def test_steps_that_are_not_there_are_lines(monkeypatch):
    gone = dataclasses.replace(LIBRARIES["jax"], module="no_such_library", install="no-such")
    monkeypatch.setitem(_peers.LIBRARIES, "jax", gone)
    found = networks(SMALL[0], "jax")
    assert found == ({}, {"jax": "not installed (pip install no-such)"})
    assert networks(SMALL[0], "optax") == ({}, {})


def test_a_library_without_rows_on_a_gpu_is_a_line():
    context = Context("cuda", against=frozenset(["numpy", "keras"]))
    case = cases.BY_NAME["relu"]
    found = _peers.kernel(context, case, (np.ones(4, np.float32),), {})
    assert not found.functions
    assert found.missing.keys() == {"numpy", "keras"}
    assert all(why.startswith("measured on the CPU alone") for why in found.missing.values())


def test_a_step_that_needs_another_library_says_which(monkeypatch):
    needs("jax")
    monkeypatch.setattr(type(LIBRARIES["optax"]), "absent", lambda library: "gone"
                        if library.name == "optax" else None)  # fmt: skip
    assert networks(SMALL[0], "jax").missing == {"jax jit": "optax: gone"}


def test_a_step_that_cannot_be_made_leaves_the_others(monkeypatch):
    needs("torch")

    def fails(network, options, dropout):
        raise RuntimeError("no such norm")

    known = LIBRARIES["torch"]
    changed = dataclasses.replace(known, networks={**known.networks, "onepass torch": fails})
    monkeypatch.setitem(_peers.LIBRARIES, "torch", changed)
    found = networks(SMALL[0], "torch")
    assert list(found.functions) == ["torch eager"]
    assert found.missing == {"onepass torch": "RuntimeError: no such norm"}


def test_scikit_learn_has_one_of_the_networks():
    needs("sklearn")
    functions, missing = networks(SMALL[0], "sklearn")
    assert (list(functions), missing) == (["sklearn plain MLP"], {})
    assert list(networks(SMALL[1], "sklearn").missing) == ["sklearn plain MLP"]
