"""How many programs Hypothesis makes, and how it goes about it.

The same ones each time; or as many others as one likes: ``make compare EXAMPLES=2000``.
"""
import os

from hypothesis import HealthCheck, Phase, settings

EXAMPLES = int(os.environ.get('URINGLOOP_EXAMPLES', '0'))


def profile(count: int) -> settings:
    return settings(max_examples=EXAMPLES or count, derandomize=not EXAMPLES, deadline=None,
                    database=None, report_multiple_bugs=False,
                    suppress_health_check=list(HealthCheck),
                    phases=(Phase.explicit, Phase.generate, Phase.shrink))
