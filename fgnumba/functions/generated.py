"""Python functions made from text, where the number of arguments or loops differs.

Numba looks up the module of a function that is read from disk, and the disk cache must tell a made function from every
other by what it is made of.
"""

from typing import Any

from fgnumba.kernels.machine.identity import DEPENDS_ON


def generated(name: str, lines: list[str], **space: Any) -> Any:
    """Return the function `name` that lines of text define.

    Parameters
    ----------
    name : str
        Name of the function.
    lines : list of str
        Its definition.
    **space : object
        Values of the global names in it.
    """
    source = "\n".join(lines) + "\n"
    names: dict[str, Any] = {**space, "__name__": __name__}
    exec(source, names)
    setattr(names[name], DEPENDS_ON, (source, *sorted(space.items(), key=lambda item: item[0])))
    return names[name]
