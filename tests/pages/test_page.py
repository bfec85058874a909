import re
from html.parser import HTMLParser

from rayapp.pages.blocks import Figure
from rayapp.pages.page import Page
from tests.pages.examples import example_page

PICTURE = Figure("data:image/png;base64,", 'a "quoted" figure', "caption <i>")


class Balance(HTMLParser):
    """Fails on a tag that is closed out of turn; collects addresses and alternative texts."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.addresses += [found[k] or "" for k in ("src", "href") if k in found]
        assert tag != "img" or found.get("alt")
        if tag not in ("meta", "link", "img", "br", "wbr"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_page_is_well_formed_and_fetches_nothing() -> None:
    balance = Balance()
    balance.feed(example_page([PICTURE]).html())
    assert balance.open == []
    assert all(address.startswith(("data:", "#")) for address in balance.addresses)


def test_input_is_escaped() -> None:
    html = example_page([PICTURE]).html()
    assert "<title>A &lt;title&gt;</title>" in html
    assert "caption &lt;i&gt;" in html
    assert 'alt="a &#34;quoted&#34; figure"' in html


def test_equal_input_gives_equal_text() -> None:
    assert example_page([PICTURE]).html() == example_page([PICTURE]).html()


def test_table_carries_full_precision_interval_and_reason() -> None:
    html = example_page([PICTURE]).html()
    assert re.search(r'data-value="0.9" data-low="0.85" data-high="0.95">0.900', html)
    assert 'title="needs both classes">–</td>' in html


def test_page_without_sections() -> None:
    html = Page("Title", "Summary.", []).html()
    assert "<nav" not in html
    assert "<footer" not in html
