"""The figures of a run: what was measured, and their JSON."""
from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

FORMAT = 1


class ResultsError(Exception):
    """That is no JSON of ours."""


@dataclass
class Sample:
    """One measurement: what the sender says, and what has arrived."""

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
class Measured:
    """One sender in a row."""

    side: str               # 'C', '' for Python without a loop, or a loop
    label: str
    limit: bool = False
    missing: str = ''       # why there are no samples
    failed: bool = False    # it should have been there
    samples: list[Sample] = field(default_factory=list)

    @property
    def who(self) -> str:
        return self.side or 'Python'

    def median(self, of: Callable[[Sample], float]) -> float:
        return statistics.median(map(of, self.samples))

    @property
    def copied(self) -> float | None:
        """The share of the bytes that were copied; None: that is not known."""
        of_each = [sample.bytes_copied for sample in self.samples]
        known = [copied for copied in of_each if copied is not None]
        total = sum(sample.bytes for sample in self.samples)
        return sum(known) / total if total and len(known) == len(of_each) else None

    @property
    def wrong(self) -> str:
        return next((sample.wrong for sample in self.samples if sample.wrong), '')

    def against(self, other: Measured | None) -> float | None:
        """How many times as fast; the median of the rounds' ratios."""
        if other is None or not other.samples or not self.samples:
            return None
        return statistics.median(mine.speed / theirs.speed for mine, theirs in zip(
            self.samples, other.samples, strict=False))


@dataclass
class Row:
    name: str
    title: str
    note: str
    senders: list[Measured]

    @property
    def limit(self) -> Measured | None:
        """What C reaches."""
        return next((each for each in self.senders if each.limit and each.samples), None)


@dataclass
class Group:
    name: str
    title: str
    baseline_name: str
    missing: str            # why nothing of it was measured
    baseline: Measured | None   # measured in any case, whatever rows were chosen
    rows: list[Row]

    def peer(self, own: str) -> Measured | None:
        """The fastest of the other loops."""
        others = [each for row in self.rows for each in row.senders
                  if each.samples and each.side not in ('C', '', own)]
        return max(others, key=lambda each: each.median(lambda sample: sample.speed),
                   default=None)


@dataclass
class Results:
    machine: dict[str, str]
    versions: dict[str, str]
    seconds: float
    rounds: int
    memory: int
    groups: list[Group]

    def senders(self) -> Iterator[tuple[Row, Measured]]:
        for group in self.groups:
            for row in group.rows:
                for each in row.senders:
                    yield row, each

    def to_json(self) -> str:
        return json.dumps({'format': FORMAT, **asdict(self)}, indent=1) + '\n'


def _measured(data: dict[str, Any]) -> Measured:
    return Measured(**{**data, 'samples': [Sample(**one) for one in data['samples']]})


def from_json(text: str) -> Results:
    """What ``to_json`` has written."""
    try:
        data: dict[str, Any] = json.loads(text)
        if data.pop('format') != FORMAT:
            raise ResultsError('its format is another version\'s: measure again')
        groups = [
            Group(**{**group, 'baseline': group['baseline'] and _measured(group['baseline']),
                     'rows': [Row(**{**row, 'senders': [*map(_measured, row['senders'])]})
                              for row in group['rows']]})
            for group in data.pop('groups')]
        return Results(groups=groups, **data)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ResultsError(f'it is not what bench zerocopy --json writes ({error})') from None
