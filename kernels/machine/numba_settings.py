"""Imports Numba before any other module does, and turns faults in its environment variables into one-line errors.

Numba reads the variables ``NUMBA_*`` when it is imported, and again whenever it compiles. If it cannot read a value, it
prints a warning of many lines or raises an exception of its own. A wrong name of a processor reaches LLVM, which may
end the process.
"""

import os
import re
import subprocess
import sys
import warnings

from fgnumba.errors import DeviceError

FILE = ".numba_config.yaml"
"""Numba's configuration file, which Numba looks for in the working folder."""

_UNREADABLE = re.compile(
    r"Environment variable '(\w+)' is defined but its associated value '(.*?)' could not", re.S
)

_PROBE = """
import sys
import llvmlite.binding as llvm
llvm.initialize_native_target()
llvm.initialize_native_asmprinter()
machine = llvm.Target.from_default_triple().create_target_machine(cpu=sys.argv[1], features=sys.argv[2])
machine.emit_assembly(llvm.parse_assembly("define void @f() { ret void }"))
"""
"""A program that LLVM may end: it compiles a function for the processor and features given as arguments."""


def _configured(action: str) -> str | None:
    """Let Numba read its settings, and return its complaint if it cannot read one, else None."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            if action == "import":
                import numba  # noqa: F401
            else:
                sys.modules["numba.core.config"].reload_config()
        except ImportError:
            raise
        except Exception as error:
            return f"Numba's settings ({_set()}): {error}; correct or unset them, and start Python again"
    for warning in caught:
        unreadable = _UNREADABLE.match(str(warning.message))
        if unreadable:
            name, value = unreadable.groups()
            return f"{name}: {value!r} is no value that Numba can read; correct or unset it, and start Python again"
        # Warnings of any other kind are shown, or not, as usual.
        warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    return None


def _environment() -> dict[str, str]:
    """Return everything that decides Numba's settings: environment variables and the configuration file."""
    named = {name: value for name, value in os.environ.items() if name.startswith("NUMBA_")}
    return named | ({FILE: os.path.abspath(FILE)} if os.path.isfile(FILE) else {})


def _set() -> str:
    return ", ".join(_environment()) or "of its module numba.config"


def _executable_is_python() -> bool:
    """Whether ``sys.executable`` is Python.

    In a frozen program, or one that embeds Python, it is something else or empty.
    """
    name = os.path.basename(sys.executable or "").lower()
    return name.startswith(("python", "pypy")) and not getattr(sys, "frozen", False)


def _processor_problem(name: str, features: str) -> str | None:
    """Return LLVM's complaint about a processor's name and features, or None.

    A process of its own asks, since LLVM may end it.
    """
    wrong = [feature for feature in features.split(",") if feature and feature[0] not in "+-"]
    if wrong:
        return f"NUMBA_CPU_FEATURES: {wrong[0]!r} begins neither with + nor with -"
    if not _executable_is_python():
        return None
    try:
        done = subprocess.run(
            [sys.executable, "-c", _PROBE, name, features],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=60,
            check=False,
        )
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    said = done.stderr.strip().splitlines()
    # The process ended, or the name is unknown. LLVM ignores an unknown feature, with a message of its own.
    unknown = [line for line in said if "is not a recognized processor" in line]
    if "Traceback" in done.stderr or not (done.returncode or unknown):
        return None
    complaint = (unknown or said or ["the process ended"])[0]
    return f"NUMBA_CPU_NAME={name!r}, NUMBA_CPU_FEATURES={features!r}: LLVM: {complaint}"


_seen = _environment()
_problem = _configured("import")
if "numba" not in sys.modules:
    raise DeviceError(str(_problem))

import numba  # noqa: E402

_imported_disabled = bool(numba.config.DISABLE_JIT)

if _problem is None and (numba.config.CPU_NAME or numba.config.CPU_FEATURES):
    _problem = _processor_problem(numba.config.CPU_NAME or "", numba.config.CPU_FEATURES or "")
    if _problem is not None:
        # Reset, because Numba hands both to LLVM at the first use of its compiler.
        numba.config.CPU_NAME = numba.config.CPU_FEATURES = None


def problem() -> str | None:
    """Return, in one line, why Numba cannot compile kernels with its settings; None if it can."""
    global _seen, _problem
    if _problem is None and _environment() != _seen:
        _seen = _environment()
        _problem = _configured("reload")
    if _problem is not None:
        return _problem
    if _imported_disabled or numba.config.DISABLE_JIT:
        return (
            "NUMBA_DISABLE_JIT is set: Numba then compiles nothing, and kernels run compiled alone; "
            "unset it and start Python again"
        )
    return None


def check() -> None:
    """Raise DeviceError if Numba cannot compile kernels with its settings."""
    reason = problem()
    if reason is not None:
        raise DeviceError(reason)
