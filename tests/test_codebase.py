"""The code base tests itself: nothing forgotten, nothing leaking between instruction sets, types
and stubs true, style held. A check whose tool is missing is skipped and says so."""

from __future__ import annotations

import ast
import dataclasses
import doctest
import inspect
import itertools
import pkgutil
import platform
import re
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from importlib import import_module
from pathlib import Path
from types import ModuleType

import cases
import onepass
import pytest
from cases._optimizer import Scalar, square
from cases.activations import FORMS
from onepass import _C, data, nn, ops, optim, train
from onepass.nn._activation import Activation
from onepass.nn._pointwise_loss import PointwiseLoss
from onepass.nn._row_norm import RowNorm
from onepass.ops._ranges import SQUARES
from onepass.optim import _optimizers, _riders
from public_names import public_packages

ROOT = Path(__file__).resolve().parents[1]
ACTIVATIONS = [kernel["name"] for kernel in _C.kernels() if kernel["kind"] == "activation"]
# Parameters of optimizers that are not options of the formula, or choose another kernel.
NOT_OF_A_RULE = {"params", "compat", "decoupled_weight_decay", "diagnostics", "options"}
ON_ARRAYS = cases.optimizers.ON_ARRAYS
FUNCTIONS_ON_ARRAYS = {function for function, _ in ON_ARRAYS.values()}
UPDATES = [
    kernel["name"]
    for kernel in _C.kernels()
    if kernel["kind"] == "update" and f"{kernel['name']}_" not in FUNCTIONS_ON_ARRAYS
]
FUNCTIONS = [name for name in ops.__all__ if inspect.isfunction(getattr(ops, name))]


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def tool(module: str) -> str:
    found = shutil.which(module, path=str(Path(sys.executable).parent)) or shutil.which(module)
    if found is None:
        pytest.skip(f"{module} is not installed: pip install '.[test]'")
    return found


@pytest.mark.parametrize("kernel", ACTIVATIONS)
def test_every_activation_has_a_record(kernel: str) -> None:
    known = {record.kernel(form, ACTIVATIONS) for record, form in FORMS}
    base = next((r.name for r, _ in FORMS if kernel.startswith(f"{r.name}_")), None)
    cure = f"add Activation({kernel!r}, f=…, slope=…, …) to ACTIVATIONS; see sigmoid"
    if base is not None:
        option = kernel.removeprefix(f"{base}_")
        cure = f"add a Form({{…: {option!r}}}, …) to {base}, or {cure}"
    assert kernel in known, f"tests/cases/activations.py has no record for {kernel!r}: {cure}"


def test_every_record_of_an_activation_has_its_kernel_functions_and_module() -> None:
    for record in cases.activations.ACTIVATIONS:
        assert record.name in ACTIVATIONS, (
            f"tests/cases/activations.py has {record.name!r}, csrc/kernels/activation_list.h does "
            "not"
        )
        for function in (record.name, f"{record.name}_backward"):
            assert function in ops.__all__, f"onepass.ops lacks {function}: add it to __all__"
        hyper = next(k["hyper"] for k in _C.kernels() if k["name"] == record.name)
        swept = {option for form in record.forms for option in form.options}
        assert set(hyper) <= swept, (
            f"tests/cases/activations.py: the forms of {record.name!r} leave out "
            f"{sorted(set(hyper) - swept)}; add a Form with another value than the default"
        )
    subclasses = Activation.__subclasses__()
    modules = {m.__name__ for m in subclasses if m.__module__.startswith("onepass")}
    recorded = {r.module.__name__ for r in cases.activations.ACTIVATIONS if r.module is not None}
    assert modules <= recorded, (
        f"tests/cases/activations.py: no record has module=nn.{', nn.'.join(modules - recorded)}"
    )


@pytest.mark.parametrize("kernel", UPDATES)
def test_every_update_has_a_record(kernel: str) -> None:
    """With every state in the kernel's order, and options for every combination of them."""
    where = "tests/cases/optimizers.py"
    records = [r for r in cases.optimizers.OPTIMIZERS if r.name == kernel]
    info = next(k for k in _C.kernels() if (k["kind"], k["name"]) == ("update", kernel))
    states, optional = info["operands"][2:], info["optional"]
    listed = ", ".join(f"State({name.removesuffix('s')!r}, …)" for name in (*states, *optional))
    assert records, (
        f"{where} has no record for {kernel!r}: add Optimizer({kernel!r}, cls=…, rule=…, "
        f"states=[{listed}], …) to OPTIMIZERS; see rmsprop"
    )
    record = records[0]
    arrays = [s for s in record.states if not isinstance(s, Scalar)]
    scalars = tuple(s.name for s in record.states if isinstance(s, Scalar))
    assert scalars == info["scalars"], f"{where}: {kernel!r} has the scalars {info['scalars']}"
    lists = {state.key: state.plural for state in record.cls._rule.states}
    given = [(lists.get(s.name, f"{s.name}s"), s.when is not None) for s in arrays]
    want = [(name, False) for name in states] + [(name, True) for name in optional]
    assert given == want, (
        f"{where}: the states of {kernel!r} are (list, optional?) {given}, the kernel has {want}: "
        "the optional ones come last, each with the option that brings it as `when`"
    )
    switches = dict.fromkeys(s.when for s in record.states if s.when is not None)
    covered = [set(variant.switches) for variant in record.variants()]
    for size in range(len(switches) + 1):
        for on in itertools.combinations(switches, size):
            off = [name for name in switches if name not in on]
            assert set(on) in covered, (
                f"{where}: the sweep of {kernel!r} has no options with {' and '.join(on) or 'none'}"
                f"{' but without ' + ' and '.join(off) if off else ''}: add one"
            )
    for variant in record.variants():
        names = {key for options in variant.sweep for key in options}
        parameters = set(inspect.signature(record.cls).parameters) - NOT_OF_A_RULE
        everywhere = {key for options in record.sweep for key in options}
        assert parameters <= everywhere, (
            f"{where}: no options in the sweep of {kernel!r} set {sorted(parameters - everywhere)}"
        )
        unknown = sorted(names - set(inspect.signature(record.cls).parameters))
        assert not unknown, (
            f"{where}: the sweep of {kernel!r} sets {unknown}, which {record.cls.__name__} does "
            "not take: add them to its constructor, or take them out of the sweep"
        )
    squares = [s.name for s in record.states if s.draw is square and s.name not in SQUARES]
    assert not squares, (
        f"python/onepass/ops/_ranges.py: SQUARES lacks {squares}, which {where} draws as squares"
    )


def test_every_optimizer_has_a_record() -> None:
    recorded = {record.cls.__name__ for record in cases.optimizers.OPTIMIZERS}
    classes = {
        name
        for name in optim.__all__
        if inspect.isclass(getattr(optim, name))
        and issubclass(getattr(optim, name), optim.Optimizer)
        and getattr(optim, name) is not optim.Optimizer
    }
    classes -= {cls.__name__ for cls in ON_ARRAYS}
    for cls, (function, file) in ON_ARRAYS.items():
        assert f"optim.{cls.__name__}" in (ROOT / "tests" / file).read_text(encoding="utf-8")
        assert function is None or function in ops.__all__
    missing = ", optim.".join(classes - recorded)
    assert classes == recorded, (
        f"tests/cases/optimizers.py has no record with cls=optim.{missing}; "
        f"onepass.optim lacks {sorted(recorded - classes)}"
    )
    for record in cases.optimizers.OPTIMIZERS:
        assert f"{record.name}_" in ops.__all__, f"onepass.ops lacks {record.name}_: add it"


def test_every_function_has_a_row() -> None:
    rows = {row.name for row in cases.CASES}
    files = {"_loss": "losses.py", "_norm": "norms.py", "_row_norm": "row_norms.py",
             "_dropout": "dropout.py", "_bias_act": "channels.py", "_reduce": "reductions.py",
             "_activation": "activations.py", "_softmax": "rows.py", "_maxout": "rows.py",
             "_glu": "rows.py", "_pointwise_loss": "losses.py", "_batch_renorm": "norms.py",
             "_windows": "windows.py"}  # fmt: skip
    for name in (name for name in FUNCTIONS if name not in FUNCTIONS_ON_ARRAYS):
        module = getattr(ops, name).__module__.rpartition(".")[2]
        where = "optimizers.py" if name.endswith("_") else files.get(module, "")
        cure = f"add its record to tests/cases/{where}"
        record = {
            "losses.py": cases.losses.Loss,
            "norms.py": cases.norms.Norm,
            "row_norms.py": cases.row_norms.RowNorm,
        }.get(where)
        if module == "_pointwise_loss":
            cure += f", elements({name!r}, element, make, torch)"
        elif record is not None:
            first = name.removesuffix("_backward")
            fields = ", ".join(f"{f.name}=…" for f in dataclasses.fields(record)[1:])
            cure += f", {record.__name__}({first!r}, {fields})"
        assert name.rstrip("_") in rows, f"onepass.ops.{name} has no row: {cure}"


def test_every_norm_over_rows_has_a_module() -> None:
    modules = {cls.gradient for cls in RowNorm.__subclasses__()}
    for record in cases.row_norms.NORMS:
        assert getattr(ops, f"{record.name}_backward") in modules, (
            f"python/onepass/nn/_row_norm.py has no class for ops.{record.name}: add `class "
            f"…(RowNorm)` with gradient = staticmethod(ops.{record.name}_backward), and its name "
            "to __all__"
        )


def test_every_loss_of_elements_has_its_function_and_module() -> None:
    kernels = {kernel["name"] for kernel in _C.kernels() if kernel["kind"] == "loss"}
    declared = set(ops._pointwise_loss.__all__)
    assert kernels == declared, (
        f"python/onepass/ops/_pointwise_loss.py lacks {sorted(kernels - declared)}: declare it "
        "with @loss_of_elements, and add it to __all__"
    )
    modules = {cls.op.__name__ for cls in PointwiseLoss.__subclasses__()}
    for name in sorted(kernels - modules):
        raise AssertionError(
            f"python/onepass/nn/_pointwise_loss.py has no class with op=ops.{name}: add "
            f"`class …(PointwiseLoss, op=ops.{name}): ...`, and its name to __all__"
        )
    for name in kernels:
        options = next(k["hyper"] for k in _C.kernels() if k["name"] == name)
        record = next(record for record in cases.losses.LOSSES if record.name == name)
        swept = {option for how in record.sweep for option in how}
        assert set(options) <= swept, (
            f"tests/cases/losses.py: the sweep of {name!r} leaves out "
            f"{sorted(set(options) - swept)}"
        )


def test_every_bound_says_where_it_comes_from() -> None:
    for row in cases.CASES:
        assert len(row.tolerance.why) > 20, f"{row.name}: `why` of its Tolerance derives no bound"


def test_a_record_without_one_of_its_fields_cannot_be_made() -> None:
    for cls in (cases._activation.Activation, cases._optimizer.Optimizer, cases._optimizer.State,
                cases._activation.Form, cases.norms.Norm, cases.row_norms.RowNorm,
                cases.losses.Loss):  # fmt: skip
        for field in dataclasses.fields(cls):
            without = {f.name: None for f in dataclasses.fields(cls) if f.name != field.name}
            with pytest.raises(TypeError, match=field.name):
                cls(**without)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_docstrings_say_what_a_user_needs(name: str) -> None:
    text = inspect.getdoc(getattr(ops, name)) or ""
    first = text.splitlines()[0]
    assert re.search(r"[=‖]|mask|entropy|Gradients", first), f"{name}: no formula in front"
    for part in ("Args:", "Returns:", "Source:", "Example:"):
        assert re.search(rf"^{part}( |\n    )\S", text, re.M), f"{name}: docstring lacks {part}"
    parameters = inspect.signature(getattr(ops, name)).parameters.values()
    for parameter in parameters:
        assert re.search(rf"^\s+\*{{0,2}}{parameter.name}: ", text, re.M), (
            f"{name}: {parameter.name} is undocumented"
        )


PUBLIC = [
    (package, name)
    for package in public_packages()
    for name in package.__all__
    if callable(getattr(package, name))
]


@pytest.mark.parametrize(("package", "name"), PUBLIC, ids=[name for _, name in PUBLIC])
def test_docstrings_of_the_layers_above_have_an_example_and_every_argument(
    package: ModuleType, name: str
) -> None:
    public = getattr(package, name)
    text = inspect.getdoc(public) or ""
    if name in ("Optimizer", "StepInfo", "Communicator"):
        return  # a base, what a step returns, and a protocol: no one makes them
    assert re.search(r"^Example:\n    >>> ", text, re.M), f"{name}: docstring lacks an example"
    described = re.findall(r"^    ([\w, *]+): ", text, re.M)
    known = {part.strip(" *") for names in described for part in names.split(",")}
    if name == "Run" or (inspect.isclass(public) and issubclass(public, (Exception, dict))):
        return  # the Trainer makes a Run; the others have no arguments of their own
    for parameter in inspect.signature(public).parameters.values():
        if parameter.kind is not parameter.VAR_KEYWORD:
            assert parameter.name in known, f"{name}: {parameter.name} is undocumented"


CALLED = [
    (cls, name)
    for cls in (train.Trainer, nn.Module, data.PCA, data.Whiten, data.Standardize, data.DataLoader)
    for name, method in inspect.getmembers(cls, callable)
    if not name.startswith("_") and inspect.getdoc(method) and not inspect.isclass(method)
]


@pytest.mark.parametrize(
    ("cls", "name"), CALLED, ids=[f"{cls.__name__}.{name}" for cls, name in CALLED]
)
def test_docstrings_of_methods_speak_of_every_argument(cls: type, name: str) -> None:
    method = getattr(cls, name)
    text = inspect.getdoc(method) or ""
    for parameter in inspect.signature(method).parameters.values():
        if parameter.name not in ("self", "cls") and parameter.kind is not parameter.VAR_KEYWORD:
            assert re.search(rf"\b{parameter.name}\b", text), f"{name}: {parameter.name}"


def modules() -> list[str]:
    names = ["onepass"]
    for info in pkgutil.walk_packages(onepass.__path__, "onepass."):
        if not info.name.endswith(("_C", "_cuda", "__main__")):
            names.append(info.name)
    return names


@pytest.mark.parametrize("name", modules())
def test_examples_in_docstrings_print_what_they_say(name: str) -> None:
    module = import_module(name)
    report: list[str] = []
    runner = doctest.DocTestRunner()  # no options and no names of our own: as a reader runs them
    for test in doctest.DocTestFinder().find(module, name):
        runner.run(test, out=report.append)
    assert not report, "".join(report)


def paragraphs(text: str) -> list[str]:
    """The paragraphs and points of a list, without titles, code and tables."""
    prose = re.sub(r"^```.*?^```|^#.*?$|^\|.*?$", "", text, flags=re.DOTALL | re.MULTILINE)
    _, *parts = re.split(r"\n\s*\n|\n- ", prose)
    return [part for part in parts if part.strip()]


def test_every_promise_of_the_readme_is_linked_to_the_test_that_holds_it() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    targets = re.findall(r'^\[([\w-]+)\]: (\S+) "(\w+)"$', text, re.MULTILINE)
    for label, path, name in targets:
        assert (ROOT / path).is_file(), f"README: [{label}] is {path}, which does not exist"
        source = (ROOT / path).read_text(encoding="utf-8")
        assert f"\ndef {name}(" in source, f"README: [{label}]: {path} has no {name}"
    used = set(re.findall(r"\[(?:test|CPU|CUDA)\]\[([\w-]+)\]", text))
    assert used == {label for label, _, _ in targets}
    for promise in paragraphs(text.partition("## From a table")[2].partition("## How fast")[0]):
        assert "][" in promise, f"README: no test is linked to: {promise}"
    promises = text.partition("## What you can rely on\n")[2].partition("## What there is")[0]
    for promise in promises.split("\n- ")[1:]:
        sentences = re.split(r"\.\**\s", promise + " ")[:-1]
        linked = [sentence for sentence in sentences if "][" in sentence]
        bare = [s for s in sentences if "][" not in s and not s.startswith("**")]
        assert linked, f"README: no test is linked to: {promise}"
        assert not bare, f"README: no test is linked to: {bare}"
    rows = re.findall(r"^\| (?!-).+? \|.*$", text, re.MULTILINE)
    for row in (row for row in rows if "yes" in row):
        assert "[CPU][" in row, f"README: no test is linked to the row {row[:40]}"
        assert "[CUDA][" in row, f"README: no test is linked to the row {row[:40]}"


def test_the_readme_lists_every_optimizer_and_rider() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for name in (*_optimizers.__all__, *_riders.OF_GROUPS):
        assert re.search(rf"\b{name}\b", text), f"README.md: its list lacks {name}"


def test_names_of_options_are_the_same_forward_and_backward() -> None:
    for name in FUNCTIONS:
        if not name.endswith("_backward") or name == "batch_norm_backward":
            continue
        forward_of = name.removesuffix("_backward").removesuffix("_weight")
        forward = inspect.signature(getattr(ops, forward_of)).parameters
        backward = inspect.signature(getattr(ops, name)).parameters
        options = {
            key: value.default
            for key, value in backward.items()
            if value.kind is value.KEYWORD_ONLY
        }
        options.pop("y", None)  # the forward's output, in place of its input
        options.pop("add", None)  # another gradient
        for key, default in options.items():
            assert key in forward, f"{name}: {key} is not an option of the forward"
            assert forward[key].default == default, f"{name}: default of {key} differs"


CPU_UNITS = {  # csrc/cpu/*.cpp that are compiled once per instruction set, and what each exports
    "activation_blocks": ["activation_table"],
    "blocks": [
        *["load_block"] * 3,
        "load_halves",
        *["store_block"] * 3,
        "store_halves",
        "stream_fence",
        *["stream_run"] * 2,
    ],
    "code_blocks": ["fill_dither", "load_codes", "store_codes"],
    "composed_relu": ["composed_relu"],
    "dropout": ["onepass_cpu_dropout_v3"],
    "depthwise": ["onepass_cpu_depthwise_v3"],
    "global_norm": ["onepass_cpu_global_norm_v3"],
    "glu": ["onepass_cpu_glu_v3"],
    "im2col": ["onepass_cpu_im2col_v3"],
    "keep_words": ["keep_words", "step_words"],
    "limit_rows": ["onepass_cpu_limit_rows_v3"],
    "losses": ["onepass_cpu_losses_v3"],
    "maxout": ["onepass_cpu_maxout_v3"],
    "normalise": ["onepass_cpu_normalise_v3"],
    "pointwise_losses": ["onepass_cpu_pointwise_losses_v3"],
    "pools": ["onepass_cpu_pools_v3"],
    "adaptive_pools": ["onepass_cpu_adaptive_pools_v3"],
    "row_norms": ["onepass_cpu_row_norms_v3"],
    "softmax": ["onepass_cpu_softmax_v3"],
    "stages": [*["after_update"] * 2, *["before_update"] * 2, "round_at_random"],
    "streams": ["onepass_cpu_streams_v3"],
    "watch": ["onepass_cpu_watch_v3"],
}
FAMILIES = ("activation", "update")  # a unit for each formula, by formula.cpp.in and formula.cu.in


def test_every_cpu_unit_is_compiled_per_instruction_set() -> None:
    plain = {"cpus", "dispatch", "parallel"}
    assert {p.stem for p in (ROOT / "csrc" / "cpu").glob("*.cpp")} - plain == set(CPU_UNITS)
    text = (ROOT / "cmake" / "kernels.cmake").read_text()
    objects = text.partition("add_library(onepass_cpu_")[2]
    assert set(re.findall(r"csrc/cpu/(\w+)\.cpp", objects)) == set(CPU_UNITS)


def test_no_unit_of_a_formula_knows_another_formula() -> None:
    """Or an edit of one would compile them all."""
    formulas = {
        header
        for family in FAMILIES
        for header in re.findall(
            r'#include "(kernels/.*)"',
            (ROOT / "csrc" / "kernels" / f"{family}_list.h").read_text(),
        )
    }
    assert len(formulas) > len(FAMILIES)
    for header in sorted(formulas):
        seen = included(header) & formulas - {header}
        assert not seen, f"csrc/{header} includes {sorted(seen)}"
    for family in FAMILIES:
        for source in (f"cpu/{family}_unit.h", f"cuda/{family}_unit.cuh"):
            seen = included(source, f"kernels/{family}_list.h") & formulas
            assert not seen, f"csrc/{source} includes {sorted(seen)}"
    knowing = {
        path.name
        for path in (ROOT / "csrc" / "cuda").glob("*.cu")
        if included(f"cuda/{path.name}", "kernels/tables.h") & formulas - {"kernels/relu.h"}
    }
    known = {"bias.cu", "channel_norms.cu", "glu.cu", "row_norms.cu", "workspaces.cu"}
    assert knowing == known, "csrc/README.md names them"


def included(header: str, *left_out: str) -> set[str]:
    """The headers of csrc that a header includes, directly or not, but for those left out."""
    found: set[str] = set()
    new = {header}
    while new:
        found |= new
        texts = [(ROOT / "csrc" / name).read_text() for name in new]
        new = {n for text in texts for n in re.findall(r'#include "([\w/.]+)"', text)}
        new = {name for name in new if (ROOT / "csrc" / name).is_file()}
        new -= found | set(left_out)
    return found


@pytest.mark.parametrize("unit", [*sorted(CPU_UNITS), *FAMILIES])
def test_no_symbol_is_shared_between_instruction_sets(unit: str, tmp_path: Path) -> None:
    compiler = shutil.which("g++")
    if compiler is None or platform.machine() != "x86_64":
        pytest.skip("needs g++ on x86-64")
    source, objects = ROOT / "csrc" / "cpu" / f"{unit}.cpp", tmp_path / "unit.o"
    if unit in FAMILIES:  # the units of all its formulas in one
        source = tmp_path / "unit.cpp"
        source.write_text(
            f'#include "kernels/{unit}_list.h"\n#define ONEPASS_FORMULA {unit}\n'
            f'#include "cpu/{unit}_unit.h"\n'
        )
    built = run(
        compiler, "-std=c++17", "-fPIC", "-O1", "-march=x86-64-v3", "-ffp-contract=off",
        "-fno-exceptions", "-fno-rtti", "-fno-threadsafe-statics", "-fvisibility=hidden",
        "-DONEPASS_ISA=v3", "-Icsrc", "-c", str(source), "-o", str(objects),
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    symbols = run("nm", "-C", str(objects)).stdout.splitlines()
    shared = [line for line in symbols if re.search(r" [WVuB] ", line)]
    assert not shared, "weak or static symbols:\n" + "\n".join(shared)
    exported = [line[19:] for line in symbols if re.search(r"^\w+ [TDR] ", line)]
    # The level is part of every name, so that the linker keeps all of them.
    names = [re.sub(r"^onepass::v3::(\w+)\(.*", r"\1", name) for name in exported]
    assert sorted(names) == CPU_UNITS.get(unit, [f"onepass_cpu_{unit}_v3"]), exported
    initialisers = run("objdump", "-h", str(objects)).stdout
    assert ".init_array" not in initialisers


# What a formula outside kernels/ looks like: an elementary function, or an element that meets a
# parameter of its channel (clang-format puts spaces around a binary operator).
ELEMENTARY = re.compile(r"math::(exp|expm1|tanh|sigmoid|erf|log|log1p|mills)\w*\(")
PARAMETER = re.compile(
    r" [-*/] \(*(\w+(\[[^]]*\])?(\.|->))?(mean|rstd|scale|level|slope)\b"
    r"|\b(mean|rstd|scale|level|slope)(\[\w*\])?\)* [-*/] "
)


def formulas(text: str) -> list[str]:
    code = re.sub(r"//.*", "", text)
    return [
        line.strip()
        for line in code.splitlines()
        if ELEMENTARY.search(line) or PARAMETER.search(line)
    ]


def test_formulas_are_only_in_kernels() -> None:
    for folder in ("cpu", "cuda", "bind"):
        for path in (ROOT / "csrc" / folder).glob("*.*"):
            if path.suffix != ".md":
                found = formulas(path.read_text())
                assert not found, f"{path.name} computes {found}: belongs to kernels/"


@pytest.mark.parametrize(
    "line",
    [
        "return value * ((x[j * stride + c] - mean[c]) * rstd[c]);",
        "sums->q[i] += double(g[w] * ((x[w] - p[i].mean) * p[i].rstd));",
        "g[w] = g[w] * p[kEach ? w : 0].scale;",
        "return math::exp_flushed(x - m);",
    ],
)
def test_a_formula_outside_kernels_is_seen(line: str) -> None:
    assert formulas(f"x = 1;\n  {line}") == [line]


def test_the_map_of_csrc_names_every_file_once_in_its_folder() -> None:
    text = (ROOT / "csrc" / "README.md").read_text(encoding="utf-8")
    for folder in (path for path in (ROOT / "csrc").iterdir() if path.is_dir()):
        section = text.partition(f"\n## {folder.name}\n")[2].partition("\n## ")[0]
        named = re.findall(r"`(\w+\.(?:\*|[\w.]+))`", section)
        files = [path.name for path in folder.iterdir()]
        for file in files:
            count = sum(fnmatch(file, name) for name in named)
            assert count == 1, f"csrc/README.md names {folder.name}/{file} {count} times"
        for name in named:
            assert any(fnmatch(file, name) for file in files), f"csrc/README.md: no such {name}"


def test_the_map_of_python_names_every_file_once_in_its_folder() -> None:
    text = (ROOT / "python" / "README.md").read_text(encoding="utf-8")
    package = ROOT / "python" / "onepass"
    for folder in {path.parent for path in package.rglob("*.py")}:
        title = folder.relative_to(package).as_posix()
        section = text.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
        assert section, f"python/README.md has no section for {title}"
        rows = "".join(line for line in section.splitlines() if line.startswith("|"))
        named = sorted(re.findall(r"`(\w+\.py)`", rows))
        files = sorted(path.name for path in folder.glob("*.py") if path.name != "__init__.py")
        if title == "lab":  # `onepass lab` lists the experiments, which are its other files
            files = [name for name in files if name.startswith("_")]
        lacking, gone = set(files) - set(named), set(named) - set(files)
        assert not lacking, f"python/README.md: the rows of {title} lack {sorted(lacking)}"
        assert not gone, f"python/README.md: {title} has no {sorted(gone)}"
        assert named == files, f"python/README.md names a file of {title} twice"


def test_kernel_files_are_short() -> None:
    for path in (ROOT / "csrc" / "kernels").glob("*.h"):
        lines = path.read_text().count("\n")
        assert lines <= 100, f"{path.name} has {lines} lines; split it"


def test_import_is_light() -> None:
    code = (
        "import sys, onepass; "
        "heavy = {'torch', 'cupy', 'mpi4py', 'sklearn', 'matplotlib', 'tqdm', 'scipy', 'jax', "
        "'jaxlib', 'optax', 'threadpoolctl', 'ml_dtypes', 'safetensors', 'onnx', 'optuna'}; "
        "own = {'onepass._cuda', 'onepass._jax', 'onepass.nn', 'onepass.train', 'onepass.jax'}; "
        "found = {m.partition('.')[0] for m in sys.modules}; "
        "print(sorted(heavy & found), sorted(own & set(sys.modules)))"
    )
    done = run(sys.executable, "-c", code)
    assert done.stdout.strip() == "[] []", done.stdout + done.stderr


def test_optimizers_need_no_modules() -> None:
    code = "import sys, onepass.optim; print([m for m in sys.modules if 'onepass.nn' in m])"
    done = run(sys.executable, "-c", code)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_import_leaves_subnormals_alone() -> None:
    code = (
        "import sys, onepass, numpy as np; onepass.ops.relu(np.ones(9, np.float32)); "
        "print(sys.float_info.min / 2 > 0)"
    )
    assert run(sys.executable, "-c", code).stdout.strip() == "True"


def test_ruff() -> None:
    ruff = tool("ruff")
    for command in (["check", "."], ["format", "--check", "."]):
        done = run(ruff, *command)
        assert done.returncode == 0, done.stdout + done.stderr


def test_mypy(tmp_path: Path) -> None:
    """The types of the package, and that a type checker sees every public name of it."""
    names = [f"{m.__name__}.{name}" for m in (*public_packages(), ops) for name in m.__all__]
    user = tmp_path / "user.py"
    user.write_text("import onepass.optim.full_batch\n" + "\n".join(names))
    done = run(tool("mypy"), "python/onepass", str(user))
    assert done.returncode == 0, done.stdout + done.stderr


def test_stub_tells_the_truth() -> None:
    tool("mypy")
    done = run(sys.executable, "-m", "mypy.stubtest", "onepass._C")
    assert done.returncode == 0, done.stdout + done.stderr


def test_clang_format() -> None:
    sources = [
        str(path)
        for pattern in ("*.h", "*.cpp", "*.cu", "*.cuh")
        for folder in ("csrc", "tests")
        for path in sorted((ROOT / folder).rglob(pattern))
    ]
    done = run(tool("clang-format"), "--dry-run", "--Werror", *sources)
    assert done.returncode == 0, done.stderr


def test_every_python_file_parses_on_the_oldest_version() -> None:
    for path in (ROOT / "python").rglob("*.py"):
        ast.parse(path.read_text(), feature_version=(3, 10))


STILTED = [  # phrases of an old style, each with a plain equivalent
    r"\b(?:is|are|was|were) told\b(?! apart)",
    r"\b(?:asked for|looked at|done) by hand\b",
    r"\blater caller",
    r"\b[Nn]one of its own\b",
    r"(?<![Tt]here )\b(?:is|are|was|were) no (?!longer|larger|more|less)",
    r"\bwhat (?:follows|comes) on\b",
    r"\b(?:of no (?:more )?|(?:has|have) no )use\b",
    r"\b(?:is|are) seen to\b",
    r"\A(?://|\"\"\") ?(?:Whether|Those|Of|To which)\b",  # how a file begins
]


def stilted(text: str) -> list[str]:
    return [found for phrase in STILTED for found in re.findall(phrase, text)]


def test_comments_are_plain() -> None:
    """Sources avoid the phrases of the list; reading the whole sentence remains the real check."""
    folders = ("python", "csrc", "cmake", "scripts", "tests")
    paths = [p for folder in folders for p in (ROOT / folder).rglob("*")]
    paths += [ROOT / name for name in ("CMakeLists.txt", "README.md", "CHANGELOG.md")]
    paths.remove(Path(__file__).resolve())
    found = {
        str(path.relative_to(ROOT)): phrases
        for path in paths
        if path.is_file()
        and path.suffix != ".pyc"
        and (phrases := stilted(path.read_text(encoding="utf-8", errors="ignore")))
    }
    assert not found


def test_stilted_phrases_are_found() -> None:
    assert stilted("what follows on the stream is told to no later caller") == [
        "is told",
        "later caller",
        "what follows on",
    ]
    assert not stilted("arrays are told apart by their type")
    assert stilted('"""Whether one has no use for it."""') == ["has no use", '"""Whether']


def test_everything_offered_exists() -> None:
    code = "import onepass; [getattr(onepass, name) for name in dir(onepass)]"
    done = run(sys.executable, "-c", code)
    assert done.returncode == 0, done.stderr
    named = re.findall(r"``(\w+)``", onepass.__doc__ or "")
    assert len(named) > 3
    offered = {name for name in dir(onepass) if not name.startswith("__")}
    assert {*named, "load_run", "cli"} == offered  # no imports of the module's own
