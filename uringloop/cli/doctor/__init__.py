"""``python -m uringloop doctor``: what this machine and process let the loop do.

Facts are gathered, each as plain data: ``system`` (files below /proc), ``ring`` (asked of the
kernel), ``interfaces`` (asked of the devices), ``path`` (tried, where a destination is named).
``advice`` judges them, ``report`` shows them, ``command`` reads the options.

Imports the public face of the package, and of ``ring`` what asks and reads: ``probe``,
``permissions``, ``features``; and ``options``, which judges the environment.
"""
