"""Network namespaces to send in: nothing of them is seen outside.  Needs root and iproute2."""
import json
import os
import subprocess
from contextlib import contextmanager

LONGEST_MTU = '65535'


class NamespaceError(Exception):
    """The kernel, or the lack of rights, forbids it."""


def ip(*arguments):
    """Run ip(8); what it prints."""
    try:
        # In a session of its own: Ctrl-C must not end it half-way through the cleaning up.
        return subprocess.run(['ip', *arguments], check=True, capture_output=True, text=True,
                              timeout=10, start_new_session=True).stdout
    except FileNotFoundError:
        raise NamespaceError('ip is not installed: apt install iproute2') from None
    except subprocess.CalledProcessError as error:
        raise NamespaceError(f'ip {" ".join(arguments)}: {error.stderr.strip()}') from None


@contextmanager
def namespace(suffix):
    """A network namespace for the time of a with statement; its name."""
    if os.geteuid() != 0:
        raise NamespaceError('it takes root to make network namespaces')
    name = f'uringloop-{os.getpid()}-{suffix}'
    ip('netns', 'add', name)
    try:
        yield name
    finally:
        ip('netns', 'del', name)


def bring_up(name, device, address, mtu=LONGEST_MTU):
    # Without IPv6 the device carries nothing but what is sent on purpose.
    ip('-n', name, 'link', 'set', device, 'addrgenmode', 'none')
    ip('-n', name, 'address', 'add', address, 'dev', device)
    ip('-n', name, 'link', 'set', device, 'mtu', mtu, 'up')


@contextmanager
def veth_pair():
    """Two namespaces with a cable between: their names, and the second one's address."""
    with namespace('a') as sender, namespace('b') as receiver:
        ip('link', 'add', 'veth0', 'netns', sender, 'type', 'veth',
           'peer', 'name', 'veth0', 'netns', receiver)
        bring_up(sender, 'veth0', '10.98.0.1/24')
        bring_up(receiver, 'veth0', '10.98.0.2/24')
        yield sender, receiver, '10.98.0.2'


@contextmanager
def black_hole(mtu=LONGEST_MTU, suffix='c'):
    """A namespace with a device that takes datagrams and drops them: its name, where to send.

    An ifb device takes memory as it is, like a network card with scatter/gather.
    """
    with namespace(suffix) as name:
        ip('-n', name, 'link', 'add', 'ifb0', 'type', 'ifb')
        bring_up(name, 'ifb0', '10.99.0.1/24', mtu)
        # Nobody would answer the question who has this address.
        ip('-n', name, 'neighbour', 'add', '10.99.0.2', 'lladdr', '02:00:00:00:00:01',
           'dev', 'ifb0')
        yield name, '10.99.0.2'


def taken(name):
    """How many packets the black hole of a namespace has taken.  A train is one, as in a card."""
    return statistics(name)['packets']


def taken_bytes(name):
    """How many bytes of UDP payload over IPv4, if each packet had one head."""
    counted = statistics(name)
    return counted['bytes'] - counted['packets'] * (14 + 20 + 8)


def statistics(name):
    [link] = json.loads(ip('-n', name, '-statistics', '-json', 'link', 'show', 'ifb0'))
    return link['stats64']['rx']
