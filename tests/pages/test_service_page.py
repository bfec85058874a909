"""The service's page: whole, and nothing in it that its Content-Security-Policy would stop."""

import re

import pytest

from rayapp.models import basis
from rayapp.pages.service_page import CONTENT_SECURITY_POLICY, service_assets, service_page

HTML = service_page()
ASSETS = service_assets()


@pytest.mark.parametrize(
    "pattern", [r"<style", r"<script(?![^>]*\bsrc=)", r"\sstyle=", r"\son\w+="]
)
def test_nothing_is_inline(pattern: str) -> None:
    assert not re.search(pattern, HTML)


def test_all_that_it_refers_to_is_its_own() -> None:
    referred = set(re.findall(r'(?:src|href)="([^"]*)"', HTML))
    assert referred - {"data:,", "docs"} == {path.lstrip("/") for path in ASSETS}
    for _, body in ASSETS.values():
        assert not re.search(rb"(?:https?:)?//[a-z0-9-]+\.", body)
    assert "'unsafe" not in CONTENT_SECURITY_POLICY


def test_each_part_that_its_script_looks_for_is_there() -> None:
    script = ASSETS["/page.js"][1].decode()
    for name in set(re.findall(r'control\("([\w-]+)"\)', script)):
        assert f'name="{name}"' in HTML, name
    for name in set(re.findall(r'(?:part|find)\("\.([\w-]+)"\)', script)):
        assert re.search(rf'class="[^"]*\b{name}\b', HTML), name


@pytest.mark.parametrize(
    "words", [basis.NO_PROOF, basis.STANDS, basis.DEPENDS, basis.ONE_CELL, basis.NO_MAP]
)
def test_it_says_what_the_evidence_sheet_says(words: str) -> None:
    assert words in HTML
