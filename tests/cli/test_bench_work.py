"""``python -m uringloop bench datagrams`` and ``bench everyday``: figures, tables, real rows."""
import asyncio
import contextlib
import json
import socket
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.cli.test_bench import bench, needs_compiler
from uringloop.cli.bench import command, native, picture, plot, report, turns
from uringloop.cli.bench.datagrams import measure, sender, server
from uringloop.cli.bench.datagrams import rows as datagram_rows
from uringloop.cli.bench.everyday import rows as everyday_rows
from uringloop.cli.bench.everyday import tasks
from uringloop.cli.bench.everyday.watch import Job, Watch
from uringloop.cli.bench.process import FailedError, MissingError
from uringloop.cli.bench.results import Group, Measured, Results, Row, Work, from_json
from uringloop.cli.bench.rows import Entrant
from uringloop.cli.bench.rows import Group as Asked
from uringloop.cli.bench.rows import Row as AskedRow

QUICK = ['--rounds', '1', '--seconds', '0.05']
LOOK = command.SUITES['datagrams'].look


def measured(side, *samples, **more):
    return Measured(side, 'a label', samples=list(samples), **more)


@pytest.fixture
def results():
    row = Row('echo-64', 'small', 'one socket', [
        measured('C', Work(1, 4000, 0.5), limit=True),
        measured('uringloop', Work(1, 3000, 0.3, lost=10)),
        measured('uvloop', Work(1, 1500, 0.4)),
        measured('rloop', Work(1, 1000, 0.2)),
        measured('asyncio', missing='it is ill'),
    ], 'rate')
    memory = Row('idle', 'memory', 'bytes a connection', [
        measured('uringloop', Work(1, 500, 0.0)), measured('uvloop', Work(1, 1000, 0.0))], 'less')
    return Results('datagrams', {'processor': 'P'}, {'CPython': '3.11'}, 0.5, 1, 0, [
        Group('echo', 'answers', '', '', None, [row]),
        Group('connections', 'others', '', '', None, [memory])])


# -- shown ---------------------------------------------------------------------------------------

def test_json_round_trip(results):
    assert from_json(results.to_json()) == results


def test_table(results):
    lines = report.table(results, LOOK).splitlines()
    assert lines[1].split() == [
        'datagrams/s', 'x', 'best', 'CPU', 'us', 'x', 'by', 'CPU', 'of', 'C', 'lost']
    own, uvloop, rloop = (next(line for line in lines if line.startswith(f'  {name} ')).split()[3:]
                          for name in ('uringloop', 'uvloop', 'rloop'))
    # The best by rate is one, the best by processor time another.
    assert own == ['3,000', '2.00', '100', '2.00', '0.75', '0.3', '%']
    assert uvloop == ['1,500', '1.00', '267', '0.75', '0.38', '0']
    assert rloop == ['1,000', '0.67', '200', '1.00', '0.25', '0']
    assert '  asyncio    a label  - it is ill' in lines


def test_less_memory_is_better(results):
    """And of what programs do every day nothing is lost."""
    text = report.table(results, command.SUITES['everyday'].look)
    assert 'lost' not in text
    own, uvloop = (line.split()[3:] for line in text[text.index('\nidle'):].splitlines()[2:4])
    assert own == ['500', '2.00', '-', '-']
    assert uvloop == ['1,000', '1.00', '-', '-']


def test_page(results):
    page = report.page(results, LOOK)
    assert page.startswith('# Benchmarks of datagrams over loopback\n')
    assert 'bench datagrams --json FILE' in page
    assert '| uringloop | a label | 3,000 | 2.00 | 100 | 2.00 | 0.75 | 0.3 % |' in page
    assert '| asyncio | a label (not measured: it is ill) | - | - | - | - | - | - |' in page


def test_picture(results):
    root = ElementTree.fromstring(picture.svg(plot.picture(results, LOOK)))
    words = [element.text for element in root.iter('{http://www.w3.org/2000/svg}text')]
    assert '3,000, 2.00x; CPU 100 us, 2.00x' in words
    assert '500, 2.00x' in words
    # Each row has a scale of its own, and the best bar of each is the longest, of memory too.
    bars = [float(element.get('width')) for element in
            root.iter('{http://www.w3.org/2000/svg}rect') if element.get('height') == '13.0']
    assert bars == [410, 307.5, 153.8, 102.5, 410, 205]


@pytest.mark.parametrize(('lost', 'words'), [(0, '0'), (1, '< 0.1 %'), (3000, '50.0 %')])
def test_losses_are_shown(results, lost, words):
    results.groups[0].rows[0].entrants[1].samples[0].lost = lost
    own = next(line for line in report.table(results, LOOK).splitlines()
               if line.startswith('  uringloop'))
    assert own.endswith(f'  {words}')


def test_what_is_wrong_fails_the_command(results, capsys):
    results.groups[0].rows[0].entrants[1].samples[0].wrong = '2 sent, 1 arrived'
    with pytest.raises(SystemExit):
        command._show(results, LOOK, command.parser().parse_args(['datagrams']))
    out, errors = capsys.readouterr()
    assert '    NOT ALL DELIVERED: 2 sent, 1 arrived\n' in out
    assert errors == 'bench: echo-64: uringloop a label: 2 sent, 1 arrived\n'


# -- taking turns --------------------------------------------------------------------------------

def test_turns_and_what_becomes_of_failures():
    entrants = [Entrant('C', 'slow'), Entrant('C', 'fast'), Entrant('uringloop', ''),
                Entrant('uvloop', ''), Entrant('rloop', ''), Entrant('asyncio', '')]
    group = Asked('echo', '', None, '', (AskedRow('one', '', '', None, tuple(entrants)),))
    plan = turns.Plan(1, 2, 0, Path(), {}, {})
    asked = []

    def sample(group, entrant):
        asked.append(entrant)
        match entrant.side, entrant.label:
            case 'uringloop', _:
                raise FailedError('broken')
            case 'uvloop', _:
                raise MissingError('not there')
            case 'rloop', _:
                raise FailedError('broken too')
            case 'asyncio', _:
                return Work(1, 0, 1)
            case _, label:
                return Work(1, 1 + (label == 'fast'), 1)

    [done] = turns.take([group], {}, plan, sample)
    # Where our own has failed it is not asked again; others are, once.
    assert asked == [*entrants, *entrants[:2], *entrants[4:]]
    slow, fast, own, uvloop, rloop, idle = done.rows[0].entrants
    assert (len(slow.samples), len(fast.samples)) == (2, 2)
    assert done.rows[0].limit is fast
    assert (own.missing, own.failed) == ('failed: broken', True)
    assert (uvloop.missing, uvloop.failed) == ('not there', False)
    assert (rloop.missing, rloop.failed) == ('failed: broken too', False)
    assert idle.missing == 'failed: nothing was done'


def test_rounds_that_another_loop_has_failed_are_told():
    entrants = [Entrant('uringloop', ''), Entrant('uvloop', ''), Entrant('rloop', '')]
    group = Asked('echo', 'answers', None, '', (AskedRow('one', '', '', None, tuple(entrants)),))
    took = []

    def sample(group, entrant):
        took.append(entrant.side)
        count = took.count(entrant.side)
        if count in {'uvloop': (2,), 'rloop': (2, 3, 4)}.get(entrant.side, ()):
            raise FailedError('it did not end')
        return Work(1, {'uringloop': 6, 'uvloop': 2, 'rloop': 3}[entrant.side], 1)

    [done] = turns.take([group], {}, turns.Plan(1, 4, 0, Path(), {}, {}), sample)
    own, uvloop, rloop = done.rows[0].entrants
    assert (len(own.samples), own.note) == (4, '')
    assert (len(uvloop.samples), uvloop.note) == (3, '1 of 4 rounds failed: it did not end')
    assert (len(rloop.samples), rloop.note) == (1, '2 of 3 rounds failed: it did not end')
    assert (own.against(uvloop, 'rate'), own.against(rloop, 'rate')) == (3, 2)
    results = Results('everyday', {}, {}, 0.5, 4, 0, [done])
    look = command.SUITES['everyday'].look
    assert '    2 of 3 rounds failed: it did not end\n' in report.table(results, look)
    assert '| rloop |  (2 of 3 rounds failed: it did not end) | 3 |' in report.page(results, look)


def test_the_least_and_the_greatest_ratio_are_shown(results):
    row = results.groups[0].rows[0]
    row.entrants = [measured('uringloop', Work(1, 30, 1), Work(1, 22, 1), Work(1, 60, 1)),
                    measured('uvloop', Work(1, 10, 1), Work(1, 20, 1), Work(1, 40, 1))]
    text = report.table(results, LOOK)
    assert '  1.50 (1.10-3.00)  ' in text
    assert '30, 1.50x; CPU' in ''.join(LOOK.bar(results.groups[0], row, row.entrants[0]))


def test_one_processor_for_all_is_told(results):
    assert 'is bound to another' not in report.table(
        replace(results, machine={'cores': '1'}), LOOK).replace('\n', ' ')
    assert 'is bound to' in report.table(
        replace(results, machine={'cores': '2'}), LOOK).replace('\n', ' ')


# -- datagrams -----------------------------------------------------------------------------------

@pytest.fixture(scope='module')
def programs(tmp_path_factory):
    built, _ = native.build(tmp_path_factory.mktemp('programs'), 'datagrams')
    return {name: str(program) for name, program in built.items()}


@pytest.fixture
def udp_load(programs):
    return programs['udp_load']


ECHO, TRAINS = datagram_rows.Load('echo', 10), datagram_rows.Load('trains', 10, window=44)


@pytest.mark.parametrize(('load', 'sent', 'served', 'words'), [
    (ECHO, (5, 5, 0), (5, 50, 0), ''),
    (ECHO, (5, 4, 1), (5, 50, 0), ''),
    (ECHO, (5, 4, 1), (4, 40, 0), ''),
    (ECHO, (5, 5, 0), (6, 60, 0), '5 datagrams sent, 6 arrived'),
    (ECHO, (5, 5, 0), (5, 49, 0), '5 datagrams of 10 bytes arrived as 49 bytes'),
    (ECHO, (5, 5, 0), (4, 40, 0), '4 datagrams arrived, 5 answers'),
    (ECHO, (5, 4, 0), (4, 40, 0), '4 datagrams arrived, 4 answers'),
    (TRAINS, (88, 0, 0), (88, 880, 0), ''),
    (TRAINS, (88, 0, 0), (44, 440, 1), ''),
    (TRAINS, (88, 0, 0), (44, 440, 44), ''),
    (TRAINS, (88, 0, 0), (44, 440, 0), '88 datagrams sent, 44 arrived, 0 dropped'),
    (TRAINS, (88, 0, 0), (43, 430, 1), '88 datagrams sent, 43 arrived, 1 dropped'),
    (TRAINS, (88, 0, 0), (44, 440, 45), '88 datagrams sent, 44 arrived, 45 dropped'),
])
def test_what_arrives_is_compared(load, sent, served, words):
    said = dict(zip(('sent', 'answered', 'lost'), sent, strict=True))
    counted = dict(zip(('datagrams', 'bytes', 'dropped'), served, strict=True))
    assert measure.difference(load, said, counted) == words


MIX = datagram_rows.Mix(16, 1_400, 64)


@pytest.mark.parametrize(('sent', 'arrived', 'words'), [
    ((5, 50), (5, 50, 0), ''),
    ((5, 50), (4, 40, 1), ''),
    ((5, 50), (4, 40, 0), '5 datagrams sent, 4 arrived, 0 dropped'),
    ((5, 50), (5, 50, 1), '5 datagrams sent, 5 arrived, 1 dropped'),
    ((5, 50), (6, 60, 0), '5 datagrams sent, 6 arrived, 0 dropped'),
    ((5, 50), (5, 49, 0), '50 bytes sent, 49 arrived'),
    ((5, 50), (4, 50, 1), '50 bytes sent, 50 arrived'),
    ((5, 50), (4, 51, 1), '50 bytes sent, 51 arrived'),
])
def test_what_was_sent_is_compared(sent, arrived, words):
    said = dict(zip(('sent', 'bytes'), sent, strict=True))
    counted = dict(zip(('datagrams', 'bytes', 'dropped'), arrived, strict=True))
    assert measure.sending_difference(said, counted) == words


def test_several_are_counted_as_one():
    assert measure.together([
        {'began': 10.5, 'seconds': 1.0, 'sent': 3}, {'began': 10.0, 'seconds': 1.25, 'sent': 4},
    ]) == {'began': 10.0, 'seconds': 1.5, 'sent': 7}
    assert measure.together([{'ended': 2.0, 'cpu': 1.0}, {'ended': 3.0, 'cpu': 0.5}]) == {
        'ended': 3.0, 'cpu': 1.5}


def test_processes_that_share_nothing_are_told():
    some, nothing = {'datagrams': 3}, {'datagrams': 0}
    assert measure.unshared([some, some]) == measure.unshared([nothing]) == ''
    assert measure.unshared([some, nothing]) == 'nothing came to 1 of 2 processes'


def test_what_a_sender_sends_cannot_be_gathered():
    job = sender.Job('', MIX.shortest, MIX.longest, 1, [*range(1, MIX.sockets + 1)])
    turns = sender.turns_of(job)
    assert {len(turn) for turn in turns} == {sender.TURN}
    assert sum(map(len, turns)) == sender.DIFFERENT
    for turn in turns:
        # Each address once a turn, and another size than the last one's.
        assert [address for _, address in turn] == [(server.HOST, port) for port in job.ports]
    sizes = [len(data) for turn in turns for data, _ in turn]
    assert [int.from_bytes(data[:4], sys.byteorder) for turn in turns for data, _ in turn] == sizes
    assert MIX.shortest <= min(sizes) < 50
    assert 1_350 < max(sizes) <= MIX.longest
    assert sender.turns_of(job) == turns


@needs_compiler
@pytest.mark.parametrize(('data', 'words'), [
    (b'', ''), ((8).to_bytes(4, sys.byteorder) + bytes(4), ''),
    ((8).to_bytes(4, sys.byteorder) + bytes(12), 'a datagram is not what was sent'),
    (b'123', 'a datagram is not what was sent')])
def test_the_sinks_look_at_what_comes(programs, data, words):
    with subprocess.Popen([programs['udp_sinks'], '3', '1'], stdin=subprocess.PIPE, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        ports = json.loads(process.stdout.readline())['ports']
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for port in ports * bool(data):
                sock.sendto(data, (server.HOST, port))
        out, errors = process.communicate(timeout=30)
    assert errors[:len(words)] == words
    if words:
        assert process.returncode == 1
    else:
        count = 3 * bool(data)
        assert json.loads(out) == {'datagrams': count, 'bytes': 8 * count, 'dropped': 0}


def test_several_processes_are_told_next_to_one(results):
    """And only of their own group, and where both were measured."""
    def row(number, *work):
        return Row(f'workers-{number}', '', '', [
            measured('uringloop', *work), measured('uvloop', missing='it is ill')], 'rate')

    results.groups.append(Group('workers', 'answers', '', '', None, [
        row(1, Work(1, 1000, 1.0)), row(2, Work(1, 1500, 1.2))]))
    page = report.page(results, LOOK).replace('\n', ' ')
    assert page.count('Times the rate of one process') == 1
    assert 'processor time: uringloop (a label) 1.50 and 1.25 in workers-2.' in page
    results.groups[-1].rows.pop()
    page = report.page(results, LOOK).replace('\n', ' ')
    assert 'Times the rate of one process' not in page
    assert 'Each process has a processor of its own' in page
    results.groups[-1].missing = 'no rights'
    assert 'Each process has a processor' not in report.page(results, LOOK).replace('\n', ' ')


def test_there_are_no_more_processes_than_processors(monkeypatch):
    for processors, names in ((1, [1]), (2, [1, 2]), (3, [1, 2]), (4, [1, 2, 4]), (64, [1, 2, 4])):
        monkeypatch.setattr(datagram_rows, 'PROCESSORS', [*range(processors)])
        rows = datagram_rows.groups([])[-1].rows
        assert [row.name for row in rows] == [f'workers-{number}' for number in names]
        shared = [row.name for row in rows if 'the loads have the same' in row.note]
        assert shared == [f'workers-{number}' for number in names if 2 * number > processors]


def answer_all(sock, data, address, number):
    sock.sendto(data, address)


def swallow_some(sock, data, address, number):
    if number % 10:
        sock.sendto(data, address)


def swap_pairs():
    held = []

    def answer(sock, data, address, number):
        held.append(data)
        while number % 2 and held:
            sock.sendto(held.pop(), address)
    return answer


def change(sock, data, address, number):
    sock.sendto(data[:-1] + b'x', address)


def shorten(sock, data, address, number):
    sock.sendto(data[:-1], address)


def answer_twice(sock, data, address, number):
    sock.sendto(data, address)
    sock.sendto(data, address)


def load_a_server(udp_load, answer):
    """What a load says of a server that answers so: the process, and how many it was sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((server.HOST, 0))
        sock.settimeout(30)
        command = [udp_load, 'echo', str(sock.getsockname()[1]), '64', '0.2', '1', '8']
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              text=True) as process:
            threading.Thread(target=lambda: (process.wait(), sock.sendto(b'', sock.getsockname()))
                             ).start()
            arrived = 0
            while True:
                data, address = sock.recvfrom(65536)
                if not data:
                    break
                with contextlib.suppress(ConnectionRefusedError):       # it has ended
                    answer(sock, data, address, arrived)
                arrived += 1
            out, errors = process.communicate()
    return process.returncode, json.loads(out or '{}'), errors, arrived


@needs_compiler
@pytest.mark.parametrize(('answer', 'least', 'most'), [
    (answer_all, 0, 0), (swap_pairs(), 0, 1), (swallow_some, 1, 10_000)])
def test_the_load_counts_what_is_lost(udp_load, answer, least, most):
    status, said, errors, arrived = load_a_server(udp_load, answer)
    assert (status, errors) == (0, '')
    assert said['sent'] == arrived == said['answered'] + said['lost'] > 8
    assert least <= said['lost'] <= most


@needs_compiler
@pytest.mark.parametrize(('answer', 'words'), [
    (change, 'an answer is not what was sent'), (shorten, 'an answer is not what was sent'),
    (answer_twice, 'an answer came twice')])
def test_the_load_looks_at_answers(udp_load, answer, words):
    status, _, errors, _ = load_a_server(udp_load, answer)
    assert status == 1
    assert errors.startswith(words)


@pytest.mark.parametrize('names', ['echo', 'receive', 'send', 'workers'])
@needs_compiler
def test_datagrams_are_measured(names, tmp_path):
    file, drawn = tmp_path / 'figures.json', tmp_path / 'figures.svg'
    done = bench('datagrams', *QUICK, '--against', 'asyncio', '--rows', names, '--json', file,
                 '--plot', drawn)
    assert done.returncode == 0, done.stderr
    [group] = from_json(file.read_text()).groups
    assert [row.name for row in group.rows] == [
        row.name for asked in datagram_rows.groups([]) if asked.name == names
        for row in asked.rows]
    for row in group.rows:
        assert row.limit is not None
        assert {each.side for each in row.entrants} == {'C', 'uringloop', 'asyncio'}
        for each in row.entrants:
            assert not each.missing, (row.name, each)
            [sample] = each.samples
            assert sample.units > 0
            assert sample.cpu > 0
    assert '</svg>' in drawn.read_text()
    page = bench('report', file)
    assert page.returncode == 0
    assert '| uringloop | ' in page.stdout


def test_rows_of_datagrams_are_what_servers_can_do():
    for group in datagram_rows.groups(['asyncio']):
        for row in group.rows:
            for each in row.entrants:
                if each.side != 'C' and isinstance(each, datagram_rows.Server):
                    assert each.way in server.WAYS
                    assert each.way.startswith('own-') == (each.side == 'uringloop')


def test_without_c_no_datagrams_are_measured(tmp_path):
    done = bench('datagrams', *QUICK, '--rows', 'echo-64', PATH=str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.endswith('\nbench: uringloop: there is no C compiler: '
                                'apt install gcc libc6-dev\n')
    assert '- there is no C compiler: apt install gcc libc6-dev' in done.stdout


# -- everyday ------------------------------------------------------------------------------------

def test_names_are_unique():
    for make in (datagram_rows.groups, everyday_rows.groups):
        names = [name for group in make([]) for name in (group.name, *(
            row.name for row in group.rows))]
        assert len(names) == len(set(names))


def test_each_task_is_in_a_group():
    assert {task.group for task in tasks.TASKS.values()} == set(tasks.GROUPS)


@pytest.mark.parametrize('names', ['tls', 'pipes', 'threads', 'turns', 'start',
                                   'tcp-1k,tcp-64k,unix-1k', 'streams,connect,accept'])
@needs_compiler
def test_everyday_rows_are_measured(names):
    done = bench('everyday', *QUICK, '--against', 'asyncio', '--rows', names, '--json', '-')
    assert done.returncode == 0, done.stderr
    [group] = from_json(done.stdout).groups
    if names in tasks.GROUPS:
        assert [row.name for row in group.rows] == [
            task.name for task in tasks.TASKS.values() if task.group == names]
    for row in group.rows:
        for each in row.entrants:
            if each.missing:
                assert 'openssl is not installed' in each.missing
                continue
            [sample] = each.samples
            assert sample.units > 0
            assert sample.seconds > 0


def test_memory_of_idle_connections_is_measured():
    done = bench('everyday', *QUICK, '--against', '', '--rows', 'idle', '--json', '-')
    assert done.returncode == 0, done.stderr
    [group] = from_json(done.stdout).groups
    [own] = group.rows[0].entrants
    if own.missing:
        assert own.missing in ('so many files cannot be open: ulimit -n 20000',
                               'there is no C compiler: apt install gcc libc6-dev')
    else:
        assert 0 < own.samples[0].units < 100_000


def test_a_loop_that_there_is_not_is_told():
    done = bench('everyday', *QUICK, '--against', 'asyncio, json', '--rows', 'new-loop, sleep-0',
                 '--json', '-')
    assert done.returncode == 1
    assert done.stderr.endswith("\nbench: json: module 'json' has no attribute "
                                "'EventLoopPolicy'\n")
    for group in from_json(done.stdout).groups:
        for row in group.rows:
            assert row.entrants[2].missing == "module 'json' has no attribute 'EventLoopPolicy'"


JOB = Job('', 'asyncio', 0.05, '', '', 0)


def test_bytes_that_are_missing_are_told():
    watch = Watch(JOB)
    watch.delivered(1_000_000, 1_000_000)
    assert (watch.units, watch.wrong) == (1, '')
    watch.delivered(1_000_000, 999_999)
    assert watch.wrong == '1,000,000 bytes sent, 999,999 arrived'


def test_what_a_worker_finds_wrong_is_one_line(tmp_path):
    (tmp_path / 'lossy.py').write_text('''
import asyncio
class Loop(asyncio.SelectorEventLoop):
    def call_later(self, delay, callback, *args, **more):
        args = [0 if type(each) is int else each for each in args]
        return super().call_later(delay, callback, *args, **more)
''')
    done = bench('everyday', *QUICK, '--against', 'lossy:Loop', '--rows', 'timers',
                 PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.endswith(
        '\nbench: lossy:Loop: failed: other timers came than those that were left\n')


@needs_compiler
def test_a_load_that_fails_is_told(tmp_path):
    programs, _ = native.build(tmp_path, 'everyday')

    class Wrong(asyncio.Protocol):
        def connection_made(self, transport):
            self.transport = transport

        def data_received(self, data):
            self.transport.write(bytes(len(data)))

    async def main():
        watch = Watch(replace(JOB, program=str(programs['stream_load'])))
        listening = await asyncio.get_running_loop().create_server(Wrong, tasks.HOST, 0)
        with pytest.raises(FailedError, match='the load: an answer is not what was sent'):
            await watch.loaded('echo', tasks._port(listening), 1024, 2)
        listening.close()

    asyncio.run(main())
