"""What a program that swaps in onepass.torch.optim, or goes to and fro, stumbles over."""

import copy
import pickle

import numpy as np
import pytest
from onepass import optim

torch = pytest.importorskip("torch")
import onepass.torch  # noqa: E402
import onepass.torch.optim as front  # noqa: E402

BOTH = torch.optim, front


def parameter(*shape, value=1.0):
    return torch.nn.Parameter(torch.full(shape or (3,), value))


# -------------------------------------------------------------------- states before the first step


@pytest.mark.parametrize("riders", [{}, {"ema_decay": 0.5}], ids=str)
@pytest.mark.parametrize(
    "between",
    [
        lambda a: a.state_dict() and a,
        lambda a: a.add_param_group({"params": [parameter(2)]}) or a,
        copy.deepcopy,
        lambda a: pickle.loads(pickle.dumps(a)),
        lambda a: a.param_groups[0].update(lr=0.011) or a,
        lambda a: a.averages and a,
    ],
    ids=["state_dict", "add_param_group", "deepcopy", "pickle", "lr", "averages"],
)
def test_an_edit_of_a_state_before_the_first_step_is_kept(between, riders):
    if riders and between(front.Adagrad([parameter()])) is None:
        pytest.skip("nothing to compare")
    a = front.Adagrad([parameter()], initial_accumulator_value=0.2, **riders)
    a.state[a.param_groups[0]["params"][0]]["sum"].fill_(2.0)
    a = between(a)
    p = a.param_groups[0]["params"][0]
    assert a.state[p]["sum"].tolist() == [2.0] * 3
    p.grad = torch.ones(3)
    a.step()
    assert a.state[p]["sum"].tolist() == [3.0] * 3


@pytest.mark.parametrize("name", ["Rprop", "Adagrad"])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    "between",
    [
        lambda a: a,
        copy.deepcopy,
        lambda a: pickle.loads(pickle.dumps(a)),
        lambda a: a.add_param_group({"params": [parameter(2)]}) or a,
        lambda a: a.load_state_dict(copy.deepcopy(a.state_dict())) or a,
    ],
    ids=["nothing", "deepcopy", "pickle", "add_param_group", "load_state_dict"],
)
def test_a_changed_start_counts_until_the_first_step(name, between, when):
    """As a warm-up changes it, whatever is done to the optimizer meanwhile."""
    option, start = ("lr", 0.05) if name == "Rprop" else ("initial_accumulator_value", 0.25)
    a = getattr(front, name)([parameter(), parameter(2)], lr=0.01)
    if when == "before":
        a.param_groups[0][option] = start
    a = between(a)
    a.param_groups[0][option] = start
    p = a.param_groups[0]["params"][0]
    p.grad = torch.ones(3)
    a.step()
    want = torch.tensor(0.95 if name == "Rprop" else 1 - 0.01 / 1.25**0.5)
    torch.testing.assert_close(p.detach(), want.expand(3))


def test_an_adagrad_of_pytorch_with_unused_parameters_is_loaded():
    params = [parameter(), parameter(2)]
    theirs = torch.optim.Adagrad(params, initial_accumulator_value=0.25)
    fresh = copy.deepcopy(theirs.state_dict())
    params[0].grad = torch.ones(3)
    theirs.step()
    for saved, steps in ((theirs.state_dict(), [1, 0]), (fresh, [0, 0])):
        arrays = [np.ones(3, np.float32), np.ones(2, np.float32)]
        ours = optim.Adagrad(arrays)
        ours.load_state_dict(saved)
        entries = ours.state_dict()["state"]
        assert [entries[i]["step"] if i in entries else 0 for i in range(2)] == steps
        ours.step([np.ones(3, np.float32), np.ones(2, np.float32)])
        np.testing.assert_allclose(arrays[1], 1 - 0.01 / 1.25**0.5, rtol=1e-6)


# ------------------------------------------------------------------------------------- loss scales


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("scaler", [torch.amp.GradScaler, onepass.torch.GradScaler])
@pytest.mark.parametrize("control", [{}, {"zero_grad": True}, {"max_norm": 1e-5}], ids=str)
def test_a_loss_scale_that_grows_to_its_end_does_not_stop_training(scaler, control, dtype):
    def train(optimizers, make, **options):
        p = torch.nn.Parameter(torch.ones(3, dtype=dtype))
        optimizer = optimizers.SGD([p], lr=1e-3)
        scale = make("cpu", growth_interval=1, init_scale=2.0**120)
        seen = []
        for _ in range(12):
            optimizer.zero_grad()
            scale.scale((p * 1e-4).sum()).backward()
            before = p.grad.clone()
            scale.step(optimizer, **options)
            if optimizers is front:  # PyTorch's scaler divides in place
                assert torch.equal(p.grad, before if "zero_grad" not in options else before * 0)
            scale.update()
            seen.append((p.detach().clone(), scale.get_scale()))
        return seen

    ours = train(front, scaler, **control)
    assert ours[-1][1] >= 2.0**127
    if control:
        return
    for (got, scale), (want, theirs) in zip(
        ours, train(torch.optim, torch.amp.GradScaler), strict=True
    ):
        assert scale == theirs
        torch.testing.assert_close(got, want)


# ------------------------------------------------------------------------------------------ groups


@pytest.mark.parametrize("key", ["param", "parms", "weights"])
def test_a_group_without_params_is_refused(key):
    group = {key: [parameter()], "lr": 0.1}
    with pytest.raises(ValueError, match=f"AdamW: a group has the keys '{key}', 'lr', expected 'p"):
        front.AdamW([group])
    assert group.keys() == {key, "lr"}
    own = front.AdamW([parameter()])
    with pytest.raises(ValueError, match="expected 'params'"):
        own.add_param_group(group)
    assert len(own.param_groups) == 1


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("compat", "keras"),
        ("state_dtype", "bfloat16"),
        ("seed", 3),
        ("master_weights", True),
        ("stochastic_rounding", True),
        ("diagnostics", True),
    ],
)
@pytest.mark.parametrize("of", [front, optim], ids=["torch", "arrays"])
def test_an_argument_of_the_constructor_is_refused_in_a_group(of, key, value):
    with pytest.raises(TypeError, match=f"{key!r} in a parameter group is not an option"):
        of.Adam([{"params": [parameter()], key: value}])
    own = of.Adam([parameter()])
    with pytest.raises(TypeError, match=f"{key!r} in a parameter group is not an option"):
        own.add_param_group({"params": [parameter()], key: value})


@pytest.mark.parametrize("name", ["Adam", "SGD", "Adagrad", "Rprop", "Muon"])
@pytest.mark.parametrize("zero_grad", [False, True])
def test_one_group_may_descend_and_another_ascend(name, zero_grad):
    def train(optimizers, **control):
        torch.manual_seed(0)
        params = [torch.nn.Parameter(torch.randn(4, 3)) for _ in range(2)]
        one, two = params
        optimizer = getattr(optimizers, name)(
            [{"params": [one]}, {"params": [two], "maximize": True}], lr=0.01
        )
        for _ in range(3):
            for p in params:
                p.grad = torch.randn(4, 3)
            grads = [p.grad.clone() for p in params]
            optimizer.step(**control)
            for p, g in zip(params, grads, strict=True):
                assert torch.equal(p.grad, torch.zeros_like(g) if control else g)
        return params

    got = train(front, **({"zero_grad": True} if zero_grad else {}))
    # PyTorch's Muon has no such option.
    want = train(Negated if name == "Muon" else torch.optim)
    for g, w in zip(got, want, strict=True):
        torch.testing.assert_close(g, w)


class Negated:
    """Two optimizers, of which one is given negative gradients."""

    class Muon:
        def __init__(self, groups, lr):
            self.two = [front.Muon(g["params"], lr=lr) for g in groups]
            self.ascends = groups[1]["params"]

        def step(self):
            for p in self.ascends:
                p.grad.neg_()
            for own in self.two:
                own.step()
            for p in self.ascends:
                p.grad.neg_()


def test_arrays_without_axes_and_pairs_of_rows_ascend_too():
    p, q = np.ones((), np.float32), np.ones((), np.float32)
    opt = optim.SGD([{"params": [p]}, {"params": [q], "maximize": True}], lr=0.5)
    opt.step([np.ones((), np.float32), np.ones((), np.float32)])
    assert (p, q) == (0.5, 1.5)
    a, b = np.ones((4, 2), np.float32), np.ones((4, 2), np.float32)
    opt = optim.SparseAdam([{"params": [a]}, {"params": [b], "maximize": True}], lr=0.5)
    opt.step([(np.array([1]), np.ones((1, 2), np.float32)) for _ in range(2)])
    np.testing.assert_allclose([a[1], b[1]], [[0.5] * 2, [1.5] * 2], rtol=1e-6)


# ---------------------------------------------------------------------------------------- messages


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("Adam", {"betas": (0.9,)}),
        ("NAdam", {"betas": ()}),
        ("RAdam", {"betas": (0.9,)}),
        ("Adamax", {"betas": (0.9,)}),
        ("SparseAdam", {"betas": (0.9,)}),
        ("Rprop", {"etas": (0.5,)}),
        ("Rprop", {"step_sizes": (1,)}),
        ("Adafactor", {"eps": (None,)}),
    ],
)
def test_a_tuple_that_is_too_short_is_named(name, given):
    with pytest.raises((ValueError, TypeError), match=next(iter(given))):
        getattr(front, name)([parameter(2, 2)], **given)


def test_parameters_on_the_cpu_are_taken_under_a_default_device():
    p = parameter()
    with torch.device("meta"):
        own = front.AdamW([p], lr=0.1)
    p.grad = torch.ones(3)
    own.step()
    assert (p < 1).all()


def test_parameters_without_memory_are_refused_with_the_cure():
    for of in (front, optim):
        with pytest.raises(ValueError, match=r"AdamW: parameter 0 .*'meta'.*to_empty"):
            of.AdamW(torch.nn.Linear(2, 3, device="meta").parameters())


# ------------------------------------------------------------------------------------------ saving


@pytest.mark.parametrize("shapes", [[(40, 33), (7,)], [(0, 3), (300,), ()]], ids=str)
def test_states_of_8_bits_go_through_torch_save(tmp_path, shapes):
    params = [torch.nn.Parameter(torch.randn(s)) for s in shapes]

    def step(optimizer):
        for i, p in enumerate(params):
            p.grad = torch.full(p.shape, float(i + 1))
        optimizer.step()

    own = optim.AdamW(params, lr=0.1, state_dtype="int8")
    step(own)
    torch.save(own.state_dict(), tmp_path / "x.pt")
    before = [s.clone() for held in own._states.values() for s in held if s is not None]
    step(own)
    own.load_state_dict(torch.load(tmp_path / "x.pt"))
    after = [s for held in own._states.values() for s in held if s is not None]
    for got, want in zip(after, before, strict=True):
        assert torch.equal(got, want)
    entry = own.state_dict()["state"][1]
    entry["exp_avg_scale"].fill_(0)  # the optimizer's own memory
    assert not own.state_dict()["state"][1]["exp_avg_scale"].any()


# ------------------------------------------------------------------------ what scripts do around it


def test_the_modules_beside_the_optimizers_are_there_after_a_swap_of_the_import():
    from onepass.torch.optim.lr_scheduler import StepLR
    from onepass.torch.optim.swa_utils import AveragedModel

    assert StepLR is torch.optim.lr_scheduler.StepLR is front.lr_scheduler.StepLR
    assert AveragedModel is front.swa_utils.AveragedModel
    p = parameter()
    own = front.SGD([p], lr=0.5)
    schedule = front.lr_scheduler.StepLR(own, 1)
    p.grad = torch.ones(3)
    own.step()
    schedule.step()
    assert schedule.get_last_lr() == [0.05]
    missing = {n for n in dir(torch.optim) if not n.startswith("_") and not hasattr(front, n)}
    classes = {n for n in missing if isinstance(getattr(torch.optim, n), type)}
    assert not classes


@pytest.mark.parametrize("of", BOTH, ids=["pytorch", "onepass"])
def test_hooks_run_once_around_the_step_of_a_subclass(of):
    ran = []

    class Mine(of.AdamW):
        def step(self, closure=None):
            ran.append("mine")
            return super().step(closure)

    own = Mine([parameter()], lr=0.1)
    own.register_step_pre_hook(lambda *_: ran.append("before"))
    own.register_step_post_hook(lambda *_: ran.append("after"))
    own.param_groups[0]["params"][0].grad = torch.ones(3)
    own.step()
    if of is front:  # in PyTorch it depends on whether an AdamW was made before
        assert ran == ["before", "mine", "after"]


NAMES = ["SGD", "Adam", "AdamW", "RMSprop", "Adagrad", "NAdam", "RAdam", "Adamax", "Adadelta"]
NAMES += ["ASGD", "Rprop"]


@pytest.mark.parametrize("bad", [-np.inf, np.inf])
@pytest.mark.parametrize("name", NAMES)
def test_an_infinite_parameter_without_gradient_stays_as_it_is(name, bad):
    """A transition that is forbidden, a class that is masked."""
    results = []
    for of in BOTH:
        p = torch.nn.Parameter(torch.tensor([1.0, bad, 2.0] * 40))
        options = {"weight_decay": 0.0} if name == "AdamW" else {}
        own = getattr(of, name)([p], lr=0.1, **options)
        for _ in range(3):
            p.grad = torch.tensor([1.0, 0.0, -2.0] * 40)
            own.step()
        results.append(p.detach())
    assert not results[0].isnan().any()
    torch.testing.assert_close(*results)


@pytest.mark.parametrize("name", ["ADOPT", "Lion", "AdEMAMix"])
def test_an_infinite_parameter_of_other_optimizers_stays_too(name):
    p = np.float32([1, -np.inf])
    own = getattr(optim, name)([p])
    for _ in range(2):
        own.step([np.float32([1, 0])])
    assert p[1] == -np.inf


def test_no_bias_of_a_recurrent_layer_decays():
    for layer in (torch.nn.LSTM(3, 4), torch.nn.GRU(3, 4, num_layers=2, bidirectional=True)):
        for group in optim.param_groups(layer, lr=0.1, weight_decay=0.05):
            assert group["weight_decay"] == 0.05 * ("weight" in group["param_names"][0])
            assert len({name.partition("_")[0] for name in group["param_names"]}) == 1


CHANGES = {
    "a group removed": lambda o, b: o.param_groups.pop(),
    "a group removed with its states": lambda o, b: (o.state.pop(b, None), o.param_groups.pop()),
    "a group removed with all states": lambda o, b: (o.state.clear(), o.param_groups.pop()),
    "groups reordered": lambda o, b: o.param_groups.reverse(),
    "a parameter appended": lambda o, b: o.param_groups[0]["params"].append(parameter(2)),
    "a parameter moved": lambda o, b: (
        o.param_groups[1]["params"].append(o.param_groups[0]["params"].pop())
    ),
    "another list of groups": lambda o, b: setattr(o, "param_groups", [dict(o.param_groups[0])]),
}
THEN = {
    "step": lambda o: o,
    "state_dict": lambda o: o.state_dict() and o,
    "deepcopy": copy.deepcopy,
    "load_state_dict": lambda o: o.load_state_dict(copy.deepcopy(o.state_dict())) or o,
    "add_param_group": lambda o: o.add_param_group({"params": [parameter(2)]}) or o,
}


@pytest.mark.parametrize("then", THEN)
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize(
    ("name", "options"),
    [("SGD", {}), ("SGD", {"momentum": 0.9}), ("Adam", {}), ("Rprop", {}), ("Adam", {"ema": 1})],
)
def test_groups_may_be_changed_by_hand(name, options, change, then):
    results = []
    for of in (front, torch.optim):
        a, b, c = parameter(3), parameter(4), parameter(5)
        more = {k: v for k, v in options.items() if k != "ema"}
        if "ema" in options and of is front:
            more["ema_decay"] = 0.5
        own = getattr(of, name)([{"params": [a, c]}, {"params": [b], "lr": 0.2}], lr=0.1, **more)
        for p in (a, b, c):
            p.grad = torch.arange(1.0, 1 + len(p))
        own.step()
        CHANGES[change](own, b)
        try:
            own = THEN[then](own)
        except KeyError:  # of PyTorch's state_dict: a state is there whose parameter is gone
            results.append(None)
            continue
        for group in own.param_groups:
            for p in group["params"]:
                p.grad = torch.arange(1.0, 1 + len(p))
        own.step()
        own.step()
        results.append([[p.tolist() for p in g["params"]] for g in own.param_groups])
    if None in results:
        assert results == [None, None]
        return
    assert [len(g) for g in results[0]] == [len(g) for g in results[1]]
    for got, want in zip(*results, strict=True):
        for w, g in zip(want, got, strict=True):
            np.testing.assert_allclose(g, w, rtol=1e-5)
