"""``micromacro data check``: what of an official data set is there, missing or wrong."""

import numpy as np
import pytest
from affect_miniatures import omg_row, write_sheet

from micromacro import cli
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
    assert cli.main(["data", "check", "afew", str(tmp_path)]) == 2
