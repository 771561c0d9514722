"""The command: exit statuses, one-line errors, help without waiting."""

import argparse
import subprocess
import sys
import time
import types
from pathlib import Path

import numpy as np
import pytest

import micromacro
from micromacro import batch, cli, report
from micromacro.errors import BadInput
from micromacro.video import write_video

COMMANDS = ("reproduce", "bake", "faces", "data", "report")


@pytest.fixture
def asked(monkeypatch):
    """What each function behind a command was called with; nothing is run."""
    calls = {}

    def record(name, result):
        def call(*args, **kwargs):
            calls[name] = (args, kwargs)
            return result

        return call

    monkeypatch.setattr(batch, "reproduce", record("reproduce", batch.Outcome(True, Path("x"))))
    monkeypatch.setattr(batch, "bake", record("bake", batch.Outcome(True)))
    monkeypatch.setattr(report, "site", record("site", Path("runs/site/index.html")))
    export = types.ModuleType("micromacro.faces.export")
    export.export_faces = record("faces", "90 frames, one face")
    monkeypatch.setitem(sys.modules, "micromacro.faces.export", export)
    return calls


@pytest.mark.parametrize("command", [(), *[(name,) for name in COMMANDS], ("data", "check")])
def test_help_is_everywhere(command, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main([*command, "--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: {' '.join(['micromacro', *command])}")
    assert "example" in text if command else all(name in text for name in COMMANDS)


def test_help_and_version_import_nothing_heavy():
    program = (
        "import sys; from micromacro.cli import main\n"
        "try: main(['--version'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'torch', 'numpy', 'papermill', 'pandas', 'cv2'} & set(sys.modules)))"
    )
    began = time.monotonic()
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert answer.stdout == f"micromacro {micromacro.__version__}\n[]\n"
    assert time.monotonic() - began < 5  # 0.1 s; loose for a busy machine


def test_reproduce_passes_its_options_on(asked):
    words = ["reproduce", "--profile", "full", "--workers", "3", "--write-results"]
    more = [
        "--limit-s",
        "60",
        "--notebooks",
        "00 01",
        "--param",
        "N=3",
        "--param",
        "DATA_ROOT=/data/x",
    ]
    assert cli.main([*words, *more, "--param", "FOLD=01"]) == 0
    args, kwargs = asked["reproduce"]
    assert args == ("full", ["00", "01"], 3, {"N": 3, "DATA_ROOT": "/data/x", "FOLD": "01"})
    assert kwargs == {"limit_s": 60.0, "write_results": True}


def test_the_defaults(asked):
    assert cli.main(["reproduce"]) == 0
    assert asked["reproduce"][0] == ("smoke", None, 2, {})
    assert cli.main(["bake", "--notebooks", "00,01"]) == 0
    assert asked["bake"][0] == (["00", "01"], 2)


def test_a_failure_is_status_1(monkeypatch):
    monkeypatch.setattr(batch, "reproduce", lambda *_, **__: batch.Outcome(False, Path("x")))
    monkeypatch.setattr(batch, "bake", lambda *_, **__: batch.Outcome(False))
    assert cli.main(["reproduce"]) == 1
    assert cli.main(["bake"]) == 1


def test_faces_and_report_print_one_line(asked, capsys):
    assert cli.main(["faces", "a.mp4", "out", "--size", "112", "--fps", "200"]) == 0
    args, kwargs = asked["faces"]
    assert args == ("a.mp4", "out")
    assert (kwargs["size"], kwargs["fps"], kwargs["mode"]) == (112, 200.0, "stabilised")
    assert cli.main(["report"]) == 0
    assert capsys.readouterr().out == "90 frames, one face\nruns/site/index.html\n"


def test_the_options_of_faces_are_those_of_export_faces():
    export = pytest.importorskip("micromacro.faces.export")
    parser = argparse.ArgumentParser()
    cli._add_faces(parser)
    options = vars(parser.parse_args(["video", "out"]))
    defaults = dict(export.export_faces.__kwdefaults__)
    del options["video"], options["out"], defaults["progress"]
    assert options == defaults


def test_bad_input_is_one_line_and_status_2(monkeypatch, capsys, tmp_path):
    def refuse(*_, **__):
        raise BadInput("runs", "cannot write there", "make it writable")

    monkeypatch.setattr(batch, "reproduce", refuse)
    assert cli.main(["reproduce"]) == 2
    assert capsys.readouterr().err == "micromacro: runs: cannot write there; make it writable\n"
    assert cli.main(["reproduce", "--param", "N"]) == 2
    assert "--param N: not NAME=VALUE" in capsys.readouterr().err
    monkeypatch.undo()
    monkeypatch.setenv("MICROMACRO_ROOT", str(tmp_path))
    assert cli.main(["report"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("words", [[], ["nothing"], ["reproduce", "--workers", "two"], ["faces"]])
def test_a_wrong_call_is_status_2(words, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(words)
    assert caught.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


def test_an_interrupt_is_one_line_and_status_130(monkeypatch, capsys):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(batch, "reproduce", interrupt)
    assert cli.main(["reproduce"]) == 130
    assert capsys.readouterr().err.count("\n") == 1


def test_wrong_arguments_are_one_line(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["faces", "a.mp4", "out", "--size", "abc"])
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "--size" in said


def test_a_newline_in_a_name_keeps_the_message_on_one_line(tmp_path, capsys):
    assert cli.main(["faces", str(tmp_path / "a\nb.mp4"), str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


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
    with pytest.raises(SystemExit) as caught:
        cli.main(["data"])
    assert caught.value.code == 2
