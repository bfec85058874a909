"""Texts that generators leave: settings, prompts, graphs. All unsigned: anyone can write them.

Each rule wants the structure that the generator writes, not a word: a caption that mentions Stable
Diffusion declares nothing.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rayapp.dataset.declared.declaration import (
    AI_EDITED,
    AI_GENERATED,
    UNSIGNED,
    UNVERIFIED,
    Declaration,
    Kind,
    one_line,
)
from rayapp.dataset.declared.vocabulary import credit, program, signed_by, source_type

_MOST_JSON = 1 << 20
_DREAM_END = 600  # its settings stand at the end
_SHOWN = 120
_STEPS = re.compile(r"(?:^|\n|, ?)Steps: \d+,")
_SETTING = re.compile(r"\b(?:Sampler|CFG scale|Seed|Size|Model hash): ")
_APPS = re.compile(r"\bApp: ([A-Za-z][\w.-]{1,30})|\bVersion: (ComfyUI|SD\.Next|Fooocus)")
_PARTLY = re.compile(r"\b(?:Mask blur|Inpaint area|Masked content|Inpaint padding): ")
_DREAM = re.compile(r" -s ?\d+ .*-S ?\d+ .*-W ?\d+ .*-H ?\d+ ")
_JOB_ID = re.compile(r"\bJob ID: [0-9a-f-]{36}", re.IGNORECASE)
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_SIGNATURE = re.compile(r"Signature: ?[A-Za-z0-9+/=_-]{40,}")
_LABELS = {"1": AI_GENERATED, "2": AI_GENERATED, "3": AI_GENERATED}  # is, may be, is suspected
# Settings of a sampler; any four of them in one object are a generator's.
_SETTINGS = frozenset(
    {
        *("prompt", "negative_prompt", "negativePrompt", "uc", "steps", "num_inference_steps"),
        *("sampler", "sampler_name", "scheduler", "seed", "scale", "cfg_scale", "cfgscale"),
        *("guidance_scale", "guidance", "model", "model_name", "base_model", "strength"),
        *("width", "height", "denoise"),
    }
)
_WANTED_SETTINGS = 4
_OF_SETTINGS = ("parameters", "comment", "usercomment", "imagedescription", "generation_data")
_OF_INVOKE = ("invokeai_metadata", "sd-metadata", "invokeai_graph", "invokeai_workflow")
_OF_JSON = frozenset({"prompt", "workflow", "aigc", *_OF_INVOKE, *_OF_SETTINGS})
# Fields of EXIF, XMP and IPTC that hold texts, and as what they are read.
_TEXT_FIELDS = {
    "UserComment": "usercomment",
    "XPComment": "usercomment",
    "ImageDescription": "imagedescription",
    "description": "imagedescription",
    "Caption": "imagedescription",
    "AIGC": "aigc",
}
_FOOOCUS = frozenset({"base_model", "full_prompt", "metadata_scheme", "adm_guidance", "sharpness"})


def of_texts(texts: Sequence[tuple[str, str, str]]) -> Iterator[Declaration]:
    """What the texts of a file declare: keyword, place in words, and text of each."""
    by_key = {key.lower(): (key, where, text) for key, where, text in reversed(texts)}
    # A program's bare name last: settings say more.
    for written, where, text in sorted(texts, key=lambda one: one[0].lower() == "software"):
        key = written.lower()
        place = f"{where} {written}" if written != "comment" else where
        if key == "comment" and by_key.get("software", ("",) * 3)[2] == "NovelAI":
            kind = AI_EDITED if _of_infilling(_parsed(text)) else AI_GENERATED
            yield _made("NovelAI's settings", place, text, kind)
        else:
            yield from _of_text(key, place, text)
    if {"num_inference_steps", "guidance_scale"} <= by_key.keys():
        _, where, steps = by_key["num_inference_steps"]
        yield _made("Easy Diffusion's settings", where, f"{steps} steps")


def _of_text(key: str, where: str, text: str) -> Iterator[Declaration]:
    value = _parsed(text) if key in _OF_JSON else None
    if key in ("prompt", "workflow") and (kind := _graph(value)):
        yield _made("ComfyUI's graph", where, _nodes(value), kind)
    elif key in _OF_INVOKE and isinstance(value, dict):
        partly = str(value.get("generation_mode", "")).endswith(("inpaint", "outpaint"))
        kind = AI_EDITED if partly else AI_GENERATED
        yield _made("InvokeAI's settings", where, text, kind)
    elif key == "dream" and _DREAM.search(text[-_DREAM_END:]):
        yield _made("InvokeAI's settings", where, text)
    elif key == "fooocus_scheme":
        yield _made("Fooocus's settings", where, text)
    elif key == "aigc" or (key == "usercomment" and _is_label(value)):
        yield from _label(where, value)
    elif key in ("digitalsourcetype", "digital source type"):
        yield from of_source_types(where, text)
    elif key == "software":
        yield from of_program(where, text)
    elif key == "credit" and (kind := credit(text)):
        yield _made("a credit line", where, text, kind)
    elif _JOB_ID.search(text):
        yield _made("Midjourney's description", where, text)
    elif key in _OF_SETTINGS:
        yield from _settings(key, where, text, value)


def _settings(key: str, where: str, text: str, value: Any) -> Iterator[Declaration]:
    """Settings of a sampler, as lines of Stable Diffusion WebUI or as JSON."""
    steps = _STEPS.search(text)
    if steps and _SETTING.search(text):
        app = _APPS.search(text)
        named = (app[1] or app[2]) if app else "Stable Diffusion WebUI"
        kind = AI_EDITED if _PARTLY.search(text) else AI_GENERATED
        yield _made(f"{named}'s settings", where, text[steps.start() :].lstrip("\n, "), kind)
    elif isinstance(value, dict):
        if "sui_image_params" in value:
            yield _made("SwarmUI's settings", where, text)
        elif len(_FOOOCUS & value.keys()) >= 2:
            yield _made("Fooocus's settings", where, text)
        elif graph := _graph(value) or _graph_within(value):
            yield _made("ComfyUI's graph", where, text, graph)
        elif len(_SETTINGS & value.keys()) >= _WANTED_SETTINGS:
            kind = AI_EDITED if _of_infilling(value) else AI_GENERATED
            yield _made("a generator's settings", where, text, kind)
    elif key in ("comment", "imagedescription") and (name := signed_by(text)):
        yield from of_program(where, name)


def of_fields(where: str, fields: Mapping[str, str]) -> Iterator[Declaration]:
    """What the fields of EXIF, XMP or IPTC declare, all but the camera."""
    typed = [fields.get(name, "") for name in ("DigitalSourceType", "DigitalSourcefileType")]
    for text in filter(None, typed):
        yield from of_source_types(where, text)
    if (system := fields.get("AISystemUsed", "")) and not any(typed):
        yield _made("IPTC's AI system used", where, system)
    for name in ("Software", "CreatorTool", "OriginatingProgram", "softwareAgent"):
        for text in fields.get(name, "").splitlines():
            yield from of_program(f"{where} {name}", text)
    for name in ("Credit", "Source", "Instructions"):
        if kind := credit(fields.get(name, "")):
            yield _made("a credit line", f"{where} {name}", fields[name], kind)
    make = fields.get("Make", "")
    if ":{" not in make and program(make) == AI_GENERATED:
        yield from of_program(f"{where} Make", make)
    # ComfyUI's WebP carries its graphs in fields for cameras, each with its own name before it.
    for text in (fields.get(name, "") for name in ("Make", "Model", "ImageDescription")):
        key, found, rest = text.partition(":")
        if found and key.lower() in ("prompt", "workflow", "parameters"):
            yield from _of_text(key.lower(), where, rest)
    for name, key in _TEXT_FIELDS.items():
        if text := fields.get(name, ""):
            yield from _of_text(key, f"{where} {name}", text)
    if _UUID.fullmatch(fields.get("Artist", "")) and _SIGNATURE.match(
        fields.get("ImageDescription", "")
    ):
        yield _made("Grok's signature", f"{where} ImageDescription", "a signature and a number")


def of_source_types(where: str, text: str) -> Iterator[Declaration]:
    """Of IPTC's digital source types, one a line."""
    for uri in text.splitlines():
        if found := source_type(uri):
            name, kind = found
            yield _made("IPTC digital source type", where, name, kind)


def of_program(where: str, name: str) -> Iterator[Declaration]:
    """Of a program's name, where it is known what the program makes."""
    if kind := program(name):
        yield _made(
            one_line(name, 60), where, f"{one_line(name, 60)} is named as the program", kind
        )


def _label(where: str, value: Any) -> Iterator[Declaration]:
    """China's label of GB 45438-2025: the image is, may be or is suspected to be AI-generated."""
    if _is_label(value):
        producer = one_line(str(value.get("ContentProducer", "")), 60)
        kind = _LABELS[str(value["Label"])]
        yield _made(
            "AIGC label (GB 45438-2025)", where, f"label {value['Label']}, {producer}", kind
        )


def _is_label(value: Any) -> bool:
    return isinstance(value, dict) and str(value.get("Label")) in _LABELS


def _made(what: str, where: str, text: str, kind: Kind = AI_GENERATED) -> Declaration:
    detail = f"{where}: {one_line(text, _SHOWN)} ({UNSIGNED})"
    return Declaration(kind, what, where, UNVERIFIED, detail)


def _parsed(text: str) -> Any:
    """The value of a JSON text, None of another."""
    text = text.strip("\0 \r\n\t")
    if not text.startswith("{") or len(text) > _MOST_JSON:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _graph(value: Any) -> Kind | None:
    """Of a ComfyUI graph, as it was run or as it was drawn: whether it paints into a picture."""
    names = _node_names(value)
    if not names:
        return None
    loads = any(name.startswith("LoadImage") for name in names)
    paints = any("inpaint" in name.lower() or "NoiseMask" in name for name in names)
    return AI_EDITED if loads and paints else AI_GENERATED


def _graph_within(value: dict[str, Any]) -> Kind | None:
    """Of a graph that an object holds by name, as it is or as JSON text."""
    for name in ("prompt", "workflow"):
        inner = value.get(name)
        if kind := _graph(_parsed(inner) if isinstance(inner, str) else inner):
            return kind
    return None


def _node_names(value: Any) -> list[str]:
    if not isinstance(value, dict):
        return []
    nodes = value.get("nodes")
    found = nodes if isinstance(nodes, list) else list(value.values())
    key = "type" if isinstance(nodes, list) else "class_type"
    names = [one.get(key) for one in found if isinstance(one, dict)]
    return [name for name in names if isinstance(name, str)] if names else []


def _nodes(value: Any) -> str:
    names = _node_names(value)
    return f"{len(names)} nodes: {', '.join(dict.fromkeys(names))}"


def _of_infilling(value: Any) -> bool:
    """Whether NovelAI's settings are of painting into a picture."""
    return isinstance(value, dict) and "Infill" in str(value.get("request_type", ""))
