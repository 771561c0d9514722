"""A training that is stopped in its course, as Ctrl-C stops it."""

import pytest

from micromacro.training import Recorded


def interrupt(monkeypatch: pytest.MonkeyPatch, epoch: int) -> list[int]:
    """Raise KeyboardInterrupt once, before the end of this epoch, from 1 on, is recorded.

    Returns:
        A list that grows by one for each epoch that any training reaches the end of.
    """
    reached, note = [], Recorded.note

    def noted(self, predicted):
        reached.append(len(reached))
        if len(reached) == epoch:
            raise KeyboardInterrupt
        return note(self, predicted)

    monkeypatch.setattr(Recorded, "note", noted)
    return reached
