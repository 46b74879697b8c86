"""Archives of NumPy: a member for each array, without pickles, and a text beside them."""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

ABOUT = "about.json"
DATE = (1980, 1, 1, 0, 0, 0)  # the least that an archive can hold: equal bytes on every day
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def write(file: BinaryIO, arrays: Mapping[str, NDArray[Any]], about: str) -> None:
    """Write arrays in C order; bfloat16, which the format lacks, as integers."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(zipfile.ZipInfo(ABOUT, DATE), about)
        for name, array in arrays.items():
            narrow = array.dtype.name == "bfloat16"
            with archive.open(zipfile.ZipInfo(f"{name}.npy", DATE), "w", force_zip64=True) as to:
                stored = array.view(np.uint16) if narrow else array
                np.lib.format.write_array(to, stored, allow_pickle=False)


def read(file: BinaryIO) -> tuple[str | None, dict[str, NDArray[Any]]]:
    """The text, None if there is none, and the arrays.

    Raises:
        ValueError: another kind of file, cut off, or damaged.
    """
    try:
        return _read(file)
    except Exception as error:  # an archive can be damaged in every way
        raise ValueError(str(error) or "the file ends before") from error


def _read(file: BinaryIO) -> tuple[str | None, dict[str, NDArray[Any]]]:
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
        if len(set(names)) != len(names):
            raise ValueError("it has the same name twice")
        if any(name.endswith("/data.pkl") for name in names):
            raise ValueError(
                "it is a file of torch.save, which holds pickles; read it by "
                "torch.load(path, weights_only=True) and give that to load_state_dict"
            )
        about, found = None, {}
        for name in names:
            if archive.getinfo(name).compress_type != zipfile.ZIP_STORED:
                raise ValueError(f"{name} is compressed, expected an archive of numpy.savez")
            if name == ABOUT:
                about = archive.read(name).decode()
            elif name.endswith(".npy"):
                found[name.removesuffix(".npy")] = _array(archive, name)
            else:
                raise ValueError(f"{name} is not an array")
    return about, found


def _array(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    """One array, which is as large as its header says before memory is taken for it."""
    data = archive.read(name)
    with io.BytesIO(data) as member:
        version = np.lib.format.read_magic(member)
        if version not in _HEADERS:
            raise ValueError(f"{name} has version {version} of NumPy's format")
        shape, fortran, dtype = _HEADERS[version](member)
        begin = member.tell()
    if dtype.kind not in "biuf":
        raise ValueError(f"{name} has dtype {dtype}, expected numbers")
    if len(data) - begin != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{name} is not as large as its shape, {shape}")
    flat = np.frombuffer(data, dtype, offset=begin)
    values = flat.reshape(shape, order="F" if fortran else "C")
    return np.array(values, dtype.newbyteorder("="), order="C")
