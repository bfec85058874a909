"""A detector: the network, and all that one must know to use it rightly.

Shapes: N images · K classes · C channels or features · H W.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor

from rayapp.config.errors import UserError
from rayapp.config.settings import Settings
from rayapp.dataset.declared import declared_of, read_trust_list
from rayapp.models.adopted.outputs import AdoptedNetwork
from rayapp.models.adopted.spec import Adopted
from rayapp.models.calibration.calibrators import Calibration
from rayapp.models.detector_spec import (
    Architecture,
    Labels,
    Preprocessing,
    Stability,
    TrustDeclared,
    View,
)
from rayapp.models.encoder import Ensemble, Network
from rayapp.models.fused_network import FusedNetwork
from rayapp.models.fusion import Fusion
from rayapp.models.image_inputs import ImageInput, decoded, listed, pixels_of
from rayapp.models.inference.linear_layers import inference
from rayapp.models.inference.precision import device_of
from rayapp.models.nothing_to_judge import nothing_to_judge
from rayapp.models.preprocessing import Pixels, check_cut, cut_views, normalise, preprocess
from rayapp.models.scope import Scope
from rayapp.models.verdicts import Judge, Judgement

if TYPE_CHECKING:
    from rayapp.models.evidence_maps import EvidenceMap

Floats = NDArray[np.float32]
_FUSED_AT_ONCE = 16  # images whose pixels are in memory whole, for all parts


class DetectorSpec(Settings):
    """What `detector.json` says of a detector."""

    architecture: Architecture = Field(description="how to build the network")
    strides: dict[str, tuple[int, ...]] = Field(
        description="every stride above 1 of the backbone: weights fit any strides, so these tell"
    )
    preprocessing: Preprocessing = Field(description="from pixels to the network's input")
    labels: Labels = Field(Labels(), description="what the outputs mean")
    calibration: Calibration | None = Field(None, description="from logit to probability")
    adopted: Adopted | None = Field(None, description="a network of others; none: one of ours")
    fusion: Fusion | None = Field(None, description="several detectors as one; none: one alone")
    provenance: dict[str, Any] = Field({}, description="where the weights come from")
    scope: Scope = Field(Scope(), description="what its verdicts rest on")
    min_side_px: int | None = Field(
        None, ge=1, description="an image with a shorter side below it gets no verdict"
    )

    @model_validator(mode="after")
    def _outputs_have_names(self) -> Self:
        num_outputs, num_classes = self.architecture.head.num_outputs, len(self.labels.classes)
        if num_classes != max(num_outputs, 2):
            raise ValueError(f"{num_outputs} outputs cannot mean {num_classes} classes")
        return self


class Detector:
    """Network and spec; scores images as paths, bytes, PIL images or arrays (`decode_array`).

    Scoring puts the network into evaluation mode and leaves it there.

    Raises:
        UserError: the network does not have the strides that the spec names.
    """

    def __init__(
        self, network: Network | Ensemble | AdoptedNetwork | FusedNetwork, spec: DetectorSpec
    ) -> None:
        for actual in (backbone.strides() for backbone in network.backbones):
            if actual == spec.strides:
                continue
            name = min(set(actual.items()) ^ set(spec.strides.items()))[0]
            raise UserError(
                f"strides differ: {name} is {actual.get(name, (1, 1))} in backbone "
                f"{spec.architecture.backbone!r}, but {spec.strides.get(name, (1, 1))} is recorded"
            )
        self.network = network
        self.spec = spec

    def seen_as(self, view: View | None, size: int | None = None) -> "Detector":
        """The same network under another view or size of it; itself where that changes nothing.

        Raises:
            UserError: the detector is calibrated, and its calibration holds for its own view only.
        """
        if self.spec.fusion and (view or size):
            raise UserError("each part of a fusion has a view of its own: leave the view as it is")
        own = self.spec.preprocessing
        wanted = own.seen_as(view or own.view, size or own.size)
        if wanted == own:
            return self
        if self.spec.adopted and wanted.shape_HW != own.shape_HW:
            raise UserError(f"the detector takes {own.size} px, not {wanted.size}: leave view_size")
        if self.spec.calibration:
            raise UserError(
                f"the detector was calibrated under the view {own.view} at {own.size} px; under "
                f"{wanted.view} at {wanted.size} px that does not hold: give the detector from "
                "before its calibration and calibrate again, or leave the view as it is"
            )
        scope = self.spec.scope.model_copy(update={"measured": ()})  # that was under its own view
        changed = {"preprocessing": wanted, "scope": scope}
        return Detector(self.network, self.spec.model_copy(update=changed))

    @property
    def scope_line(self) -> str:
        """What it was trained on and how it did where it was measured, in one line."""
        calibration = self.spec.calibration
        turned = (
            f"; calibration: {calibration.turned}" if calibration and calibration.turned else ""
        )
        return self.spec.scope.line() + turned

    def __repr__(self) -> str:
        return f"Detector({self.spec.architecture.backbone}; {self.scope_line})"

    def to(self, device: str | torch.device) -> Self:
        """Moves the network there, where images are then scored."""
        self.network.to(device)
        return self

    def preprocess(self, image_HWC: Pixels) -> Tensor:
        """Normalised views float32 [K, 3, size, size] of one RGB image uint8 [H, W, 3]."""
        return preprocess(image_HWC, self.spec.preprocessing)

    def logits(self, images: Sequence[ImageInput], *, batch_size: int = 32) -> Floats:
        """Logits float32 [N] (or [N, K]), each the mean over the views of its image.

        Raises:
            UserError: an image that cannot be read, with its place in the list.
        """
        return self._scored(images, batch_size)

    def probability(self, images: Sequence[ImageInput], *, batch_size: int = 32) -> Floats:
        """Probability of synthetic float32 [N], calibrated if the detector is; or [N, K]."""
        logits = self.logits(images, batch_size=batch_size)
        if self.spec.calibration:
            return self.spec.calibration.apply(logits).astype(np.float32)
        scores = torch.from_numpy(logits).double()
        return (scores.softmax(1) if scores.ndim > 1 else scores.sigmoid()).float().numpy()

    def judge(
        self,
        images: Iterable[ImageInput],
        *,
        threshold: float | None = None,
        batch_size: int = 32,
        trust_declared: TrustDeclared = "none",
        trust_list: str | None = None,
        stability: Stability = "none",
    ) -> list[Judgement]:
        """A judgement an image; one that can't be read is named in its own, and harms no other.

        Args:
            images: as for `logits`; one that is given again is read once. Only of a path or bytes
                is known what the file declares.
            threshold: probability from which on: synthetic; as calibrated where not given.
            batch_size: views of a forward pass.
            trust_declared: whose word goes before the detector's, see `Judge`.
            trust_list: file of certificates, see `read_trust_list`.
            stability: `web`: each image is scored as delivered elsewhere too; a verdict that flips
                is unsure. Takes five times as long.

        Raises:
            UserError: no list, or a threshold that is no probability.
        """
        if threshold is not None and not 0 < threshold < 1:
            raise UserError(f"a threshold lies between 0 and 1, not at {threshold}")
        images = listed(images)
        keys = [str(one) if isinstance(one, (str, Path)) else id(one) for one in images]
        alone = dict(zip(keys, images, strict=True))  # what is given a thousand times is read once
        judged = self._judged(
            list(alone.values()), threshold, batch_size, trust_declared, trust_list, stability
        )
        by_key = dict(zip(alone, judged, strict=True))
        return [by_key[key] for key in keys]

    def _judged(
        self,
        images: Sequence[ImageInput],
        threshold: float | None,
        batch_size: int,
        trust_declared: TrustDeclared,
        trust_list: str | None,
        stability: Stability,
    ) -> list[Judgement]:
        unread: dict[int, str] = {}
        nothing: list[str] = []
        spec, several = self.spec, self.spec.architecture.head.num_outputs > 1
        delivered: list[dict[str, float]] = []
        if stability == "none" or several:  # of classes there is no verdict that flips
            logits = self._scored(images, batch_size, unread, nothing)
        else:
            logits, delivered = self._with_deliveries(images, batch_size, unread, nothing)
        classes = spec.labels.classes if several else ()
        view = spec.preprocessing.view
        judge = Judge(view, spec.calibration, threshold, classes, trust_declared)
        trust = read_trust_list(trust_list, lambda path: Path(path).read_bytes())
        declared = [declared_of(image, trust) for image in images]
        read = [one for at, one in enumerate(declared) if at not in unread]
        judged = iter(judge.judged(logits, nothing, read, delivered))
        return [
            Judgement.failed(unread[at], one) if at in unread else next(judged)
            for at, one in enumerate(declared)
        ]

    def _with_deliveries(
        self,
        images: Sequence[ImageInput],
        batch_size: int,
        unread: dict[int, str],
        nothing: list[str],
    ) -> tuple[Floats, list[dict[str, float]]]:
        """Logits float32 [N] of what can be read, and of its deliveries; each is decoded once."""
        from rayapp.models.delivered import Deliveries, key_of  # on demand: few ask for it

        deliveries, logits, delivered = Deliveries.load(), [], []
        for index, image in enumerate(images):
            if isinstance(image, (str, Path)) and Path(image).is_file():
                image = Path(image).read_bytes()
            for pixels_HWC in self._decoded([image], index, unread):
                others = dict(deliveries.of(pixels_HWC, key_of(image, pixels_HWC)))
                reasons: list[str] = []
                scored = self._scored([pixels_HWC, *others.values()], batch_size, None, reasons)
                nothing.append(reasons[0])
                logits.append(scored[0])
                delivered.append(dict(zip(others, scored[1:].tolist(), strict=True)))
        return np.array(logits, dtype=np.float32), delivered

    def features(self, images: Sequence[ImageInput], *, batch_size: int = 32) -> Floats:
        """Pooled features of the backbone float32 [N, C], each the mean over the views."""
        return self._scored(images, batch_size, of="features")

    def patch_logits(self, images: Sequence[ImageInput], *, batch_size: int = 32) -> Floats:
        """Logits of each patch of the view float32 [N, gh, gw] (or [N, gh, gw, K]), row by row.

        Raises:
            UserError: a head that is not on patches, or a view that is several.
        """
        self._check_patches()
        return self._scored(images, batch_size, of="patch_logits")

    def patch_attention(self, images: Sequence[ImageInput], *, batch_size: int = 32) -> Floats:
        """How much each patch of the view counts float32 [N, gh, gw], 1 in all; else as above."""
        self._check_patches()
        return self._scored(images, batch_size, of="patch_attention")

    def evidence(self, image: ImageInput, *, batch_size: int = 16) -> "EvidenceMap":
        """Where in one picture it sees what; see `evidence_maps.evidence_map`."""
        from rayapp.models.evidence_maps import evidence_map  # here: it stands above this module

        return evidence_map(self, pixels_of(image), batch_size=batch_size)

    def _check_patches(self) -> None:
        several = self.spec.preprocessing.view in ("five", "tiles")
        if several or not isinstance(self.network, Network):
            raise UserError("patches are of one network and one view: take centre or resize")

    def hash(self) -> str:
        """SHA-256 of weights, architecture and preprocessing; the calibration has its own."""
        named = {"architecture", "strides", "preprocessing", "adopted", "fusion"}
        text = json.dumps(
            self.spec.model_dump(mode="json", include=named, exclude_none=True), sort_keys=True
        )
        digest = hashlib.sha256(text.encode())
        for name, tensor in sorted(self.network.state_dict().items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            # As bytes: numpy has no bfloat16. At least one dimension: a scalar has no view.
            flat = tensor.detach().cpu().contiguous().reshape(-1)
            digest.update(flat.view(torch.uint8).numpy().data)
        return digest.hexdigest()

    def _scored(
        self,
        images: Sequence[ImageInput],
        batch_size: int,
        unread: dict[int, str] | None = None,
        nothing: list[str] | None = None,
        of: str = "__call__",
    ) -> Floats:
        """Means over the views; what can't be read is left out, and named in `unread` if given.

        Of each image scored `nothing` is told why it holds nothing to judge; `of` names the
        network's method that scores.
        """
        images = listed(images)
        self.network.eval()
        if isinstance(self.network, FusedNetwork) and of == "__call__":
            return self._fused(images, batch_size, unread, nothing)
        device = device_of(self.network)
        means = []
        with inference(self.network) as network:
            score = getattr(network, of)
            for views_KHWC, counts in self._views(images, batch_size, unread, nothing):
                # Normalised a batch at a time: a large image has hundreds of tiles.
                batches = torch.split(views_KHWC, batch_size)
                scores = [
                    score(normalise(batch.to(device), self.spec.preprocessing)) for batch in batches
                ]
                means += [part.mean(0) for part in torch.split(torch.cat(scores), counts)]
        return torch.stack(means).float().cpu().numpy() if means else np.zeros(0, np.float32)

    @property
    def parts(self) -> list["Detector"]:
        """The detectors that a fusion is made of, on its device; none of one alone."""
        if self.spec.fusion is None:
            return []
        networks = cast(FusedNetwork, self.network).parts
        pairs = zip(networks, self.spec.fusion.parts, strict=True)
        return [Detector(cast(Network, net), DetectorSpec(**one.spec)) for net, one in pairs]

    def _fused(
        self,
        images: Sequence[ImageInput],
        batch_size: int,
        unread: dict[int, str] | None,
        nothing: list[str] | None,
    ) -> Floats:
        """Fused logits float32 [N]; each image is decoded once for all parts."""
        assert self.spec.fusion is not None
        parts, logits = self.parts, [np.zeros(0)]
        for start in range(0, len(images), _FUSED_AT_ONCE):
            pixels = list(self._decoded(images[start : start + _FUSED_AT_ONCE], start, unread))
            each = [part.logits(pixels, batch_size=batch_size) for part in parts]
            logits_NP = np.stack(each, axis=1)
            logits.append(self.spec.fusion.fused(logits_NP))
            if nothing is not None:
                apart_N = self.spec.fusion.reasons(logits_NP)
                empty_N = [_nothing_for_all(image_HWC, parts) for image_HWC in pixels]
                nothing += [one or other for one, other in zip(empty_N, apart_N, strict=True)]
        return np.concatenate(logits).astype(np.float32)

    def _decoded(
        self, images: Sequence[ImageInput], start: int, unread: dict[int, str] | None
    ) -> Iterator[Pixels]:
        """The images that can be read; others are named in `unread` if given."""
        seen = [one.spec.preprocessing for one in self.parts or [self]]

        def check(size_HW: tuple[int, ...]) -> None:
            for preprocessing in seen:
                check_cut(size_HW, preprocessing)

        return decoded(images, check, start, unread)

    def _views(
        self,
        images: Sequence[ImageInput],
        batch_size: int,
        unread: dict[int, str] | None,
        nothing: list[str] | None,
    ) -> Iterator[tuple[Tensor, list[int]]]:
        """Views uint8 [K, H, W, C] of some whole images, at least a batch, and how many of each."""
        pending: list[Tensor] = []
        seen = self.spec.preprocessing
        for pixels_HWC in self._decoded(images, 0, unread):
            views_KHWC = cut_views(pixels_HWC, seen)
            if nothing is not None:
                size_HW = pixels_HWC.shape[:2]
                nothing.append(nothing_to_judge(views_KHWC, size_HW, seen, self.spec.min_side_px))
            pending.append(torch.from_numpy(views_KHWC))
            if sum(map(len, pending)) >= batch_size:
                yield torch.cat(pending), [len(views) for views in pending]
                pending = []
        if pending:
            yield torch.cat(pending), [len(views) for views in pending]


def _nothing_for_all(pixels_HWC: Pixels, parts: Sequence[Detector]) -> str:
    """Why none of the parts of a fusion finds anything to judge in an image; else empty."""
    found = [
        nothing_to_judge(
            cut_views(pixels_HWC, part.spec.preprocessing),
            pixels_HWC.shape[:2],
            part.spec.preprocessing,
            part.spec.min_side_px,
        )
        for part in parts
    ]
    return found[0] if all(found) else ""
