"""The examples, run as a user runs them: as programs."""
import hashlib
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
from contextlib import contextmanager

import dnslib
import pytest

from tests.support.features import needs_feature
from tests.support.namespaces import needs_root
from tests.support.programs import ROOT
from tests.support.sockets import SO_RCVBUFFORCE

EXAMPLES = ROOT / 'examples'
LIMIT = 120.0
PYTHON = [sys.executable, '-W', 'error']
DNS = [*PYTHON, '-m', 'uringloop', 'run', EXAMPLES / 'dns_server.py']
DEMO = [*PYTHON, EXAMPLES / 'demo.py', '--megabytes', 8]
STREAM = [*PYTHON, EXAMPLES / 'stream_file.py']
FANOUT = [*PYTHON, EXAMPLES / 'rtp_fanout.py']
SOL_UDP, UDP_SEGMENT = 17, 103          # linux/udp.h
WITHOUT_URING = {'URINGLOOP_DISABLE': '1'}

needs_dig = pytest.mark.skipif(shutil.which('dig') is None, reason='dig is not installed')


def environment(**changes):
    # The package need not be installed to be tested.
    paths = [str(ROOT), os.environ.get('PYTHONPATH', '')]
    return {**os.environ, 'PYTHONPATH': os.pathsep.join(filter(None, paths)), **changes}


@contextmanager
def started(*arguments, **changes):
    """A child process, which no failure of a test outlives and which ends in any case."""
    with subprocess.Popen([*map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, env=environment(**changes)) as process:
        watchdog = threading.Timer(LIMIT, process.kill)
        watchdog.start()
        try:
            yield process
        finally:
            watchdog.cancel()
            process.kill()


def run(*arguments, **changes):
    with started(*arguments, **changes) as process:
        output, errors = process.communicate()
        return subprocess.CompletedProcess(arguments, process.returncode, output, errors)


@contextmanager
def serving(*arguments, **changes):
    """A server of the examples, and the port that it says it listens on."""
    with started(*arguments, '--port', 0, **changes) as process:
        line = process.stdout.readline()
        assert line.startswith('listening on '), process.communicate()
        yield process, int(line.split()[-1])


def finish(process):
    output, errors = process.communicate()
    assert (process.returncode, errors) == (0, '')
    return output


@pytest.fixture
def client():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(LIMIT)
        yield sock


@pytest.fixture
def sample(tmp_path):
    """A file of 8 MB whose every block differs, and the digest of its content."""
    path = tmp_path / 'sample'
    content = b''.join(hashlib.sha512(number.to_bytes(4, 'big')).digest()
                       for number in range(125_000))
    path.write_bytes(content)
    return path, hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize('arguments', [
    ['udp_echo.py'], ['ecn_echo.py'], ['udp_errors.py'], ['udp_relay.py'],
    ['reuseport_workers.py'], ['dns_server.py'], ['demo.py'], ['rtp_fanout.py'], ['trio_echo.py'],
    ['stream_file.py'], ['stream_file.py', 'send'], ['stream_file.py', 'receive']], ids=' '.join)
def test_each_has_a_help(arguments):
    name, *command = arguments
    answer = run(*PYTHON, EXAMPLES / name, *command, '--help')
    assert answer.returncode == 0
    assert answer.stdout.startswith(f'usage: {name}')


@pytest.mark.parametrize('arguments', [
    ['udp_echo.py'], ['ecn_echo.py'], ['udp_relay.py', '127.0.0.1:9'], ['reuseport_workers.py'],
    ['dns_server.py'], ['trio_echo.py'], ['stream_file.py', 'receive']], ids=' '.join)
class TestAddressesToListenOn:

    def refused(self, arguments, *options):
        """The last line of what it says; before it there is its usage, or nothing."""
        name, *more = arguments
        done = run(*PYTHON, EXAMPLES / name, *more, *options)
        assert (done.returncode in (1, 2), done.stdout) == (True, '')
        *before, line = done.stderr.splitlines()
        assert not before or before[0].startswith('usage: '), done.stderr
        assert 'Traceback' not in done.stderr and 'Warning' not in done.stderr
        return line

    @pytest.mark.parametrize('port', ['99999', '65536', '-1', 'http', ''])
    def test_no_such_port(self, arguments, port):
        assert self.refused(arguments, f'--port={port}').endswith(
            f'error: argument --port: {port!r} is not a port from 0 to 65535')

    def test_a_port_that_is_taken(self, arguments, client):
        client.bind(('127.0.0.1', 0))
        assert 'Address already in use' in self.refused(
            arguments, '--host', '127.0.0.1', '--port', client.getsockname()[1])

    @pytest.mark.parametrize(('host', 'complaint'), [
        ('192.0.2.1', 'Cannot assign requested address'), ('nowhere.invalid', '')])
    def test_no_such_address(self, arguments, host, complaint):
        assert complaint in self.refused(arguments, '--host', host, '--port', 0)


class TestEcho:

    @pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
    def test_answers_and_counts(self, client, number):
        with serving(*PYTHON, EXAMPLES / 'udp_echo.py') as (process, port):
            for payload in (b'one', b'x' * 60000):
                client.sendto(payload, ('127.0.0.1', port))
                assert client.recvfrom(65535) == (payload, ('127.0.0.1', port))
            process.send_signal(number)
            assert finish(process).startswith('2 datagrams received, 2 sent, 0 dropped, ')

    def test_answers_without_uring(self, client):
        with serving(*PYTHON, EXAMPLES / 'udp_echo.py', **WITHOUT_URING) as (process, port):
            client.sendto(b'one', ('127.0.0.1', port))
            assert client.recv(100) == b'one'
            process.send_signal(signal.SIGINT)
            assert finish(process).startswith('1 datagrams received, 1 sent, 0 dropped, 0 system')


class TestECNEcho:

    @pytest.mark.parametrize('changes', [{}, WITHOUT_URING])
    def test_answers_as_it_was_asked(self, changes):
        command = [*PYTHON, EXAMPLES / 'ecn_echo.py']
        with serving(*command, **changes) as (process, port):
            for host in '127.0.0.1', '127.0.0.2':
                asked = run(*command, '--ask', host, '--port', port, **changes)
                assert (asked.returncode, asked.stderr) == (0, '')
                answers = [line.rpartition(',')[0] for line in asked.stdout.splitlines()]
                assert answers == [f'{ecn}: answered by {host}, marked {ecn}'
                                   for ecn in ('Not-ECT', 'ECT(1)', 'ECT(0)', 'CE')]
            process.send_signal(signal.SIGINT)
            assert finish(process) == '8 datagrams received, 8 sent, 0 found no room\n'

    def test_says_that_nobody_answers(self):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gone:
            gone.bind(('127.0.0.1', 0))
            port = gone.getsockname()[1]
        asked = run(*PYTHON, EXAMPLES / 'ecn_echo.py', '--ask', '127.0.0.1', '--port', port)
        assert (asked.returncode, asked.stderr) == (1, '')
        assert asked.stdout.startswith('Not-ECT: no answer (')
        assert asked.stdout.count(': no answer (') == 4


class TestErrors:

    @pytest.mark.parametrize('changes', [{}, WITHOUT_URING])
    def test_prints_what_the_network_says(self, changes):
        ports = []
        for _ in range(2):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gone:
                gone.bind(('127.0.0.1', 0))
                ports.append(gone.getsockname()[1])
        asked = run(*PYTHON, EXAMPLES / 'udp_errors.py', '--seconds', LIMIT,
                    *[f'127.0.0.1:{port}' for port in ports], **changes)
        assert (asked.returncode, asked.stderr) == (0, '')
        assert asked.stdout.splitlines() == [
            f"127.0.0.1 port {port}: ECONNREFUSED from ICMP, type 3, code 3, info 0; "
            f"sent was b'datagram {number}'" for number, port in enumerate(ports)]

    def test_says_that_nothing_is_said(self, client):
        client.bind(('127.0.0.1', 0))
        port = client.getsockname()[1]
        asked = run(*PYTHON, EXAMPLES / 'udp_errors.py', '--seconds', '0.01', f'127.0.0.1:{port}')
        assert asked.stdout == f'127.0.0.1 port {port}: nothing within 0.01 seconds\n'

    @pytest.mark.parametrize('changes', [{}, WITHOUT_URING])
    def test_says_what_is_not_sent(self, changes):
        """To a broadcast address, which takes a socket option."""
        asked = run(*PYTHON, EXAMPLES / 'udp_errors.py', '255.255.255.255:9', **changes)
        assert (asked.returncode, asked.stderr) == (0, '')
        assert asked.stdout in (      # without any network the latter
            'not sent: Permission denied\n', 'not sent: Network is unreachable\n')

    @pytest.mark.parametrize(('address', 'complaint'), [
        ('127.0.0.1', "'127.0.0.1' is not HOST:PORT"), ('127.0.0.1:0', 'is not HOST:PORT'),
        ('127.0.0.1:65536', 'is not HOST:PORT'), ('[::1]:9', "'[::1]:9': IPv4 only"),
        ('nowhere.invalid:9', 'nowhere.invalid: ')])
    def test_refuses_bad_addresses(self, address, complaint):
        refused = run(*PYTHON, EXAMPLES / 'udp_errors.py', address)
        assert (refused.returncode, refused.stdout) == (2, '')
        assert complaint in refused.stderr.splitlines()[-1]


class TestTrioEcho:

    @pytest.mark.parametrize('changes', [{}, WITHOUT_URING])
    @pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
    def test_answers_and_sends_files(self, client, tmp_path, number, changes):
        path = tmp_path / 'content'
        path.write_bytes(os.urandom(100_000))
        client.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE if os.geteuid() == 0
                          else socket.SO_RCVBUF, 1 << 20)
        with serving(*PYTHON, EXAMPLES / 'trio_echo.py', path, **changes) as (process, port):
            client.sendto(b'one', ('127.0.0.1', port))
            assert client.recvfrom(65535) == (b'one', ('127.0.0.1', port))
            client.sendto(b'send other', ('127.0.0.1', port))
            assert client.recv(100) == b'send other'
            client.sendto(b'send content\n', ('127.0.0.1', port))
            pieces = [client.recv(65535) for _ in range(84)]
            assert b''.join(pieces) == path.read_bytes()
            assert {len(piece) for piece in pieces[:-1]} == {1200}
            process.send_signal(number)
            assert finish(process) == '2 datagrams echoed, 1 files sent, 0 given up\n'


class TestRelay:

    @pytest.fixture
    def receivers(self):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one, \
                socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as two:
            for sock in one, two:
                sock.bind(('127.0.0.1', 0))
                sock.settimeout(LIMIT)
            yield one, two

    @pytest.mark.parametrize(('changes', 'trains'), [({}, 1), (WITHOUT_URING, 0)])
    def test_sends_on_what_comes(self, client, receivers, changes, trains):
        train = [bytes([n]) * 1200 for n in range(20)] + [b'the last']
        sent = [b'one', *train, b'']
        names = [f'127.0.0.1:{sock.getsockname()[1]}' for sock in receivers]
        with serving(*PYTHON, EXAMPLES / 'udp_relay.py', *names, **changes) as (process, port):
            client.connect(('127.0.0.1', port))
            client.send(b'one')
            client.sendmsg([b''.join(train)],
                           [(SOL_UDP, UDP_SEGMENT, struct.pack('H', 1200))])
            client.send(b'')
            for sock in receivers:
                assert [sock.recv(65535) for _ in sent] == sent
            process.send_signal(signal.SIGINT)
            assert finish(process) == (
                f'23 datagrams received, {trains} times in a train; 46 sent, '
                '0 dropped for want of room, 0 sends failed\n')

    def test_goes_on_where_nobody_listens(self, client, receivers):
        there, gone = receivers
        name = gone.getsockname()[1]
        gone.close()
        with serving(*PYTHON, EXAMPLES / 'udp_relay.py', f'127.0.0.1:{name}',
                     f'127.0.0.1:{there.getsockname()[1]}') as (process, port):
            for n in range(10):
                client.sendto(b'%d' % n * 100, ('127.0.0.1', port))
                assert there.recv(65535) == b'%d' % n * 100
            process.send_signal(signal.SIGTERM)
            assert finish(process).startswith('10 datagrams received, ')

    @pytest.mark.parametrize(('arguments', 'complaint'), [
        (['nowhere'], "'nowhere' is not HOST:PORT"),
        (['127.0.0.1:1', '[::1]:1'], 'all IPv4 or all IPv6'),
    ])
    def test_refuses_bad_receivers(self, arguments, complaint):
        refused = run(*PYTHON, EXAMPLES / 'udp_relay.py', *arguments)
        assert refused.returncode == 2
        assert complaint in refused.stderr


class TestWorkers:

    def test_share_a_port(self):
        """Each answers, and none is missing that anybody has sent."""
        with serving(*PYTHON, EXAMPLES / 'reuseport_workers.py', '--workers', 2) as (process, port):
            for _ in range(40):
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                    sock.settimeout(LIMIT)
                    sock.sendto(b'hello', ('127.0.0.1', port))
                    assert sock.recvfrom(100) == (b'hello', ('127.0.0.1', port))
            process.send_signal(signal.SIGINT)
            counts = [int(line.split()[2]) for line in finish(process).splitlines()]
            assert len(counts) == 2
            assert sum(counts) == 40

    def test_refuses_a_port_that_is_taken(self):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
            taken.bind(('127.0.0.1', 0))
            refused = run(*PYTHON, EXAMPLES / 'reuseport_workers.py', '--port',
                          taken.getsockname()[1])
        assert refused.returncode == 2
        assert 'Address already in use' in refused.stderr


class TestDNS:

    @pytest.fixture
    def server(self):
        with serving(*DNS) as (process, port):
            yield port
            process.send_signal(signal.SIGTERM)
            assert finish(process) == ''

    def ask(self, client, port, query):
        client.sendto(query.pack(), ('127.0.0.1', port))
        reply = dnslib.DNSRecord.parse(client.recv(65535))
        assert reply.header.id == query.header.id
        assert reply.header.qr == 1
        return reply

    def test_knows_nothing_of_its_loop(self):
        source = (EXAMPLES / 'dns_server.py').read_text()
        assert 'uringloop' not in source.partition('"""\nimport')[2]

    @pytest.mark.parametrize(('name', 'kind', 'expected'), [
        ('www.example.test', 'A', ['192.0.2.10', '192.0.2.11']),
        ('WWW.Example.TEST', 'AAAA', ['2001:db8::10']),
        ('example.test', 'TXT', ['"v=spf1 mx -all"']),
        ('example.test', 'MX', ['10 mail.example.test.', '20 backup.example.test.']),
    ])
    def test_answers_with_records(self, client, server, name, kind, expected):
        reply = self.ask(client, server, dnslib.DNSRecord.question(name, kind))
        assert [str(record.rdata) for record in reply.rr] == expected
        assert (reply.header.rcode, reply.header.aa) == (dnslib.RCODE.NOERROR, 1)

    @pytest.mark.parametrize(('name', 'code', 'authorities'), [
        ('no.example.test', dnslib.RCODE.NXDOMAIN, 1),
        ('backup.example.test', dnslib.RCODE.NOERROR, 1),
        ('example.org', dnslib.RCODE.REFUSED, 0),
    ])
    def test_tells_that_there_is_nothing(self, client, server, name, code, authorities):
        reply = self.ask(client, server, dnslib.DNSRecord.question(name, 'AAAA'))
        assert (reply.header.rcode, reply.rr, len(reply.auth)) == (code, [], authorities)

    def test_truncates_long_answers(self, client, server):
        query = dnslib.DNSRecord.question('long.example.test', 'TXT')
        reply = self.ask(client, server, query)
        assert (reply.header.tc, reply.rr) == (1, [])
        query.add_ar(dnslib.EDNS0(udp_len=4096))
        reply = self.ask(client, server, query)
        assert (reply.header.tc, len(reply.rr)) == (0, 10)

    def test_malformed_queries(self, client, server):
        query = dnslib.DNSRecord.question('www.example.test').pack()
        client.sendto(b'short', ('127.0.0.1', server))          # not to be answered
        client.sendto(query[:2] + b'\x80' + query[3:], ('127.0.0.1', server))     # an answer
        client.sendto(query[:-3], ('127.0.0.1', server))
        reply = dnslib.DNSRecord.parse(client.recv(65535))
        assert (reply.header.rcode, reply.header.qr) == (dnslib.RCODE.FORMERR, 1)
        assert reply.header.id == int.from_bytes(query[:2], 'big')

    def test_reads_a_zone_file(self, client, tmp_path):
        zone = tmp_path / 'zone'
        zone.write_text('$ORIGIN home.test.\n$TTL 60\n@ IN SOA ns admin 1 2 3 4 5\n'
                        'printer IN A 192.0.2.99\n')
        with serving(*DNS, '--zone', zone) as (_, port):
            reply = self.ask(client, port, dnslib.DNSRecord.question('printer.home.test'))
            assert [str(record.rdata) for record in reply.rr] == ['192.0.2.99']

    @pytest.mark.parametrize('text', ['not a zone', 'a.test. 60 IN A 192.0.2.1', None])
    def test_refuses_a_bad_zone(self, tmp_path, text):
        zone = tmp_path / 'zone'
        if text is not None:
            zone.write_text(text)
        answer = run(*DNS, '--port', 0, '--zone', zone)
        assert answer.returncode == 1
        assert answer.stderr.startswith('dns_server: cannot read the zone: ')
        assert answer.stderr.count('\n') == 1

    @needs_dig
    def test_dig_understands_it(self, server):
        answer = run('dig', '@127.0.0.1', '-p', server, '+short', 'www.example.test', 'AAAA')
        assert (answer.returncode, answer.stdout) == (0, '2001:db8::10\n')


class TestStream:

    def stream(self, sample, tmp_path, *, sender=STREAM, receiver=STREAM, host='127.0.0.1',
               options=(), **changes):
        """Send the sample; the sender's report."""
        path, digest = sample
        copy = tmp_path / 'copy'
        with serving(*receiver, 'receive', '--host', host, '--output', copy,
                     **changes) as (process, port):
            sent = run(*sender, 'send', host, '--port', port, '--file', path, '--json', *options,
                       **changes)
            assert sent.returncode == 0, sent.stderr
            assert '100% of 8 MB' in sent.stderr
            output = finish(process)
        assert f'sha256 {digest}: as sent' in output
        assert copy.read_bytes() == path.read_bytes()
        report = json.loads(sent.stdout)
        assert (report['sha256'], report['delivered']) == (digest, True)
        assert report['bytes'] == 8_000_000
        return report

    @needs_feature('report_usage', where='send_zc')
    def test_over_loopback(self, sample, tmp_path):
        report = self.stream(sample, tmp_path, options=['--size', 60_000])
        # Hello, 134 of content, the end and the farewell.
        assert report['datagrams'] - report['resent'] == 137
        assert report['zerocopy'] + report['copied'] == report['released'] == report['datagrams']

    def test_small_datagrams(self, sample, tmp_path):
        report = self.stream(sample, tmp_path, options=['--size', 8001, '--window', 3])
        assert report['datagrams'] - report['resent'] == 1003
        assert report['released'] == report['datagrams']

    def test_without_uring(self, sample, tmp_path):
        report = self.stream(sample, tmp_path, **WITHOUT_URING)
        assert report['copied'] == report['released'] == report['datagrams']

    def test_losses_are_made_up_for(self, sample, tmp_path):
        """A relay that loses, repeats and reorders: the file comes whole."""
        path, digest = sample
        with serving(*STREAM, 'receive') as (process, port), lossy_relay(port) as relay:
            sent = run(*STREAM, 'send', '127.0.0.1', '--port', relay, '--file', path, '--json',
                       '--size', 60_000)
            assert sent.returncode == 0, sent.stderr
            assert f'sha256 {digest}: as sent' in finish(process)
        assert json.loads(sent.stdout)['resent'] > 0

    def test_a_train_that_is_acknowledged_in_part(self, tmp_path):
        """Its lease does not come back, and the window's trains have them all: it is sent again."""
        def receive():
            came = set()
            while True:
                data, sender = receiver.recvfrom(65535)
                sequence, kind = struct.unpack('!QB7x', data[:16])
                again = sequence in came
                came.add(sequence)
                wanted = next(n for n in range(200) if n not in came)
                if 45 <= wanted <= 99 and not again:
                    wanted = 60 if wanted == 99 else 45     # of three trains, within the second
                if again:
                    resent.append(sequence)
                receiver.sendto(struct.pack('!QIB', wanted, 1 << 20, wanted > 99), sender)
                if kind == 3:
                    return

        path = tmp_path / 'sample'
        path.write_bytes(bytes(98 * 1456))                  # trains of 44, 44 and 10
        resent = []
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
            receiver.bind(('127.0.0.1', 0))
            receiver.settimeout(LIMIT)
            thread = threading.Thread(target=receive)
            thread.start()
            sent = run(*STREAM, 'send', '127.0.0.1', '--port', receiver.getsockname()[1],
                       '--file', path, '--size', 1456, '--window', 2, '--json')
            thread.join()
        assert sent.returncode == 0, sent.stderr
        assert json.loads(sent.stdout)['delivered']
        assert resent

    def test_says_what_it_sent_as_text(self, sample):
        path, digest = sample
        with serving(*STREAM, 'receive') as (process, port):
            sent = run(*STREAM, 'send', '127.0.0.1', '--port', port, '--file', path)
            assert 'none missing' in finish(process)
        assert sent.returncode == 0
        assert f'sha256 {digest}: as received' in sent.stdout

    def test_makes_a_file(self):
        with serving(*STREAM, 'receive') as (process, port):
            sent = run(*STREAM, 'send', '127.0.0.1', '--port', port, '--megabytes', 1, '--json')
            assert sent.returncode == 0
            assert finish(process).startswith('1,000,000 bytes')

    @pytest.mark.parametrize('options', [[], ['--blind']])
    def test_nobody_there(self, client, sample, options):
        client.bind(('127.0.0.1', 0))
        port = client.getsockname()[1]
        client.close()
        sent = run(*STREAM, 'send', '127.0.0.1', '--port', port, '--file', sample[0], *options)
        assert sent.returncode == 1
        assert sent.stderr == (f'stream_file: nobody listens on 127.0.0.1 port {port}: '
                               'start "receive" there first\n')

    @pytest.mark.parametrize(('options', 'complaint'), [
        (['--size', '65508'], '--size must be from 32 to 65491'),
        (['--window', '0'], '--window must be at least 1'),
    ])
    def test_refuses_bad_options(self, options, complaint):
        sent = run(*STREAM, 'send', '127.0.0.1', *options)
        assert sent.returncode == 2
        assert complaint in sent.stderr

    def test_refuses_a_file_that_is_not_there(self, tmp_path):
        sent = run(*STREAM, 'send', '127.0.0.1', '--file', tmp_path / 'missing')
        assert sent.returncode == 1
        assert sent.stderr.startswith('stream_file: [Errno 2]')

    @needs_feature('report_usage', where='send_zc')
    @needs_root
    def test_over_a_wire(self, sample, tmp_path, namespaces):
        with namespaces.veth_pair() as (sender, receiver, address):
            report = self.stream(
                sample, tmp_path, sender=['ip', 'netns', 'exec', sender, *STREAM],
                receiver=['ip', 'netns', 'exec', receiver, *STREAM], host=address)
        assert report['copied'] == report['released'] == report['datagrams']

    @needs_feature('send_zc', 'report_usage')
    @needs_root
    def test_an_ordinary_mtu_is_what_it_expects_and_nothing_is_copied(self, sample, namespaces):
        with namespaces.black_hole('1500') as (name, address):
            sent = run('ip', 'netns', 'exec', name, *STREAM, 'send', address, '--blind', '--json',
                       '--file', sample[0])
            taken = namespaces.taken_bytes(name)
            trains = namespaces.taken(name)
        assert sent.returncode == 0, sent.stderr
        report = json.loads(sent.stdout)
        assert (report['zerocopy'], report['copied']) == (5495, 0)
        assert report['datagrams'] == report['released'] == 5495
        assert taken == 8_000_000 + 16 * 5495
        assert trains == 125             # of 44 datagrams

    @pytest.mark.parametrize('size', [500, 1456])
    def test_trains_arrive(self, sample, tmp_path, size):
        report = self.stream(sample, tmp_path, options=['--size', size])
        assert report['datagrams'] - report['resent'] == -(-8_000_000 // size) + 3
        assert report['released'] == report['datagrams']

    def test_on_asyncios_own_loop(self, sample, tmp_path):
        report = self.stream(sample, tmp_path, options=['--loop', 'asyncio'])
        assert report['released'] == 0

    @needs_feature('send_zc', 'report_usage')
    @needs_root
    def test_nothing_is_copied(self, sample, namespaces):
        with namespaces.black_hole() as (name, address):
            sent = run('ip', 'netns', 'exec', name, *STREAM, 'send', address, '--blind', '--json',
                       '--file', sample[0], '--size', 60_000)
            taken = namespaces.taken(name)
        assert sent.returncode == 0, sent.stderr
        report = json.loads(sent.stdout)
        assert (report['zerocopy'], report['copied']) == (134, 0)
        assert report['datagrams'] == report['released'] == taken == 134


class TestFanout:

    def fan_out(self, *arguments, **changes):
        done = run(*FANOUT, *arguments, '--json', **changes)
        assert (done.returncode, done.stderr) == (0, '')
        return json.loads(done.stdout)

    @needs_feature('report_usage', where='send_zc')
    def test_receivers_get_the_stream(self):
        """At the speed of a video; what is lost is for the socket's room to say."""
        report = self.fan_out('--local', 3, '--frames', 10, '--packets', 20)
        assert (report['receivers'], report['packets_written'], report['packets_sent']) \
            == (3, 200, 600)
        assert (report['lost'], report['wrong'], report['failures']) == (0, 0, {})
        assert report['zerocopy'] + report['copied'] == 600

    def test_without_uring(self):
        report = self.fan_out('--local', 2, '--frames', 5, '--packets', 20, **WITHOUT_URING)
        assert (report['packets_sent'], report['copied'], report['lost'], report['wrong']) \
            == (200, 200, 0, 0)

    def test_a_receiver_of_ones_own(self, client):
        client.bind(('127.0.0.1', 0))
        report = self.fan_out(
            f'127.0.0.1:{client.getsockname()[1]}', '--frames', 2, '--packets', 20, '--fps', 0)
        assert report['packets_sent'] == 40
        packets = [client.recv(2000) for _ in range(40)]
        assert {len(packet) for packet in packets} == {1200}
        assert [int.from_bytes(packet[2:4], 'big') for packet in packets] == list(range(40))
        assert [n for n, packet in enumerate(packets) if packet[1] & 0x80] == [19, 39]

    @needs_feature('send_zc', 'report_usage', 'registered_buffers', 'registered_messages')
    @needs_root
    def test_nothing_is_copied_however_many(self):
        report = self.fan_out('--drop', 40, '--frames', 50, '--fps', 0)
        assert report['packets_sent'] == report['zerocopy'] == 40 * 50 * 50
        assert (report['copied'], report['trains'], report['registered']) == (0, 2000, 2000)

    @needs_feature('report_usage', where='send_zc')
    def test_says_so_as_text(self):
        done = run(*FANOUT, '--local', 1, '--frames', 2)
        assert (done.returncode, done.stderr) == (0, '')
        assert done.stdout.startswith('100 packets of 1,200 bytes, written once, sent to 1 recei')
        assert 'copied by the kernel: 100%' in done.stdout
        assert 'the other sends left plainly: the path had been found to copy' in done.stdout

    def test_without_a_ring(self):
        done = run(*FANOUT, '--local', '2', '--frames', '3', '--fps', '0', URINGLOOP_DISABLE='1')
        assert (done.returncode, done.stderr) == (0, '')
        assert "copied by asyncio's own loop" in done.stdout
        assert 'copied by the kernel' not in done.stdout

    def test_says_what_helps_against_losses(self):
        report = {'receivers': 1, 'packets_of_frame': 50, 'packets_written': 100,
                  'packets_sent': 100, 'seconds': 1, 'zerocopy': 0, 'copied': 100, 'unknown': 0,
                  'submissions': 1, 'trains': 1, 'registered': 1, 'lost': 7, 'wrong': 0,
                  'failures': {}, 'fps': 0}
        code = f'import rtp_fanout; rtp_fanout.show({report!r})'
        done = run(*PYTHON, '-c', code, PYTHONPATH=f'{ROOT}{os.pathsep}{EXAMPLES}')
        assert (done.returncode, done.stderr) == (0, '')
        assert '7 packets lost: the receivers could not keep up: lower --fps (' in done.stdout

    @pytest.mark.parametrize(('arguments', 'complaint'), [
        ([], 'name receivers as HOST:PORT'), (['here'], "'here' is not HOST:PORT"),
        (['127.0.0.1:0'], 'is not HOST:PORT'), (['--local', '0'], 'is not a number from 1'),
        (['--drop', '2', '127.0.0.1:9'], '--drop goes with no other receivers')])
    def test_refuses_bad_arguments(self, arguments, complaint):
        done = run(*FANOUT, *arguments)
        assert done.returncode == 2
        assert complaint in done.stderr


@contextmanager
def lossy_relay(port):
    """A port whose datagrams reach another, and back, but not all and not in order."""
    def forward():
        came = 0
        held = None
        sender = None
        while True:
            data, address = relay.recvfrom(65535)
            if address == own:
                return
            if address == target:
                relay.sendto(data, sender)
                continue
            sender = address
            came += 1
            if came % 53 == 0:
                continue
            if came % 10 == 0 and held is None:
                held = data
                continue
            relay.sendto(data, target)
            if held is not None:
                relay.sendto(held, target)
                relay.sendto(held, target)
                held = None

    target = ('127.0.0.1', port)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as relay:
        relay.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        relay.bind(('127.0.0.1', 0))
        own = relay.getsockname()
        thread = threading.Thread(target=forward)
        thread.start()
        try:
            yield own[1]
        finally:
            relay.sendto(b'', own)
            thread.join()


@pytest.fixture
def namespaces(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    import namespaces
    return namespaces


def namespaces_left(process):
    """Network namespaces that a process has made and not deleted."""
    listed = subprocess.run(['ip', 'netns', 'list'], capture_output=True, text=True, check=True,
                            timeout=LIMIT)
    return [line for line in listed.stdout.splitlines()
            if line.startswith(f'uringloop-{process.pid}-')]


def table(output):
    """The table at the end of the demo: the cells of each leg."""
    lines = output.partition('\nleg ')[2].splitlines()
    return {line.split()[0]: line.split()[1:] for line in lines[1:lines.index('')]}


@needs_dig
class TestDemo:

    @needs_feature('send_zc', 'report_usage')
    @needs_root
    def test_shows_all_and_leaves_no_namespace(self):
        with started(*DEMO) as process:
            output, errors = finish_demo(process)
            assert namespaces_left(process) == []
        rows = table(output)
        assert rows['DNS'] == ['12', '-', '-', '-', '-', 'yes']
        assert [cell for i, cell in enumerate(rows['ifb']) if i != 1] == \
            ['134', '100.0%', '0.0%', '134', 'yes']
        datagrams = f'{-(-8_000_000 // 1456):,}'
        assert [cell for i, cell in enumerate(rows['mtu1500']) if i != 1] == \
            [datagrams, '100.0%', '0.0%', datagrams, 'yes']
        assert ' datagrams a second by uringloop\n' in output
        # Each figure says whose it is.
        figures = [line for line in errors.splitlines() if ' MB/s' in line]
        assert {line.rpartition(' by ')[2] for line in figures} >= {'uringloop', 'asyncio'}
        assert rows['veth'][2:4] == ['0.0%', '100.0%']
        assert rows['veth'][0] == rows['veth'][4]
        assert rows['veth'][5] == 'yes'

    def test_uses_loopback_without_namespaces(self, tmp_path):
        """Where no ip(8) can be had, as where there is no root: loopback, and a word on it."""
        (tmp_path / 'dig').symlink_to(shutil.which('dig'))
        with started(*DEMO, PATH=str(tmp_path)) as process:
            output, _ = finish_demo(process)
        assert 'the kernel copies each datagram' in output
        rows = table(output)
        assert list(rows) == ['DNS', 'loopback']
        assert rows['loopback'][5] == 'yes'

    @needs_root
    @pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
    def test_interrupted_leaves_no_namespace(self, number):
        with started(*DEMO[:-1], 64) as process:
            for line in process.stdout:
                if line.startswith('veth: '):
                    break
            assert len(namespaces_left(process)) == 2
            process.send_signal(number)
            _, errors = process.communicate()
            assert process.returncode == 130
            assert 'Traceback' not in errors
            assert namespaces_left(process) == []

    def test_a_wrong_answer_fails(self, tmp_path):
        """A dig that sees something else: the demo says so, and fails."""
        dig = tmp_path / 'dig'
        dig.write_text('#!/bin/sh\necho 192.0.2.66\n')
        dig.chmod(0o755)
        answer = run(*DEMO, PATH=str(tmp_path))
        assert answer.returncode == 1
        assert "WRONG: '192.0.2.66'" in answer.stdout
        assert table(answer.stdout)['DNS'][5] == 'NO'
        assert answer.stderr.endswith('demo: not as promised: DNS\n')


def finish_demo(process):
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    return output, errors


@pytest.mark.parametrize('number', ['0', '-3'])
def test_demo_refuses_a_file_of_nothing(number):
    answer = run(*PYTHON, EXAMPLES / 'demo.py', '--megabytes', number)
    assert (answer.returncode, answer.stdout) == (2, '')
    assert answer.stderr.endswith(f': error: --megabytes must be 1 or more, not {number}\n')


def test_demo_says_that_dig_is_missing(tmp_path):
    answer = run(*PYTHON, EXAMPLES / 'demo.py', PATH=str(tmp_path))
    assert (answer.returncode, answer.stdout) == (1, '')
    assert answer.stderr == 'demo: dig is not installed: apt install bind9-dnsutils\n'
