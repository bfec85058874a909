"""The demo's second part, beyond its toys: real generators, and a published detector adapted.

What can fail for want of a folder or a network is done before the minutes of the first part.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from rayapp.annotate.settings import AnnotateSettings
from rayapp.annotate.written_lists import SCHEME
from rayapp.calibrate.settings import CalibrateJobSettings
from rayapp.config.errors import JobFailed, UserError
from rayapp.demo.settings import AUTOENCODER, PARTNERS, REAL, DemoSettings
from rayapp.download.entry import fetch_entry
from rayapp.evaluate.settings import EvaluateJobSettings
from rayapp.jobs.annotate import annotate
from rayapp.jobs.calibrate import calibrate_from_images
from rayapp.jobs.evaluate import measure
from rayapp.jobs.reconstruct import reconstruct
from rayapp.jobs.train import train
from rayapp.jobs.weights import weights
from rayapp.models.autoencoders.autoencoder_spec import load_autoencoder_spec
from rayapp.models.detector_spec import HeadSettings
from rayapp.models.folder import read_spec
from rayapp.reconstruct.settings import ReconstructSettings
from rayapp.run import record
from rayapp.train.settings import TrainSettings
from rayapp.weights.settings import WeightsSettings

if TYPE_CHECKING:
    from rayapp.jobs.benchmark import Places

EVALUATION_REAL, EVALUATION_PARTNERS = "evaluation-real", "evaluation-partners"
OURS, PUBLISHED, ADAPTED = "the detector", "Community Forensics", "Community Forensics, adapted"
ABOUT_ADAPTED = (
    "a demonstration: Community Forensics' features taught on reconstructions of a few photographs "
    f"by {AUTOENCODER}; blind to GANs and local edits"
)
_TEST, _ADAPTED_ON = "test", ("train", "head")
_LISTS = (*_ADAPTED_ON, "calibration", _TEST)


class Beyond:
    """What is asked for beyond the toys, and where it lies."""

    def __init__(self, settings: DemoSettings, at: Places) -> None:
        self._settings = settings
        self._at = at
        self._real: record.Run | None = None

    def prepare(self) -> None:
        """Read the folder of real images; fetch the published networks.

        Raises:
            UserError: no such folder, or its layout is not known.
            JobFailed: there is no network.
        """
        if self._settings.realset:
            self._real = annotate(
                AnnotateSettings(
                    input=self._settings.realset,
                    split="0/0/0/100",
                    split_by_folder=False,
                    **self._at.common("real"),
                )
            )
        if self._settings.web:
            self._fetch()

    def run(self) -> dict[str, str]:
        """Do all of it, each step skipped where done: name of an evaluation → its folder."""
        if self._settings.web:
            self._adapt()
        return dict(self._judged())

    @property
    def misses(self) -> list[str]:
        """Images of the folder that are not judged, the first ones, each with the reason."""
        return list(self._real.results["misses"]) if self._real else []

    def _fetch(self) -> None:
        settings, folder = self._settings, self._settings.fetched
        try:
            weights(
                WeightsSettings(
                    name="commfor",
                    fetched=folder,
                    catalogue=settings.catalogue,
                    **self._at.common("published"),
                )
            )
            entry = load_autoencoder_spec(AUTOENCODER).catalogue
            fetch_entry(entry, folder, catalogue=settings.catalogue)
        except (JobFailed, UserError) as error:
            why = str(error).partition("; or fetch")[0]
            raise type(error)(
                f"--web needs the network once, for {PUBLISHED} (90 MB) and {AUTOENCODER} (10 MB): "
                f"{why}; without one leave --web out"
            ) from None

    def _adapt(self) -> None:
        """Partners of the demo's photographs, and a head on the published features that tells."""
        at, settings = self._at, self._settings
        reconstruct(
            ReconstructSettings(
                root=at.root,
                annotations=tuple(f"{at.root}/lists/{name}.txt" for name in _LISTS),
                scheme="demo",
                manifest=f"{at.root}/manifest.parquet",
                autoencoder=(AUTOENCODER,),
                fetched=settings.fetched,
                catalogue=settings.catalogue,
                seed=settings.seed,
                **at.common("partners"),
            )
        )
        spec = read_spec(at.at("published"))[0]
        train(
            TrainSettings(
                annotations=tuple(map(self._partners, _ADAPTED_ON)),
                encoder=at.at("published"),
                architecture=spec.architecture.model_copy(
                    update={"head": HeadSettings(norm="length", hidden=0)}
                ),
                about=ABOUT_ADAPTED,
                # As they are: a view that resizes hides the trace.
                view="centre",
                view_size=spec.preprocessing.size,
                feature_cache=at.at("features"),
                stage1={"perturbation": "imaginet-train", "epochs": 0, **_PROBE},
                stage2={"perturbation": "imaginet-head", "epochs": 40, **_PROBE},
                seed=settings.seed,
                manifest=f"{at.at('partners')}/manifest.parquet",
                **self._of_partners(),
                **at.common("adapted-train"),
            )
        )
        calibrate_from_images(
            CalibrateJobSettings(
                detector=f"{at.at('adapted-train')}/detector",
                annotations=self._partners("calibration"),
                against=(self._partners(_TEST),),
                guard="path" if settings.photos else "look",
                **self._of_partners(),
                **at.common("adapted"),
            )
        )

    def _judged(self) -> Iterator[tuple[str, str]]:
        detectors = {OURS: self._at.at("detector")}
        if self._settings.web:
            detectors |= {PUBLISHED: self._at.at("published"), ADAPTED: self._at.at("adapted")}
            yield self._measured(
                detectors,
                PARTNERS,
                EVALUATION_PARTNERS,
                annotations=(self._partners(_TEST),),
                **self._of_partners(),
            )
        if self._real:
            yield self._measured(
                detectors,
                REAL,
                EVALUATION_REAL,
                annotations=(self._real.store.uri(f"lists/{_TEST}.txt"),),
                scheme=self._real.store.uri(SCHEME),
                root=self._real.results["root"],
            )

    def _measured(
        self, detectors: dict[str, str], name: str, folder: str, **images: Any
    ) -> tuple[str, str]:
        settings = EvaluateJobSettings(
            detector=tuple(detectors.values()),
            names=tuple(detectors),
            name=name,
            scores=(self._at.at(folder.replace("evaluation", "scores")),),
            seed=self._settings.seed,
            embedding=0,
            **images,
            **self._at.common(folder),
        )
        measure(settings)
        return name, settings.output

    def _partners(self, name: str) -> str:
        return f"{self._at.at('partners')}/lists/{name}.txt"

    def _of_partners(self) -> dict[str, Any]:
        folder = self._at.at("partners")
        return {"root": folder, "scheme": f"{folder}/{SCHEME}"}


_PROBE: dict[str, Any] = {
    "batch_size": 64,
    "optimizer": "adamw",
    "learning_rate": 0.003,
    "weight_decay": 0.0001,
    "warmup_epochs": 1,
}
