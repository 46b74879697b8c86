"""Matplotlib's figures, which is imported where one is drawn."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from onepass._files import replacing
from onepass._paths import expanded


def new_figure(width: float, height: float = 4) -> Any:
    """A Matplotlib figure of its own, outside pyplot's global state."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("plot needs Matplotlib: pip install matplotlib") from error
    return Figure(figsize=(width, height), layout="constrained")


def save_figure(figure: Any, path: str | Path) -> bytes:
    """Write the figure, making the folder where it is missing; returns the file's content."""
    target = expanded(path)
    image = io.BytesIO()
    figure.savefig(image, format=target.suffix[1:] or None, dpi=120)
    with replacing(target, "picture") as file:
        file.write(image.getvalue())
    return image.getvalue()
