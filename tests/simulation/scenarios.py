"""What programs made from seeds have found, each as a program of its own.

A scenario is a few steps, and the faults that they take; it is run with some seeds, and all that
must hold of any program must hold of it.
"""
from __future__ import annotations

from typing import Any, NamedTuple

from tests.simulation.kernel import Kernel
from tests.simulation.programs import Program, Step

ALWAYS = 1000            # thousandths
SEEDS = 8
FROM_FIRST_TO_SECOND = (0, 1)


class Scenario(NamedTuple):
    faults: dict[str, int]
    steps: list[Step]
    abrupt: bool = False
    options: dict[str, Any] = {}         # noqa: RUF012


def step(name: str, *numbers: int) -> Step:
    return Step(name, (*numbers, *[0] * (5 - len(numbers))))


ENDPOINTS = [step('endpoint', 0, 1, 1, 1), step('endpoint', 0, 1, 1, 1)]
FORTY = step('send_zerocopy', *FROM_FIRST_TO_SECOND, 3, 4, 0)
FORTY_CHANGING = step('send_zerocopy', *FROM_FIRST_TO_SECOND, 3, 4, 1)
BULK = step('send', *FROM_FIRST_TO_SECOND, 3, 5, 2)

SCENARIOS = {
    # The kernel takes the beginning of a chain, and the rest with the next call, as a chain of its
    # own: what follows a send that has failed was sent before that was tried again.
    'a_chain_is_cut': Scenario(
        {'SUBMIT_PARTIAL': ALWAYS, 'SEND_ENOMEM': 300}, [*ENDPOINTS, FORTY, FORTY]),
    # A notification that comes before its result said that the memory is free, and the result
    # that it has to be sent once more.
    'notifications_come_first': Scenario(
        {'NOTIF_FIRST': ALWAYS, 'SEND_EAGAIN': 200},
        [*ENDPOINTS, FORTY_CHANGING, FORTY_CHANGING]),
    # What had no room was sent by another request, whose notification came before the first's.
    'a_socket_call_is_tried_again': Scenario(
        {'SEND_EAGAIN': 500, 'NOTIF_LAG': ALWAYS},
        [step('sock_pair'), *[step('sock_send_zerocopy', 0, 1, size) for size in range(9)] * 3]),
    # A loop that went on in another thread, and was closed before its first ring was gone: who
    # waited for a notification of that was never told, and its memory never released.
    'closed_after_it_moved': Scenario(
        {'NOTIF_LONG': ALWAYS}, [*ENDPOINTS, FORTY, step('move')], abrupt=True),
    # Where a peer has shut its sending half a poll for room is a lasting one, which tells only
    # what is new.  A send that was cut short though there was room waited for it for ever.
    'cut_short_with_a_lasting_poll': Scenario(
        {'SEND_SHORT': 300, 'SEND_EINTR': 300, 'NET_LAG': ALWAYS},
        [step('connect', 0, 1), step('sleep', 2), step('write_eof', 0), step('sleep', 2),
         step('write', 1, 5, 3, 1), step('write', 0, 5, 3, 1), step('sleep', 3)]),
    # Aborted with a full socket, while the kernel takes its time to cancel: the transport was
    # flushed each turn, and the kernel never entered, so that the loop was busy for ever.
    'aborted_while_it_is_full': Scenario(
        {'SEND_EAGAIN': 500, 'CANCEL_LAG': ALWAYS, 'POLL_LAG': ALWAYS},
        [*ENDPOINTS, BULK, step('abort', 0), step('sleep', 4), *ENDPOINTS, BULK]),
}


def run_scenario(kernel: Kernel, name: str) -> list[str]:
    """What is wrong, with any of the seeds."""
    from tests.simulation.play import Play

    scenario = SCENARIOS[name]
    problems = []
    for seed in range(SEEDS):
        kernel.begin(seed, {'all'})
        for fault, level in scenario.faults.items():
            kernel.set_level(fault, level)
        program = Program(seed, scenario.options, scenario.abrupt, scenario.steps)
        problems += [f'seed {seed}: {text}' for text in Play(kernel, program).run()]
        kernel.end()
    return problems
