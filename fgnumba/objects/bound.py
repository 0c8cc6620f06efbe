"""Objects that hold addresses of memory, and so must not be copied: a copy would share the memory or outlive it."""

from typing import Any, NoReturn, SupportsIndex

from fgnumba.errors import ConfigError


class Bound:
    """Base class of objects that hold addresses of memory. They can be neither copied nor pickled: ConfigError.

    Models and trainers can be, because their copies bind kernels to memory of their own.
    """

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise ConfigError(
            f"a {type(self).__name__} is bound to addresses of memory and cannot be copied or pickled; "
            "copy the model or the trainer, whose copies use memory of their own"
        )

    def __reduce__(self) -> Any:
        return self.__reduce_ex__(0)
