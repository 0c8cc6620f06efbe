"""Standard input, output and error that are closed, full, broken or of another encoding."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import fgnumba as fg
from fgnumba.cli.message import Terminal
from tests.fault_runs import COMMAND, ENVIRONMENT, PATIENCE

pytestmark = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a shell and a full device")

TRAIN = ("train", "--steps", "3", "--widths", "8", "--out", "run")
WHOLE = ["config.toml", "loss.png", "losses.f64", "metrics.jsonl", "model.safetensors", "state.safetensors"]


def process(*arguments, cwd, redirections="", command=COMMAND, **environment):
    """Run `fgtrain` from a shell with redirections; what is not redirected is captured."""
    script = f'"$@" {redirections}' if "|" in redirections else f'exec "$@" {redirections}'
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", script, "bash", *map(str, (*command, *arguments))],
        cwd=cwd,
        env={**ENVIRONMENT, **environment},
        capture_output=True,
        check=False,
        timeout=PATIENCE,
    )


@pytest.mark.parametrize(
    "redirections",
    ["2>&-", ">&-", "<&-", "<&- >&- 2>&-", ">/dev/full", "2>/dev/full", ">/dev/full 2>&1", "| true"],
)
def test_a_run_ends_wherever_its_output_leads(folder, redirections):
    done = process(*TRAIN, cwd=folder, redirections=redirections)
    assert done.returncode == 0
    assert b"Traceback" not in done.stdout + done.stderr
    assert b"Exception ignored" not in done.stderr
    assert sorted(path.name for path in (folder / "run").iterdir()) == WHOLE
    assert [
        json.loads(line)["step"]
        for line in (folder / "run/metrics.jsonl").read_text(encoding="utf-8").splitlines()
    ]


RESULTS = {
    "evaluate": ("evaluate", "run"),
    "predict": ("predict", "run", "x.npy"),
    "replay": ("replay", "run", "--quiet"),
    "info": ("info",),
    "help": ("train", "--help"),
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    import numpy as np

    found = tmp_path_factory.mktemp("trained")
    weights = ("--estimator", "weight-perturbation", "--quiet")
    assert process(*TRAIN, *weights, cwd=found).returncode == 0
    np.save(found / "x.npy", fg.datasets.load("digits").x_test[:3])
    return found


@pytest.mark.parametrize("command", RESULTS.values(), ids=RESULTS)
@pytest.mark.parametrize(
    ("redirections", "status"), [(">/dev/full", 2), (">&-", 0), ("<&- 2>&-", 0), ("2>/dev/full", 0)]
)
def test_a_result_that_cannot_be_printed_is_an_error(trained, command, redirections, status):
    done = process(*command, cwd=trained, redirections=redirections)
    assert done.returncode == status
    if status:
        (line,) = done.stderr.decode().splitlines()
        assert line.startswith("fgtrain: error: ")
        assert line.endswith("No space left on device")
    else:
        assert done.stderr == b""


OTHERS = {
    "compare": ("compare", "--estimators", "feedback", "--widths", "8", "--steps", "2", "--out", "out"),
    "reproduce": ("reproduce", "beale", "--quick", "--out", "out"),
    "search": ("search", "--widths", "8", "--count", "1", "--steps", "2", "--out", "out"),
}


@pytest.mark.parametrize("command", OTHERS.values(), ids=OTHERS)
@pytest.mark.parametrize(("redirections", "status"), [("<&- >&- 2>&-", 0), (">/dev/full 2>/dev/full", 2)])
def test_what_was_computed_is_written_wherever_output_leads(folder, command, redirections, status):
    assert process(*command, cwd=folder, redirections=redirections).returncode == status
    if (folder / "out").is_dir():
        assert sorted(path.name for path in (folder / "out").iterdir()) == ["data.json", "figure.svg"]
        json.loads((folder / "out" / "data.json").read_text(encoding="utf-8"))
    else:
        assert len((folder / "out").read_text(encoding="utf-8").splitlines()) == 2


def test_errors_keep_their_status_wherever_output_leads(folder):
    for redirections in ("2>&-", ">&- 2>&-", "2>/dev/full"):
        done = process("train", "--data", "nothing.npz", cwd=folder, redirections=redirections)
        assert (done.returncode, done.stdout + done.stderr) == (2, b"")
    assert list(folder.iterdir()) == []


TAKEN = """
import os, sys
from fgnumba.cli.message import prepare
before = sys.stdin, sys.stdout, sys.__stderr__
prepare()
with open("log", "w+b") as log:
    os.write(2, b"what a library says"), os.write(1, b"and prints")
    print(1), print(2, file=sys.stderr), sys.stdin.read()
    sys.__stderr__.write("and writes")
    log.write(f"{log.fileno() > 2} {before} {os.get_inheritable(2)}".encode())
"""


def test_no_file_takes_the_place_of_a_descriptor_that_is_closed(folder):
    script = [sys.executable, "-c", TAKEN]
    done = process(cwd=folder, redirections="<&- >&- 2>&-", command=script)
    assert done.returncode == 0
    assert (folder / "log").read_text(encoding="utf-8") == "True (None, None, None) True"


def test_without_streams_as_in_a_process_without_a_console(folder):
    script = (
        "import sys; sys.stdin = sys.stdout = sys.stderr = None; from fgnumba.cli.main import main; main()"
    )
    done = process(*TRAIN, cwd=folder, command=[sys.executable, "-c", script])
    assert done.returncode == 0
    assert sorted(path.name for path in (folder / "run").iterdir()) == WHOLE


ENCODINGS = {
    "ascii": {"PYTHONIOENCODING": "ascii"},
    "C": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "cp1252": {"PYTHONIOENCODING": "cp1252"},
    "ascii:strict": {"PYTHONIOENCODING": "ascii:strict", "PYTHONUTF8": "0"},
}
NAME = os.fsdecode("数据 é".encode())


@pytest.mark.parametrize(
    "environment",
    [
        pytest.param(one, id=name, marks=[pytest.mark.slow] if name in ("cp1252", "ascii:strict") else [])
        for name, one in ENCODINGS.items()
    ],
)
def test_any_encoding_of_output(folder, blobs, environment):
    shutil.copy(folder / blobs, folder / f"{NAME}.npz")
    data = ("--data", f"{NAME}.npz", "--widths", "8", "--steps", "2")
    for arguments, status in (
        (("train", *data, "--out", NAME), 0),
        (("train", "--resume", NAME), 0),
        (("evaluate", NAME), 0),
        (("compare", "--estimators", "feedback", *data), 0),
        (("evaluate", f"no {NAME}"), 2),
        (("train", "--help"), 0),
    ):
        done = process(*arguments, cwd=folder, **environment)
        assert done.returncode == status, done.stderr
        assert b"Traceback" not in done.stderr
        assert done.stdout or status or "--resume" in arguments
    assert (folder / "compared" / f"{NAME}-mlp" / "figure.svg").exists()


@pytest.mark.parametrize(
    "command",
    [
        ("train", "--steps", "40", "--widths", "8", "--out", NAME),
        ("reproduce", "beale", "--quick"),
        ("replay", "run"),
    ],
)
def test_bars_on_a_terminal_of_ascii(trained, folder, command):
    import pty

    shutil.copytree(trained / "run", folder / "run")
    leader, follower = pty.openpty()
    environment = {**ENVIRONMENT, "TERM": "xterm", "PYTHONIOENCODING": "ascii"}
    started = subprocess.Popen(
        [*COMMAND, *command], cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=follower
    )
    os.close(follower)
    shown = b""
    while True:
        try:
            shown += os.read(leader, 4096)
        except OSError:  # The other end is closed.
            break
    os.close(leader)
    assert started.wait(PATIENCE) == 0
    assert b"\x1b[?25l" in shown, "there was no bar"
    assert shown.isascii()
    assert b"Error" not in shown
    assert b"\\u" not in shown


def test_a_terminal_that_goes_away_is_written_to_in_vain(monkeypatch):
    def gone(*_):
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", gone)
        assert Terminal().write("a line\n") == len("a line\n")
    parts: list[bytes] = []

    def slow(_, content):
        parts.append(bytes(content[:3]))
        return len(parts[-1])

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", slow)
        Terminal().write("in parts")
    assert b"".join(parts) == b"in parts"


def test_the_package_is_the_command(folder):
    done = process("info", "--json", cwd=folder, command=[sys.executable, "-m", "fgnumba"])
    assert json.loads(done.stdout)["fgnumba"] == fg.__version__
    done = process("evaluate", "nothing", cwd=folder, command=[sys.executable, "-m", "fgnumba"])
    assert (done.returncode, done.stderr.split(b":")[0]) == (2, b"fgtrain")
