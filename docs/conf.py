"""How the site is built: ``sphinx-build -W docs build/site``.

Pages are Markdown (MyST), so that they read well without the site; public names come from docstrings (numpydoc).
"""

from importlib.metadata import version as installed_version

project = "ZeMosaic"
author = "The ZeMosaic founders"
copyright = author
release = version = installed_version("zemosaic")

extensions = ["myst_parser", "numpydoc", "sphinx.ext.autodoc", "sphinx.ext.mathjax"]
myst_heading_anchors = 3
myst_enable_extensions = ["dollarmath"]
exclude_patterns = ["measured/tables"]

# Names that stand in docstrings as they would be said are no links: numpydoc need not look for them.
numpydoc_xref_param_type = False
numpydoc_show_class_members = False
autodoc_typehints = "none"

html_theme = "pydata_sphinx_theme"
html_title = "ZeMosaic"
html_theme_options = {"show_toc_level": 2, "navigation_with_keys": True, "secondary_sidebar_items": ["page-toc"]}
html_show_sourcelink = False
