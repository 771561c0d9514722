"""The one exception for input that a user can mend."""

from collections.abc import Iterable


class BadInput(ValueError):
    """Input that cannot be used: which thing, what is wrong with it, what to do.

    The message is a single line, ``"<what>: <fault>; <remedy>"``. The command line prints it and
    exits with status 2; nothing has been written when it is raised.

    Args:
        what: The file, folder, parameter or column, as the user wrote it.
        fault: What is wrong with it.
        remedy: What the user can do about it.
    """

    def __init__(self, what: object, fault: str, remedy: str):
        super().__init__(" ".join(f"{what}: {fault}; {remedy}".split("\n")))


def check_choice(name: str, value: object, choices: Iterable[object]) -> None:
    """Refuse a value that is none of the choices.

    Args:
        name: Name of what is chosen.
        value: The value that was chosen.
        choices: What there is to choose from; for a mapping its keys.

    Raises:
        BadInput: The value is unknown; the message lists the choices.
    """
    choices = list(choices)
    if value not in choices:
        raise BadInput(f"{name} {value!r}", "is unknown", f"choose {', '.join(map(str, choices))}")
