"""An option that asks for a state, switched on and off between steps, in one group of several."""

import copy
import pickle

import numpy as np
import pytest
from onepass import optim

OFF = {"momentum": 0.0, "centered": False, "amsgrad": False}
KINDS = {
    "sgd": (optim.SGD, {"momentum": 0.9}),
    "sgd dampened": (optim.SGD, {"momentum": 0.9, "dampening": 0.5}),
    "rmsprop momentum": (optim.RMSprop, {"momentum": 0.9}),
    "rmsprop centred": (optim.RMSprop, {"centered": True}),
    "adam": (optim.Adam, {"amsgrad": True}),
    "adamw": (optim.AdamW, {"amsgrad": True}),
    "lars": (optim.LARS, {"momentum": 0.9}),
}
each_kind = pytest.mark.parametrize("kind", KINDS)
SEQUENCE = (1, 1, 0, 0, 1, 1)  # whether the option is on


def gradients(t):
    return [np.sin(np.arange(9.0) * (i + 1) + t) + 0.1 for i in range(2)]


def switch(group, options, on):
    group.update(options if on else {key: OFF.get(key, value) for key, value in options.items()})


def run(kind, between=lambda optimizer, t: optimizer, *, beside=True):
    """The last of the parameters, and its optimizer, after steps in which its group alone is
    switched; ``between`` may put another optimizer in its place before each of them."""
    cls, options = KINDS[kind]
    params = [np.ones(9), np.linspace(-1, 1, 9)]
    groups = [{"params": [p]} for p in (params if beside else params[1:])]
    optimizer = cls(groups, lr=0.1, **options)
    for t, on in enumerate(SEQUENCE):
        switch(optimizer.param_groups[-1], options, on)
        optimizer = between(optimizer, t)
        optimizer.step(gradients(t) if beside else gradients(t)[1:])
    return params[1], optimizer


def test_every_state_that_an_option_asks_for_is_switched_here():
    classes = [cls for cls in vars(optim).values() if hasattr(cls, "_rule")]
    asked = {(cls, state.when) for cls in classes for state in cls._rule.states if state.when}
    switched = {(cls, option) for cls, options in KINDS.values() for option in options}
    lacking = {(cls.__name__, option) for cls, option in asked - switched}
    assert asked
    assert not lacking, f"give KINDS a row, and OFF the value that is off: {lacking}"


@each_kind
def test_a_group_that_is_switched_off_goes_on_where_it_was_though_another_is_on(kind):
    """Its buffer took the plain gradients meanwhile."""
    together, alone = run(kind)[0], run(kind, beside=False)[0]
    np.testing.assert_array_equal(together, alone)


@pytest.mark.parametrize("sequence", [(0, 0, 1, 1), (1, 0, 1, 1), (1, 1, 0, 1), (0, 1, 0, 1)])
@pytest.mark.parametrize("name", ["SGD", "RMSprop", "Adam"])
def test_switched_groups_take_the_steps_of_pytorch(name, sequence):
    torch = pytest.importorskip("torch")
    import onepass.torch.optim as front

    options = {"SGD": {"momentum": 0.9}, "RMSprop": {"momentum": 0.9}, "Adam": {"amsgrad": True}}
    results = []
    for module in (torch.optim, front):
        params = [torch.nn.Parameter(torch.ones(9)) for _ in range(2)]
        opt = getattr(module, name)([{"params": [p]} for p in params], lr=0.1, **options[name])
        for t, on in enumerate(sequence):
            for p, g in zip(params, gradients(t), strict=True):
                p.grad = torch.tensor(g, dtype=torch.float32)
            if not on and t == 0 and name != "SGD":
                opt.step()  # PyTorch makes the state at the first step alone
            switch(opt.param_groups[1], options[name], on)
            opt.step()
        results.append(params[1].detach().numpy())
    np.testing.assert_allclose(*results, rtol=2e-6, atol=2e-6)


def loaded(optimizer, t):
    fresh = type(optimizer)(
        [{"params": g["params"]} for g in optimizer.param_groups],
        **{key: optimizer.defaults[key] for key in KINDS_OPTIONS & optimizer.defaults.keys()},
    )
    fresh.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    return fresh


KINDS_OPTIONS = {"lr", "momentum", "dampening", "centered", "amsgrad"}


@pytest.mark.parametrize("beside", [True, False])
@each_kind
def test_a_resume_while_it_is_off_changes_no_bit(kind, beside):
    """The buffer was left out of what was saved, and began again at zero."""
    plain = run(kind, beside=beside)[0]
    np.testing.assert_array_equal(run(kind, loaded, beside=beside)[0], plain)


@each_kind
def test_a_state_without_the_buffer_brings_none_back(kind):
    """Else one of the run before would be taken up again."""
    cls, options = KINDS[kind]
    p = np.ones(9)
    optimizer, other = cls([p], lr=0.1, **options), cls([p.copy()], lr=0.1, **options)
    for each in (optimizer, other):
        switch(each.param_groups[0], options, each is optimizer)
        each.step(gradients(0)[:1])
    extra = optimizer.state_dict()["state"][0].keys() - {"step", "square_avg", "exp_avg"}
    saved = other.state_dict()
    for key in extra - {"exp_avg_sq"}:
        saved["state"][0].pop(key, None)
    optimizer.load_state_dict(saved)
    assert optimizer.state_dict()["state"][0].keys() == saved["state"][0].keys()


def of_torch(kind, between):
    """As `run`, with the optimizers of onepass.torch.optim."""
    torch = pytest.importorskip("torch")
    import onepass.torch.optim as front

    cls, options = KINDS[kind]
    params = [torch.nn.Parameter(torch.ones(9)) for _ in range(2)]
    optimizer = getattr(front, cls.__name__)([{"params": [p]} for p in params], lr=0.1, **options)
    for t, on in enumerate(SEQUENCE):
        switch(optimizer.param_groups[1], options, on)
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


@pytest.mark.parametrize(
    "kind", [kind for kind in KINDS if kind != "lars"]
)  # which PyTorch has not
def test_a_state_of_pytorch_that_is_off_goes_on_here_and_back(kind):
    torch = pytest.importorskip("torch")
    import onepass.torch.optim as front

    cls, options = KINDS[kind]
    results = []
    for modules in ((torch.optim,), (torch.optim, front)):
        p = torch.nn.Parameter(torch.ones(9))
        optimizer = getattr(torch.optim, cls.__name__)([p], lr=0.1, **options)
        for t, on in enumerate(SEQUENCE):
            switch(optimizer.param_groups[0], options, on)
            if t:
                module = modules[t % len(modules)]
                other = getattr(module, cls.__name__)([p], lr=0.1)
                other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
                optimizer = other
            p.grad = torch.tensor(gradients(t)[0], dtype=torch.float32)
            optimizer.step()
        results.append(p.detach().numpy())
    np.testing.assert_allclose(*results, rtol=3e-6, atol=3e-6)
