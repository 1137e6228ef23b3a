"""Tables of short texts, and somebody who watches how they are predicted."""

import contextlib


def watched_by(advance, totals=None):
    """What `predict_table` is to tell: how many rows there are, and each time some are done."""

    @contextlib.contextmanager
    def watch(total):
        if totals is not None:
            totals.append(total)
        yield advance

    return watch


def texts(number, first="a"):
    """A table of `number` different short texts."""
    return "id,text\n" + "".join(f"{n},{first if n == 0 else 'word'} {n}\n" for n in range(number))
