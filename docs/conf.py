"""Sphinx: `python -m sphinx --fail-on-warning -b html docs docs/_build/html`."""

from importlib.metadata import version as installed_version

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml

project = "downslope"
author = "downslope developers"
version = release = installed_version("downslope")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "matplotlib.sphinxext.plot_directive",
]
exclude_patterns = ["_build"]
default_role = "code"  # docstrings write `name`

html_theme = "furo"
html_title = "downslope"
html_show_copyright = False
html_math_renderer = "mathml"

myst_enable_extensions = ["dollarmath", "deflist"]
myst_heading_anchors = 3

autodoc_typehints = "none"  # the docstrings say it in words
autodoc_member_order = "bysource"
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_custom_sections = [("Attributes", "params_style")]  # which may name several in one line

# Pictures are drawn when the pages are built.
plot_include_source = False
plot_html_show_source_link = False
plot_html_show_formats = False
plot_formats = [("png", 110)]
plot_rcparams = {"figure.figsize": (6.4, 4.0)}
plot_pre_code = """
import math
import numpy as np
import downslope as ds
from downslope import plots
"""


def setup(app):
    """Formulas as MathML, which browsers show without a script from elsewhere."""
    app.add_html_math_renderer("mathml", (inline_math, None), (block_math, None))


def inline_math(translator, node):
    translator.body.append(tex2mathml(node.astext()))
    raise nodes.SkipNode


def block_math(translator, node):
    translator.body.append(f"<div>{tex2mathml(node.astext(), as_block=True)}</div>")
    raise nodes.SkipNode
