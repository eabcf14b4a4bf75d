"""Samples, rounds and the arithmetic of comparing: medians of paired ratios, relative spread. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median


@dataclass(frozen=True)
class Sample:
    """One run of one contender. Costs are microseconds of CPU per unit of work."""

    units: int
    seconds: float
    cpu_us: float
    machine_us: float
    p50_us: float
    p99_us: float
    peak_rss: int
    stolen: float = 0.0

    @property
    def rate(self) -> float:
        return self.units / self.seconds


Series = dict[str, list[Sample]]


def paired_ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Median of the ratios within each round."""
    return median(a / b for a, b in zip(ours, theirs, strict=True))


def paired_difference(ours: Sequence[float], theirs: Sequence[float]) -> float:
    return median(a - b for a, b in zip(ours, theirs, strict=True))


def spread(values: Sequence[float]) -> float:
    """How far apart the runs are: (largest - smallest) / median."""
    middle = median(values)
    return (max(values) - min(values)) / middle if middle else 0.0


def best_peer(costs: Mapping[str, Sequence[float]], peers: Iterable[str]) -> str | None:
    """The peer with the lowest median cost, or None without any."""
    there = [peer for peer in peers if costs.get(peer)]
    return min(there, key=lambda peer: median(costs[peer]), default=None)


def in_turn(labels: Sequence[str], rounds: int, run: Callable[[str], Sample]) -> Series:
    """A B C A B C …: every label once a round."""
    series: Series = {label: [] for label in labels}
    for _ in range(rounds):
        for label in labels:
            series[label].append(run(label))
    return series


def column(samples: Iterable[Sample], name: str) -> list[float]:
    return [float(getattr(sample, name)) for sample in samples]


def beyond(samples: Sequence[Sample], direct: Sequence[Sample]) -> list[float]:
    """What the whole machine spent per unit beyond the direct path, round by round."""
    return [ours.machine_us - bare.machine_us for ours, bare in zip(samples, direct, strict=True)]


def whole(samples: Sequence[Sample], direct: Sequence[Sample]) -> list[float]:
    """What the whole machine spent per unit, where the direct path is no baseline."""
    return column(samples, "machine_us")


def raw(series: Series) -> dict[str, list[dict[str, float]]]:
    """All samples as plain data."""
    return {label: [asdict(sample) for sample in samples] for label, samples in series.items()}
