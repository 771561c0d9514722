"""``micromacro data check``: what of an official data set is there, missing or wrong."""

import numpy as np
import pytest

from micromacro import cli
from micromacro.video import write_video


@pytest.fixture
def omg(tmp_path):
    """OMG-Emotion in miniature: three sheets, three films, nothing missing."""
    header = "link,start,end,video,utterance,arousal,valence,EmotionMaxVote"
    root = tmp_path / "omg"
    for split, sheet in [
        ("Train", "omg_TrainVideos.csv"),
        ("Validation", "omg_ValidationVideos.csv"),
        ("Test", "omg_TestVideos_WithLabels.csv"),
    ]:
        folder = root / split / f"video_{split}"
        folder.mkdir(parents=True)
        write_video(folder / "utterance_4.mp4", [np.zeros((16, 16, 3), np.uint8)] * 13)
        row = f"x,0,1,{folder.name},utterance_4.mp4,0.5,-0.5,4"
        (root / sheet).write_text(f"{header}\n{row}\n")
    return root


def checked(capsys, *words):
    status = cli.main(["data", "check", *map(str, words)])
    return status, capsys.readouterr().out.splitlines()


def test_data_check_of_a_whole_set(omg, capsys):
    assert checked(capsys, "omg", omg) == (
        0,
        [
            f"omg in {omg}",
            "  Train: 1 clips listed, 1 there, 0 missing",
            "  Validation: 1 clips listed, 1 there, 0 missing",
            "  Test: 1 clips listed, 1 there, 0 missing",
            "  3 films, 0 folders of aligned faces",
            "  0 wrong, 0 missing, 0 unlisted",
        ],
    )


def test_data_check_names_what_is_not_right(omg, capsys):
    films = [omg / split / f"video_{split}" / "utterance_4.mp4" for split in ("Train", "Test")]
    films[0].rename(films[0].with_name("utterance_40.mp4"))
    films[1].write_bytes(b"no film")
    write_video(
        omg / "Validation/video_Validation/utterance_4.mp4", [np.zeros((16, 16), np.uint8)] * 12
    )
    with (omg / "omg_TestVideos_WithLabels.csv").open("a") as sheet:
        sheet.write("x,0,1,video_Test,utterance_5.mp4,0.5,-1.5,4\n")
    status, lines = checked(capsys, "omg", omg)
    assert status == 1
    assert "  1 clips below 13 frames: too short for a snippet" in lines
    assert "  2 wrong, 1 missing, 1 unlisted" in lines
    assert len(lines) == 7 + 4
    assert "line 3: valence -1.5 is outside [-1, 1]; restore the official file" in lines[7]
    assert lines[8].startswith(f"wrong     {films[1]}: not a video")
    assert lines[9] == "missing   Train/video_Train/utterance_4.mp4"
    assert lines[10] == "unlisted  Train/video_Train/utterance_40.mp4"


def test_data_check_counts_what_is_too_much_to_list(omg, capsys):
    with (omg / "omg_TrainVideos.csv").open("a") as sheet:
        for video in range(30):
            sheet.writelines(f"x,0,1,v{video},utterance_{n}.mp4,0,0,4\n" for n in (1, 2, 5))
    status, lines = checked(capsys, "omg", omg)
    assert status == 1
    assert lines[1] == "  Train: 91 clips listed, 1 there, 90 missing"
    assert lines[6] == "missing   Train/v0/utterance_1.mp4 and 2 more there"
    assert len(lines) == 6 + 20 + 1
    assert lines[-1] == "and 10 more"


def test_data_check_of_labels_a_frame(tmp_path, capsys):
    for name in ("valence", "arousal"):
        folder = tmp_path / "annotations/train" / name
        folder.mkdir(parents=True)
        for video, n_labels in (("long", 14), ("equal", 13), ("short", 12)):
            (folder / f"{video}.txt").write_text("0.5\n" * n_labels)
    (tmp_path / "videos/train").mkdir(parents=True)
    for video in ("long", "equal", "short"):
        film = tmp_path / f"videos/train/{video}.mp4"
        write_video(film, [np.zeros((16, 16, 3), np.uint8)] * 13)
    status, lines = checked(capsys, "affwild", tmp_path)
    assert status == 1
    assert "  1 films go on after their last label: the rest counts as unlabelled" in lines
    assert lines[-1].startswith(
        f"wrong     {tmp_path / 'videos/train/long.mp4'}: 13 frames, but 14"
    )
    assert "  1 wrong, 0 missing, 0 unlisted" in lines
    for name in ("valence", "arousal"):
        (tmp_path / f"annotations/train/{name}/long.txt").write_text("0.5\n" * 13)
    assert checked(capsys, "affwild", tmp_path)[0] == 0


def test_data_check_of_the_wrong_thing_is_status_2(omg, tmp_path, capsys):
    for words in (("afew", omg), ("omg", tmp_path / "nowhere"), ("affwild2", omg)):
        assert cli.main(["data", "check", *map(str, words)]) == 2
        output = capsys.readouterr()
        assert output.out == ""
        assert output.err.count("\n") == 1
