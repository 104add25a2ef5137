"""Sends many datagrams for each way that sends can end, and tells what has stayed of them.

    python -m tests.leaks.run --sends 1000000
    python -m tests.leaks.run cancelled loop_closed

``sends`` are those of each ending, in three rounds; what is left is told of the best round.
"""
from __future__ import annotations

import argparse
import sys

from tests.leaks.endings import ENDINGS
from tests.leaks.measure import COUNTS_BLOCKS, ROUNDS, Growth, growth

BLOCKS, HEAP, REFERENCES = 20, 16 << 10, 100       # that may come and go


def is_flat(grown: Growth) -> bool:
    left = grown.left
    return left.blocks <= BLOCKS and left.heap <= HEAP and left.references <= REFERENCES


def main() -> int:
    parser = argparse.ArgumentParser(
        prog='python -m tests.leaks.run', description=__doc__.splitlines()[0])
    parser.add_argument('endings', nargs='*', metavar='ending', default=list(ENDINGS),
                        help='of ' + ', '.join(ENDINGS))
    parser.add_argument('--sends', type=int, default=1_000_000, help='of each')
    arguments = parser.parse_args()
    unknown = set(arguments.endings) - set(ENDINGS)
    if unknown:
        parser.error(f'there is no ending {", ".join(sorted(unknown))}')
    references = hasattr(sys, 'gettotalrefcount')
    if not COUNTS_BLOCKS:
        print('This allocator has no blocks to count')
    print(f'{"ending":22} {"sends":>9}  {"seconds":>7}  {"blocks":>6}  {"heap, bytes":>11}  '
          f'{"references":>10}  {"resident, KiB":>13}')
    flat = True
    for name in arguments.endings:
        grown = growth(ENDINGS[name], -(-arguments.sends // ROUNDS), arguments.sends // 20)
        flat = flat and is_flat(grown)
        counted = f'{grown.left.references:10}' if references else f'{"-":>10}'
        print(f'{name:22} {grown.sends * ROUNDS:9}  {grown.seconds:7.1f}  {grown.left.blocks:6}  '
              f'{grown.left.heap:11}  {counted}  {grown.resident >> 10:13}'
              f'{"" if is_flat(grown) else "   GROWS"}', flush=True)
    print('flat' if flat else 'NOT flat')
    return 0 if flat else 1


if __name__ == '__main__':
    sys.exit(main())
