"""The rate of false positives on test images, beside what was asked of the detector's threshold."""

from numpy.typing import ArrayLike
from pydantic import Field

from rayapp.config.settings import Settings
from rayapp.models.calibration import decisions

_TAIL = 0.975  # of a two-sided 95 % interval


class FalsePositives(Settings):
    """Reals of one slice of the test images that are called synthetic."""

    slice: str = Field(description="name of the slice")
    num_real: int = Field(description="independent reals: of one photograph the highest image")
    num_flagged: int = Field(description="of them: at or above the threshold")
    low: float = Field(description="lower end of the 95 % interval (Clopper–Pearson)")
    high: float = Field(description="upper end")

    @property
    def observed(self) -> float:
        """Share that is called synthetic."""
        return self.num_flagged / self.num_real


def count_false_positives(
    probabilities_N: ArrayLike,
    labels_N: ArrayLike,
    threshold: float,
    slices_N: ArrayLike | None = None,
    photographs_N: ArrayLike | None = None,
) -> tuple[FalsePositives, ...]:
    """The false positives of every slice that has reals, counted as calibration counts them."""
    reals = decisions.reals_by_slice(probabilities_N, labels_N, slices_N, photographs_N)
    found = []
    for name, values in reals.items():
        num, flagged = len(values), int((values >= threshold).sum())
        low = decisions.lower_bound(flagged, num, _TAIL)
        high = decisions.upper_bound(flagged, num, _TAIL)
        found.append(
            FalsePositives(slice=name, num_real=num, num_flagged=flagged, low=low, high=high)
        )
    return tuple(found)
