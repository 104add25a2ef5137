"""``python -m uringloop``: run an unmodified program on this loop."""
from uringloop.cli.run import main

if __name__ == '__main__':
    main()
