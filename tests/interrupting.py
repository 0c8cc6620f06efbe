"""Interrupts at a chosen moment: where Python looks for signals, and at no other place.

CPython runs a signal's handler between two instructions, but only where it looks for one: when a function begins, after
a call, and at a jump backwards. An exception of a handler is raised there.
"""

import dis
import sys
from pathlib import Path

import fgnumba

FOLDERS = tuple(
    str(Path(folder).resolve()) for folder in {Path(fgnumba.__file__).parent, Path(__file__).parent.parent}
)
_LOOKS = ("CALL", "RESUME", "JUMP_BACKWARD")


class Moments:
    """Counts the moments at which a call could be interrupted in this package's code, and interrupts it at one.

    Parameters
    ----------
    at : number of the moment at which `error` is raised; None: at none.
    """

    def __init__(self, at=None, error=KeyboardInterrupt):
        self.at, self.count, self._error = at, 0, error
        self._before = {}

    def __call__(self, work):
        """Run `work`; return whether it was interrupted."""
        before = sys.gettrace()
        sys.settrace(self._enter)
        try:
            work()
        except self._error:
            return True
        finally:
            sys.settrace(before)
        return False

    def _enter(self, frame, event, argument):
        path = frame.f_code.co_filename
        if not path.startswith(FOLDERS) or f"tests{'/'}" in path:
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return self._follow

    def _follow(self, frame, event, argument):
        if event == "opcode":
            name = dis.opname[frame.f_code.co_code[frame.f_lasti]]
            if self._before.get(frame, "").startswith(_LOOKS):
                if self.count == self.at:
                    self._before.clear()
                    raise self._error
                self.count += 1
            self._before[frame] = name
        elif event == "return":
            self._before.pop(frame, None)
        return self._follow
