"""Planted mistakes in python/onepass/nn/_exchange: see README.md."""

from __future__ import annotations

from mutant import Mutant

FOLDER = "python/onepass/nn/_exchange"
FILES = "tests/test_model_files.py"
SUMMARY = "tests/test_summary.py"
TORCH = "tests/test_torch_exchange.py"

EXCHANGE = [
    Mutant(
        "file: memory is taken for a layer before its size is compared",
        f"{FOLDER}/_architecture.py",
        "        if found != shape:\n",
        "        if False:\n",
        (f"{FILES}::test_no_layer_takes_more_memory_than_the_file_has",),
    ),
    Mutant(
        "file: load takes the values of a model of other layers",
        f"{FOLDER}/_architecture.py",
        "        elif was[0] != now[0]:\n",
        "        elif False:\n",
        (f"{FILES}::test_a_model_of_other_layers_with_arrays_of_the_same_shapes",),
    ),
    Mutant(
        "file: load takes the values of a model whose layers share others",
        f"{FOLDER}/_architecture.py",
        "    return _other_sharing(",
        "    return None and _other_sharing(",
        (f"{FILES}::test_parameters_that_layers_share_in_one_of_the_two",),
    ),
    Mutant(
        "summary: a container of one's own costs a pass",
        f"{FOLDER}/_work.py",
        "    if not own and next(layer.named_children(), None) is not None:\n",
        "    if False:\n",
        (f"{SUMMARY}::test_the_lines_of_a_module_of_ones_own_add_up",),
    ),
    Mutant(
        "file: shared parameters come back as copies",
        f"{FOLDER}/_file.py",
        "        setattr(owner, key, other)\n",
        "",
        (f"{FILES}::test_modes_frozen_and_shared_parameters_come_back",),
    ),
    Mutant(
        "file: the bytes of an array may be those of another",
        f"{FOLDER}/_safetensors.py",
        "        if entries[name][2] != end:\n",
        "        if False:\n",
        (f"{FILES}::test_a_hostile_header_is_refused",),
    ),
    Mutant(
        "file: a changed value is read as if nothing were",
        f"{FOLDER}/_safetensors.py",
        "    if digest is not None and digest != _digest(metadata, found, kinds):\n",
        "    if False:\n",
        (f"{FILES}::test_a_file_that_is_cut_off_or_damaged_anywhere_is_refused",),
    ),
    Mutant(
        "to_onnx: the share of a window beyond the padding is left out",
        f"{FOLDER}/_onnx_layers.py",
        "    return mean if (share == 1).all() else",
        "    return mean if True else",
        ("tests/test_onnx.py::test_every_layer_is_the_same_in_onnx",),
    ),
    Mutant(
        "summary: it goes through the model itself",
        f"{FOLDER}/_summary.py",
        "        twin: Module = copy.deepcopy(model, kept | untouched_streams(model))\n",
        "        twin = model\n",
        (f"{SUMMARY}::test_every_layer_has_numbers_and_nothing_changes",),
    ),
    Mutant(
        "summary: the gradient by x is counted",
        f"{FOLDER}/_summary.py",
        "    _walk(model, False, True, places, heads)\n",
        "    _walk(model, True, True, places, heads)\n",
        (f"{SUMMARY}::test_a_network_counted_by_hand",),
    ),
    Mutant(
        "to_torch: frozen statistics move there",
        f"{FOLDER}/_torch.py",
        "        if module.statistics_frozen and isinstance(module, Running):\n",
        "        if False:\n",
        (f"{TORCH}::test_modes_and_frozen_parameters_stay",),
    ),
    Mutant(
        "from_torch: memory is shared",
        f"{FOLDER}/_from_torch.py",
        "        return np.array(own.numpy())\n",
        "        return own.numpy()\n",
        (f"{TORCH}::test_no_memory_is_shared",),
    ),
    Mutant(
        "from_torch: hooks are dropped in silence",
        f"{FOLDER}/_from_torch.py",
        '        if hooks and not (hooked and hooks == ["_forward_pre_hooks"]):\n',
        "        if False:\n",
        (f"{TORCH}::test_what_we_lack_is_refused_by_name",),
    ),
    Mutant(
        "from_torch: a computed weight is taken for a parameter",
        f"{FOLDER}/_from_torch.py",
        "        if (value := getattr(module, key)) is not held.get(key):\n",
        "        value = getattr(module, key)\n        if False:\n",
        (f"{TORCH}::test_what_we_lack_is_refused_by_name",),
    ),
]
