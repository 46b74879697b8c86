"""Mistakes planted in csrc/jax: the handlers of XLA's calls."""

from mutant import Mutant

OPTIM = "tests/test_jax_optim.py"
STATES = "tests/test_jax_states.py"
FUNCTIONS = "tests/test_jax.py"
FLAT_UPDATE = f"{OPTIM}::test_an_update_of_flat_parameters"

JAX = [
    Mutant(
        "jax: parameters in one array all begin with its first",
        "csrc/jax/step.h",
        "at(operand_of(arrays[0]), element);",
        "operand_of(arrays[0]);",
        (f"{OPTIM}::test_the_steps_are_those_of_optim[SGD-{{}}]", FLAT_UPDATE),
    ),
    Mutant(
        "jax: states of later parameters begin where those of the first do",
        "csrc/jax/step.h",
        "[kFirstState + s] = at(states[s], element);",
        "[kFirstState + s] = states[s];",
        (f"{OPTIM}::test_a_gradient_may_be_flat_too", FLAT_UPDATE),
    ),
    Mutant(
        "jax: the columns of a second matrix are those of the first",
        "csrc/jax/step.h",
        "columns += leaf.size / leaf.height;",
        "columns += 0;",
        (f"{OPTIM}::test_an_update_of_flat_parameters",),
    ),
    Mutant(
        "jax: a number of the call is left out",
        "csrc/jax/step.h",
        "values[place] = f.number(kNumbers + i);",
        "values[place] = f.number(kNumbers);",
        ("tests/test_jax_optax.py::test_injected_options_take_effect_under_jit",),
    ),
    Mutant(
        "jax: words of any length are read as hyper-parameters",
        "csrc/jax/step.h",
        "require(words.type == XLA_FFI_DataType_U32 && words.size() == 2 * count);",
        "require(words.type == XLA_FFI_DataType_U32);",
        (f"{STATES}::test_a_call_stays_within_its_arrays",),
    ),
    Mutant(
        "jax: states of any length are taken",
        "csrc/jax/update.cpp",
        "require(f.argument(first + s).size() == all.elements);",
        "require(f.argument(first + s).size() >= 0);",
        (f"{STATES}::test_a_call_stays_within_its_arrays",),
    ),
    Mutant(
        "jax: the count stays as it was",
        "csrc/jax/step.h",
        "count < INT32_MAX ? count + 1 : count",
        "count",
        (f"{OPTIM}::test_a_mapped_step", f"{OPTIM}::test_what_is_not_donated_stays"),
    ),
    Mutant(
        "jax: steps that ascend descend",
        "csrc/jax/update.cpp",
        'f.integer("maximize") != 0 ? -1 : 1',
        "1",
        (f"{OPTIM}::test_steps_that_ascend",),
    ),
    Mutant(
        "jax: a rule of whole parameters gives what they become",
        "csrc/jax/update.cpp",
        "store_difference<S>(from, static_cast<const S*>(from), what, n);",
        "",
        (FLAT_UPDATE,),
    ),
    Mutant(
        "jax: the parameter of a schedule-free optimizer is its average",
        "csrc/jax/update.cpp",
        "row.at(0) = 1 / own[size_t(place)] - 1;",
        "row.at(0) = 0;",
        (f"{STATES}::test_the_average_is_that_of_optim",),
    ),
    Mutant(
        "jax: before the first step the average is made of a z that is not there",
        "csrc/jax/update.cpp",
        "if (count_of(f.argument(1)) == 0 || all.elements == 0) return;",
        "if (all.elements == 0) return;",
        (f"{STATES}::test_the_average_is_that_of_optim",),
    ),
    Mutant(
        "jax: the table of kernels is that of the first call",
        "csrc/jax/elementwise.cpp",
        'run_tensor(lent().cpu().activation[f.integer("kernel")], buffers,',
        "static const Backend& first = lent().cpu();\n"
        '  run_tensor(first.activation[f.integer("kernel")], buffers,',
        (f"{FUNCTIONS}::test_the_level_is_that_of_the_call",),
    ),
    Mutant(
        "jax: subnormal numbers are flushed, as XLA has them",
        "csrc/jax/frame.cpp",
        "    const UsualArithmetic usual;\n",
        "",
        (f"{FUNCTIONS}::test_the_arithmetic_of_the_thread_is_left_as_it_was",),
    ),
    Mutant(
        "jax: labels beyond int64 become negative ones",
        "csrc/jax/cross_entropy.cpp",
        "if (wide[i] > uint64_t(INT64_MAX)) outside",
        "if (wide[i] == UINT64_MAX) outside",
        (f"{FUNCTIONS}::test_cross_entropy_refuses",),
    ),
    Mutant(
        "jax: leaves are taken from any buffer",
        "csrc/jax/flat.cpp",
        "if (left != 0)",
        "if (left < 0)",
        ("tests/test_jax_states.py::test_a_buffer_with_more_than_its_leaves_is_refused",),
    ),
    Mutant(
        "jax: a norm may be negative",
        "csrc/jax/step.h",
        "if (norm < 0) throw Refused(",
        "if (false) throw Refused(",
        (f"{OPTIM}::test_a_negative_norm_is_refused_where_only_the_call_knows_it",),
    ),
    Mutant(
        "jax: programs of any release are run",
        "csrc/jax/frame.cpp",
        'if (f.integer("release") != release_)',
        'if (f.integer("release") == 0)',
        ("tests/test_jax_states.py::test_a_program_of_another_release_is_refused",),
    ),
    Mutant(
        "jax: memory that is lacking is an internal error",
        "csrc/jax/muon.cpp",
        "if (error.matches(PyExc_MemoryError)) throw std::bad_alloc();",
        "",
        (f"{FUNCTIONS}::test_errors_have_their_codes",),
    ),
]
