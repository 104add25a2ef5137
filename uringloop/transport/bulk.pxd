"""Which sends of a turn wait for its end, to leave together."""

cdef enum:
    BULK = 4            # sends of one turn; the rest of them leave together
    BULKS_IN_A_ROW = 3  # turns with one, each right behind the other


cdef struct bulk_count:
    unsigned turn               # the last one that sent
    unsigned sends              # in that turn
    unsigned bulks              # turns with a bulk, in a row up to then


cdef inline bint counts_as_bulk(bulk_count* count, unsigned turn) noexcept:
    """Count a send: whether it is one of a bulk.

    The first ones of a turn are not, and so a lone one is not.  Where the last turn that
    sent had a bulk, only the first is not; and where bulk follows bulk, turn after turn,
    all are.
    """
    cdef unsigned alone = BULK
    if count.turn != turn:
        if count.sends <= BULK:
            count.bulks = 0
        elif turn - count.turn > 1:
            count.bulks = 1
        elif count.bulks < BULKS_IN_A_ROW:
            count.bulks += 1
        count.turn = turn
        count.sends = 0
    count.sends += 1
    if count.bulks:
        alone = 1 if count.bulks < BULKS_IN_A_ROW else 0
    return count.sends > alone
