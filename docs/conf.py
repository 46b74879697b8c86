"""Sphinx's settings; docs/generate writes the pages and calls Sphinx with them."""

from onepass import __version__

project = "onepass"
version = release = __version__
extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
language = "en"
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
