"""``micromacro data check``: what of an official data set is there, missing or wrong."""

import shutil

import numpy as np
import pytest
from afew_miniatures import CLASSES, write_split_of
from affect_miniatures import omg_row, write_sheet
from long_miniatures import write_all_videos
from micro_miniatures import write_all_clips

from micromacro import cli
from micromacro.datasets import micro
from micromacro.datasets.check import CHECKS
from micromacro.video import write_video


def film(path, n_frames=13):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(path, [np.zeros((16, 16, 3), np.uint8)] * n_frames)


@pytest.fixture
def omg(tmp_path):
    """OMG-Emotion in miniature: three sheets, three films, nothing missing."""
    for split, labels in (("Train", ""), ("Validation", ""), ("Test", "_WithLabels")):
        film(tmp_path / "omg" / split / f"video_{split}" / "utterance_4.mp4")
        rows = [omg_row(f"video_{split}", 4)]
        write_sheet(tmp_path / "omg", f"omg_{split}Videos{labels}.csv", rows)
    return tmp_path / "omg"


def checked(capsys, *words):
    status = cli.main(["data", "check", *map(str, words)])
    return status, capsys.readouterr().out.splitlines()


def test_data_check_names_what_is_not_right(omg, capsys):
    kinds = ("Train", "Validation", "Test")
    whole = [f"  {split}: 1 clips listed, 1 there, 0 missing" for split in kinds]
    whole += ["  3 films, 0 folders of aligned faces", "  0 wrong, 0 missing, 0 unlisted"]
    assert checked(capsys, "omg", omg) == (0, [f"omg in {omg}", *whole])
    train, validation, test = (omg / s / f"video_{s}" / "utterance_4.mp4" for s in kinds)
    train.rename(train.with_name("utterance_40.mp4"))
    test.write_bytes(b"no film")
    film(validation, 12)
    with (omg / "omg_TestVideos_WithLabels.csv").open("a") as sheet:
        sheet.write(omg_row("video_Test", 5, valence="-1.5"))
    status, lines = checked(capsys, "omg", omg)
    assert (status, len(lines)) == (1, 7 + 4)
    assert "  1 clips below 13 frames: too short for a snippet" in lines
    assert "  2 wrong, 1 missing, 1 unlisted" in lines
    assert "line 3: valence -1.5 is outside [-1, 1]; restore the official file" in lines[7]
    assert lines[8].startswith(f"wrong     {test}: not a video")
    assert lines[9] == "missing   Train/video_Train/utterance_4.mp4"
    assert lines[10] == "unlisted  Train/video_Train/utterance_40.mp4"


def test_data_check_counts_what_is_too_much_to_list(omg, capsys):
    with (omg / "omg_TrainVideos.csv").open("a") as sheet:
        for video in range(30):
            sheet.writelines(f"{omg_row(f'v{video}', n)}\n" for n in (1, 2, 5))
    status, lines = checked(capsys, "omg", omg)
    assert (status, len(lines)) == (1, 6 + 20 + 1)
    assert lines[1] == "  Train: 91 clips listed, 1 there, 90 missing"
    assert lines[6] == "missing   Train/v0/utterance_1.mp4 and 2 more there"
    assert lines[-1] == "and 10 more"


def test_data_check_of_labels_a_frame(tmp_path, capsys):
    def label(video, n_labels):
        for name in ("valence", "arousal"):
            file = tmp_path / "annotations/train" / name / f"{video}.txt"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("0.5\n" * n_labels)

    for video, n_labels in {"long": 14, "equal": 13, "short": 12}.items():
        label(video, n_labels)
        film(tmp_path / f"videos/train/{video}.mp4")
    status, lines = checked(capsys, "affwild", tmp_path)
    assert status == 1
    assert "  1 films go on after their last label: the rest counts as unlabelled" in lines
    assert lines[-1].startswith(f"wrong     {tmp_path}/videos/train/long.mp4: 13 frames, but 14")
    assert "  1 wrong, 0 missing, 0 unlisted" in lines
    label("long", 13)
    assert checked(capsys, "affwild", tmp_path)[0] == 0


def test_data_check_says_where_the_official_split_cuts_films(omg, capsys):
    rows = {"Train": ["shared"], "Validation": ["shared", "own"], "Test": []}
    for split, links in rows.items():
        sheet = f"omg_{split}Videos{'_WithLabels' if split == 'Test' else ''}.csv"
        lines = [omg_row(f"{split}_{k}", 1, link=link) for k, link in enumerate(links)]
        for k in range(len(links)):
            film(omg / split / f"{split}_{k}" / "utterance_1.mp4")
        with (omg / sheet).open("a") as file:
            file.writelines(f"{line}\n" for line in lines)
    status, lines = checked(capsys, "omg", omg)
    told = "  {}: 1 clips are of films that another split has parts of"
    assert status == 0
    assert [line for line in lines if "films that" in line] == [
        told.format(split) for split in ("Train", "Validation")
    ]


# ---- counts of whole data sets -------------------------------------------------------------------

# Clips by emotion, or micro- and macro-expressions; as `labels.csv` and the papers have them.
WHOLE = {
    **{
        name: {e: int(n) for e, n in zip(rows["emotion"], rows["clips"], strict=True)}
        for name, rows in micro._LABELS.groupby("dataset", sort=False)
    },
    "samm-lv": {"n_micro": 159, "n_macro": 343},
    "casme-squared": {"n_micro": 57, "n_macro": 300},
    "afew": dict(zip(CLASSES, (133, 74, 81, 150, 144, 117, 74), strict=True)),  # of training
}
WHOLE["casme"]["tense"] += 4  # of which four the paper has 189 nobody knows


def write_whole(name, root, counts, **options):
    if name in micro.RELEASES:
        write_all_clips(name, root, [word for word, n in counts.items() for _ in range(n)])
    elif name == "afew":
        write_split_of(root, "train", counts)
        write_split_of(root, "val", dict(zip(CLASSES, (64, 40, 46, 63, 63, 61, 46), strict=True)))
    else:
        write_all_videos(name, root, **counts, **options)


def changed(counts, less, more):
    """Another version of the data: one clip of a kind less, one of another more."""
    return {word: n - (word == less) + (word == more) for word, n in counts.items()}


@pytest.mark.parametrize("name", WHOLE)
def test_counts_that_differ_while_nothing_is_missing_are_a_fault(tmp_path, capsys, name):
    write_whole(name, tmp_path, WHOLE[name])
    assert checked(capsys, name, tmp_path)[1][-1] == "  0 wrong, 0 missing, 0 unlisted"
    first, *_, last = WHOLE[name]
    shutil.rmtree(tmp_path)
    # A clip less of all, or another label for it; of CASME the labels that the paper left out are
    # unknown.
    counts = changed(WHOLE[name], last, None if name in ("casme", "smic") else first)
    write_whole(name, tmp_path, counts)
    status, lines = checked(capsys, name, tmp_path)
    assert status == 1
    assert lines[-1].startswith(f"wrong     {tmp_path}: counts are not those of the official")


def test_a_video_without_events_is_missed_too(tmp_path, capsys):
    write_whole("casme-squared", tmp_path, WHOLE["casme-squared"], videos=97)
    status, lines = checked(capsys, "casme-squared", tmp_path)
    assert (status, lines[4]) == (1, "  1 wrong, 0 missing, 0 unlisted")
    shutil.rmtree(tmp_path / "rawpic/s15/15_0101film")
    status, lines = checked(capsys, "casme-squared", tmp_path)
    assert (status, lines[-1]) == (1, "missing   rawpic/s15/0101")


@pytest.mark.parametrize("name", CHECKS)
def test_data_check_of_the_wrong_thing_is_status_2(name, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    faults = {"nowhere": "cannot be opened", "file": "is not a folder", "empty": "holds none of"}
    for root, fault in faults.items():
        assert cli.main(["data", "check", name, str(tmp_path / root)]) == 2
        output = capsys.readouterr()
        assert (output.out, output.err.count("\n")) == ("", 1)
        assert f"{tmp_path / root}: {fault}" in output.err
    assert cli.main(["data", "check", "nobody", str(tmp_path)]) == 2
