"""compat=: every optimizer as another library has it, beside that library where it is installed and
always beside its formula in float64, written as its sources write it."""

import inspect
import math

import numpy as np
import pytest
from onepass import ops, optim
from onepass.ops._compat import COMPAT, WORDS, libraries
from small_steps import gradients, start

STEPS = 45
CLASSES = [getattr(optim, name) for name in optim.__all__]
CLASSES = [c for c in CLASSES if inspect.isclass(c) and issubclass(c, optim.Optimizer)]
CLASSES = {c.__name__: c for c in CLASSES if c is not optim.Optimizer}


def decayed(p, lr, weight_decay):
    return p - p * weight_decay * lr


# ---------------------------------------------------------------------------------------- formulas
# formula(p, g, state, t, **options) -> p; `state` is a dict that the formula fills.


def keras_sgd(p, g, s, t, lr, momentum=0.0, nesterov=False, weight_decay=0.0):
    p = decayed(p, lr, weight_decay)
    if momentum == 0:
        return p - g * lr
    s["m"] = m = s.get("m", 0) * momentum - g * lr
    return p + (m * momentum - g * lr if nesterov else m)


def keras_adam(p, g, s, t, lr, betas=(0.9, 0.999), eps=1e-7, amsgrad=False, weight_decay=0.0):
    p = decayed(p, lr, weight_decay)
    alpha = lr * np.sqrt(1 - betas[1] ** t) / (1 - betas[0] ** t)
    m, v = s.get("m", 0), s.get("v", 0)
    s["m"] = m = m + (g - m) * (1 - betas[0])
    s["v"] = v = v + (g**2 - v) * (1 - betas[1])
    if amsgrad:
        s["hat"] = v = np.maximum(s.get("hat", 0), v)
    return p - m * alpha / (np.sqrt(v) + eps)


def keras_rmsprop(p, g, s, t, lr, alpha=0.9, eps=1e-7, momentum=0.0, centered=False,
                  weight_decay=0.0):  # fmt: skip
    p = decayed(p, lr, weight_decay)
    s["v"] = v = alpha * s.get("v", 0) + (1 - alpha) * g**2
    under = v + eps
    if centered:
        s["a"] = a = alpha * s.get("a", 0) + (1 - alpha) * g
        under = v - a**2 + eps
    increment = lr * g / np.sqrt(under)
    if momentum > 0:
        s["m"] = increment = momentum * s.get("m", 0) + increment
    return p - increment


def keras_adagrad(p, g, s, t, lr, initial_accumulator_value=0.1, eps=1e-7, weight_decay=0.0):
    p = decayed(p, lr, weight_decay)
    s["s"] = total = s.get("s", initial_accumulator_value) + g**2
    return p - lr * g / np.sqrt(total + eps)


def adadelta(p, g, s, t, lr, rho, eps):
    s["v"] = v = rho * s.get("v", 0) + (1 - rho) * g**2
    d = np.sqrt(s.get("u", 0) + eps) * g / np.sqrt(v + eps)
    s["u"] = rho * s.get("u", 0) + (1 - rho) * d**2
    return p - lr * d


def keras_adadelta(p, g, s, t, lr, rho=0.95, eps=1e-7, weight_decay=0.0):
    return adadelta(decayed(p, lr, weight_decay), g, s, t, lr, rho, eps)


def penalised_adadelta(p, g, s, t, lr, rho, eps=1e-6, weight_decay=0.0):
    return adadelta(p, g + weight_decay * p, s, t, lr, rho, eps)


def keras_adamax(p, g, s, t, lr, betas=(0.9, 0.999), eps=1e-7, weight_decay=0.0):
    p = decayed(p, lr, weight_decay)
    m = s.get("m", 0)
    s["m"] = m = m + (g - m) * (1 - betas[0])
    s["u"] = u = np.maximum(betas[1] * s.get("u", 0), np.abs(g))
    return p - lr * m / ((1 - betas[0] ** t) * (u + eps))


def optax_adamax(p, g, s, t, lr, betas=(0.9, 0.999), eps=1e-8):
    s["m"] = m = betas[0] * s.get("m", 0) + (1 - betas[0]) * g
    s["u"] = u = np.maximum(np.abs(g) + eps, betas[1] * s.get("u", 0))
    return p - lr * m / (1 - betas[0] ** t) / u


def keras_nadam(p, g, s, t, lr, betas=(0.9, 0.999), eps=1e-7, weight_decay=0.0):
    p = decayed(p, lr, weight_decay)
    u, ahead = (betas[0] * (1 - 0.5 * 0.96**k) for k in (t, t + 1))
    s["product"] = product = s.get("product", 1.0) * u
    m, v = s.get("m", 0), s.get("v", 0)
    s["m"] = m = m + (g - m) * (1 - betas[0])
    s["v"] = v = v + (g**2 - v) * (1 - betas[1])
    m_hat = ahead * m / (1 - product * ahead) + (1 - u) * g / (1 - product)
    return p - m_hat * lr / (np.sqrt(v / (1 - betas[1] ** t)) + eps)


def optax_nadam(p, g, s, t, lr, betas=(0.9, 0.999), eps=1e-8):
    b1, b2 = betas
    s["m"] = m = b1 * s.get("m", 0) + (1 - b1) * g
    s["v"] = v = b2 * s.get("v", 0) + (1 - b2) * g**2
    m_hat = b1 * m / (1 - b1 ** (t + 1)) + (1 - b1) * g / (1 - b1**t)
    return p - lr * m_hat / (np.sqrt(v / (1 - b2**t)) + eps)


def lion(p, g, s, t, lr, betas=(0.9, 0.99), weight_decay=0.0):
    m = s.get("m", 0)
    s["m"] = betas[1] * m + (1 - betas[1]) * g
    return decayed(p, lr, weight_decay) - lr * np.sign(betas[0] * m + (1 - betas[0]) * g)


def penalised_sgd(p, g, s, t, lr, momentum=0.0, nesterov=False, weight_decay=0.0):
    g = g + weight_decay * p
    if momentum == 0:
        return p - lr * g
    s["b"] = b = momentum * s.get("b", 0) + g
    return p - lr * (g + momentum * b if nesterov else b)


def moments(g, s, t, betas, amsgrad=False):
    """m̂ and v̂."""
    s["m"] = m = betas[0] * s.get("m", 0) + (1 - betas[0]) * g
    s["v"] = v = betas[1] * s.get("v", 0) + (1 - betas[1]) * g**2
    if amsgrad:
        s["max"] = v = np.maximum(s.get("max", 0), v)
    return m / (1 - betas[0] ** t), v / (1 - betas[1] ** t)


def optax_adam(p, g, s, t, lr, betas=(0.9, 0.999), eps=1e-8, amsgrad=False):
    m, v = moments(g, s, t, betas)
    if amsgrad:  # of v̂, where PyTorch takes it of v
        s["hat"] = v = np.maximum(s.get("hat", 0), v)
    return p - lr * m / (np.sqrt(v) + eps)


def adamw(p, g, s, t, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, amsgrad=False):
    """As optax, Apex: the decay is added to the update."""
    m, v = moments(g, s, t, betas, amsgrad)
    return p - lr * (m / (np.sqrt(v) + eps) + weight_decay * p)


def chainer_adam(p, g, s, t, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, amsgrad=False):
    alpha = lr * math.sqrt(1 - betas[1] ** t) / (1 - betas[0] ** t)
    m, v = s.get("m", 0), s.get("v", 0)
    s["m"] = m = m + (1 - betas[0]) * (g - m)
    s["v"] = v = v + (1 - betas[1]) * (g * g - v)
    if amsgrad:
        s["hat"] = v = np.maximum(s.get("hat", 0), v)
    return p - (alpha * m / (np.sqrt(v) + eps) + weight_decay * p)


def thinc_adam(p, g, s, t, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0):
    rate = lr * (1 - betas[1] ** t) ** 0.5 / (1 - betas[0] ** t)
    s["m"] = m = betas[0] * s.get("m", 0) + (1 - betas[0]) * g
    s["v"] = v = betas[1] * s.get("v", 0) + (1 - betas[1]) * g**2
    p = p - rate * m / (np.sqrt(v) + eps)
    return p - lr * weight_decay * p


def rectified(t, beta2):
    """ρ and r."""
    full, left = 2 / (1 - beta2) - 1, beta2**t
    rho = full - 2 * t * left / (1 - left)
    r = (rho - 4) * (rho - 2) * full / ((full - 4) * (full - 2) * rho)
    return rho, math.sqrt(max(r, 0))


def thinc_radam(p, g, s, t, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0):
    t += 1
    s["v"] = v = betas[1] * s.get("v", 0) + (1 - betas[1]) * g**2
    s["m"] = m = betas[0] * s.get("m", 0) + (1 - betas[0]) * g
    rho, r = rectified(t, betas[1])
    if rho >= 5:
        size = math.sqrt(1 - betas[1] ** t) * r / (1 - betas[0] ** t)
        p = p - size * lr * m / (np.sqrt(v) + eps)
    else:
        p = p - lr / (1 - betas[0] ** t) * m
    return p - lr * weight_decay * p


def optax_radam(p, g, s, t, lr, betas=(0.9, 0.999), eps=1e-8):
    m, v = moments(g, s, t, betas)
    rho, r = rectified(t, betas[1])
    return p - lr * (r * m / (np.sqrt(v) + eps) if rho >= 5 else m)


def optax_rmsprop(p, g, s, t, lr, alpha=0.9, eps=1e-8, momentum=0.0, centered=False):
    return keras_rmsprop(p, g, s, t, lr, alpha, eps, momentum, centered)


def chainer_rmsprop(p, g, s, t, lr, alpha=0.99, eps=1e-8):
    s["v"] = v = alpha * s.get("v", 0) + (1 - alpha) * g * g
    return p - lr * g / (np.sqrt(v) + eps)


def chainer_sgd(p, g, s, t, lr, momentum=0.0, nesterov=False, weight_decay=0.0):
    g = g + weight_decay * p  # the hook WeightDecay
    if momentum == 0:
        return p - lr * g
    v = s.get("v", 0)
    s["v"] = momentum * v - lr * g
    if nesterov:  # NesterovAG
        return p + momentum * momentum * v - (1 + momentum) * lr * g
    return p + s["v"]


def outside_adagrad(p, g, s, t, lr, eps, weight_decay=0.0):
    g = g + weight_decay * p
    s["h"] = h = s.get("h", 0) + g * g
    return p - lr * g / (np.sqrt(h) + eps)


def apex_lamb(p, g, s, t, lr, betas=(0.9, 0.999), eps=1e-6, weight_decay=0.01):
    m, v = moments(g, s, t, betas)
    u = m / (np.sqrt(v) + eps) + weight_decay * p
    size, moved = np.linalg.norm(p), np.linalg.norm(u)
    adapts = weight_decay != 0 and size > 0 and moved > 0
    return p - lr * (size / moved if adapts else 1.0) * u


# (class, library) → the formula, what the class takes and the formula not, options to try.
TABLE = {
    ("SGD", "keras"): (
        keras_sgd,
        [{}, {"weight_decay": 0.1}, {"momentum": 0.9, "weight_decay": 0.1},
         {"momentum": 0.8, "nesterov": True, "lr": 0.05, "weight_decay": 0.2}],
    ),
    ("SGD", "optax"): (penalised_sgd, [{"lr": 0.1}, {"lr": 0.1, "momentum": 0.9},
                                       {"lr": 0.1, "momentum": 0.9, "nesterov": True}]),
    ("SGD", "chainer"): (
        chainer_sgd,
        [{}, {"momentum": 0.9, "weight_decay": 0.1}, {"momentum": 0.9, "nesterov": True}],
    ),
    ("SGD", "apex"): (penalised_sgd, [{"lr": 0.1, "momentum": 0.9, "weight_decay": 0.1}]),
    ("Adam", "keras"): (keras_adam, [{}, {"lr": 0.05, "weight_decay": 0.1, "eps": 1e-2},
                                     {"amsgrad": True, "eps": 0.1}]),
    ("Adam", "optax"): (optax_adam, [{}, {"lr": 0.1, "betas": (0.8, 0.9), "eps": 0.1},
                                     {"amsgrad": True, "betas": (0.5, 0.9)}]),
    ("Adam", "chainer"): (chainer_adam, [{}, {"lr": 0.1, "weight_decay": 0.05, "eps": 0.1},
                                         {"amsgrad": True, "eps": 0.1}]),
    ("Adam", "thinc"): (thinc_adam, [{}, {"lr": 0.1, "weight_decay": 0.5, "eps": 0.1}]),
    ("Adam", "apex"): (adamw, [{}, {"lr": 0.1, "weight_decay": 0.5, "eps": 0.1}]),
    ("AdamW", "keras"): (keras_adam, [{"weight_decay": 0.004}, {"lr": 0.1, "eps": 0.1}]),
    ("AdamW", "optax"): (adamw, [{}, {"lr": 0.1, "weight_decay": 0.5, "eps": 0.1}]),
    ("AdamW", "chainer"): (chainer_adam, [{}, {"lr": 0.1, "eps": 0.1, "amsgrad": True}]),
    ("AdamW", "thinc"): (thinc_adam, [{}, {"lr": 0.1, "weight_decay": 0.5}]),
    ("AdamW", "apex"): (adamw, [{}, {"lr": 0.1, "weight_decay": 0.5, "amsgrad": True}]),
    ("RMSprop", "keras"): (
        keras_rmsprop,
        [{}, {"momentum": 0.9, "weight_decay": 0.1}, {"centered": True, "eps": 1e-2, "lr": 0.05},
         {"centered": True, "momentum": 0.5, "eps": 1e-2, "weight_decay": 0.1}],
    ),
    ("RMSprop", "optax"): (
        optax_rmsprop,
        [{}, {"lr": 0.1, "momentum": 0.9}, {"centered": True, "eps": 1e-2}],
    ),
    ("RMSprop", "chainer"): (chainer_rmsprop, [{}, {"lr": 0.1, "alpha": 0.9, "eps": 0.1}]),
    ("NAdam", "keras"): (keras_nadam, [{}, {"lr": 0.1, "weight_decay": 0.1, "eps": 0.1}]),
    ("NAdam", "optax"): (optax_nadam, [{}, {"lr": 0.1, "betas": (0.8, 0.9), "eps": 0.1}]),
    ("Lion", "keras"): (lion, [{}, {"lr": 0.01, "weight_decay": 0.1}]),
    ("Lion", "optax"): (lion, [{}, {"lr": 0.01, "betas": (0.8, 0.9), "weight_decay": 0.1}]),
    ("Adagrad", "keras"): (keras_adagrad, [{}, {"lr": 0.1, "weight_decay": 0.1, "eps": 0.1}]),
    ("Adagrad", "optax"): (keras_adagrad, [{}, {"initial_accumulator_value": 0.5, "eps": 0.1}]),
    ("Adagrad", "chainer"): (outside_adagrad, [{}, {"lr": 0.1, "eps": 0.1, "weight_decay": 0.1}]),
    ("Adagrad", "apex"): (outside_adagrad, [{}, {"lr": 0.1, "weight_decay": 0.1}]),
    ("Adadelta", "keras"): (keras_adadelta, [{}, {"lr": 0.5, "weight_decay": 0.1, "eps": 0.1}]),
    ("Adadelta", "optax"): (penalised_adadelta, [{}, {"rho": 0.8, "weight_decay": 0.1}]),
    ("Adadelta", "chainer"): (penalised_adadelta, [{}, {"lr": 0.5, "weight_decay": 0.1}]),
    ("Adamax", "keras"): (keras_adamax, [{}, {"lr": 0.1, "weight_decay": 0.1, "eps": 0.1}]),
    ("Adamax", "optax"): (optax_adamax, [{}, {"lr": 0.1, "eps": 0.1}]),
    ("LAMB", "apex"): (apex_lamb, [{}, {"lr": 0.1, "weight_decay": 0.0},
                                   {"betas": (0.8, 0.9), "weight_decay": 0.1, "eps": 0.1}]),
    ("RAdam", "optax"): (optax_radam, [{}, {"lr": 0.1, "betas": (0.9, 0.95), "eps": 0.1}]),
    ("RAdam", "thinc"): (thinc_radam, [{}, {"lr": 0.1, "betas": (0.9, 0.95), "weight_decay": 0.1}]),
}  # fmt: skip
ROWS = [(*key, formula, options) for key, (formula, sweep) in TABLE.items() for options in sweep]
each_row = pytest.mark.parametrize(
    ("name", "compat", "formula", "options"), ROWS, ids=[f"{n}-{c}-{o}" for n, c, _, o in ROWS]
)


def library_of(name, compat):
    return libraries(name.lower())[compat]


def test_every_library_of_the_table_is_tested():
    rows = {(kernel, name) for kernel, row in COMPAT.items() for name in row if name != "torch"}
    assert rows == {(name.lower(), compat) for name, compat in TABLE}
    words = {option for row in COMPAT.values() for lib in row.values() for option in lib.formula}
    assert words <= set(WORDS)


@each_row
def test_the_class_follows_the_formula_with_the_defaults_of_the_library(
    name, compat, formula, options
):
    rng, params = start("float64")
    want, states = [p.copy() for p in params], [{} for _ in params]
    cls = CLASSES[name]
    opt = cls(params, compat=compat, **options)
    group = opt.param_groups[0]
    taken = inspect.signature(formula).parameters
    full = {key: group[key] for key in taken if key in group}
    for t in range(1, STEPS + 1):
        grads = gradients(rng, params)
        opt.step(grads)
        for i, g in enumerate(grads):
            want[i] = formula(want[i], g, states[i], t, **full)
        for p, w in zip(params, want, strict=True):
            np.testing.assert_allclose(p, w, rtol=1e-10, atol=1e-12, err_msg=f"step {t}")
    assert {key: group[key] for key in options} == options


@each_row
def test_the_function_has_the_formula_too(name, compat, formula, options):
    del formula
    rng, params = start("float32")
    mine = [p.copy() for p in params]
    opt = CLASSES[name](params, compat=compat, **options)
    group = dict(opt.param_groups[0])
    decoupled = group.get("decoupled_weight_decay") and name == "Adam"
    op = ops.adamw_ if decoupled else getattr(ops, f"{name.lower()}_")
    known = inspect.signature(op).parameters
    keywords = {key: value for key, value in group.items() if key in known and key != "params"}
    rule = opt._rule
    lists = []
    for state in rule.states:
        on = state.when is None or group[state.when]
        start_at = rule.start("", state, group)
        lists.append([np.full_like(p, start_at) for p in mine] if on else None)
    lists += [[start] * len(mine) for start in rule.scalars.values()]
    for t in range(1, 6):
        grads = gradients(rng, params)
        opt.step(grads)
        op(mine, grads, *lists, step=t, compat=compat, **keywords)
        for p, q in zip(params, mine, strict=True):
            np.testing.assert_array_equal(q, p)


@pytest.mark.parametrize(("name", "compat"), TABLE, ids=str)
def test_a_value_that_is_given_beats_the_default_of_the_library(name, compat):
    """Also where it is the one of PyTorch."""
    torch = inspect.signature(CLASSES[name]).parameters
    defaults = library_of(name, compat).defaults
    plain = CLASSES[name]([np.ones(3)], compat=compat).param_groups[0]
    assert {key: plain[key] for key in defaults} == dict(defaults)
    given = {key: torch[key].default for key in defaults}
    own = CLASSES[name]([np.ones(3)], compat=compat, **given).param_groups[0]
    assert {key: own[key] for key in given} == given
    if "lr" in given:
        assert CLASSES[name]([np.ones(3)], given["lr"], compat=compat).defaults["lr"] == given["lr"]
    for option in defaults:  # and said
        assert f"{option}={defaults[option]!r}" in " ".join(CLASSES[name].__doc__.split())


def test_the_optimizers_of_pytorchs_kind_have_the_defaults_of_the_library_too():
    torch = pytest.importorskip("torch")
    from onepass.torch import optim as front

    p = torch.nn.Parameter(torch.ones(3))
    group = front.RMSprop([p], compat="keras", alpha=0.99).param_groups[0]
    assert (group["lr"], group["alpha"], group["eps"]) == (1e-3, 0.99, 1e-7)
    assert group["eps_inside"] is True


def test_a_state_of_another_formula_is_refused():
    opt = optim.RMSprop([np.ones(3)], momentum=0.9, compat="keras")
    opt.step([np.ones(3)])
    with pytest.raises(ValueError, match="decoupled_weight_decay' is True, expected False"):
        optim.RMSprop([np.ones(3)], momentum=0.9).load_state_dict(opt.state_dict())
    again = optim.RMSprop([np.ones(3)], momentum=0.9, compat="keras")
    again.load_state_dict(opt.state_dict())


@pytest.mark.parametrize("name", sorted(set(CLASSES)))
def test_a_library_that_lacks_the_optimizer_is_refused(name):
    known = libraries(name.lower())
    missing = sorted({"torch", "keras", "optax", "chainer", "thinc", "apex"} - set(known))
    for compat in [*missing, "jax", None, ["keras"]]:
        with pytest.raises(ValueError, match=f"^{name}: 'compat' is .*, expected 'torch'"):
            CLASSES[name]([np.ones(3)], compat=compat)


# ------------------------------------------------------------------------------------ the libraries


def run(opt, params, step):
    """Both over the same gradients; `step(grads)` returns the parameters of the library."""
    rng = np.random.default_rng(5)
    for t in range(STEPS):
        grads = [rng.standard_normal(p.shape) for p in params]
        opt.step(grads)
        for p, q in zip(params, step(grads), strict=True):
            np.testing.assert_allclose(p, q, rtol=1e-9, atol=1e-11, err_msg=f"step {t + 1}")


def parameters():
    """The libraries get copies: JAX may use the memory of an array that it is given."""
    rng = np.random.default_rng(3)
    return [rng.standard_normal(shape) for shape in ((7, 5), (33,))]


RENAMED = {
    "keras": {"alpha": "rho", "eps": "epsilon", "lr": "learning_rate"},
    "optax": {"alpha": "decay", "lr": "learning_rate", "betas": ("b1", "b2")},
    "thinc": {"lr": "learn_rate", "betas": ("beta1", "beta2"), "weight_decay": "L2"},
}
RENAMED["keras"]["betas"] = ("beta_1", "beta_2")


def renamed(library, options):
    found = {}
    for key, value in options.items():
        name = RENAMED[library].get(key, key)
        pairs = zip(name, value, strict=True) if isinstance(name, tuple) else [(name, value)]
        found.update(pairs)
    return found


def of(library):
    rows = [(name, options) for name, c, _, options in ROWS if c == library]
    return pytest.mark.parametrize(("name", "options"), rows, ids=[f"{n}-{o}" for n, o in rows])


@of("keras")
def test_keras(name, options, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    jax = pytest.importorskip("jax")
    keras = pytest.importorskip("keras")
    jax.config.update("jax_enable_x64", True)
    params = parameters()
    variables = [keras.Variable(p.copy(), dtype="float64") for p in params]
    kind = {"NAdam": "Nadam"}.get(name, name)
    theirs = getattr(keras.optimizers, kind)(**renamed("keras", options))
    theirs.build(variables)

    def step(grads):
        theirs.apply([keras.ops.convert_to_tensor(g, dtype="float64") for g in grads], variables)
        return [np.asarray(v.value) for v in variables]

    opt = CLASSES[name](params, compat="keras", **options)
    rate = np.float32(opt.param_groups[0]["lr"])  # Keras keeps it in float32
    opt.param_groups[0]["lr"] = float(rate)
    run(opt, params, step)


@of("optax")
def test_optax(name, options):
    jax = pytest.importorskip("jax")
    optax = pytest.importorskip("optax")
    jax.config.update("jax_enable_x64", True)
    params = parameters()
    opt = CLASSES[name](params, compat="optax", **options)
    given = renamed("optax", {"lr": opt.param_groups[0]["lr"], **options})
    kind = "amsgrad" if given.pop("amsgrad", False) else name.lower()
    theirs = getattr(optax, kind)(**given)
    values = [jax.numpy.asarray(p.copy()) for p in params]
    state = theirs.init(values)

    def step(grads):
        nonlocal values, state
        updates, state = theirs.update([jax.numpy.asarray(g) for g in grads], state, values)
        values = optax.apply_updates(values, updates)
        return values

    run(opt, params, step)


@of("thinc")
def test_thinc(name, options):
    thinc = pytest.importorskip("thinc.api")
    params = parameters()
    kind = thinc.RAdam if name == "RAdam" else thinc.Adam
    theirs = kind(**renamed("thinc", options), grad_clip=0.0, use_averages=False)
    values = [p.astype(np.float32) for p in params]

    def step(grads):
        for i, g in enumerate(grads):
            values[i], _ = theirs((i, "w"), values[i], g.astype(np.float32))
        return values

    opt = CLASSES[name](params, compat="thinc", **options)
    rng = np.random.default_rng(5)
    for t in range(STEPS):  # thinc computes in float32
        grads = [rng.standard_normal(p.shape) for p in params]
        opt.step(grads)
        for p, q in zip(params, step(grads), strict=True):
            np.testing.assert_allclose(p, q, rtol=2e-4, atol=2e-5, err_msg=f"step {t + 1}")


def test_a_state_of_pytorch_is_refused_by_another_formula():
    torch = pytest.importorskip("torch")
    theirs = torch.optim.SGD([torch.nn.Parameter(torch.ones(3))], lr=0.1, momentum=0.9)
    theirs.param_groups[0]["params"][0].grad = torch.ones(3)
    theirs.step()
    ours = optim.SGD([np.ones(3, np.float32)], lr=0.1, momentum=0.9, compat="keras")
    with pytest.raises(ValueError, match="expected True: a state of another optimizer"):
        ours.load_state_dict(theirs.state_dict())
    optim.SGD([np.ones(3, np.float32)], momentum=0.9).load_state_dict(theirs.state_dict())
