"""The figures of a run: what was measured, and their JSON."""
from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

FORMAT = 2


class ResultsError(Exception):
    """That is no JSON of ours."""


@dataclass
class Sent:
    """One measurement of ``bench zerocopy``: what the sender says, and what has arrived."""

    seconds: float
    datagrams: int
    bytes: int
    zerocopy: int           # sends that went zero-copy, or were to
    copied: int             # of those, by the kernel all the same
    packets: int            # taken by the device; a segmented send is one
    wrong: str = ''         # how the two sides differ
    zerocopy_bytes: int | None = None   # that went without a copy; None: it was not asked for

    @property
    def rate(self) -> float:
        """Datagrams a second."""
        return self.datagrams / self.seconds

    @property
    def speed(self) -> float:
        """MB a second; a megabyte is a million bytes."""
        return self.bytes / self.seconds / 1e6

    @property
    def bytes_copied(self) -> int | None:
        """Bytes of payload that were copied on the way, by whomever; None: that is not known."""
        if self.zerocopy_bytes is not None:
            return self.bytes - self.zerocopy_bytes
        # Where packets are not all alike, their number says nothing of bytes.
        without = self.zerocopy - self.copied
        return self.bytes if without <= 0 else 0 if without >= self.packets else None


@dataclass
class Work:
    """One measurement of the others: how much was done, and the processor time that it took."""

    seconds: float
    units: float
    cpu: float              # seconds, of the process that is measured
    lost: int = 0           # units that were not done
    wrong: str = ''         # how what was asked and what was done differ

    @property
    def rate(self) -> float:
        """Units a second."""
        return self.units / self.seconds

    @property
    def per_cpu(self) -> float:
        """Units a second of processor time; the clock of that may stand still for a while."""
        return self.units / max(self.cpu, 1e-6)


# What counts in a row: the larger, the better.
MEASURES: dict[str, Callable[[Any], float]] = {
    'speed': lambda sample: sample.speed,       # Sent
    'rate': lambda sample: sample.rate,         # Work, as are the others
    'cpu': lambda sample: sample.per_cpu,
    'less': lambda sample: 1 / max(sample.rate, 1e-9),
}


@dataclass
class Measured:
    """One that takes part in a row."""

    side: str               # 'C', '' for Python without a loop, or a loop
    label: str
    limit: bool = False
    missing: str = ''       # why there are no samples
    failed: bool = False    # it should have been there
    note: str = ''          # what became of rounds that left no sample, where others did
    samples: list[Any] = field(default_factory=list)    # of Sent or of Work

    @property
    def who(self) -> str:
        return self.side or 'Python'

    def median(self, of: Callable[[Any], float]) -> float:
        return statistics.median(map(of, self.samples))

    @property
    def wrong(self) -> str:
        return next((sample.wrong for sample in self.samples if sample.wrong), '')

    def against(self, other: Measured | None, by: str) -> float | None:
        """How many times as good; the median of the rounds' ratios."""
        if other is None or not other.samples or not self.samples:
            return None
        ratios = self.ratios(other, by)
        if ratios:
            return statistics.median(ratios)
        measure = MEASURES[by]           # rounds are missing: nobody knows whose are of one round
        return self.median(measure) / other.median(measure)

    def ratios(self, other: Measured, by: str) -> list[float]:
        """Of each round, if both have all of them."""
        measure = MEASURES[by]
        if len(self.samples) != len(other.samples):
            return []
        return [measure(mine) / measure(theirs) for mine, theirs in zip(
            self.samples, other.samples, strict=True)]


def best(among: list[Measured], by: str) -> Measured | None:
    """By the median."""
    return max((each for each in among if each.samples),
               key=lambda each: each.median(MEASURES[by]), default=None)


@dataclass
class Row:
    name: str
    title: str
    note: str
    entrants: list[Measured]
    by: str                 # what counts, one of MEASURES

    @property
    def limit(self) -> Measured | None:
        """What C reaches."""
        return next((each for each in self.entrants if each.limit and each.samples), None)


@dataclass
class Group:
    name: str
    title: str
    baseline_name: str
    missing: str            # why nothing of it was measured
    baseline: Measured | None   # measured in any case, whatever rows were chosen
    rows: list[Row]


@dataclass
class Results:
    bench: str              # the command
    machine: dict[str, str]
    versions: dict[str, str]
    seconds: float
    rounds: int
    memory: int
    groups: list[Group]

    def entrants(self) -> Iterator[tuple[Row, Measured]]:
        for group in self.groups:
            for row in group.rows:
                for each in row.entrants:
                    yield row, each

    def to_json(self) -> str:
        return json.dumps({'format': FORMAT, **asdict(self)}, indent=1) + '\n'


def others(entrants: list[Measured], own: str) -> list[Measured]:
    """The loops that are not our own."""
    return [each for each in entrants if each.side not in ('C', '', own)]


def from_json(text: str) -> Results:
    """What ``to_json`` has written."""
    try:
        data: dict[str, Any] = json.loads(text)
        if data.pop('format') != FORMAT:
            raise ResultsError('its format is another version\'s: measure again')
        kind = Sent if data['bench'] == 'zerocopy' else Work

        def measured(one: dict[str, Any]) -> Measured:
            return Measured(**{**one, 'samples': [kind(**each) for each in one['samples']]})

        groups = [
            Group(**{**group, 'baseline': group['baseline'] and measured(group['baseline']),
                     'rows': [Row(**{**row, 'entrants': [*map(measured, row['entrants'])]})
                              for row in group['rows']]})
            for group in data.pop('groups')]
        return Results(groups=groups, **data)
    except KeyError as error:
        raise ResultsError(f'it is not what --json writes (there is no {error})') from None
    except (ValueError, TypeError, AttributeError) as error:
        raise ResultsError(f'it is not what --json writes ({error})') from None
