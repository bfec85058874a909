"""Names that files use: IPTC's digital source types, generators, editors, credits."""

import re

from rayapp.dataset.declared.declaration import AI_EDITED, AI_GENERATED, CAMERA, EDITED, Kind

# https://cv.iptc.org/newscodes/digitalsourcetype/, and C2PA's own. What an algorithm made without
# learning from images, and what people made by software, is declared as no photograph and no AI.
_SOURCE_TYPES: dict[str, Kind] = {
    "trainedAlgorithmicMedia": AI_GENERATED,
    "trainedAlgorithmicData": AI_GENERATED,
    "compositeWithTrainedAlgorithmicMedia": AI_EDITED,
    "compositeSynthetic": AI_EDITED,
    "digitalCapture": CAMERA,
    "computationalCapture": CAMERA,
    "negativeFilm": CAMERA,
    "positiveFilm": CAMERA,
    "print": CAMERA,
    "algorithmicMedia": EDITED,
    "algorithmicallyEnhanced": EDITED,
    "composite": EDITED,
    "compositeCapture": EDITED,
    "dataDrivenMedia": EDITED,
    "digitalArt": EDITED,
    "digitalCreation": EDITED,
    "humanEdits": EDITED,
    "minorHumanEdits": EDITED,
    "screenCapture": EDITED,
    "softwareImage": EDITED,
    "virtualRecording": EDITED,
}
_BY_LOWER = {name.lower(): (name, kind) for name, kind in _SOURCE_TYPES.items()}

# Programs as they name themselves in fields for programs (Software, CreatorTool, claim generator).
_GENERATORS = re.compile(
    r"adobe firefly|^firefly|dall[·•-]?e\b|chatgpt|openai|gpt-image|gpt-4o|\bsora\b|midjourney"
    r"|stable ?diffusion|stability ?ai|dreamstudio|sdxl|automatic1111|\ba1111\b|comfyui|invoke ?ai"
    r"|novelai|fooocus|sd\.next|sdnext|swarmui|draw ?things|easy ?diffusion|diffusers"
    r"|black forest labs|\bflux[.\d-]|ideogram|leonardo\.?ai|recraft|krea(\.ai| ai)|playground ?ai"
    r"|nightcafe|craiyon|\bgrok\b|\bx\.?ai\b|meta ai|imagine with meta|google ai|gemini|nano banana"
    r"|\bimagen\b|bing image creator|image creator from designer|microsoft designer"
    r"|azure openai|copilot designer|bria\.?ai|runway|dreamina|jimeng|seedream|doubao|kling"
    r"|hailuo|qwen|kolors|tongyi|wanx|civitai|tensor\.?art|seaart|pixai|artbreeder|starryai"
    r"|wombo|lexica|mage\.space|perchance|freepik ai|canva magic|photoroom ai|muse image",
    re.IGNORECASE,
)
_EDITORS = re.compile(
    r"photoshop|lightroom|camera raw|adobe imageready|illustrator|indesign|adobe express|\bgimp\b"
    r"|affinity|pixelmator|snapseed|paint\.net|krita|canva\b|picsart|capture one|luminar|skylum"
    r"|darktable|rawtherapee|imagemagick|irfanview|xnview|acdsee|photoscape|picasa|paintshop|corel"
    r"|photopea|inkscape|vsco\b|facetune|meitu|beautycam|fotor|polarr|photos \d|photo editor"
    r"|digital photo professional|capture nx|nx studio|dxo|on1 |topaz|clip studio|procreate"
    r"|paint tool sai|ezgif|photodirector|paintstorm|artrage|remini|lensa|faceapp|snow corp"
    r"|windows photo|microsoft photos|nero photo|silkypix|aftershot|hugin|helicon|photomatix"
    r"|screenshot|snagit|blender|maya|3ds max",
    re.IGNORECASE,
)
# Captions are free text about the picture; these begin as programs sign.
_SIGNED = re.compile(
    r"^(?:file written|created|made|edited|optimi[sz]ed|converted|gif converted|processed)"
    r" (?:by|with|using|in) (.+)",
    re.IGNORECASE,
)
_MOST_NAME = 400  # characters that are looked at
_AI_CREDITS = re.compile(
    r"\b(?P<edited>edited|enhanced) (?:with|by|using) (?:google )?ai\b"
    r"|\b(?:made|created|generated|imagined) (?:with|by|using) (?:google |meta |gen(?:erative)? )?"
    r"ai\b|\bai[- ]generated\b",
    re.IGNORECASE,
)


def source_type(uri: str) -> tuple[str, Kind] | None:
    """IPTC's name and our kind of a digital source type, given as URI, QCode or bare name."""
    name = re.split(r"[/#:]", uri.strip().rstrip("/"))[-1]
    return _BY_LOWER.get(name.lower())


def program(name: str) -> Kind | None:
    """What a program makes by its name: AI images, or edits; None of one that is not known."""
    name = name[:_MOST_NAME]
    if _GENERATORS.search(name):
        return AI_GENERATED
    return EDITED if _EDITORS.search(name) else None


def signed_by(caption: str) -> str:
    """The program that a caption is a signature of: `Created with GIMP`; else empty."""
    found = _SIGNED.match(caption[:_MOST_NAME].strip())
    return found[1].strip() if found else ""


def credit(text: str) -> Kind | None:
    """Of AI, where a credit line says so: `Made with Google AI`."""
    found = _AI_CREDITS.search(text[:_MOST_NAME])
    if found is None:
        return None
    return AI_EDITED if found["edited"] else AI_GENERATED
