"""onepass.jax on two devices of the CPU, in a process of its own that has them."""

import os
import subprocess
import sys

import pytest

jax = pytest.importorskip("jax")

SHARDED = """
import jax, numpy as np
import onepass.jax as oj
from onepass import ops
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P

mesh = Mesh(np.array(jax.devices()), ("batch",))
rng = np.random.default_rng(0)
x = rng.standard_normal((8, 16)).astype(np.float32)
w = rng.standard_normal(16).astype(np.float32)

def model(x, w):
    first = jax.lax.axis_index("batch") * x.size  # the shard's part of one mask
    return oj.dropout(oj.layer_norm(oj.gelu(x), 16, w), 0.3, seed=3, first=first)

sharded = jax.jit(jax.shard_map(
    model, mesh=mesh, in_specs=(P("batch"), P()), out_specs=P("batch")))
y = sharded(x, w)
assert y.sharding.spec == P("batch"), y.sharding
hidden, saved = ops.layer_norm(ops.gelu(x), 16, w)
assert (y == ops.dropout(hidden, 0.3, seed=3)).all()

dy = rng.standard_normal(x.shape).astype(np.float32)
dx, dw = jax.grad(lambda x, w: (sharded(x, w) * dy).sum(), (0, 1))(x, w)
g = ops.dropout_backward(dy, 0.3, seed=3)
want = ops.layer_norm_backward(g, saved)
assert np.allclose(dw, want[1], rtol=1e-5, atol=1e-5), (dw, want[1])  # of both shards
assert np.allclose(dx, ops.gelu_backward(want[0], x), rtol=1e-5, atol=1e-6)

shards = jax.device_put(x, NamedSharding(mesh, P("batch")))
assert (jax.jit(oj.gelu)(shards) == ops.gelu(x)).all()  # gathered

def loss(w, x, t):
    return oj.cross_entropy(oj.bias_act(x, w, activation="relu"), t)

t = rng.integers(0, 16, 8)
def step(w, x, t):
    if hasattr(jax.lax, "pcast"):
        w = jax.lax.pcast(w, "batch", to="varying")
    else:
        w = jax.lax.pvary(w, "batch")
    return jax.lax.pmean(jax.grad(loss)(w, x, t), "batch")

g = jax.jit(jax.shard_map(step, mesh=mesh, in_specs=(P(), P("batch"), P("batch")),
                          out_specs=P()))(w, x, t)
assert np.allclose(g, jax.grad(loss)(w, x, t), rtol=1e-5, atol=1e-7)
print("done")
"""


# On a mesh of explicit axes the type of an array says which parts devices hold, and a gradient must
# be of the type of its argument.
EXPLICIT = """
import jax, numpy as np
import onepass.jax as oj
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

mesh = jax.make_mesh((2,), ("batch",), axis_types=(AxisType.Explicit,))
jax.set_mesh(mesh)
rng = np.random.default_rng(0)
x, b, dy = (rng.standard_normal(s).astype(np.float32) for s in ((8, 4), (4,), (8, 4)))
t = rng.integers(0, 4, 8)

def parted(a):
    return jax.device_put(a, NamedSharding(mesh, P("batch")))

for function in (
    lambda x, b: (oj.gelu(x) * dy).sum() + b.sum(),
    lambda x, b: (oj.dropout(x, 0.5, seed=1) * dy).sum() + b.sum(),
    lambda x, b: (oj.bias_act(x, b, activation="relu") * dy).sum(),
    lambda x, b: (oj.layer_norm(x, 4, b, residual=x) * dy).sum(),
    lambda x, b: (oj.batch_norm(x, b, b, None, None, training=True)[0] * dy).sum(),
    lambda x, b: oj.cross_entropy(x, t, weight=b**2),
    lambda x, b: (oj.flat([x, b]).unflatten()[0] * dy).sum(),
):
    gradient = jax.grad(lambda both: function(*both))
    want = gradient((x, b))
    for got in (gradient((parted(x), parted(b))), jax.jit(gradient)((parted(x), parted(b)))):
        for one, other in zip(got, want):
            assert jax.typeof(one).sharding.spec[0] == "batch", jax.typeof(one)
            assert np.allclose(one, other, rtol=1e-6, atol=1e-6), (one, other)
params = oj.flat([x])
want = oj.apply([x], params, oj.adamw().init(params))[0]
got = oj.apply(parted(oj.flat([x])), parted(params), oj.adamw().init(params))[0]
assert (got.buffers["float32"] == want.buffers["float32"]).all()
print("done")
"""


# The parts that a device has of parameters, whose states are parts, too.
STATES = """
import dataclasses, inspect
import jax, numpy as np
import onepass.jax as oj
from jax.sharding import Mesh, PartitionSpec as P
mesh = Mesh(np.array(jax.devices()), ("batch",))
rng = np.random.default_rng(0)
params = [rng.standard_normal(s).astype(np.float32) for s in ((8, 3), (4,), (2, 5))]
grads = [rng.standard_normal(p.shape).astype(np.float32) for p in params]
optimizer = oj.adamw(lr=0.1)
parts = [jax.ShapeDtypeStruct((p.shape[0] // 2, *p.shape[1:]), p.dtype) for p in params]
state = jax.eval_shape(optimizer.init, parts)
spec = jax.tree.map(lambda _: P(), state)
spec = dataclasses.replace(spec, buffers=jax.tree.map(lambda _: P("batch"), state.buffers))
names = inspect.signature(jax.shard_map).parameters
name = "check_vma" if "check_vma" in names else "check_rep"
def sharded(f, ins, outs):
    return jax.jit(jax.shard_map(f, mesh=mesh, in_specs=ins, out_specs=outs, **{name: False}))
own = sharded(optimizer.init, (P("batch"),), spec)(params)
step = sharded(optimizer.update, (P("batch"), spec, P("batch")), (P("batch"), spec))
mine, whole = params, optimizer.init(params)
theirs = params
for _ in range(3):
    updates, own = step(grads, own, mine)
    mine = [p + u for p, u in zip(mine, updates)]
    updates, whole = jax.jit(optimizer.update)(grads, whole, theirs)
    theirs = [p + u for p, u in zip(theirs, updates)]
for a, b in zip(mine, theirs):
    assert (np.asarray(a) == np.asarray(b)).all()
def refused(state, spec):
    try:
        sharded(optimizer.update, (P("batch"), spec, P("batch")), P("batch"))(grads, state, mine)
    except ValueError as error:
        return str(error)
# One of whole arrays: as many elements, and others of them on each device.
of_buffers = jax.tree.map(lambda _: P("batch"), whole.buffers)
whole_spec = dataclasses.replace(jax.tree.map(lambda _: P(), whole), buffers=of_buffers)
assert "inside of jax.shard_map" in refused(whole, whole_spec)
print("done")
"""


@pytest.mark.parametrize(
    "script", [SHARDED, EXPLICIT, STATES], ids=["in shard_map", "explicit axes", "states"]
)
def test_shards(script):
    if script is EXPLICIT and not (hasattr(jax, "set_mesh") and hasattr(jax.sharding, "reshard")):
        pytest.skip("this JAX lacks meshes of explicit axes, or a way to gather what lies on one")
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    ran = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True
    )
    assert ran.stdout == "done\n", ran.stderr
