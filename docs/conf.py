"""How Sphinx renders these pages; `make docs` runs it."""

import re
import sys
from pathlib import Path

import rayapp

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "imaginet-ray"
author = "the imaginet-ray maintainers"
release = version = rayapp.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "job_options"]
exclude_patterns = ["_ext"]

myst_heading_anchors = 3  # the anchors of headings are those of GitHub
myst_enable_extensions = ["colon_fence"]
highlight_language = "none"

html_theme = "sphinx_book_theme"
html_title = "imaginet-ray"
html_static_path = ["_static"]
html_css_files = ["docs.css"]
html_copy_source = False
html_use_index = False
html_show_sourcelink = False
html_theme_options = {
    "use_download_button": False,
    "use_fullscreen_button": False,
    "navbar_persistent": [],
}

autodoc_typehints = "signature"
default_role = "code"  # what stands between backticks in a docstring
python_maximum_signature_line_length = 80
toc_object_entries = False
autodoc_member_order = "bysource"
napoleon_google_docstring = True
napoleon_numpy_docstring = False

# Pages that lie beside docs/, by their name in it: links are written as GitHub follows them.
_BESIDE = {"SECURITY.md": "security.md", "CONTRIBUTING.md": "contributing.md"}


def _within(_app: object, _name: str, source: list[str]) -> None:
    for beside, page in _BESIDE.items():
        source[0] = re.sub(rf"\]\(\.\./{re.escape(beside)}", f"]({page}", source[0])
    # A site has files and no folders to link to.
    source[0] = re.sub(r"\[([^]]+)\]\((\.\./[^)]*)\)", _file_or_name, source[0])
    # What a block says to the tests is for readers of the source only.
    source[0] = re.sub(r"^( *```(?:sh|python|yaml)) \S.*$", r"\1", source[0], flags=re.MULTILINE)


def _file_or_name(link: re.Match[str]) -> str:
    is_folder = (Path(__file__).parent / link[2]).is_dir()
    return f"`{link[1]}`" if is_folder else link[0]


def setup(app: object) -> None:
    """Have the sources prepared before they are parsed."""
    app.connect("source-read", _within)  # type: ignore[attr-defined]
