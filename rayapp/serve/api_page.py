"""The page at /docs: the OpenAPI document in words, with nothing from elsewhere."""

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup, escape

_METHODS = ("get", "post", "delete")


def api_page(document: Mapping[str, Any]) -> str:
    """HTML of a document."""
    parts = [
        _operation(path, method, found[method])
        for path, found in document["paths"].items()
        for method in _METHODS
        if method in found
    ]
    info = document["info"]
    return Markup(
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<title>{title}</title><link rel="icon" href="data:,">'
        '<link rel="stylesheet" href="/page.css"></head><body><main>'
        "<h1>{title}</h1><p>{about}</p>"
        '<p>For programs: <a href="/openapi.json">openapi.json</a>.</p>{parts}</main></body></html>'
    ).format(title=info["title"], about=info.get("description", ""), parts=Markup("").join(parts))


def _operation(path: str, method: str, found: Mapping[str, Any]) -> Markup:
    options = [
        Markup("<li><code>{}</code>{}: {}</li>").format(
            one["name"], _values(one["schema"]), one.get("description", "")
        )
        for one in found.get("parameters", ())
    ]
    bodies = ", ".join(found.get("requestBody", {}).get("content", {}))
    codes = [
        Markup("<li><code>{}</code> {}</li>").format(code, answer.get("description", ""))
        for code, answer in found["responses"].items()
    ]
    return Markup("<section><h2><code>{} {}</code></h2><p>{}</p>{}{}{}</section>").format(
        method.upper(),
        path,
        found.get("description") or found.get("summary", ""),
        Markup("<p>Body: {}</p>").format(bodies) if bodies else "",
        _list("Options", options),
        _list("Answers", codes),
    )


def _values(schema: Mapping[str, Any]) -> Markup:
    if "enum" not in schema:
        return Markup("")
    return Markup(" ({})").format(escape(" | ".join(map(str, schema["enum"]))))


def _list(title: str, items: list[Markup]) -> Markup:
    if not items:
        return Markup("")
    return Markup("<h3>{}</h3><ul>{}</ul>").format(title, Markup("").join(items))
