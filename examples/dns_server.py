"""An authoritative DNS server in plain asyncio, with dnslib for the packets.

It knows nothing of the loop that it runs on:

    .venv/bin/python -m uringloop run examples/dns_server.py --port 5353
    dig @127.0.0.1 -p 5353 www.example.test A
"""
import argparse
import asyncio
import signal
import sys
from collections import defaultdict
from pathlib import Path

from dnslib import EDNS0, QTYPE, RCODE, RR, DNSBuffer, DNSError, DNSHeader, DNSRecord

ZONE = """
$ORIGIN example.test.
$TTL 300
@       IN  SOA   ns.example.test. admin.example.test. 1 3600 600 86400 300
@       IN  NS    ns.example.test.
@       IN  MX    10 mail.example.test.
@       IN  MX    20 backup.example.test.
@       IN  TXT   "v=spf1 mx -all"
ns      IN  A     192.0.2.1
www     IN  A     192.0.2.10
www     IN  A     192.0.2.11
www     IN  AAAA  2001:db8::10
mail    IN  A     192.0.2.20
mail    IN  AAAA  2001:db8::20
backup  IN  A     192.0.2.30
""" + '\n'.join(f'long  IN  TXT  "{chr(letter) * 250}"' for letter in range(ord('a'), ord('k')))

CLASSIC_LIMIT = 512      # bytes of an answer to a client that offers no EDNS
OWN_LIMIT = 4096         # bytes of the longest answer of this server


class Zone:
    """What the server knows: records by name and type, all below one name."""

    def __init__(self, text):
        self.records = defaultdict(list)
        for record in RR.fromZone(text):
            self.records[record.rname, record.rtype].append(record)
            if record.rtype == QTYPE.SOA:
                self.soa = record
        if not hasattr(self, 'soa'):
            raise DNSError('the zone has no SOA record')
        self.names = {name for name, _ in self.records}

    def answer(self, query):
        """The reply to a query, as long as it may become."""
        reply = query.reply(ra=0)
        question = query.q
        found = self.records.get((question.qname, question.qtype), [])
        if not question.qname.matchSuffix(self.soa.rname):
            reply.header.aa = 0
            reply.header.rcode = RCODE.REFUSED
        elif found:
            reply.add_answer(*found)
        else:
            reply.add_auth(self.soa)
            if question.qname not in self.names:
                reply.header.rcode = RCODE.NXDOMAIN
        return reply


class Server(asyncio.DatagramProtocol):

    def __init__(self, zone):
        self.zone = zone

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, addr):
        try:
            query = DNSRecord.parse(data)
        except DNSError:
            self.refuse_format(data, addr)
            return
        if query.header.qr or not query.questions:
            return       # answering answers would never end
        reply = self.zone.answer(query)
        limit = CLASSIC_LIMIT
        for record in query.ar:
            if record.rtype == QTYPE.OPT:
                limit = max(limit, min(record.edns_len, OWN_LIMIT))
                reply.add_ar(EDNS0(udp_len=OWN_LIMIT))
        packet = reply.pack()
        if len(packet) > limit:
            packet = self.truncated(reply).pack()
        self.transport.sendto(packet, addr)

    @staticmethod
    def truncated(reply):
        """The same reply without its records: the client is to ask for more another way."""
        short = DNSRecord(reply.header, questions=reply.questions, ar=reply.ar)
        short.header.tc = 1
        return short

    def refuse_format(self, data, addr):
        try:
            asked = DNSHeader.parse(DNSBuffer(data))
        except DNSError:
            return       # not even a header to answer to
        if not asked.qr:
            header = DNSHeader(id=asked.id, qr=1, ra=0, rcode=RCODE.FORMERR)
            self.transport.sendto(DNSRecord(header).pack(), addr)


async def serve(zone, host, port):
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    transport, _ = await loop.create_datagram_endpoint(
        lambda: Server(zone), local_addr=(host, port))
    name, port = transport.get_extra_info('sockname')[:2]
    print(f'listening on {name} port {port}', flush=True)
    await stop.wait()
    transport.close()


def port_number(text):
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f'{text!r} is not a port from 0 to 65535')
    return int(text)


def main():
    parser = argparse.ArgumentParser(
        description='Answer DNS queries over UDP from one zone, until Ctrl-C.',
        epilog='try it: dig @127.0.0.1 -p 5353 www.example.test AAAA')
    parser.add_argument('--host', default='127.0.0.1',
                        help='address to listen on; 0.0.0.0 or :: for all (default: %(default)s)')
    parser.add_argument('--port', type=port_number, default=5353,
                        help='UDP port, 0 for any free one (default: %(default)s)')
    parser.add_argument('--zone', type=Path, metavar='FILE',
                        help='zone file to serve, with its SOA record '
                             '(default: a small example.test)')
    options = parser.parse_args()
    try:
        zone = Zone(options.zone.read_text() if options.zone else ZONE)
    except (OSError, ValueError, DNSError) as error:
        sys.exit(f'dns_server: cannot read the zone: {error}')
    try:
        asyncio.run(serve(zone, options.host, options.port))
    except OSError as error:
        sys.exit(f'dns_server: {options.host} port {options.port}: {error.strerror or error}')


if __name__ == '__main__':
    main()
