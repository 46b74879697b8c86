"""States of 8 bits with what else an optimizer can do: other options, copies, frozen parameters,
groups, resumed training, PyTorch's front."""

import copy
import pickle

import numpy as np
import pytest
import staged
from helpers import assert_all_same, assert_same
from onepass import nn, optim
from onepass.train import Checkpoint, Trainer
from small_models import normal
from small_steps import gradients, start
from small_training import KilledError, StopAt
from test_coded_states import FIT, HYPER, each_fit, states
from test_rider_stages import hyper


@pytest.mark.parametrize("riders", [{}, staged.RIDERS], ids=staged.label)
@pytest.mark.parametrize("own", ["stochastic_rounding", "master_weights"])
@each_fit
def test_16_bit_parameters_step_as_with_states_coded_after_every_step(variant, own, riders):
    for dtype in (np.float16, staged_bfloat16()):
        rng, params = start(dtype)
        opt = variant.make(
            params, state_dtype="int8", seed=7, **{own: True}, **riders, **hyper(variant)
        )
        flags = own == "stochastic_rounding", own == "master_weights"
        want = staged.Staged(variant, params, riders, 7, *flags, stored="int8", **hyper(variant))
        for t in range(4):
            grads = gradients(rng, params, lambda i, t=t: t > 0 or i != 3)
            opt.step(grads)
            want.step(grads)
            assert_all_same(params, want.params, f"step {t}")


def staged_bfloat16():
    return pytest.importorskip("ml_dtypes").bfloat16


@pytest.mark.parametrize("own", ["stochastic_rounding", "master_weights"])
@pytest.mark.parametrize("way", ["deepcopy", "pickle", "state_dict"])
@each_fit
def test_a_copy_goes_on_as_the_original(variant, way, own):
    rng, params = start("float16")
    options = {**hyper(variant), own: True, "state_dtype": "int8", "ema_decay": 0.5}
    opt = variant.make(params, **options)
    for _ in range(2):
        opt.step(gradients(rng, params, lambda i: i != 2))
    if way == "state_dict":
        twin = variant.make([p.copy() for p in params], **options)
        twin.load_state_dict(pickle.loads(pickle.dumps(opt.state_dict())))
    else:
        twin = copy.deepcopy(opt) if way == "deepcopy" else pickle.loads(pickle.dumps(opt))
    before = copy.deepcopy(states(opt))
    for _ in range(2):
        twin.step(gradients(np.random.default_rng(3), params))
    assert_all_same(states(opt), before, "a copy shares no memory")
    for _ in range(2):
        opt.step(gradients(np.random.default_rng(3), params))
    assert_all_same(twin._arrays, params)
    assert_all_same(states(twin), states(opt))
    assert_all_same(twin.averages, opt.averages)


@pytest.mark.parametrize("given", [False, True])
def test_a_frozen_parameter_keeps_its_codes(given):
    rng = np.random.default_rng(0)
    params = [nn.Parameter(rng.standard_normal(600).astype(np.float32)) for _ in range(2)]
    opt = optim.AdamW(params, **HYPER, state_dtype="int8")

    def step(optimizer=opt):
        grads = [rng.standard_normal(600).astype(np.float32) for _ in params]
        if given:
            optimizer.step(grads)
            return
        for p, g in zip(params, grads, strict=True):
            p.grad = g
        optimizer.step(zero_grad=True)

    step()
    params[0].requires_grad = False
    held = [states(opt)[0].copy(), states(opt)[2].copy(), params[0].data.copy()]
    moved = states(opt)[1].copy()
    step()
    assert_all_same([states(opt)[0], states(opt)[2], params[0].data], held)
    assert not np.array_equal(states(opt)[1], moved)
    params[0].requires_grad = True
    step()
    assert not np.array_equal(states(opt)[0], held[0])
    assert [entry["step"] for entry in opt.state_dict()["state"].values()] == [2, 3]


@each_fit
def test_groups_step_as_an_optimizer_for_each(variant):
    """The random bits follow a parameter's number: that of the second one is 0 by itself."""
    rng = np.random.default_rng(0)
    params = [rng.standard_normal(s).astype(np.float32) for s in [(30, 20), (700,)]]
    options = [{"lr": 0.1}, {"lr": 0.02}]
    opt = variant.make(
        [{"params": [p.copy()], **o} for p, o in zip(params, options, strict=True)],
        state_dtype="int8",
    )
    alone = [
        variant.make([params[0].copy()], state_dtype="int8", **options[0]),
        variant.make([np.zeros(0, np.float32), params[1].copy()], state_dtype="int8", **options[1]),
    ]
    for _ in range(3):
        grads = [rng.standard_normal(p.shape).astype(np.float32) for p in params]
        opt.step(grads)
        alone[0].step(grads[:1])
        alone[1].step([None, grads[1]])
        assert_all_same(opt._arrays, [alone[0]._arrays[0], alone[1]._arrays[1]])


def build(**options):
    nn.manual_seed(5)
    model = nn.Sequential(nn.Linear(6, 50), nn.ReLU(), nn.Linear(50, 3))
    groups = optim.param_groups(model, lr=0.01, weight_decay=0.1)
    return model, optim.AdamW(groups, state_dtype="int8", **options)


@pytest.mark.parametrize("options", [{}, {"amsgrad": True, "noise": 0.01, "ema_decay": 0.9}])
def test_a_trainer_that_was_cut_short_resumes_bit_for_bit(tmp_path, options):
    x, y = normal((24, 6), "float32"), np.arange(24) % 3

    def fit(*callbacks, **more):
        model, optimizer = build(**options)
        own = {"callbacks": list(callbacks), "seed": 3, "progress": False}
        trainer = Trainer(model, nn.CrossEntropyLoss(), optimizer, **own)
        trainer.fit(x, y, max_epochs=4, batch_size=8, **more)
        return model, optimizer

    whole = fit()
    for step in (1, 4, 7):
        folder = tmp_path / str(step)
        with pytest.raises(KilledError):
            fit(Checkpoint(folder, every_n_steps=step), StopAt(step + 1))
        model, optimizer = fit(ckpt_path=folder)
        assert_all_same(
            [p.data for p in model.parameters()], [p.data for p in whole[0].parameters()], step
        )
        assert_all_same(states(optimizer), states(whole[1]), step)


# ---------------------------------------------------------------------------------------- PyTorch


def test_the_front_of_pytorch_says_what_takes_8_bits_and_loads_them():
    torch = pytest.importorskip("torch")
    import onepass.torch.optim as front

    tensors = [torch.nn.Parameter(torch.randn(40, 20)), torch.nn.Parameter(torch.randn(7))]

    def fill():
        for t in tensors:
            t.grad = torch.randn(t.shape)

    with pytest.raises(ValueError, match=r"onepass\.optim\.AdamW steps these tensors with"):
        front.AdamW(tensors, state_dtype="int8")
    ours = optim.AdamW(tensors, lr=0.1, state_dtype="int8")  # the first cure
    for _ in range(2):
        fill()
        ours.step()
    saved = copy.deepcopy(ours.state_dict())
    theirs = front.AdamW(tensors, lr=0.1)
    fill()
    theirs.step()
    before = copy.deepcopy(theirs.state_dict()["state"])
    with pytest.raises(
        ValueError,
        match=r"onepass\.optim\.AdamW steps these tensors .*, and loads them; to go on "
        r"otherwise, delete 'state_dtype' from the groups of the state; nothing was changed",
    ):
        theirs.load_state_dict(saved)
    for i, entry in theirs.state_dict()["state"].items():
        for key, value in entry.items():
            assert torch.equal(value, before[i][key])
    again = optim.AdamW(tensors, lr=0.1, state_dtype="int8")
    again.load_state_dict(saved)
    assert_all_same([s.numpy() for s in states(again)], [s.numpy() for s in states(ours)])
    for group in saved["param_groups"]:  # the second one
        del group["state_dtype"]
    theirs.load_state_dict(saved)
    wide = optim.AdamW(tensors, lr=0.1)
    wide.load_state_dict(saved)
    for t in tensors:
        for key in ("exp_avg", "exp_avg_sq"):
            assert_same(theirs.state[t][key].numpy(), wide.state[t][key].numpy(), key)
        assert int(theirs.state[t]["step"]) == 2
    fill()
    theirs.step()


@pytest.mark.parametrize("variant", FIT, ids=[v.label for v in FIT])
def test_every_optimizer_of_the_front_refuses_8_bits_by_the_same_words(variant):
    torch = pytest.importorskip("torch")
    import onepass.torch.optim as front

    cls = getattr(front, variant.record.cls.__name__)
    with pytest.raises(ValueError, match=f"onepass.optim.{cls.__name__} steps these tensors"):
        cls([torch.nn.Parameter(torch.ones(3))], state_dtype="int8")
