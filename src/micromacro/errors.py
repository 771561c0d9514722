"""The one exception for input that a user can mend, and the doors that need nothing else."""

import operator
from collections.abc import Iterable
from dataclasses import fields


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
        super().__init__(what, fault, remedy)  # all of them, so that another process can send it

    def __str__(self) -> str:
        """The line."""
        return " ".join("{}: {}; {}".format(*self.args).split("\n"))


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


def whole(value: object) -> int | None:
    """An integer of any type, such as NumPy's or a tensor of one, as an int; None for all else."""
    try:
        return None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        return None


def wholes(values: object) -> list[int | None]:
    """One value or several, each as `whole` gives it."""
    try:
        return [whole(value) for value in values]
    except TypeError:  # one
        return [whole(values)]


def check_whole(name: str, value: object, least: int = 1) -> int:
    """Refuse what is no whole number.

    Args:
        name: Name of the number.
        value: An integer of any type, see `whole`.
        least: The least that passes.

    Returns:
        The number as an int, in which nothing overflows.

    Raises:
        BadInput: It is no integer, or less.
    """
    number = whole(value)
    if number is None or number < least:
        raise BadInput(name, f"is {value!r}", f"give a whole number of at least {least}")
    return number


def check_sizes(**sizes: object) -> list[int]:
    """Several whole numbers of 1 or more by their names, as `check_whole` takes each."""
    return [check_whole(name, size) for name, size in sizes.items()]


def check_widths(name: str, widths: object) -> tuple[int, ...]:
    """Refuse what is no sequence of whole numbers of 1 or more; an empty one passes.

    Args:
        name: Name of the sequence.
        widths: Integers of any type, see `whole`.

    Raises:
        BadInput: One of them is none, or below 1.
    """
    numbers = wholes(widths)
    if any(number is None or number < 1 for number in numbers):
        raise BadInput(name, f"are {widths!r}", "give whole numbers, 1 or more")
    return tuple(numbers)


def check_sides(name: str, sides: object) -> tuple[int, int]:
    """Refuse what is no side of a square picture and no (H, W).

    Args:
        name: Name of the argument.
        sides: An integer of any type, see `whole`, or two of them.

    Returns:
        Height and width in pixels.

    Raises:
        BadInput: It is neither, or one is below 1.
    """
    pair = wholes(sides) if whole(sides) is None else 2 * [whole(sides)]
    if len(pair) != 2 or any(side is None or side < 1 for side in pair):
        raise BadInput(f"{name}={sides!r}", "not a side in pixels", "give e.g. 48, or (48, 64)")
    return tuple(pair)


class Dialled:
    """Base of a dataclass of dials, whose numbers `check_dials` keeps in their ranges."""

    def __post_init__(self):
        check_dials(self)


def check_dials(dials: object) -> None:
    """Refuse a number off its dial; for the ``__post_init__`` of a dataclass of dials.

    Args:
        dials: Each of its fields that is annotated ``Annotated[type, low, high]`` is a number from
            low to high, or holds such numbers, of two the smaller one first; None passes.

    Raises:
        BadInput: One is not, or is nan.
    """
    for dial in fields(dials):
        value, ends = getattr(dials, dial.name), getattr(dial.type, "__metadata__", ())
        numbers = value if isinstance(value, tuple | list) else (value,)
        if len(ends) == 2 and not all(n is None or ends[0] <= n <= ends[1] for n in numbers):
            remedy = f"give {ends[0]} to {ends[1]}"
            raise BadInput(f"{dial.name}={value}", "is off the dial", remedy)
        if len(ends) == len(numbers) == 2 and numbers[0] > numbers[1]:
            raise BadInput(f"{dial.name}={value}", "is off the dial", "give the smaller one first")
