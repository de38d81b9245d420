"""The lecture: slides of reveal.js with notes for the speaker, from the book's own figures and tables (`make book`)."""

project, author = "Fast line search for multi-task learning", "the authors of fastls"
extensions = ["myst_parser", "sphinx_revealjs", "sphinx-mathjax-offline"]
suppress_warnings = ["myst.header"]
myst_enable_extensions = ["dollarmath", "colon_fence"]
revealjs_html_theme = "revealjs-simple"
revealjs_style_theme = "white"
revealjs_static_path = ["../static"]
revealjs_css_files = ["slides.css"]
revealjs_script_plugins = [
    {"name": "RevealNotes", "src": "revealjs/plugin/notes/notes.js"},
    {"name": "RevealSearch", "src": "revealjs/plugin/search/search.js"},
]
revealjs_script_conf = {
    "hash": True,
    "slideNumber": "c/t",
    "width": 1280,
    "height": 760,
    "margin": 0.04,
    "transition": "none",
}
