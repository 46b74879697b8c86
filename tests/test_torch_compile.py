"""Steps of onepass.torch.optim inside torch.compile(fullgraph=True)."""

import copy

import pytest
from small_torch import NAMES, network, same

torch = pytest.importorskip("torch")

from onepass.torch import optim  # noqa: E402

each_backend = pytest.mark.parametrize("backend", ["eager", "aot_eager"])
pytestmark = pytest.mark.filterwarnings("ignore")  # of torch.compile itself


@pytest.fixture(autouse=True)
def _fresh():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def give_gradients(model, seed):
    generator = torch.Generator().manual_seed(seed)
    for p in model.parameters():
        p.grad = torch.randn(p.shape, generator=generator)


@each_backend
@pytest.mark.parametrize("name", NAMES)
def test_a_compiled_step_has_the_bits_of_an_eager_one(name, backend):
    """Also where a rate changes between calls, and a parameter misses its gradient."""
    model = network()
    twin = copy.deepcopy(model)
    ours, eager = (getattr(optim, name)(m.parameters(), lr=0.1) for m in (model, twin))
    seen = []
    ours.register_step_post_hook(lambda *_: seen.append(1))
    compiled = torch.compile(
        lambda: ours.step(max_norm=1.0, nonfinite="skip"), fullgraph=True, backend=backend
    )
    for step in range(6):
        for m in (model, twin):
            give_gradients(m, step)
            if step == 1:
                m[2].weight.grad[0, 0] = torch.inf
            if step == 3:
                m[0].bias.grad = None
        assert compiled() is None
        eager.step(max_norm=1.0, nonfinite="skip")
        assert same(model, twin)
        assert ours.last_step == eager.last_step
        for optimizer in (ours, eager):
            optimizer.param_groups[0]["lr"] *= 0.5
    assert len(seen) == 6
    assert str(ours.state_dict()) == str(eager.state_dict())


@each_backend
def test_what_a_graph_read_before_a_step_is_not_what_the_step_wrote(backend):
    """Where a compiler shares memory between a clone and the parameter."""
    p = torch.nn.Parameter(torch.ones(3))
    optimizer = optim.SGD([p], lr=1.0)
    p.grad = torch.full((3,), 0.25)

    @torch.compile(fullgraph=True, backend=backend)
    def function():
        before = p.detach().clone()
        twice = p.detach() * 2
        optimizer.step()
        between = p.detach() * 3
        optimizer.step()
        return before, twice, between, p.detach() * 4

    results = [r.tolist() for r in function()]
    assert results == [[1.0] * 3, [2.0] * 3, [2.25] * 3, [2.0] * 3]
    assert p.tolist() == [0.5] * 3


def test_one_tensor_for_two_parameters_is_refused():
    model = network()
    optimizer = optim.SGD(model.parameters(), lr=1.0)
    give_gradients(model, 0)
    before = copy.deepcopy(model)
    p = model[0].weight.detach()
    step = torch.ops.onepass.optimizer_step
    with pytest.raises(RuntimeError, match="one tensor for two parameters"):
        step(optimizer._handle, [p, p], [p, p], [0, 1], None, None, None, None, "propagate")
    assert same(model, before)
    with pytest.raises(RuntimeError, match="the optimizer that was compiled is gone"):
        step(10**9, [p], [p], [0], None, None, None, None, "propagate")


def test_zeroing_gradients_is_no_part_of_a_graph():
    """A whole graph refuses it; where graphs may break, the step is an eager one."""
    p = torch.nn.Parameter(torch.ones(3))
    p.grad = torch.ones(3)
    optimizer = optim.SGD([p], lr=1.0)

    def step():
        optimizer.step(zero_grad=True)

    with pytest.raises(Exception, match=r"'zero_grad' is True under torch\.compile"):
        torch.compile(step, backend="eager", fullgraph=True)()
    assert p.tolist() == [1.0] * 3
    torch._dynamo.reset()
    torch.compile(step, backend="eager")()
    assert p.tolist() == p.grad.tolist() == [0.0] * 3


def test_the_operator_passes_the_checks_of_torch():
    p, g = torch.ones(3), torch.full((3,), 0.5)
    optimizer = optim.SGD([torch.nn.Parameter(torch.ones(3))], lr=1.0)
    arguments = (optimizer._handle, [p], [g], [0], None, None, None, None, "propagate")
    torch.library.opcheck(
        torch.ops.onepass.optimizer_step, arguments, test_utils=("test_schema", "test_faketensor")
    )
