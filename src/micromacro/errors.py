"""The one exception for input that a user can mend."""


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
