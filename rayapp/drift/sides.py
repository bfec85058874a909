"""The sides that are compared: days of traffic, a calibration, and other traffic.

Other traffic is the days before in the same counts; or all counts of another folder, of whatever
days: who names one means it as a whole.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from rayapp.config.errors import UserError
from rayapp.config.paths import nearby
from rayapp.drift.differences import BEFORE, ELSEWHERE, LEAST_IMAGES
from rayapp.drift.settings import DriftSettings
from rayapp.metrics.traffic import Day, Traffic
from rayapp.metrics.traffic_files import REFERENCE_FILE, Key, read_counts, read_reference

_MOST_DAYS = 28  # before: what was a season ago is another traffic


class Other(NamedTuple):
    """Traffic that a day is compared with, as it is: its name, and what its comparisons end in."""

    name: str
    day: Day
    ending: str = BEFORE


@dataclass(frozen=True)
class Sides:
    """What is compared.

    Args:
        traffic: counts of the detector, all days.
        days: those that are looked at.
        reference: of the calibration, by class (real, synthetic); empty: there is none.
        other: the days before, or another folder's counts, as one, where they are enough.
        same_decisions: whether verdicts of both sides were given by one calibration.
        passed_over: counts of other detectors or calibrations, in words.
    """

    traffic: Traffic
    days: Sequence[str]
    reference: Mapping[str, Day]
    same_decisions: bool
    other: Other | None
    passed_over: Sequence[str] = ()

    @property
    def day(self) -> Day:
        """The days that are looked at, as one."""
        return self.traffic.whole(self.days)

    @property
    def name(self) -> str:
        """What they are called."""
        return named_days(self.days)

    @property
    def compared_with(self) -> str:
        """With what they are compared, in words."""
        calibration = ["the mix of the calibration's classes that lies nearest"]
        words = calibration if self.reference else []
        if self.other:
            before = ", the days before" if self.other.ending == BEFORE else ""
            words = [*words, f"{self.other.name}{before}"]
        return " and with ".join(words)


def read_sides(settings: DriftSettings) -> Sides:
    """Read both.

    Raises:
        UserError: no counts, none of that detector or day, or nothing to compare with.
    """
    found = read_counts(settings.counts)
    classes = read_reference(settings.against)
    if classes is None:
        return _against_counts(settings, found)
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


def _against_counts(settings: DriftSettings, found: Mapping[Key, Traffic]) -> Sides:
    """The days before in the same counts, or all counts of another folder."""
    try:
        there = read_counts(settings.against)
    except UserError:
        raise UserError(
            f"{settings.against}: holds neither {REFERENCE_FILE}, which calibrate writes beside a "
            "detector from this version on (calibrate it again), nor counts of other traffic"
        ) from None
    shared = [key for key in found if key in there]
    if not shared:
        raise UserError(
            f"{settings.counts} and {settings.against}: count other detectors or calibrations"
        )
    key = max(shared, key=lambda one: max(found[one].days))
    traffic = found[key]
    days = _days(settings, traffic)
    same = _same_folder(settings.counts, settings.against)
    other = _before(there[key], days) if same else _all_of(there[key], settings.against)
    if not other:
        when = f" before {days[0]}" if same else ""
        raise UserError(f"{settings.against}: counts fewer than {LEAST_IMAGES} images{when}")
    return Sides(traffic, days, {}, True, other, _others(found, traffic))


def _same_folder(one: str, other: str) -> bool:
    """Whether they are one folder, or one lies in the other: then both hold the same counts."""
    paths = [uri if "://" in uri else os.path.realpath(uri) for uri in (one, other)]
    mine, theirs = (f"{path.rstrip('/')}/" for path in paths)
    return mine.startswith(theirs) or theirs.startswith(mine)


def _before(traffic: Traffic, days: Sequence[str]) -> Other | None:
    """The days before, as far back as a month of days with traffic."""
    earlier = sorted(day for day in traffic.days if day < days[0])[-_MOST_DAYS:]
    return _enough(Other(named_days(earlier), traffic.whole(earlier))) if earlier else None


def _all_of(traffic: Traffic, uri: str) -> Other | None:
    """All days of another folder."""
    name = f"{named_days(sorted(traffic.days))} of {nearby(uri)}"
    return _enough(Other(name, traffic.whole(), ELSEWHERE))


def _enough(other: Other) -> Other | None:
    return other if other.day.total().logits.total() >= LEAST_IMAGES else None


def named_days(days: Sequence[str]) -> str:
    """The first and the last of them; of one day that one."""
    return days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"


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
