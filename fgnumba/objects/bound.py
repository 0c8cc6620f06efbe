"""What is bound to memory: objects that hold addresses, which a copy would share or outlive."""

from typing import Any, NoReturn, SupportsIndex

from fgnumba.errors import ConfigError


class Bound:
    """Base of what holds addresses of memory: it is neither copied nor pickled.

    Models and trainers can be: their copies bind themselves anew.
    """

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise ConfigError(
            f"a {type(self).__name__} is bound to addresses of memory and cannot be copied or pickled; "
            "copy the model or the trainer, which bind anew"
        )

    def __reduce__(self) -> Any:
        return self.__reduce_ex__(0)
