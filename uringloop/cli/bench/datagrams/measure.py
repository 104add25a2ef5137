"""One measurement: what has sent is compared with what has received, as each has counted."""
from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict
from typing import Any

from uringloop.cli.bench import process, results, turns
from uringloop.cli.bench.datagrams import sender as senders
from uringloop.cli.bench.datagrams.rows import ECHO, PROCESSORS, Load, Sender, Server
from uringloop.cli.bench.datagrams.server import Job
from uringloop.cli.bench.rows import Entrant, Group
from uringloop.cli.bench.turns import Plan


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


def sending_difference(sent: dict[str, Any], arrived: dict[str, Any]) -> str:
    """The same of a sender, and of who has received it."""
    lost = sent['sent'] - arrived['datagrams']
    if lost != arrived['dropped']:
        return (f'{sent["sent"]:,} datagrams sent, {arrived["datagrams"]:,} arrived, '
                f'{arrived["dropped"]:,} dropped')
    missing = sent['bytes'] - arrived['bytes']
    if missing < 0 or bool(missing) != bool(lost):
        return f'{sent["bytes"]:,} bytes sent, {arrived["bytes"]:,} arrived'
    return ''


def unshared(said: list[dict[str, Any]]) -> str:
    """How processes have not shared what came to their port; empty if they have."""
    idle = sum(not each['datagrams'] for each in said)
    return f'nothing came to {idle} of {len(said)} processes' if idle and len(said) > 1 else ''


def together(said: list[dict[str, Any]]) -> dict[str, Any]:
    """What several say, as if they were one."""
    whole = {name: sum(each[name] for each in said) for name in said[0]}
    if 'ended' in whole:
        whole['ended'] = max(each['ended'] for each in said)
    if 'began' in whole:
        whole['began'] = min(each['began'] for each in said)
        whole['seconds'] = max(each['began'] + each['seconds'] for each in said) - whole['began']
    return whole


def _serving(server: Server, plan: Plan, port: int | None) -> list[str]:
    """The command of one process; ``port`` as in ``Job``."""
    if server.side == 'C':
        return [plan.program('udp_serve'), server.way, str(plan.seconds),
                *([] if port is None else [str(port)])]
    return process.python('datagrams.server', asdict(Job(
        server.side, server.way, plan.seconds, port)))


def _served(server: Server, plan: Plan) -> results.Work:
    load, count = server.load, max(server.processes, 1)
    port = 0 if server.processes else None
    with ExitStack() as stack:
        running = []
        for processor in PROCESSORS[:count]:
            running.append(stack.enter_context(process.started(
                _serving(server, plan, port), processor)))
            port = process.first_line(running[-1])['port']
        loading = [plan.program('udp_load'), load.way, str(port), str(load.size),
                   str(plan.seconds), str(load.sockets), str(load.window)]
        loads = [stack.enter_context(process.started(loading, processor))
                 for processor in PROCESSORS[::-1][:count]]
        sent = together([process.outcome(each, plan.seconds) for each in loads])
        said = [process.outcome(each, plan.seconds) for each in running]
    served = together(said)
    wrong = difference(load, sent, served) or unshared(said)
    if load.way == ECHO:
        return results.Work(sent['seconds'], sent['answered'], served['cpu'], sent['lost'], wrong)
    return results.Work(served['ended'] - sent['began'], served['datagrams'], served['cpu'],
                        sent['sent'] - served['datagrams'], wrong)


def _sent(sender: Sender, plan: Plan) -> results.Work:
    mix = sender.mix
    receiving = [plan.program('udp_sinks'), str(mix.sockets), str(plan.seconds)]
    with process.started(receiving, PROCESSORS[-1]) as sinks:
        ports = process.first_line(sinks)['ports']
        if sender.side == 'C':
            sending = [plan.program('udp_send'), sender.way, str(mix.shortest), str(mix.longest),
                       str(plan.seconds), *map(str, ports)]
        else:
            sending = process.python('datagrams.sender', asdict(senders.Job(
                sender.side, mix.shortest, mix.longest, plan.seconds, ports)))
        with process.started(sending, PROCESSORS[0]) as running:
            sent = process.outcome(running, plan.seconds)
        arrived = process.outcome(sinks, plan.seconds)
    return results.Work(sent['seconds'], sent['sent'], sent['cpu'],
                        sent['sent'] - arrived['datagrams'], sending_difference(sent, arrived))


def sample(entrant: Entrant, plan: Plan) -> results.Work:
    """One measurement."""
    if isinstance(entrant, Sender):
        return _sent(entrant, plan)
    assert isinstance(entrant, Server)
    return _served(entrant, plan)


def run(groups: list[Group[Entrant]], plan: Plan) -> list[results.Group]:
    return turns.take(groups, {}, plan, lambda group, entrant: sample(entrant, plan))
