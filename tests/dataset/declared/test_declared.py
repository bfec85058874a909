"""Kinds of files, each with what it declares where its writer puts it."""

import csv
import json
import struct

import pytest

from rayapp.dataset.declared import read_declared
from tests.dataset.declared.files import (
    A1111,
    SOURCE,
    jpeg_segment,
    picture,
    png_chunk,
    png_texts,
    saved,
    source_type,
    with_exif,
    xmp,
)
from tests.dataset.declared.odd_files import odd_folder

MAKE, MODEL, SOFTWARE, DESCRIPTION, ARTIST = 271, 272, 305, 270, 315
GRAPH = {"3": {"class_type": "KSampler", "inputs": {"seed": 1}}, "4": {"class_type": "VAEDecode"}}
PAINTED = {**GRAPH, "5": {"class_type": "LoadImage"}, "6": {"class_type": "VAEEncodeForInpaint"}}
NOVELAI = {"steps": 28, "sampler": "k_euler", "seed": 1, "scale": 5.0, "uc": "bad"}
LABEL = '{"Label":"1","ContentProducer":"a producer","ProduceID":"1"}'
UUID = "0b6a5c1e-8b0e-4a7e-9d7e-2a8f5c3d1e90"

# What the file is, the file, what it declares, and a word of what declares it.
MADE = [
    ("WebUI's PNG", png_texts({"parameters": A1111}), "ai-generated", "WebUI"),
    ("packed", png_texts({"parameters": A1111}, packed=True), "ai-generated", "WebUI"),
    ("inpainted", png_texts({"parameters": A1111 + ", Mask blur: 4"}), "ai-edited", "WebUI"),
    (
        "WebUI's JPEG",
        with_exif("JPEG", {}, b"UNICODE\0" + A1111.encode("utf-16-be")),
        "ai-generated",
        "WebUI",
    ),
    (
        "WebUI's WebP",
        with_exif("WEBP", {}, b"UNICODE\0" + A1111.encode("utf-16-le")),
        "ai-generated",
        "WebUI",
    ),
    (
        "SD.Next's AVIF",
        with_exif("AVIF", {}, b"ASCII\0\0\0" + (A1111 + ", App: SD.Next").encode()),
        "ai-generated",
        "SD.Next",
    ),
    ("ComfyUI", png_texts({"prompt": json.dumps(GRAPH)}), "ai-generated", "ComfyUI"),
    ("ComfyUI, inpainted", png_texts({"prompt": json.dumps(PAINTED)}), "ai-edited", "ComfyUI"),
    (
        "ComfyUI's drawing",
        png_texts({"workflow": json.dumps({"nodes": [{"type": "KSampler"}]})}),
        "ai-generated",
        "ComfyUI",
    ),
    (
        "ComfyUI's WebP",
        with_exif("WEBP", {MAKE: f"prompt:{json.dumps(GRAPH)}"}),
        "ai-generated",
        "ComfyUI",
    ),
    (
        "InvokeAI",
        png_texts({"invokeai_metadata": '{"generation_mode": "txt2img", "seed": 1}'}),
        "ai-generated",
        "InvokeAI",
    ),
    (
        "InvokeAI, inpainted",
        png_texts({"invokeai_metadata": '{"generation_mode": "sdxl_inpaint"}'}),
        "ai-edited",
        "InvokeAI",
    ),
    (
        "InvokeAI of 2022",
        png_texts({"Dream": '"a cat" -s 50 -S 123 -W 512 -H 512 -C 7.5 -A k_lms'}),
        "ai-generated",
        "InvokeAI",
    ),
    (
        "NovelAI",
        png_texts({"Software": "NovelAI", "Comment": json.dumps(NOVELAI)}),
        "ai-generated",
        "NovelAI's settings",
    ),
    (
        "Fooocus",
        png_texts({"parameters": '{"base_model": "x", "full_prompt": ["a"], "sharpness": 2}'}),
        "ai-generated",
        "Fooocus",
    ),
    (
        "SwarmUI",
        png_texts({"parameters": '{"sui_image_params": {"prompt": "a"}}'}),
        "ai-generated",
        "SwarmUI",
    ),
    (
        "Easy Diffusion",
        png_texts({"num_inference_steps": "25", "guidance_scale": "7.5", "prompt": "a cat"}),
        "ai-generated",
        "Easy Diffusion",
    ),
    (
        "Draw Things",
        with_exif("JPEG", {}, b"ASCII\0\0\0" + json.dumps({**NOVELAI, "model": "m"}).encode()),
        "ai-generated",
        "a generator's settings",
    ),
    (
        "Midjourney",
        png_texts({"Description": f"a cat --v 6.1 Job ID: {UUID}", "Author": "someone"}),
        "ai-generated",
        "Midjourney",
    ),
    (
        "Grok",
        with_exif("JPEG", {DESCRIPTION: "Signature: " + "aB3" * 30, ARTIST: UUID}),
        "ai-generated",
        "Grok",
    ),
    (
        "Gemini",
        saved("PNG", pnginfo=None)
        and png_chunk(
            saved("PNG"),
            b"iTXt",
            b"XML:com.adobe.xmp\0\0\0\0\0"
            + xmp("<photoshop:Credit>Made with Google AI</photoshop:Credit>"),
        ),
        "ai-generated",
        "credit",
    ),
    (
        "Google's magic editor",
        saved("JPEG", xmp=xmp("<photoshop:Credit>Edited with Google AI</photoshop:Credit>")),
        "ai-edited",
        "credit",
    ),
    ("China's label", png_texts({"AIGC": LABEL}), "ai-generated", "AIGC"),
    (
        "China's, XMP",
        saved("JPEG", xmp=xmp(f"<TC260:AIGC>{LABEL}</TC260:AIGC>")),
        "ai-generated",
        "AIGC",
    ),
    ("Firefly", with_exif("JPEG", {SOFTWARE: "Adobe Firefly"}), "ai-generated", "Firefly"),
    ("DALL-E", with_exif("WEBP", {SOFTWARE: "DALL-E 3"}), "ai-generated", "DALL"),
    ("a camera", with_exif("JPEG", {MAKE: "Canon", MODEL: "Canon EOS R5"}), "camera", "EXIF"),
    ("a camera's PNG", with_exif("PNG", {MAKE: "Apple", MODEL: "iPhone 15"}), "camera", "EXIF"),
    (
        "a developed photo",
        with_exif("JPEG", {MAKE: "Canon", SOFTWARE: "Adobe Lightroom 5.3"}),
        "edited",
        "Lightroom",
    ),
    ("a TIFF", with_exif("TIFF", {SOFTWARE: "GIMP 2.10"}), "edited", "GIMP"),
    ("a GIF", saved("GIF", comment=b"Created with GIMP"), "edited", "GIMP"),
    ("firmware", with_exif("JPEG", {SOFTWARE: "HDR+ 1.0.621982163zd"}), "nothing", ""),
    ("nothing", saved("JPEG"), "nothing", ""),
    ("no image", b"Steps: 20, Sampler: Euler a", "nothing", ""),
]


@pytest.mark.parametrize(
    ("data", "kind", "by"), [one[1:] for one in MADE], ids=[one[0] for one in MADE]
)
def test_each_kind_of_file_declares_what_its_writer_wrote(data: bytes, kind: str, by: str) -> None:
    found = read_declared(data)
    assert found.kind == kind, found.detail
    assert by in found.by
    assert found.by.endswith(", unverified") or kind == "nothing"
    assert "anyone can write it" in found.detail or kind == "nothing"


SOURCES = [
    ("trainedAlgorithmicMedia", "ai-generated"),
    ("compositeWithTrainedAlgorithmicMedia", "ai-edited"),
    ("compositeSynthetic", "ai-edited"),
    ("digitalCapture", "camera"),
    ("computationalCapture", "camera"),
    ("algorithmicMedia", "edited"),
    ("humanEdits", "edited"),
    ("screenCapture", "edited"),
    ("somethingElse", "nothing"),
]


@pytest.mark.parametrize(("name", "kind"), SOURCES)
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "GIF"])
def test_source_types_are_read_from_every_format(form: str, name: str, kind: str) -> None:
    packet = source_type(name)
    if form == "PNG":
        data = png_chunk(saved("PNG"), b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + packet)
    elif form == "TIFF":
        data = saved("TIFF", tiffinfo={700: packet})
    elif form == "GIF":
        ramp = b"\1" + bytes(range(255, -1, -1)) + b"\0"
        data = saved("GIF")
        data = data[:-1] + b"!\xff\x0bXMP DataXMP" + packet + ramp + b";"
    else:
        data = saved(form, xmp=packet)
    found = read_declared(data)
    assert found.kind == kind, found
    assert name in found.detail or kind == "nothing"


def test_source_types_are_read_as_attributes_resources_and_qcodes() -> None:
    attribute = xmp("").replace(
        b'exif/1.0/">', b'exif/1.0/" Iptc4xmpExt:DigitalSourceType="digsrctype:digitalCapture">'
    )
    uri = f"{SOURCE}trainedAlgorithmicMedia"
    resource = xmp(f'<Iptc4xmpExt:DigitalSourceType rdf:resource="{uri}"/>')
    assert read_declared(saved("JPEG", xmp=attribute)).kind == "camera"
    assert read_declared(saved("JPEG", xmp=resource)).kind == "ai-generated"


LOOKS_LIKE = [
    ("behind the end", saved("JPEG") + b'tEXtprompt\0{"'),
    ("a chunk behind a JPEG", saved("JPEG") + png_texts({"parameters": A1111})),
    ("behind a PNG's end", saved("PNG") + png_texts({"parameters": A1111})[8:]),
    ("in a JPEG's pixels", saved("JPEG")[:-2] + b"trainedAlgorithmicMedia" + b"\xff\xd9"),
    ("in another segment", jpeg_segment(saved("JPEG"), 0xE5, source_type("digitalCapture"))),
    ("in a private chunk", png_chunk(saved("PNG"), b"prVt", b"parameters\0" + A1111.encode())),
    ("a caption", png_texts({"Description": "a fake in the style of Midjourney, Steps: 20"})),
    ("a prompt in words", png_texts({"prompt": "class_type KSampler"})),
    ("other JSON", png_texts({"prompt": '{"a": {"b": 1}}', "workflow": '{"nodes": 3}'})),
    ("a title", with_exif("JPEG", {DESCRIPTION: "how to spot Stable Diffusion"})),
    ("an artist", with_exif("JPEG", {ARTIST: "Gemini"})),
]


@pytest.mark.parametrize("data", [one[1] for one in LOOKS_LIKE], ids=[one[0] for one in LOOKS_LIKE])
def test_what_only_looks_like_metadata_declares_nothing(data: bytes) -> None:
    assert read_declared(data).kind == "nothing"


def test_a_file_that_declares_more_says_the_strongest_first() -> None:
    data = with_exif("JPEG", {MAKE: "Canon", MODEL: "EOS R5", SOFTWARE: "Adobe Firefly"})
    found = read_declared(data)
    assert found.kind == "ai-generated"
    assert "also camera by EXIF of a camera (unverified)" in found.detail
    assert [one.kind for one in found.declarations] == ["ai-generated", "camera"]


def test_a_manifest_elsewhere_is_named_and_not_fetched() -> None:
    packet = xmp("").replace(
        b"<rdf:Description ",
        b'<rdf:Description xmlns:t="http://purl.org/dc/'
        b'terms/" t:provenance="https://example.com/m.c2pa" ',
    )
    found = read_declared(saved("JPEG", xmp=packet))
    assert found.kind == "nothing"
    named = "names a C2PA manifest at https://example.com/m.c2pa, which is not fetched"
    assert found.detail == f"nothing declared; {named}"


def test_details_are_one_line_whatever_the_text() -> None:
    text = "a\r\nb\0\x1b[31m\u2028" * 200 + A1111
    detail = read_declared(png_texts({"parameters": text})).detail
    assert detail.isprintable()
    assert len(detail) <= 300


def test_an_iptc_record_of_photoshop_is_read() -> None:
    record = b"\x1c\x02\x6e" + struct.pack(">H", 19) + b"Made with Google AI"
    resource = (
        b"8BIM\x04\x04\0\0" + struct.pack(">I", len(record)) + record + b"\0" * (len(record) % 2)
    )
    found = read_declared(jpeg_segment(saved("JPEG"), 0xED, b"Photoshop 3.0\0" + resource))
    assert (found.kind, found.by) == (
        "ai-generated",
        "a credit line, IPTC record Credit, unverified",
    )


def test_exif_in_big_tiffs_and_of_either_byte_order_is_read() -> None:
    little = b"II*\0\x08\0\0\0\1\0" + struct.pack("<HHII", SOFTWARE, 2, 10, 26) + b"\0" * 4
    assert read_declared(little + b"GIMP 2.10\0").kind == "edited"
    big = b"MM\0*\0\0\0\x08\0\1" + struct.pack(">HHII", SOFTWARE, 2, 10, 26) + b"\0" * 4
    assert read_declared(big + b"GIMP 2.10\0").kind == "edited"
    wide = b"II+\0\x08\0\0\0" + struct.pack("<QQ", 16, 1)
    wide += struct.pack("<HHQQ", SOFTWARE, 2, 10, 52) + b"\0" * 8
    assert read_declared(wide + b"GIMP 2.10\0").kind == "edited"


# Kinds by the beginnings of names; the others of the folder declare nothing or an edit or a camera.
ODD = {
    "ComfyUI_examples__2_pass": "ai-generated",
    "ComfyUI_examples__flux_flux_dev": "ai-generated",
    "ComfyUI_examples__flux_flux_fill": "ai-edited",
    "ComfyUI_examples__inpaint": "ai-edited",
    "ComfyUI_examples__mochi": "ai-generated",
    "ComfyUI_examples__wan": "ai-generated",
    "c2pa-rs__sdk_tests_fixtures_ocsp.jpg": "ai-edited",
    "sd-parsers__tests_resources_bad_images_text_after": "ai-generated",
    "sd-parsers__tests_resources_parsers_C": "ai-generated",
    "sd-parsers__tests_resources_parsers_F": "ai-generated",
    "sd-parsers__tests_resources_parsers_I": "ai-generated",
    "sd-parsers__tests_resources_parsers_N": "ai-generated",
    "sdnext_usercomment": "ai-generated",
}


def test_the_odd_files_declare_what_is_in_them() -> None:
    folder = odd_folder()
    with (folder / "odd.csv").open() as file:
        names = [row["file"] for row in csv.DictReader(file)]
    found = {name: read_declared((folder / name).read_bytes()) for name in names}
    of_ai = {name: one.kind for name, one in found.items() if one.kind.startswith("ai-")}
    expected = {
        name: kind for name in names for start, kind in ODD.items() if name.startswith(start)
    }
    assert of_ai == expected
    broken = sorted(name.rpartition("_")[2] for name, one in found.items() if "broken" in one.by)
    assert broken == [
        "XCA.jpg", "adobe-20220124-E-clm-CAICAI.jpg", "adobe-20220124-E-uri-CIE-sig-CA.jpg",
        "adobe-20220124-XCA.jpg", "adobe-20220124-XCI.jpg",
    ]  # fmt: skip
    stealth = next(name for name in names if name.endswith("automatic1111_stealth.png"))
    hidden = read_declared((folder / stealth).read_bytes(), hidden=True)
    assert (hidden.kind, found[stealth].kind) == ("ai-generated", "nothing")


def test_pictures_without_metadata_are_read_as_the_formats_have_them() -> None:
    for kind in ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "AVIF", "BMP", "JPEG2000"):
        assert read_declared(saved(kind, picture())).declarations == ()
