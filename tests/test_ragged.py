"""Clips of different lengths: masks by hand, batches of like length, and what does not fit."""

import itertools

import pytest
import torch
from refusals import refused

from micromacro.ragged import POOL, LikeLengths, as_float, padded, row_mask, trimmed


def test_the_rows_of_each_clip_come_first():
    x = torch.zeros(3, 4, 2)
    assert row_mask("x", x, None).all()
    mask = row_mask("x", x, torch.tensor([0, 4, 1]))
    assert mask.int().tolist() == [[0, 0, 0, 0], [1, 1, 1, 1], [1, 0, 0, 0]]
    assert row_mask("x", x[:, :0], None).shape == (3, 0)


def test_lengths_that_do_not_fit_are_refused():
    x = torch.zeros(2, 3)
    refused(lambda: row_mask("video", x[:0], None), "video", "(0, 3)", "no clip")
    for lengths in ([4, 1], [-1, 1], [3]):
        refused(lambda n=lengths: row_mask("video", x, torch.tensor(n)), "video_lengths", "0 to 3")
    refused(lambda: row_mask("video", x, torch.ones(2)), "video_lengths", "int64")


@pytest.mark.parametrize("lengths", [[2, 0, 3], [0, 0], [5]])
def test_a_batch_is_cut_to_its_longest_clip_and_padding_becomes_0(lengths):
    x, n = torch.arange(1.0, 1 + len(lengths) * 10).view(len(lengths), 5, 2), max(1, *lengths, 0)
    mask = row_mask("x", x, torch.tensor(lengths))
    made, own = trimmed(x.masked_fill(~mask[..., None], torch.nan), mask)
    assert made.shape == (len(lengths), n, 2)
    assert own.sum(1).tolist() == lengths
    for rows, expected, length in zip(made, x, lengths, strict=True):
        assert torch.equal(rows[:length], expected[:length])
        assert not rows[length:].any()
    assert trimmed(x[:, :0], mask[:, :0])[0].shape == (len(lengths), 1, 2), "no column at all"


def test_padded_rows_and_lengths():
    batch, lengths = padded([torch.ones(2, 3), None, torch.ones(4, 3)])
    assert lengths.tolist() == [2, 0, 4]
    assert batch.sum((1, 2)).tolist() == [6, 0, 12]
    assert not batch[0, 2:].any()
    grey, _ = padded([torch.full((1, 1, 2, 2), 51, dtype=torch.uint8)])
    assert grey.unique().tolist() == [pytest.approx(0.2)]
    assert padded([None, None]) == (None, None)
    refused(lambda: padded([torch.ones(2, 3), torch.ones(2, 4)]), "rows", "(3,)", "(4,)")


def test_bytes_become_shares_and_floats_stay():
    assert as_float(torch.tensor([0, 51, 255], dtype=torch.uint8)).tolist() == pytest.approx(
        [0, 0.2, 1]
    )
    x = torch.tensor([-3.0, 7.0])
    assert as_float(x) is x


class Numbers(LikeLengths):
    """A batch is the numbers of its clips, and one that its generator draws."""

    def __init__(self, lengths, size):
        self.lengths, self.size = torch.tensor(lengths), size

    def batch(self, rows, generator=None):
        return rows, None if generator is None else torch.rand((), generator=generator)


LENGTHS = torch.randint(1, 500, (203,), generator=torch.Generator().manual_seed(0)).tolist()


def test_in_order_all_clips_come_by_length_and_nothing_is_drawn():
    made = Numbers(LENGTHS, 8)
    batches = [*made]
    assert len(batches) == len(made) == 26
    assert all(drawn is None for _, drawn in batches)
    rows = torch.cat([rows for rows, _ in batches])
    assert torch.equal(rows, made.order)
    assert [LENGTHS[i] for i in rows] == sorted(LENGTHS)
    assert torch.equal(rows[made.order.argsort()], torch.arange(203)), "and can be put back"


def test_an_epoch_has_every_clip_once_and_pads_little():
    made, epochs = Numbers(LENGTHS, 8), []
    for seed in (1, 1, 2):
        epoch = [rows.tolist() for rows, _ in made(torch.Generator().manual_seed(seed))]
        assert sorted(itertools.chain(*epoch)) == list(range(203))
        longest = sum(len(rows) * max(LENGTHS[i] for i in rows) for rows in epoch)
        assert longest / sum(LENGTHS) - 1 < 0.2  # in random order 0.8
        epochs.append(epoch)
    assert epochs[0] == epochs[1] != epochs[2]
    assert [len(rows) for rows in epochs[0]] != sorted(map(len, epochs[0])), "short ones not last"


def test_an_epoch_draws_as_it_is_written():
    """Two permutations, then what the batches draw: so numbers of a seed stay what they are."""
    generator = torch.Generator().manual_seed(3)
    made = Numbers(LENGTHS, 4)
    own = [(rows.tolist(), float(drawn)) for rows, drawn in made(torch.Generator().manual_seed(3))]
    order, expected = torch.randperm(203, generator=generator).tolist(), []
    for start in range(0, 203, POOL * 4):
        pool = torch.tensor(order[start : start + POOL * 4])
        pool = pool[made.lengths[pool].argsort()].tolist()
        expected += [pool[k : k + 4] for k in range(0, len(pool), 4)]
    for i, (rows, drawn) in zip(torch.randperm(51, generator=generator), own, strict=True):
        assert rows == expected[i]
        assert drawn == float(torch.rand((), generator=generator))
