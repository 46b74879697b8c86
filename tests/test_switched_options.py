"""Options that change between steps in one group of several: those that ask for a state, switched
on and off, and all others. No group sees what its neighbours do."""

import copy
import itertools
import pickle

import numpy as np
import pytest
from cases.optimizers import OPTIMIZERS


def kinds():
    """Each option that asks for a state, with the options of the record beside it."""
    for record in OPTIMIZERS:
        for when in dict.fromkeys(state.when for state in record.states if state.when):
            # Nesterov's form of the momentum wants one.
            on = [o for o in record.sweep if when in record.chosen(o) and not o.get("nesterov")]
            for number, options in enumerate(on):
                yield f"{record.name} {when} {number}", (record, when, record.complete(options))


def options_of(record, given):
    """Those of a constructor that say what a step does."""
    names = {key for options in record.sweep for key in options}
    return {key: value for key, value in given.items() if key in names - {"bias_correction"}}


KINDS = {
    name: (record, when, options_of(record, options)) for name, (record, when, options) in kinds()
}
OPTIONS = {key for _, _, options in KINDS.values() for key in options}
each_kind = pytest.mark.parametrize("kind", KINDS)
each_torch_kind = pytest.mark.parametrize(
    "kind", [kind for kind, (record, *_) in KINDS.items() if record.torch]
)
SEQUENCE = (1, 1, 0, 0, 1, 1)  # whether the option is on


def gradients(t):
    return [np.sin(np.arange(9.0) * (i + 1) + t) + 0.1 for i in range(2)]


def switch(group, kind, on):
    _, when, options = KINDS[kind]
    group[when] = options[when] if on else type(options[when])()


def run(kind, between=lambda optimizer, t: optimizer, *, beside=True):
    """The last of the parameters, and its optimizer, after steps in which its group alone is
    switched; ``between`` may put another optimizer in its place before each of them."""
    record, _, options = KINDS[kind]
    params = [np.ones(9), np.linspace(-1, 1, 9)]
    groups = [{"params": [p]} for p in (params if beside else params[1:])]
    optimizer = record.cls(groups, **options)
    for t, on in enumerate(SEQUENCE):
        switch(optimizer.param_groups[-1], kind, on)
        optimizer = between(optimizer, t)
        optimizer.step(gradients(t) if beside else gradients(t)[1:])
    return params[1], optimizer


@each_kind
def test_a_group_that_is_switched_off_goes_on_where_it_was_though_another_is_on(kind):
    """Its buffer took the plain gradients meanwhile."""
    together, alone = run(kind)[0], run(kind, beside=False)[0]
    np.testing.assert_array_equal(together, alone)


@each_kind
@pytest.mark.parametrize("held", [np.inf, -np.inf, np.nan])
def test_what_a_switched_off_group_holds_does_not_reach_its_parameter(kind, held):
    """A buffer that has overflowed, beside a group that is on: 0 · Inf was NaN."""
    record, when, options = KINDS[kind]
    state = next(s.name for s in record.states if s.when == when)
    results = []
    for beside in (True, False):
        params = [np.linspace(-1, 1, 9), np.ones(9)]
        optimizer = record.cls([{"params": [p]} for p in params[: 1 + beside]], **options)
        optimizer.step(gradients(0)[: 1 + beside])
        optimizer._states[state][0][...] = held
        switch(optimizer.param_groups[0], kind, False)
        optimizer.step(gradients(1)[: 1 + beside])
        results.append(params[0])
        assert np.array_equal(optimizer._states[state][0], np.full(9, held), equal_nan=True)
    assert np.isfinite(results[0]).all()
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize("record", OPTIMIZERS, ids=lambda record: record.name)
def test_no_group_sees_the_options_of_another(record):
    """Two groups, one of which gets other options at the third step, take the bits of two
    optimizers."""
    taken = 0
    for first, second, then in itertools.product(record.sweep, repeat=3):
        keys = {*first, *then}
        change = {key: value for key, value in record.complete(then).items() if key in keys}
        rng = np.random.default_rng(0)
        params = [rng.standard_normal((3, 4)) for _ in range(2)]
        others = copy.deepcopy(params)
        groups = [{"params": [p], **o} for p, o in zip(params, (first, second), strict=True)]
        both = record.cls(groups)
        alone = [record.cls([q], **o) for q, o in zip(others, (first, second), strict=True)]
        for step in range(5):
            if step == 2:
                for optimizer in (both, alone[0]):
                    optimizer.param_groups[0].update(change)
            grads = [rng.standard_normal((3, 4)) for _ in params]
            try:
                both.step(grads)
            except ValueError as error:  # of the average of the schedule-free ones
                assert "the average was made with" in str(error)  # noqa: PT017
                break
            for own, g in zip(alone, grads, strict=True):
                own.step([g])
            label = f"{first}, {second}, then {then}, step {step}"
            np.testing.assert_array_equal(params, others, label)
        else:
            taken += 1
    assert taken >= len(record.sweep) ** 2


@pytest.mark.parametrize("sequence", [(0, 0, 1, 1), (1, 0, 1, 1), (1, 1, 0, 1), (0, 1, 0, 1)])
@each_torch_kind
def test_switched_groups_take_the_steps_of_pytorch(kind, sequence):
    torch = pytest.importorskip("torch")
    import onepass.torch.optim as front

    record, _, options = KINDS[kind]
    if options.get("dampening") and not sequence[0]:
        return  # where they differ, as the docstring says
    results = []
    for module in (torch.optim, front):
        params = [torch.nn.Parameter(torch.ones(9)) for _ in range(2)]
        opt = getattr(module, record.torch)([{"params": [p]} for p in params], **options)
        for t, on in enumerate(sequence):
            for p, g in zip(params, gradients(t), strict=True):
                p.grad = torch.tensor(g, dtype=torch.float32)
            if not on and t == 0 and record.name != "sgd":
                opt.step()  # PyTorch makes the state at the first step alone
            switch(opt.param_groups[1], kind, on)
            opt.step()
        results.append(params[1].detach().numpy())
    np.testing.assert_allclose(*results, rtol=2e-6, atol=2e-6)


def loaded(optimizer, t):
    fresh = type(optimizer)(
        [{"params": g["params"]} for g in optimizer.param_groups],
        **{key: optimizer.defaults[key] for key in OPTIONS & optimizer.defaults.keys()},
    )
    fresh.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    return fresh


@pytest.mark.parametrize("beside", [True, False])
@each_kind
def test_a_resume_while_it_is_off_changes_no_bit(kind, beside):
    """The buffer was left out of what was saved, and began again at zero."""
    plain = run(kind, beside=beside)[0]
    np.testing.assert_array_equal(run(kind, loaded, beside=beside)[0], plain)


@each_kind
def test_a_state_without_the_buffer_brings_none_back(kind):
    """Else one of the run before would be taken up again."""
    record, when, options = KINDS[kind]
    p = np.ones(9)
    optimizer, other = record.cls([p], **options), record.cls([p.copy()], **options)
    for each in (optimizer, other):
        switch(each.param_groups[0], kind, each is optimizer)
        each.step(gradients(0)[:1])
    asked = {state.name for state in record.states if state.when == when}
    assert asked <= optimizer.state_dict()["state"][0].keys()
    saved = other.state_dict()
    for key in asked:
        saved["state"][0].pop(key, None)
    optimizer.load_state_dict(saved)
    assert optimizer.state_dict()["state"][0].keys() == saved["state"][0].keys()


def of_torch(kind, between):
    """As `run`, with the optimizers of onepass.torch.optim."""
    torch = pytest.importorskip("torch")
    import onepass.torch.optim as front

    record, _, options = KINDS[kind]
    params = [torch.nn.Parameter(torch.ones(9)) for _ in range(2)]
    groups = [{"params": [p]} for p in params]
    optimizer = getattr(front, record.cls.__name__)(groups, **options)
    for t, on in enumerate(SEQUENCE):
        switch(optimizer.param_groups[1], kind, on)
        optimizer = between(optimizer, t)
        for group, g in zip(optimizer.param_groups, gradients(t), strict=False):
            group["params"][0].grad = torch.tensor(g, dtype=torch.float32)
        optimizer.step()
    return optimizer.param_groups[1]["params"][0].detach().numpy()


def loaded_in_front(optimizer, t):
    fresh = type(optimizer)([{"params": g["params"]} for g in optimizer.param_groups], lr=1.0)
    fresh.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    return fresh


def with_another_group(optimizer, t):
    torch = pytest.importorskip("torch")
    if t == 3:
        optimizer.add_param_group({"params": [torch.nn.Parameter(torch.ones(2))]})
    return optimizer


@pytest.mark.parametrize(
    "between",
    [
        loaded_in_front,
        lambda optimizer, _: copy.deepcopy(optimizer),
        lambda optimizer, _: pickle.loads(pickle.dumps(optimizer)),
        with_another_group,
    ],
    ids=["load", "deepcopy", "pickle", "add_param_group"],
)
@each_kind
def test_an_optimizer_of_pytorchs_kind_keeps_what_is_off(kind, between):
    plain = of_torch(kind, lambda optimizer, _: optimizer)
    np.testing.assert_array_equal(of_torch(kind, between), plain)


@each_torch_kind
def test_a_state_of_pytorch_that_is_off_goes_on_here_and_back(kind):
    torch = pytest.importorskip("torch")
    import onepass.torch.optim as front

    record, _, options = KINDS[kind]
    results = []
    for modules in ((torch.optim,), (torch.optim, front)):
        p = torch.nn.Parameter(torch.ones(9))
        optimizer = getattr(torch.optim, record.torch)([p], **options)
        for t, on in enumerate(SEQUENCE):
            switch(optimizer.param_groups[0], kind, on)
            if t:
                module = modules[t % len(modules)]
                other = getattr(module, record.torch)([p], lr=0.1)
                other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
                optimizer = other
            p.grad = torch.tensor(gradients(t)[0], dtype=torch.float32)
            optimizer.step()
        results.append(p.detach().numpy())
    np.testing.assert_allclose(*results, rtol=3e-6, atol=3e-6)
