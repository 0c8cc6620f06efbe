"""Writing of result files, completely or not at all."""

import os
import tempfile
from pathlib import Path

from fgnumba.errors import RunError
from fgnumba.storage.durable import MAX_NAME
from fgnumba.validation.paths import shortened


def write(path: Path, content: bytes | str) -> None:
    """Write a file. An existing file is replaced only once the new one is complete.

    Parameters
    ----------
    path : Path
        The file.
    content : bytes or str
        Its contents; text is written as UTF-8.

    Raises
    ------
    RunError
        The file cannot be written. An existing file is left unchanged.
    """
    data = content.encode() if isinstance(content, str) else content
    try:
        descriptor, temporary = tempfile.mkstemp(
            dir=path.parent, prefix=f".{shortened(path.name, MAX_NAME)}-"
        )
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
            mask = os.umask(0)
            os.umask(mask)
            os.chmod(temporary, 0o666 & ~mask)
            os.replace(temporary, path)
        except OSError:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error.strerror or error}") from None
