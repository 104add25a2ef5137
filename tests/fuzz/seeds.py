"""What is made of one seed, and what is wrong with it: lines, none if all is well."""
from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
import traceback
from collections.abc import Iterator

import uringloop
from tests.fuzz import addresses, messages
from tests.fuzz.datagrams import Storm
from tests.fuzz.finalizers import Program
from tests.support.cases import assert_no_leaks
from tests.support.namespaces import Namespace
from tests.support.process import descriptors
from tests.support.sockets import has_ipv6

ADDRESSES = 150             # of each family, of a seed
ENDPOINTS = 12
CALLS = 100
WALKS = 1000
THINGS = 20_000


@contextlib.contextmanager
def isolated() -> Iterator[None]:
    """Where no name can be looked up, and nothing leaves the machine; it takes root."""
    with Namespace() as namespace, namespace.entered():
        yield


def run_on(loop: asyncio.AbstractEventLoop, main, *, strict: bool = False):
    """The result of a coroutine, on a loop that is closed afterwards, and has nothing left.

    ``strict``: nor has its exception handler anything to tell.
    """
    told: list[dict] = []
    loop.set_exception_handler(lambda _, context: told.append(context))
    try:
        result = loop.run_until_complete(main)
        loop.run_until_complete(loop.shutdown_default_executor())
        for _ in range(10):
            loop.run_until_complete(asyncio.sleep(0))
    finally:
        loop.close()
    if isinstance(loop, uringloop.Loop):
        assert_no_leaks(loop)
    assert not (strict and told), told
    return result


def ours() -> asyncio.AbstractEventLoop:
    return uringloop.new_event_loop(require_uring=True)


def families() -> list[int]:
    return [socket.AF_INET, socket.AF_UNIX] + [socket.AF_INET6] * has_ipv6()


def compared(name: str, mine: list, theirs: list, what: list) -> list[str]:
    return [f'{name} {each!r}: {one}, expected {other}'
            for each, one, other in zip(what, mine, theirs, strict=True) if one != other]


def try_addresses(seed: int) -> list[str]:
    """Addresses to send to, and to make endpoints with."""
    found = []
    for family in families():
        made = addresses.Addresses(seed * 64 + family)
        some = [made.address(family) for _ in range(ADDRESSES)]
        found += compared('sendto', run_on(ours(), addresses.told_by_transports(family, some)),
                          run_on(asyncio.SelectorEventLoop(),
                                 addresses.told_by_transports(family, some)), some)
        found += run_on(ours(), addresses.differences_of_calls(family, some))
        few = some[:ENDPOINTS]
        mine, theirs = (run_on(loop, addresses.told_by_endpoints(family, few))
                        for loop in (ours(), asyncio.SelectorEventLoop()))
        found += [f'create_datagram_endpoint {one}, expected {other}'
                  for one, other in zip(mine, theirs, strict=True) if one[2] != other[2]]
    return found


def try_finalizers(seed: int) -> list[str]:
    """Any call within any other; that nothing is told of what sends fail by is not looked at."""
    loop = ours()
    program = Program(seed, loop)
    run_on(loop, program.run(THINGS))
    return program.problems if program.came and program.finalizers else ['nothing has happened']


def try_messages(seed: int) -> list[str]:
    """Control messages, sent and received."""
    found = messages.differences_of_walks(seed, WALKS)
    found += messages.differences_of_packing(seed, WALKS // 10)
    for family in families():
        made = messages.Messages(seed * 64 + family)
        found += run_on(ours(), messages.differences_of_sendmsg(
            family, [made.call() for _ in range(CALLS)]))
    return found


def try_datagrams(seed: int, count: int) -> tuple[list[str], int]:
    """Some ``count`` datagrams at one endpoint; how many have come."""
    before = len(descriptors())
    storm = Storm(seed)
    try:
        came = run_on(ours(), storm.run(count), strict=True)
    except Exception:
        return [f'{storm.plan}\n{traceback.format_exc()}'], 0
    left = len(descriptors()) - before
    return [f'{storm.plan}: {left} descriptors are left'] if left else [], came


def counts_of(seed: int, total: int) -> Iterator[tuple[int, int]]:
    """Seeds of endpoints, and how many datagrams each gets, until it is ``total``."""
    choose = random.Random(seed)
    while total > 0:
        count = min(total, choose.choice([100, 1000, 5000]))
        yield choose.randrange(1 << 32), count
        total -= count


def may_isolate() -> bool:
    return os.geteuid() == 0
