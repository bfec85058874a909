"""What the service counts of itself, as Prometheus reads it: requests, images, seconds."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from rayapp.serve.score_contract import Row

# Upper ends of the histogram of seconds.
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


@dataclass(frozen=True)
class Answered:
    """One request as it was answered; where it scored, by which detector, and its rows."""

    route: str
    status: int
    seconds: float
    detector: Row = field(default_factory=dict)
    rows: Sequence[Row] = ()


@dataclass
class RequestCounts:
    """Counts since the service started."""

    requests: Counter[tuple[str, int]] = field(default_factory=Counter)
    images: int = 0
    seconds: float = 0.0
    _within: Counter[float] = field(default_factory=Counter)
    _scored: int = 0

    def add(self, one: Answered) -> None:
        """Count a request; seconds are those of requests that scored."""
        self.requests[one.route, one.status] += 1
        if one.rows and one.status == 200:
            self.images += len(one.rows)
            self.seconds += one.seconds
            self._scored += 1
            self._within.update(most for most in _SECONDS if one.seconds <= most)

    def prometheus(self) -> str:
        """The counts in Prometheus' text format."""
        lines = ["# TYPE imaginet_requests_total counter"]
        lines += [
            sample("imaginet_requests_total", count, route=route, status=str(status))
            for (route, status), count in sorted(self.requests.items())
        ]
        lines += [
            "# TYPE imaginet_scored_images_total counter",
            f"imaginet_scored_images_total {self.images}",
        ]
        name = "imaginet_score_seconds"
        lines.append(f"# TYPE {name} histogram")
        lines += [sample(f"{name}_bucket", self._within[one], le=f"{one:g}") for one in _SECONDS]
        lines += [
            sample(f"{name}_bucket", self._scored, le="+Inf"),
            f"{name}_sum {self.seconds:.6f}",
            f"{name}_count {self._scored}",
        ]
        return "\n".join(lines) + "\n"


def sample(name: str, value: float, **labels: str) -> str:
    """One line of Prometheus' text format."""
    return (
        f"{name}{_labels(labels)} {value:g}" if value < 1e6 else f"{name}{_labels(labels)} {value}"
    )


def _labels(labels: Mapping[str, str]) -> str:
    pairs = (f'{name}="{_escaped(value)}"' for name, value in labels.items())
    return "{" + ",".join(pairs) + "}" if labels else ""


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def joined(texts: Iterable[str]) -> str:
    """Several texts in Prometheus' format as one, in which each name is described once."""
    heads: dict[str, list[str]] = {}
    samples: dict[str, list[str]] = {}
    for text in texts:
        family = ""
        for line in text.splitlines():
            if line.startswith("# "):
                family = line.split()[2]
                known = heads.setdefault(family, [])
                known += [line] if line not in known else []
            else:
                samples.setdefault(family, []).append(line)
    return "".join(
        f"{line}\n" for family, head in heads.items() for line in (*head, *samples.get(family, ()))
    )
