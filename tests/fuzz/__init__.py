"""What programs and networks get wrong, made from seeds: addresses, control messages, datagrams.

``make fuzz`` runs as many as one likes; ``test_fuzz`` some that are always the same.
"""
