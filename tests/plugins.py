"""Packages made for a test: a module on ``sys.path``, and a dist-info folder as an installation leaves it."""

import importlib
import sys
from pathlib import Path


def module(folder: Path, name: str, source: str) -> None:
    """Write a module into a folder. A module of that name that was imported earlier is forgotten."""
    (folder / f"{name}.py").write_text(source, encoding="utf-8")
    sys.modules.pop(name, None)
    importlib.invalidate_caches()


def package(folder: Path, name: str, points: dict[str, dict[str, str]]) -> None:
    """Write what pip leaves of a package's metadata: its name and its entry points, by group and name."""
    metadata = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", encoding="utf-8"
    )
    lines = []
    for group, entries in points.items():
        lines += [f"[{group}]", *(f"{key} = {value}" for key, value in entries.items()), ""]
    (metadata / "entry_points.txt").write_text("\n".join(lines), encoding="utf-8")
    importlib.invalidate_caches()
