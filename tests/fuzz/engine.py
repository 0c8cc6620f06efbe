"""The process that tries inputs: atheris with our parsers and the libraries that they use, instrumented."""

import os
import sys
import tempfile

import atheris

from tests.places import ROOT

# A kernel's bytecode is compiled as it stands, and NumPy is read before a parser can be.
READ = ["fgnumba", "zipfile", "gzip", "tomllib", "json", "ast", "tokenize", "numpy.lib"]
KERNELS = ROOT / "kernels"
LEFT_ALONE = ["fgnumba.kernels"]
for path in KERNELS.rglob("*.py"):
    parts = path.relative_to(KERNELS).with_suffix("").parts
    LEFT_ALONE.append(".".join(("fgnumba.kernels", *(part for part in parts if part != "__init__"))))

os.environ["FGNUMBA_DEVICE"], os.environ["FGNUMBA_PRECISION"] = "cpu", "float32"
with atheris.instrument_imports(include=READ, exclude=LEFT_ALONE):
    from tests.fuzz.rules import shrink_the_machine
    from tests.fuzz.targets import TARGETS
    from tests.fuzz.words import dictionary


def main() -> None:
    """Run ``TARGET CORPUS [libFuzzer's options]``; it does not return."""
    name, corpus, *options = sys.argv[1:]
    target = TARGETS[name]
    shrink_the_machine()
    for number, seed in enumerate(target.seeds()):
        with open(os.path.join(corpus, f"seed-{number}"), "wb") as file:
            file.write(seed)
    words = os.path.join(tempfile.gettempdir(), "words")
    with open(words, "w", encoding="utf-8") as text:
        text.write(dictionary())
    atheris.Setup([sys.argv[0], corpus, f"-dict={words}", *options], target.read)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
