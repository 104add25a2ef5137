"""What stays of a send when it has ended, whichever way: nothing.

``make leaks`` sends a million for each ending; ``test_leaks`` some thousands.
"""
