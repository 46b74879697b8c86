"""Sphinx's settings; docs/generate writes the pages and calls Sphinx with them."""

from typing import Any

from onepass import __version__

project = "onepass"
version = release = __version__
extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
language = "en"
smartquotes = False  # they are part of what is quoted: "none"
html_theme = "furo"
html_title = "onepass"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_show_copyright = False
html_show_sourcelink = False
html_copy_source = False
pygments_style = "friendly"
pygments_dark_style = "monokai"
html_theme_options = {
    "light_css_variables": {
        "color-brand-primary": "#1f5f99", "color-brand-content": "#1f5f99",
        "font-stack--monospace": "ui-monospace, SFMono-Regular, Menlo, Consolas, "
        "'DejaVu Sans Mono', monospace",
    },
    "dark_css_variables": {
        "color-brand-primary": "#7ab8f5", "color-brand-content": "#7ab8f5",
    },
}  # fmt: skip


def own_branch(app: Any, page: str, template: str, context: dict[str, Any], tree: Any) -> None:
    """The navigation shows the pages beside this one, not those of every other section: the theme's
    whole tree in two hundred pages takes most of the build's time."""
    whole = context["toctree"]
    context["toctree"] = lambda **options: whole(**{**options, "collapse": True})


def setup(app: Any) -> None:
    app.connect("html-page-context", own_branch, priority=400)  # before the theme's
