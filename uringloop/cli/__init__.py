"""``python -m uringloop``: its commands, one module each.

Imports the public face of the package only.
"""
