"""What every test of bad input asks: BadInput, in one line that holds certain words."""

from collections.abc import Callable

import pytest

from micromacro.errors import BadInput


def refused(call: Callable[[], object], *words: object) -> None:
    """Assert that a call raises BadInput, in one line that holds the words."""
    with pytest.raises(BadInput) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert str(word) in message
