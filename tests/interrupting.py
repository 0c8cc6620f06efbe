"""Interrupts at a chosen moment, and only at moments at which Python checks for signals.

CPython runs signal handlers between two instructions, but checks for signals only when a function begins, after a call,
and at a backward jump. An exception of a handler is raised there.
"""

import dis
import os
import signal
import sys
from functools import cache
from pathlib import Path

import fgnumba

PACKAGE = Path(fgnumba.__file__).parent
FOLDERS = tuple(f"{(PACKAGE / name).resolve()}{os.sep}" for name in (".", "kernels", "bench", "cli"))
"""Of this package alone: what a signal may not cut in two elsewhere, ``fgnumba.uninterrupted`` holds it back from."""
_LOOKS = ("CALL", "RESUME", "JUMP_BACKWARD", "POP_JUMP_BACKWARD")


@cache
def _is_ours(path):
    return str(Path(path).resolve()).startswith(FOLDERS)


class Moments:
    """Counts the moments at which a call could be interrupted in this package's code, and interrupts it at one.

    Parameters
    ----------
    at : number of the moment at which SIGINT comes; None: at none.
    """

    def __init__(self, at=None):
        self.at, self.count = at, 0
        self._before = {}

    def __call__(self, work):
        """Run `work`; return whether it was interrupted."""
        before = sys.gettrace()
        # In the background it is ignored.
        handler = signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.settrace(self._enter)
        try:
            work()
        except KeyboardInterrupt:
            return True
        finally:
            sys.settrace(before)
            signal.signal(signal.SIGINT, handler)
        return False

    def _enter(self, frame, event, argument):
        if not _is_ours(frame.f_code.co_filename):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return self._follow

    def _follow(self, frame, event, argument):
        if event == "opcode":
            name = dis.opname[frame.f_code.co_code[frame.f_lasti]]
            before = self._before.get(frame, "")
            if before.startswith(_LOOKS) and "NO_INTERRUPT" not in before:
                self.count += 1
                if self.count - 1 == self.at:
                    # Its handler runs here, and raises, unless the signal is held back.
                    signal.raise_signal(signal.SIGINT)
            self._before[frame] = name
        elif event == "return":
            self._before.pop(frame, None)
        return self._follow
