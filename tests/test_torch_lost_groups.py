"""Groups of the PyTorch front whose parameters were taken away by hand: one clear error."""

import pytest

torch = pytest.importorskip("torch")

import onepass.torch.optim as front  # noqa: E402

LOST = {
    "None": (lambda group: group.update(params=None), "None in 'params'"),
    "deleted": (lambda group: group.pop("params"), "no 'params'"),
    "a list of None": (lambda group: group.update(params=[None]), "None in 'params'"),
    "a number": (lambda group: group.update(params=5), "5 in 'params'"),
    "a text": (lambda group: group.update(params="ab"), "'ab' in 'params'"),
}


@pytest.mark.parametrize("call", ["step", "state_dict", "zero_grad", "load_state_dict"])
@pytest.mark.parametrize("lost", LOST)
def test_a_group_without_its_tensors_is_refused_by_number(lost, call):
    edit, words = LOST[lost]
    params = [torch.nn.Parameter(torch.ones(3)) for _ in range(2)]
    optimizer = front.AdamW([{"params": [p]} for p in params], lr=0.1)
    for parameter in params:
        parameter.grad = torch.ones(3)
    optimizer.step()
    arguments = (optimizer.state_dict(),) if call == "load_state_dict" else ()
    before = [p.detach().clone() for p in params]
    edit(optimizer.param_groups[1])
    expected = rf"^AdamW: 'param_groups' was changed: group 1 has {words}, expected a list of"
    with pytest.raises(TypeError, match=expected):
        getattr(optimizer, call)(*arguments)
    assert all(map(torch.equal, before, params))
    optimizer.param_groups[1]["params"] = [params[1]]
    optimizer.step()
