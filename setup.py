"""The one thing that pyproject.toml cannot say: a build starts from an empty build folder.

setuptools copies sources into build/lib and installs what it finds there; a file deleted from the sources
would be installed from an old build.
"""

import shutil

from setuptools import setup
from setuptools.command.build_py import build_py


class FreshBuild(build_py):
    """``build_py`` into an empty folder."""

    def run(self) -> None:
        if not self.editable_mode:
            shutil.rmtree(self.build_lib, ignore_errors=True)
        super().run()


setup(cmdclass={"build_py": FreshBuild})
