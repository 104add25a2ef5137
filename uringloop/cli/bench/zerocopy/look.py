"""What the figures of ``bench zerocopy`` look like."""
from __future__ import annotations

from uringloop.cli.bench.look import Look, ratio
from uringloop.cli.bench.loops import OWN
from uringloop.cli.bench.results import Group, Measured, Results, Row, best, others

DEVICE = (
    'The device is an ifb, which drops at once what it is sent. What a real card has besides is '
    'absent: mapping memory for DMA, an IOMMU, and notifications that come late, when the packet '
    'has left.')
RFC = (
    'The RFC: "[RFC 00/12] io_uring zerocopy send", a series of patches that Pavel Begunkov sent '
    'to the netdev mailing list in November 2021; what came of it is in Linux 6.0 of 2022. Its '
    '0.38x were 18,281 MB/s by copying and 47,421 MB/s by MSG_ZEROCOPY: compare MB/s, too, to see '
    'on which side a ratio differs from it.')
FLUSH = (
    'The RFC\'s "flush" asked for a notification. The API that came of it always notifies, once a '
    'request, so there are no rows without; what differs is whether a sender waits for each.')


def share_copied(each: Measured) -> float | None:
    """The share of the bytes that were copied; None: that is not known."""
    of_each = [sample.bytes_copied for sample in each.samples]
    known = [copied for copied in of_each if copied is not None]
    total = sum(sample.bytes for sample in each.samples)
    return sum(known) / total if total and len(known) == len(of_each) else None


def copied(each: Measured) -> str:
    """That, in all rounds; all and none are exactly that."""
    share = share_copied(each)
    if share is None:
        return '-'
    if 0 < share < 0.01 or 0.99 < share < 1:
        return '< 1 %' if share < 0.5 else '> 99 %'
    return f'{share:.0%}'.replace('%', ' %')


def peer(group: Group) -> Measured | None:
    """The fastest of the other loops."""
    return best(others([each for row in group.rows for each in row.entrants], OWN), 'speed')


class ZerocopyLook(Look):
    command = 'zerocopy'
    heading = 'Benchmarks'
    beside = (
        '`bench datagrams` measures in the same way how datagrams are answered and received over '
        'loopback, `bench everyday` what programs do besides: connections, TLS, pipes, threads, '
        'callbacks. `make benchmarks` makes a page of each.')
    legend = (
        'Medians of the rounds, in which all take turns; ratios are medians of the rounds\' '
        'ratios. MB: a million bytes. A row, as of the RFC, is a name and the senders below it. '
        '"of C": of the first of these. "x" a loop: of the fastest measurement of another loop on '
        'that network, whatever the row. "copied": the share of the bytes sent that was copied, '
        'by the loop or by the kernel. What the sender says is compared with what the device has '
        'counted.')
    picture = 'Datagrams sent by uringloop, by other loops and from C'
    one_scale = True

    def columns(self, group: Group) -> list[str]:
        fastest = peer(group)
        heads = ['MB/s', 'datagrams/s']
        if group.baseline_name:
            heads.append(f'x {group.baseline_name}')
        return [*heads, 'of C', *([f'x {fastest.side}'] if fastest else []), 'copied']

    def figures(self, group: Group, row: Row, each: Measured) -> list[str]:
        cells = [f'{each.median(lambda sample: sample.speed):,.0f}',
                 f'{each.median(lambda sample: sample.rate):,.0f}']
        if group.baseline_name:
            cells.append(ratio(each.against(group.baseline, 'speed')))
        cells.append(ratio(each.against(row.limit, 'speed')))
        if fastest := peer(group):
            cells.append(ratio(each.against(fastest, 'speed')))
        return [*cells, copied(each)]

    def bar(self, group: Group, row: Row, each: Measured) -> str:
        speed = each.median(lambda sample: sample.speed)
        rate = each.median(lambda sample: sample.rate) / 1e6
        words = f'{speed:,.0f} MB/s, {rate:.2f} M/s'
        if group.baseline is not None:
            words += f', {ratio(each.against(group.baseline, "speed"))}x'
        return f'{words}, {copied(each)} copied'

    def bars(self, group: Group) -> str:
        """Those of loopback are left out, for nothing is zero-copy there."""
        if group.name == 'loopback':
            return ''
        note = 'MB/s; millions of datagrams a second'
        if group.baseline is not None:
            note += f'; times {group.baseline_name}'
        return f'{note}; share of the bytes that was copied'

    def setting(self, results: Results) -> list[str]:
        on_devices = any(group.name != 'loopback' and not group.missing
                         for group in results.groups)
        return [DEVICE] if on_devices else []

    def notes(self, group: Group) -> list[str]:
        return [RFC, FLUSH] if group.name == 'rfc' and not group.missing else []

    def conditions(self, results: Results) -> str:
        if results.memory:
            return f'payloads walk through {results.memory / 1e6:,.0f} MB'
        return 'one hot payload, which is best for those who copy'
