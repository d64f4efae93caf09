"""Sphinx configuration. `make docs` builds the pages into build/docs; a warning is an error."""

import re
from dataclasses import MISSING, fields, is_dataclass
from importlib.metadata import version as get_version

import lca
from lca import analysis, figures

project = "lca"
author = "the lca developers"
copyright = f"2026, {author}"
version = release = get_version("loss-change-allocation")

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_click"]
exclude_patterns = ["examples", "gallery", "**/.ipynb_checkpoints"]
html_theme = "furo"
html_title = "lca"
html_static_path: list[str] = []
html_copy_source = False

myst_enable_extensions = ["dollarmath", "deflist"]
myst_heading_anchors = 3
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 120
nb_merge_streams = True

default_role = "code"
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
maximum_signature_line_length = 88
napoleon_custom_sections = [("Attributes", "params_style")]
# Only public names are linked. The types of other packages are not, because the build does not use the network.
nitpick_ignore_regex = [(r"py:.*", r"(?!lca\.((analysis|figures)\.)?\w+$).*")]


def add_toctree(app, name, source):
    """Turn the links of an index page into its table of contents, one per section, for the navigation of the site.

    The page itself stays plain Markdown.
    """
    if name.split("/")[-1] != "index":
        return
    parts = re.split(r"^## (.*)$", source[0], flags=re.M)
    for caption, text in zip(["", *parts[1::2]], parts[::2], strict=True):
        pages = re.findall(r"\]\((?!\w+:)([^)#]+)\.(?:md|ipynb)\)", text)
        if pages:
            options = f":hidden:\n:caption: {caption}\n" if caption else ":hidden:\n"
            source[0] += f"\n```{{toctree}}\n{options}\n" + "\n".join(dict.fromkeys(pages)) + "\n```\n"


def shorten_signature(app, what, name, obj, options, signature, result):
    """Show only the names of a dataclass's fields in its signature. The class docstring describes the fields."""
    if what == "class" and is_dataclass(obj) and signature:
        names = [f"{field.name}=..." if has_default(field) else field.name for field in fields(obj) if field.init]
        return f"({', '.join(names)})", result
    return None


def has_default(field):
    return field.default is not MISSING or field.default_factory is not MISSING


def escape(text):
    """Escape what reStructuredText would take for markup in plain text such as |A| or fc*, except in backticks."""
    parts = re.split(r"(`+[^`]*`+)", text)
    return "".join(part if part.startswith("`") else re.sub(r"([|*])", r"\\\1", part) for part in parts)


def escape_docstring(app, what, name, obj, options, lines):
    for i, line in enumerate(lines):
        if not line.lstrip().startswith((">>>", "...", "**")):
            lines[i] = escape(line)


def format_description(app, ctx, lines):
    """Show the examples in the help of a command, which click does not wrap, as code."""
    formatted = []
    for before, line in zip(["", *lines], lines, strict=False):
        if not line.startswith("| "):
            formatted.append(escape(line))
        else:
            formatted += [] if before.startswith("| ") else ["::", ""]
            formatted.append("    " + line.removeprefix("| "))
    lines[:] = formatted


def escape_options(app, ctx, lines):
    for i, line in enumerate(lines):
        if line.startswith("   ") and not line.strip().startswith((":", "**")):
            lines[i] = escape(line)


def document_options(app, what, name, obj, options, lines):
    """Document the options of a configuration class from the help, choices and defaults of its fields."""
    if not (isinstance(obj, type) and is_dataclass(obj)):
        return
    documented = set(re.findall(r"^ +(\w+):", "\n".join(lines), re.M))
    missing = [field for field in fields(obj) if field.metadata.get("help") and field.name not in documented]
    if missing:
        lines += ["", "Attributes:", *(f"    {field.name}: {describe_option(field)}" for field in missing), ""]


def describe_option(field):
    choices, unset = field.metadata["choices"], field.metadata["unset"]
    values = f" One of {', '.join(f'`{choice}`' for choice in choices)}." if choices else ""
    default = f" Default: {unset}." if unset else "" if field.default is None else f" Default: `{field.default!r}`."
    return field.metadata["help"] + values + default


PUBLIC = {
    f"{value.__module__}.{value.__qualname__}": f"{module.__name__}.{name}"
    for module, names in ((figures, vars(figures)), (analysis, vars(analysis)), (lca, dir(lca)))
    for name in names
    if hasattr(value := getattr(module, name), "__qualname__")
}


def link_public_name(app, env, node, contnode):
    """Resolve a reference to the module that defines a class to the public name under which it is documented."""
    public = PUBLIC.get(node.get("reftarget"))
    if node.get("refdomain") != "py" or public is None:
        return None
    found = env.get_domain("py").resolve_any_xref(env, node["refdoc"], app.builder, public, node, contnode)
    return found[0][1] if found else None


def setup(app):
    app.connect("source-read", add_toctree)
    app.connect("autodoc-process-signature", shorten_signature)
    app.connect("autodoc-process-docstring", document_options, priority=400)  # before napoleon
    app.connect("autodoc-process-docstring", escape_docstring, priority=450)
    app.connect("sphinx-click-process-description", format_description)
    app.connect("sphinx-click-process-options", escape_options)
    app.connect("missing-reference", link_public_name)
