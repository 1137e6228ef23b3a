"""A preprocessor whose decoder ends or hangs its process; a module of its own, so that workers start fast."""

import os
import signal
import time

from mmpipe.preprocess import Preprocessor


class Perilous(Preprocessor):
    """Behaves by the text of the sample."""

    def features(self, sample):
        if sample.text == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        if sample.text == "hang":
            time.sleep(60)
        return super().features(sample)
