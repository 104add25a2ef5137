"""One measurement of one server: what its load says is compared with what it has counted."""
from __future__ import annotations

import os
from dataclasses import asdict
from typing import Any

from uringloop.cli.bench import process, results, turns
from uringloop.cli.bench.datagrams.rows import ECHO, Load, Server
from uringloop.cli.bench.datagrams.server import Job
from uringloop.cli.bench.rows import Group
from uringloop.cli.bench.turns import Plan

PROCESSORS = sorted(os.sched_getaffinity(0))        # the first is the server's, the last the load's


def difference(load: Load, sent: dict[str, Any], served: dict[str, Any]) -> str:
    """How what the two sides say cannot both be true; empty if it can."""
    lost = sent['sent'] - served['datagrams']
    if lost < 0:
        return f'{sent["sent"]:,} datagrams sent, {served["datagrams"]:,} arrived'
    if served['bytes'] != served['datagrams'] * load.size:
        return (f'{served["datagrams"]:,} datagrams of {load.size:,} bytes arrived as '
                f'{served["bytes"]:,} bytes')
    if load.way == ECHO:
        if served['datagrams'] < sent['answered'] or (lost and not sent['lost']):
            return f'{served["datagrams"]:,} datagrams arrived, {sent["answered"]:,} answers'
        return ''
    # What the socket has no room for the kernel drops and counts, a train as one or as many.
    if not served['dropped'] <= lost <= served['dropped'] * load.window:
        return (f'{sent["sent"]:,} datagrams sent, {served["datagrams"]:,} arrived, '
                f'{served["dropped"]:,} dropped')
    return ''


def sample(server: Server, plan: Plan) -> results.Work:
    """One measurement."""
    load = server.load
    loading = [plan.program('udp_load'), load.way, '', str(load.size), str(plan.seconds),
               str(load.sockets), str(load.window)]
    if server.side == 'C':
        serving = [plan.program('udp_serve'), server.way, str(plan.seconds)]
    else:
        serving = process.python('datagrams.server', asdict(Job(
            server.side, server.way, plan.seconds)))
    with process.started(serving, PROCESSORS[0]) as running:
        loading[2] = str(process.first_line(running)['port'])
        with process.started(loading, PROCESSORS[-1]) as loaded:
            sent = process.outcome(loaded, plan.seconds)
        served = process.outcome(running, plan.seconds)
    wrong = difference(load, sent, served)
    if load.way == ECHO:
        return results.Work(sent['seconds'], sent['answered'], served['cpu'], sent['lost'], wrong)
    return results.Work(served['ended'] - sent['began'], served['datagrams'], served['cpu'],
                        sent['sent'] - served['datagrams'], wrong)


def run(groups: list[Group[Server]], plan: Plan) -> list[results.Group]:
    return turns.take(groups, {}, plan, lambda group, server: sample(server, plan))
