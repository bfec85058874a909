"""Image operations, plans drawn apart from being applied, and perturbations as data."""

from rayapp.transforms.codecs import decode_fast, encode_lossless
from rayapp.transforms.draws import generator
from rayapp.transforms.jpeg_layouts import JpegLayout, encode_jpeg_as, read_jpeg_layout
from rayapp.transforms.operations import ImageHWC, SizeHW, Window
from rayapp.transforms.perturbations import PLAIN, Perturbation, load_perturbation
from rayapp.transforms.plans import Plan, Step, apply, apply_each, split_window
from rayapp.transforms.published_draws import (
    PUBLISHED_WORKERS,
    PublishedDraw,
    published_draws,
    published_items,
    published_stream,
)
from rayapp.transforms.sheet import contact_sheet

__all__ = [
    "PLAIN",
    "PUBLISHED_WORKERS",
    "ImageHWC",
    "JpegLayout",
    "Perturbation",
    "Plan",
    "PublishedDraw",
    "SizeHW",
    "Step",
    "Window",
    "apply",
    "apply_each",
    "contact_sheet",
    "decode_fast",
    "encode_jpeg_as",
    "encode_lossless",
    "generator",
    "load_perturbation",
    "published_draws",
    "published_items",
    "published_stream",
    "read_jpeg_layout",
    "split_window",
]
