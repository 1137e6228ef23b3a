"""A preprocessor whose decoder ends or hangs its process; a module of its own, so that workers start fast."""

import os
import signal
import time

from mmpipe.preprocess import Preprocessor


class Perilous(Preprocessor):
    """Behaves by the text of the sample."""

    def feature(self, modality, value):
        if value == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        if value == "hang":
            time.sleep(60)
        return super().feature(modality, value)
