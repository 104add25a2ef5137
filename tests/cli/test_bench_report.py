"""What ``python -m uringloop bench`` makes of its figures: tables, pages, pictures, JSON."""
import importlib.util
import json
from xml.etree import ElementTree

import pytest

from tests.support.programs import ROOT
from uringloop.cli.bench import command, loops, picture, plot, png, report
from uringloop.cli.bench.results import (
    Group,
    Measured,
    Results,
    ResultsError,
    Row,
    Sent,
    best,
    from_json,
)
from uringloop.cli.bench.rows import NO_LOOP, chosen
from uringloop.cli.bench.zerocopy import measure, rows, ways
from uringloop.cli.bench.zerocopy.look import copied as copied_of
from uringloop.cli.bench.zerocopy.look import peer
from uringloop.cli.bench.zerocopy.sender import PAYLOADS, Job, turns_of
from uringloop.cli.bench.zerocopy.suite import SUITE

LOOK = SUITE.look
SVG = '{http://www.w3.org/2000/svg}'


def sample(datagrams, zerocopy=0, copied=0, **more):
    more = {'zerocopy_bytes': (zerocopy - copied) * 1000, **more}
    return Sent(1.0, datagrams, datagrams * 1000, zerocopy, copied, datagrams, **more)


def measured(side, label, *samples, **more):
    return Measured(side, label, samples=list(samples), **more)


@pytest.fixture
def results():
    limit = measured('C', 'best', sample(4000, 4000), sample(6000, 6000), limit=True)
    base = measured('C', 'base', sample(2000), sample(2000))
    own = measured('uringloop', 'sendto', sample(3000, 3000, 900), sample(3000, 3000))
    theirs = measured('uvloop', 'sendto <bytes>', sample(1000), sample(1500))
    none = measured('uringloop', 'lease', missing='this build has no pool')
    everyone = Row('one', 'a row', 'a note', [limit, base, own, theirs, none], 'speed')
    machine = {'processor': 'P', 'kernel': 'Linux 6.1'}
    return Results('zerocopy', machine, {'CPython': '3.11'}, 0.5, 2, 0, [
        Group('rfc', 'datagrams & more', 'BASE', '', base, [everyone]),
        Group('mtu1500', 'others', 'x', 'no rights', None, []),
    ])


# -- figures -------------------------------------------------------------------------------------

def test_json_round_trip(results):
    assert from_json(results.to_json()) == results
    assert from_json(results.to_json()).to_json() == results.to_json()


def test_json_of_something_else_is_refused(results):
    data = json.loads(results.to_json())
    for wrong in ([], {}, {**data, 'format': 0}, {**data, 'groups': [{}]}, {**data, 'more': 1}):
        with pytest.raises(ResultsError):
            from_json(json.dumps(wrong))


def test_ratios_are_medians_of_the_rounds(results):
    [row] = results.groups[0].rows
    first, _, own, theirs, none = row.entrants
    assert own.against(first, 'speed') == (0.75 + 0.5) / 2
    assert own.against(results.groups[0].baseline, 'speed') == 1.5
    assert peer(results.groups[0]) is theirs
    assert own.against(none, 'speed') is none.against(own, 'speed') is None
    assert best([own, none, theirs], 'speed') is own
    assert best([none], 'speed') is None
    assert row.limit is first


def test_copied_is_the_share_of_the_bytes(results):
    limit, base, own, *_ = results.groups[0].rows[0].entrants
    assert [copied_of(each) for each in (limit, base, own)] == ['0 %', '100 %', '15 %']


@pytest.mark.parametrize(('zerocopy_bytes', 'words'), [
    (1_000_000, '0 %'), (999_999, '< 1 %'), (843_750, '16 %'), (1, '> 99 %'), (0, '100 %')])
def test_all_and_none_are_exactly_that(zerocopy_bytes, words):
    """Packets may be of any length: half of these are copied."""
    each = measured('uringloop', 'sendto', Sent(
        1.0, 1000, 1_000_000, 1, 0, 2, zerocopy_bytes=zerocopy_bytes))
    assert copied_of(each) == words


@pytest.mark.parametrize(('zerocopy', 'copied', 'words'), [
    (2, 0, '0 %'), (0, 0, '100 %'), (2, 2, '100 %'), (1, 0, '-')])
def test_without_bytes_packets_tell_of_all_or_none(zerocopy, copied, words):
    each = measured('uringloop', 'sendto', Sent(1.0, 1000, 1_000_000, zerocopy, copied, 2))
    assert copied_of(each) == words


@pytest.mark.parametrize(('sent', 'packets', 'payload', 'trains', 'words'), [
    ((10, 1000), 10, 1000, False, ''),
    ((10, 1000), 10, None, False, ''),
    ((10, 1000), 2, 1000, True, ''),
    ((10, 1000), 9, 900, False, '1,000 bytes sent, 900 arrived'),
    ((10, 1000), 2, 1000, False, '10 datagrams sent, 2 arrived'),
    ((10, 1000), 11, 1000, True, '10 datagrams sent, 11 arrived'),
    ((10, 1000), 9, None, False, '10 datagrams sent, 9 arrived'),
])
def test_what_arrives_is_compared(sent, packets, payload, trains, words):
    said = dict(zip(('datagrams', 'bytes'), sent, strict=True))
    assert measure.difference(said, packets, payload, trains) == words


# -- shown ---------------------------------------------------------------------------------------

def test_table(results):
    lines = report.table(results, LOOK).splitlines()
    heads = lines[1].split('  ')
    assert [head.strip() for head in heads if head.strip()] == [
        'MB/s', 'datagrams/s', 'x BASE', 'of C', 'x uvloop', 'copied']
    own = next(line for line in lines if line.startswith('  uringloop  sendto'))
    assert own.split()[2:] == ['3', '3,000', '1.50', '0.62', '2.50', '15', '%']
    assert '  uringloop  lease           - this build has no pool' in lines
    assert '  not measured: no rights' in lines
    assert any('always notifies' in line for line in lines)


def test_page(results):
    page = report.page(results, LOOK, 'benchmarks.svg')
    assert page.startswith('# Benchmarks\n')
    assert '](benchmarks.svg)' in page
    assert '- kernel: Linux 6.1\n' in page
    assert '| uringloop | sendto | 3 | 3,000 | 1.50 | 0.62 | 2.50 | 15 % |' in page
    assert '| uringloop | lease (not measured: this build has no pool) |' in page
    assert 'Not measured: no rights.' in page
    # What the device is stands above the figures, and what the RFC is below its own.
    assert -1 < page.index('The device is an ifb') < page.index('## Datagrams & more')
    assert page.index('Pavel Begunkov') > page.index('## Datagrams & more')


def test_loopback_alone_needs_no_word_on_devices(results):
    [group, _] = results.groups
    group.name = 'loopback'
    results.groups = [group]
    assert 'ifb' not in report.page(results, LOOK) + report.table(results, LOOK)


def test_picture_is_well_formed_and_labelled(results):
    text = picture.svg(plot.picture(results, LOOK))
    root = ElementTree.fromstring(text)
    words = [element.text for element in root.iter(f'{SVG}text')]
    assert 'datagrams & more' in words
    assert 'uvloop  sendto <bytes>' in words
    assert '3 MB/s, 0.00 M/s, 1.50x, 15 % copied' in words
    assert 'uringloop  lease' not in words
    # A card of its own is behind all, in both colours.
    assert text.count(picture.COLOURS['card'][0]) >= 1
    assert f'.card {{ fill: {picture.COLOURS["card"][1]}; }}' in text
    limits = [element for element in root.iter(f'{SVG}rect')
              if element.get('class') == 'limit']
    assert len(limits) >= 2         # in the legend and in the row
    width, height = map(float, root.get('viewBox').split()[2:])
    for element in root.iter(f'{SVG}rect'):
        assert float(element.get('x')) + float(element.get('width')) <= width
        assert float(element.get('y')) + float(element.get('height')) <= height


def test_nothing_to_draw_is_told():
    with pytest.raises(plot.PlotError, match='nothing that can be drawn'):
        plot.picture(Results('zerocopy', {}, {}, 1, 1, 0, []), LOOK)


def test_png_without_a_library_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    assert 'pip install matplotlib, or name an .svg' in png.missing()


@pytest.mark.parametrize('library', png.LIBRARIES)
def test_png(library, results, tmp_path, monkeypatch):
    pytest.importorskip(library)
    monkeypatch.setattr(png, 'LIBRARIES', (library,))
    file = tmp_path / 'figures.png'
    png.write(plot.picture(results, LOOK), str(file))
    assert file.read_bytes().startswith(b'\x89PNG\r\n')


def test_what_is_wrong_fails_the_command(results, capsys):
    results.groups[0].rows[0].entrants[2].samples[1].wrong = '2 datagrams sent, 1 arrived'
    with pytest.raises(SystemExit) as ended:
        command._show(results, LOOK, command.parser().parse_args(['zerocopy']))
    assert ended.value.code == 1
    out, errors = capsys.readouterr()
    assert '    NOT ALL DELIVERED: 2 datagrams sent, 1 arrived\n' in out
    assert errors == 'bench: one: uringloop sendto: 2 datagrams sent, 1 arrived\n'
    for each in results.groups[0].rows[0].entrants[:2]:
        each.samples = []
        each.missing, each.failed = 'no memory', True
    with pytest.raises(SystemExit):
        command._show(results, LOOK, command.parser().parse_args(['zerocopy']))
    _, errors = capsys.readouterr()
    first = results.groups[0].rows[0].entrants[0]
    assert errors == (f'bench: one: {first.who} {first.label} and 1 more: no memory\n'
                      'bench: one: uringloop sendto: 2 datagrams sent, 1 arrived\n')


# -- rows ----------------------------------------------------------------------------------------

EVERYTHING = rows.groups(['asyncio', 'uvloop'])


def test_names_of_rows_are_unique():
    names = [row.name for group in EVERYTHING for row in group.rows]
    assert len(names) == len(set(names))


def test_each_sender_exists():
    for group in EVERYTHING:
        for row in group.rows:
            assert row.limit.side == 'C'
            for sender in row.entrants:
                if sender.side == 'C':
                    assert (ROOT / f'uringloop/cli/bench/zerocopy/{sender.program}.c').exists()
                elif sender.side == NO_LOOP:
                    assert sender.way in ways.SOCKET_WAYS
                else:
                    assert sender.way in ways.WAYS
                    assert sender.payload in PAYLOADS
                    assert sender.payload != 'leases' or sender.way in ways.LEASE_WAYS


def test_rows_are_chosen_by_their_names_or_their_groups():
    some = chosen(EVERYTHING, ['zc-8', 'mtu1500'])
    assert [[row.name for row in group.rows] for group in some] == [
        ['zc-8'], ['trains', 'slices', 'packets']]


@pytest.mark.parametrize(('different', 'turns'), [(1, 1), (8, 1), (9, 2), (100, 13)])
def test_turns_go_through_all_payloads(different, turns):
    job = Job('', '', '', 8, 1, 0, 0, 1, '', 0)
    made = turns_of(job, list(range(different)))
    assert len(made) == turns
    assert {len(turn) for turn in made} == {8}
    assert {payload for turn in made for payload in turn} == set(range(different))


def test_loops_by_name():
    assert loops.installed('asyncio')
    assert not loops.installed('no_such_loop')
    assert not loops.installed('no.such.loop')
    assert 'no_such_loop' in loops.missing('no_such_loop')
    assert loops.missing('uringloop') == loops.missing('asyncio') == ''
    assert loops.missing('asyncio:SelectorEventLoop') == ''
