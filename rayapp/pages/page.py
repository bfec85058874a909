"""A self-contained HTML page: everything inside one file, nothing fetched, readable anywhere."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from rayapp.pages.blocks import Block, breakable, inline
from rayapp.pages.review import Review


@dataclass(frozen=True)
class Section:
    """A heading with blocks under it."""

    heading: str
    blocks: Sequence[Block | Review]


@dataclass(frozen=True)
class Page:
    """A report: title, one sentence that says the result, and sections.

    `kicker` is the small line above the title, `footer` the line at the end. `lead` stands before
    the result: what the reader must know before any figure.
    """

    title: str
    summary: str
    sections: Sequence[Section]
    kicker: str = ""
    lead: str = ""
    footer: str = ""

    def html(self) -> str:
        """The whole page as text; equal input gives equal text."""
        return environment().get_template("page.html.j2").render(page=self)


def environment() -> Environment:
    """Templates of pages; `shipped(name)` in them is one of our own files as it is."""
    made = Environment(
        loader=PackageLoader("rayapp.pages", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["breakable"] = breakable
    made.filters["inline"] = inline
    made.globals["shipped"] = shipped
    return made


def shipped(name: str) -> Markup:
    """One of our own files beside the templates, as it is."""
    text = files("rayapp.pages").joinpath("templates", name).read_text("utf-8")
    return Markup(text)  # noqa: S704 - our own file, not input
