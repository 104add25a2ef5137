"""The policy, and ``install``, by which a process makes this loop wherever it makes one."""
import asyncio
import sys
import warnings

import pytest

import uringloop
from tests.support.programs import script


@pytest.fixture
def policy():
    """Restore asyncio's policy afterwards."""
    yield
    asyncio.events._event_loop_policy = None


# What asyncio itself says of its policies, from Python 3.14 on.
@pytest.mark.filterwarnings("ignore:'asyncio:DeprecationWarning",
                            'ignore:asyncio deprecates:DeprecationWarning')
class TestPolicy:

    def test_a_new_loop_under_the_policy(self, policy):
        asyncio.set_event_loop_policy(uringloop.EventLoopPolicy())
        loop = asyncio.new_event_loop()
        assert type(loop) is uringloop.Loop
        loop.close()

    def test_is_of_asyncios_class(self):
        assert issubclass(uringloop.EventLoopPolicy, asyncio.AbstractEventLoopPolicy)
        assert uringloop.EventLoopPolicy is uringloop.EventLoopPolicy
        assert repr(uringloop.EventLoopPolicy).endswith("EventLoopPolicy'>")

    def test_install_makes_asyncio_run_use_it(self, policy):
        async def main():
            return type(asyncio.get_running_loop())

        uringloop.install()
        assert isinstance(asyncio.get_event_loop_policy(), uringloop.EventLoopPolicy)
        assert asyncio.run(main()) is uringloop.Loop

    @pytest.mark.skipif(sys.version_info < (3, 14), reason='deprecated from Python 3.14 on')
    def test_install_warns_once_and_whom_it_concerns(self, policy):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter('always')
            uringloop.install()
        [warning] = caught
        assert warning.category is DeprecationWarning
        assert warning.filename == __file__
        assert 'use uringloop.run(main()) or asyncio.Runner(' in str(warning.message)

    def test_nothing_warns_before_it_is_used(self):
        assert script('''
            import asyncio, uringloop
            from uringloop import *
            loop = EventLoopPolicy().new_event_loop()
            print(type(loop).__name__)
            loop.close()
        ''', '-W', 'error') == 'Loop\n'

    def test_where_asyncio_has_no_policies_it_says_what_instead(self):
        assert script('''
            import asyncio
            del asyncio.unix_events._UnixDefaultEventLoopPolicy
            import uringloop
            from uringloop import *
            instead = 'no event loop policies any more: use uringloop.run(main()) or asyncio.Runner'
            try:
                uringloop.EventLoopPolicy
            except AttributeError as error:
                assert instead in str(error), error
            try:
                uringloop.install()
            except RuntimeError as error:
                assert instead in str(error), error
            print(uringloop.run(asyncio.sleep(0, 'runs')))
        ''', '-W', 'error') == 'runs\n'

    def test_subprocess_under_the_policy(self, policy):
        async def main():
            process = await asyncio.create_subprocess_exec(
                'echo', 'hello', stdout=asyncio.subprocess.PIPE)
            return (await process.communicate())[0]

        uringloop.install()
        assert asyncio.run(main()) == b'hello\n'

    def test_no_such_name_is_an_attribute_error(self):
        with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
            _ = uringloop.nothing

    def test_public_names_are_there(self):
        for name in uringloop.__all__:
            assert getattr(uringloop, name) is not None


def test_importing_warns_of_nothing():
    assert script('import uringloop; print("quiet")', '-W', 'error') == 'quiet\n'
