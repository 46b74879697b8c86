"""Planted mistakes in python/onepass/jax: see README.md."""

from __future__ import annotations

from mutant import Mutant

FUNCTIONS = "tests/test_jax.py"
OPTAX = "tests/test_jax_optax.py"
OPTIM = "tests/test_jax_optim.py"
STATES = "tests/test_jax_states.py"
STEP = "python/onepass/jax/_step.py"
FACTORIES = "python/onepass/jax/_optimizers.py"

JAX = [
    Mutant(
        "jax: each dtype of parameters is clipped by its own norm if gradients have one",
        STEP,
        "if moving.several and max_norm",
        "if len({str(g.dtype) for own in gradients.values() for g in own}) > 1 and max_norm",
        (f"{OPTIM}::test_gradients_of_another_dtype_are_clipped_by_the_norm_of_all",),
    ),
    Mutant(
        "jax: dtypes without an element ask for a norm of their own",
        STEP,
        "return sum(size > 0 for size in sizes(self.leaves).values()) > 1",
        "return len(sizes(self.leaves)) > 1",
        (f"{OPTIM}::test_the_norm_of_all_is_a_call_only_where_no_call_has_them_all",),
    ),
    Mutant(
        "jax: flat parameters are one",
        STEP,
        "leaves = of_dtype(moving.leaves, dtype)",
        "leaves = leaves_of(arrays)",
        (f"{OPTIM}::test_an_update_of_flat_parameters",),
    ),
    Mutant(
        "jax: every gradient of a tree is an operation",
        STEP,
        "gradients = _of_each_dtype(arrays, moving.leaves)",
        "gradients = _of_each_dtype([a + 0 for a in arrays], moving.leaves)",
        (f"{OPTIM}::test_a_thousand_leaves_are_no_more_operations_than_ten",),
    ),
    Mutant(
        "jax: a state of other numbers is taken",
        STEP,
        "if state.names != kernel.names:",
        "if len(state.names) > len(kernel.names):",
        (f"{STATES}::test_a_state_of_another_release_is_refused",),
    ),
    Mutant(
        "jax: nothing is in the memory of the old parameters",
        STEP,
        "        aliases[len(operands)] = len(kept)\n",
        "        pass\n",
        (f"{OPTIM}::test_one_call_in_place",),
    ),
    Mutant(
        "jax: each dtype counts a step",
        STEP,
        "of = replace(after, count=state.count, scalars=state.scalars)",
        "of = after",
        (f"{OPTIM}::test_the_steps_are_those_of_optim",),
    ),
    Mutant(
        "jax: update has the options of the state",
        FACTORIES,
        "state = replace(state, hyper=_hyper(made, state.hyper))",
        "state = replace(state)",
        (f"{OPTAX}::test_an_update_has_the_options_of_its_own_optimizer",),
    ),
    Mutant(
        "jax: update has the learning rate of its optimizer",
        FACTORIES,
        "xp.where(none, own, lr)",
        "xp.where(True, own, lr)",
        (f"{OPTAX}::test_an_update_has_the_options_of_its_own_optimizer",),
    ),
    Mutant(
        "jax: a state of any optimizer is stepped",
        FACTORIES,
        "        if given != own:\n",
        "        if False:\n",
        (f"{OPTAX}::test_a_state_of_another_optimizer_is_refused",),
    ),
    Mutant(
        "jax: a momentum that is traced keeps no buffer",
        FACTORIES,
        "{**group, **{o: 0.5 for o in arrays if o in asked}}",
        "group",
        (f"{OPTAX}::test_every_optimizer_may_be_injected",),
    ),
    Mutant(
        "jax: dampening counts without momentum",
        "python/onepass/jax/_kernels.py",
        "values[place] = jnp.where(on, values[place], 0.0)",
        "values[place] = jnp.where(True, values[place], 0.0)",
        (f"{OPTAX}::test_dampening_counts_beside_momentum_alone",),
    ),
    Mutant(
        "jax: an optax that cannot be imported stops every optimizer",
        FACTORIES,
        "except (ImportError, AttributeError):",
        "except ModuleNotFoundError:",
        (f"{OPTAX}::test_without_optax",),
    ),
    Mutant(
        "jax: labels of 64 bits are cut",
        "python/onepass/jax/_loss.py",
        "    if lost.size > 0:\n",
        "    if lost.size > given.size:\n",
        (f"{FUNCTIONS}::test_labels_that_jax_would_cut_are_refused",),
    ),
    Mutant(
        "jax: a whole number that is traced is refused",
        "python/onepass/jax/_checks.py",
        "kinds = (jnp.floating, jnp.integer)",
        "kinds = (jnp.floating,)",
        (f"{FUNCTIONS}::test_numbers_are_operands",),
    ),
    Mutant(
        "jax: two first callers hand the kernels over twice",
        "python/onepass/jax/_targets.py",
        "    with _ONE_AT_A_TIME:\n        _register()",
        "    _register()",
        (f"{FUNCTIONS}::test_kernels_are_handed_over_once",),
    ),
    Mutant(
        "jax: a state is of any parameters of as many elements",
        STEP,
        "if state.leaves != name_of(moving.leaves):",
        "if not state.leaves:",
        (f"{STATES}::test_a_state_of_as_many_elements_in_other_parameters_is_refused",),
    ),
]
