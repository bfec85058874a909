"""What a stage costs before it runs: seconds of CPU and GPU, bytes, requests, and what limits it.

The rates are per image. Those of perturb, pack and decoding were measured by
`benchmarks/scaling.py --only items` on one thread of a server core, that of scoring on a GPU by
`benchmarks/zoo.py` on one H200; the others are estimates, until `benchmarks/train_step.py` has
printed those of your GPU. docs/scaling.md says what follows from them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields

CPU_S: Mapping[str, float] = {
    "download": 0.0026,  # a 110-kB member of an archive over HTTP, checked, written
    "prune": 0.0001,
    "pack": 0.031,  # of about half a megapixel
    "perturb": 0.016,  # of about half a megapixel, the published test protocol
    "predict": 0.009,  # decoding only; the network is on the GPU
    "evaluate": 0.0005,
    "identify": 0.005,  # decoded, sha256, and a hash of its look
}
# ResNet-50 without early strides: 64 million crops of 96 px in 9 hours (bf16, compiled).
TRAINED_CROPS_PER_GPU_S = 2_000.0
SCORED_VIEWS_PER_GPU_S = 675.0  # the same network, 256 px, bf16
SCORED_VIEWS_PER_CPU_S = 0.5  # without a GPU

IMAGE_BYTES = 600_000  # of ImagiNet's mean source image
PERTURBED_BYTES = 110_000  # lossless WebP of 256 px
TILE_STORE_RATIO = 2.0  # lossless tiles against the files they are made of
_ROW_BYTES = 200  # of a manifest, score table or list


@dataclass(frozen=True)
class Work:
    """What a stage takes in all; `quota_s` is waiting that no machine shortens."""

    images: int = 0
    cpu_s: float = 0.0
    gpu_s: float = 0.0
    read_bytes: float = 0.0
    write_bytes: float = 0.0
    requests: float = 0.0
    quota_s: float = 0.0

    def __add__(self, other: "Work") -> "Work":
        sums = {f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)}
        return Work(**sums)


@dataclass(frozen=True)
class Fleet:
    """The machines that an estimate reckons with, and how fast all of them reach the store."""

    cpus: int
    gpus: int
    bytes_per_s: float
    requests_per_s: float = 3_500.0  # puts of one prefix of S3 before it asks to slow down

    def seconds(self, work: Work) -> tuple[float, str]:
        """How long the work takes at least, and what limits it."""
        limits = {
            "CPU": work.cpu_s / max(self.cpus, 1),
            "GPU": work.gpu_s / self.gpus if self.gpus else 0.0,
            "network": (work.read_bytes + work.write_bytes) / self.bytes_per_s,
            "requests": work.requests / self.requests_per_s,
            "quota": work.quota_s,
        }
        limit = max(limits, key=lambda name: limits[name])
        return limits[limit], limit if limits[limit] else "–"


def download(images: int, num_bytes: float, quota_s: float = 0.0) -> Work:
    """Every image read from its source and written to the store: a read and a put each."""
    cpu_s = images * CPU_S["download"]
    return Work(images, cpu_s, 0.0, num_bytes, num_bytes, 2.0 * images, quota_s)


def prune(images: int) -> Work:
    """The store listed, a thousand objects a request."""
    return Work(images, images * CPU_S["prune"], requests=images / 1000)


def pack(images: int) -> Work:
    """Every image decoded once and written as one object of lossless tiles."""
    read = images * IMAGE_BYTES
    return Work(images, images * CPU_S["pack"], 0.0, read, TILE_STORE_RATIO * read, 2.0 * images)


def perturb(images: int, variants: int = 1) -> Work:
    """Every image decoded once, each of its variants written."""
    cpu_s = images * CPU_S["perturb"] * variants
    read, write = images * IMAGE_BYTES, images * variants * PERTURBED_BYTES
    return Work(images, cpu_s, 0.0, read, write, images * (1.0 + variants))


def train(images: int, epochs: float, gpu: bool, crop_bytes: int = 60_000) -> Work:
    """Each image read in each epoch: some tiles of it, by one request."""
    crops = images * epochs
    gpu_s = crops / TRAINED_CROPS_PER_GPU_S if gpu else 0.0
    cpu_s = crops * CPU_S["predict"] / 4 if gpu else crops / SCORED_VIEWS_PER_CPU_S / 2
    return Work(images, cpu_s, gpu_s, crops * crop_bytes, 0.0, crops)


def predict(images: int, gpu: bool, image_bytes: int = PERTURBED_BYTES) -> Work:
    """Every image read, decoded and scored once."""
    cpu_s = images * CPU_S["predict"] + (0.0 if gpu else images / SCORED_VIEWS_PER_CPU_S)
    gpu_s = images / SCORED_VIEWS_PER_GPU_S if gpu else 0.0
    return Work(images, cpu_s, gpu_s, images * image_bytes, images * _ROW_BYTES, images)


def calibrate(images: int, looks: bool, image_bytes: int = PERTURBED_BYTES) -> Work:
    """Every image that the guard compares read and hashed once, where it compares looks."""
    if not looks:
        return Work(images, images * CPU_S["evaluate"], read_bytes=images * _ROW_BYTES)
    return Work(images, images * CPU_S["identify"], 0.0, images * image_bytes, 0.0, images)


def evaluate(images: int) -> Work:
    """Tables of scores, resampled."""
    return Work(images, images * CPU_S["evaluate"], read_bytes=images * _ROW_BYTES)
