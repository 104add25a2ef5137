"""URINGLOOP_FEATURES: what the kernel has is found out, and each is switched off."""
import os
import re

import pytest

from tests.support.programs import ROOT, python, script
from tests.support.seccomp import FORBID
from tests.support.work import WORK
from uringloop.ring.features import FEATURES, features_used

PRINT = '''
from uringloop.ring.features import features_used
print(*map(int, features_used().values()))
'''
KERNEL = tuple(map(int, os.uname().release.split('.')[:2]))


def test_what_this_kernel_has():
    """The version says what should be there; a distribution may have brought back more."""
    assert list(features_used()) == list(FEATURES)
    if 'URINGLOOP_FEATURES' not in os.environ:
        assert [name for name, used in features_used().items()
                if not used and FEATURES[name][0] <= KERNEL] == []


@pytest.mark.parametrize('name', FEATURES)
def test_each_can_be_switched_off(name):
    used = script(PRINT, URINGLOOP_FEATURES=f'-{name}').split()
    assert used[list(FEATURES).index(name)] == '0'
    assert used.count('0') - script(PRINT, URINGLOOP_FEATURES='').split().count('0') in {0, 1}


@pytest.mark.parametrize('off', [*(f'-{name}' for name in FEATURES), '-all',
                                 ' -ring_fd, -registered_files'])
def test_a_program_works_without_it(off):
    assert script(WORK + 'loop = uringloop.new_event_loop(require_uring=True)\n'
                  'print(work_on(loop))\nloop.close()', '-W', 'error',
                  URINGLOOP_FEATURES=off) == 'Loop\n'


@pytest.mark.parametrize('wrong', ['send_zc', '+send_zc', '-nothing', '-send_zc,-',
                                   '-send_zc;-all'])
def test_what_there_is_not_is_told(wrong):
    done = python('-c', 'import uringloop; uringloop.new_event_loop()', URINGLOOP_FEATURES=wrong)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f'ValueError: URINGLOOP_FEATURES: {wrong.split(",")[-1]!r} is none of ')
    assert '-send_zc' in last


SENDS = '''
import asyncio, uringloop

async def main():
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, local_addr=('127.0.0.1', 0))
    to = transport.get_extra_info('sockname')
    print(*await transport.sendto_zerocopy(bytearray(30_000), to, segment_size=1000))
    print(loop.stats().zerocopy_sent, loop.stats().zerocopy_copied)
    transport.close()

uringloop.run(main())
'''


def test_without_zerocopy_all_is_copied():
    assert script(SENDS, URINGLOOP_FEATURES='-send_zc') == '30000 True\n0 0\n'


def test_without_the_kernels_word_reports_say_so():
    assert script(SENDS, URINGLOOP_FEATURES='-report_usage') == '30000 None\n1 0\n'


def test_the_kernel_is_asked_again_if_it_could_not_be():
    """No descriptor for a ring is no answer."""
    assert script('''
        import os, resource, uringloop
        from uringloop.ring.features import features_used

        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        in_use = max(map(int, os.listdir('/proc/self/fd')))
        resource.setrlimit(resource.RLIMIT_NOFILE, (in_use, limits[1]))
        print(features_used()['send_zc'])
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        uringloop.new_event_loop(require_uring=True).close()
        print(features_used()['send_zc'])
        ''', URINGLOOP_FEATURES='') == 'False\nTrue\n'


def test_without_registered_buffers_pools_have_ordinary_memory():
    assert script('''
        import uringloop
        loop = uringloop.new_event_loop()
        print(loop.create_buffer_pool(1, 10))
        print(loop.register_buffer(bytearray(10)))
        loop.close()
        ''', URINGLOOP_FEATURES='-registered_buffers') == (
            '<BufferPool of 1 buffers of 10 bytes, 1 free, not registered>\n'
            '<RegisteredBuffer of 10 bytes, open>\n')


def test_a_loop_needs_no_second_ring():
    """The ring that asks is closed before the loop's is made, and is not missed if refused."""
    assert script(FORBID + '''
import asyncio, uringloop
from uringloop.ring.features import features_used
forbid_io_uring(1)
assert features_used()['ring_fd'] and not features_used()['send_zc']
print('asked')
''', URINGLOOP_FEATURES='') == 'asked\n'


def test_the_document_names_all():
    told = re.findall(r'^\| `(\w+)` \| (\d+)\.(\d+) \| (.*) \|$',
                      (ROOT / 'docs/fallback.md').read_text(), re.MULTILINE)
    assert [(name, (int(major), int(minor)), text.replace('`', ''))
            for name, major, minor, text in told] == [
                (name, since, text.replace('busy polling', 'busy_poll'))
                for name, (since, text) in FEATURES.items()]
