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
    with pytest.raises(TypeError, match=f"{key!r} in a parameter group is no option"):
        of.Adam([{"params": [parameter()], key: value}])
    own = of.Adam([parameter()])
    with pytest.raises(TypeError, match=f"{key!r} in a parameter group is no option"):
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
