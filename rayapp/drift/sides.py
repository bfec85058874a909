"""The two sides that are compared: days of traffic, and a calibration or an earlier time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rayapp.config.errors import UserError
from rayapp.config.paths import nearby
from rayapp.drift.differences import LEAST_IMAGES
from rayapp.drift.settings import DriftSettings
from rayapp.metrics.traffic import Day, Traffic
from rayapp.metrics.traffic_files import REFERENCE_FILE, Key, read_counts, read_reference

_MOST_DAYS = 28  # before: what was a season ago is another traffic


@dataclass(frozen=True)
class Sides:
    """What is compared.

    Args:
        traffic: counts of the detector, all days.
        days: those that are looked at.
        reference: of the calibration, by class (real, synthetic); empty: there is none.
        before: the days before, as one, where they are enough; with their name.
        same_decisions: whether verdicts of both sides were given by one calibration.
        passed_over: counts of other detectors or calibrations, in words.
    """

    traffic: Traffic
    days: Sequence[str]
    reference: Mapping[str, Day]
    same_decisions: bool
    before: tuple[str, Day] | None
    passed_over: Sequence[str] = ()

    @property
    def day(self) -> Day:
        """The days that are looked at, as one."""
        return self.traffic.whole(self.days)

    @property
    def name(self) -> str:
        """What they are called."""
        first, last = self.days[0], self.days[-1]
        return first if first == last else f"{first} to {last}"


def read_sides(settings: DriftSettings) -> Sides:
    """Read both.

    Raises:
        UserError: no counts, none of that detector or day, or nothing to compare with.
    """
    found = read_counts(settings.counts)
    classes = read_reference(settings.against)
    if classes is None:
        return _against_before(settings, found)
    wanted = next(iter(classes.values()))
    mine = {key: one for key, one in found.items() if key[0] == wanted.detector}
    if not mine:
        raise UserError(
            f"{settings.counts}: counts what detector {_short(found)} scored, and "
            f"{settings.against} is {wanted.detector[:12]}; logits of different ones do not compare"
        )
    key = (wanted.detector, wanted.decided)
    same = key in mine
    # Logits mean the same under every calibration; the latest days tell which is in use.
    traffic = mine[key] if same else max(mine.values(), key=lambda one: max(one.days))
    reference = {name: one.whole() for name, one in classes.items()}
    days = _days(settings, traffic)
    before = _before(traffic, days)
    return Sides(traffic, days, reference, same, before, _others(found, traffic))


def _against_before(settings: DriftSettings, found: Mapping[Key, Traffic]) -> Sides:
    try:
        before = read_counts(settings.against)
    except UserError:
        raise UserError(
            f"{settings.against}: holds neither {REFERENCE_FILE}, which calibrate writes beside a "
            "detector from this version on (calibrate it again), nor counts of an earlier time"
        ) from None
    shared = [key for key in found if key in before]
    if not shared:
        raise UserError(
            f"{settings.counts} and {settings.against}: count other detectors or calibrations"
        )
    key = max(shared, key=lambda one: max(found[one].days))
    traffic = found[key]
    days = _days(settings, traffic)
    earlier = _before(before[key], days)
    if not earlier:
        raise UserError(
            f"{settings.against}: counts fewer than {LEAST_IMAGES} images before {days[0]}"
        )
    return Sides(traffic, days, {}, True, earlier, _others(found, traffic))


def _before(traffic: Traffic, days: Sequence[str]) -> tuple[str, Day] | None:
    """The days before, as far back as a month of days with traffic."""
    earlier = sorted(day for day in traffic.days if day < days[0])[-_MOST_DAYS:]
    if not earlier:
        return None
    whole = traffic.whole(earlier)
    enough = whole.total().logits.total() >= LEAST_IMAGES
    return (f"{earlier[0]} to {earlier[-1]}", whole) if enough else None


def _days(settings: DriftSettings, traffic: Traffic) -> list[str]:
    known = sorted(traffic.days)
    last = settings.day or known[-1]
    days = [day for day in known if day <= last][-settings.days :]
    if last not in known:
        shown = f"{known[0]} to {known[-1]}" if len(known) > 1 else known[0]
        raise UserError(f"{nearby(settings.counts)}: counts nothing on {last} (there is {shown})")
    return days


def _others(found: Mapping[Key, Traffic], traffic: Traffic) -> list[str]:
    return [
        f"{sum(one.whole().total().verdicts.values()):,} images by detector "
        f"{one.detector[:12]} under calibration {one.decided} are passed over"
        for one in found.values()
        if one is not traffic
    ]


def _short(found: Mapping[Key, Traffic]) -> str:
    return ", ".join(sorted({key[0][:12] for key in found}))
