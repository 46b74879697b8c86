"""What is no state at all, given to ``Module.load_state_dict``."""

import numpy as np
import pytest
from onepass import nn


@pytest.mark.parametrize("given", [None, 3, "weight", [("weight", 1)]])
def test_what_is_no_dict_is_refused(given):
    model = nn.Linear(2, 3)
    before = model.weight.data.copy()
    with pytest.raises(TypeError, match=r"'state_dict' is a \w+, expected a dict .* changed"):
        model.load_state_dict(given)
    np.testing.assert_array_equal(model.weight.data, before)
