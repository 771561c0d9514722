"""Decoding and writing; oracles are numpy, Pillow, and bytes patched as ISO 14496-12 has them."""

import struct
import tracemalloc
from itertools import islice
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from refusals import refused

from micromacro.errors import BadInput
from micromacro.video import VideoInfo, probe, read_frames, write_video

REAL = Path(__file__).parents[2] / "shared" / "data" / "real"
PATCHES = np.array(
    [
        *([0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255]),
        *([200, 120, 90], [30, 60, 200], [128, 128, 128], [240, 220, 200]),
    ],
    np.uint8,
)
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason=f"no real videos in {REAL}")


def chart() -> np.ndarray:
    """3 x 3 flat patches of 32 px."""
    return PATCHES.reshape(3, 3, 3).repeat(32, 0).repeat(32, 1)


def ramp() -> np.ndarray:
    return np.tile(np.arange(256, dtype=np.uint8), (32, 1))


def numbered(n: int, size: tuple[int, int] = (32, 48)) -> list[np.ndarray]:
    return [np.full((*size, 3), 20 + 10 * (i % 20), np.uint8) for i in range(n)]


def images_of(source, **options) -> np.ndarray:
    return np.stack([frame.image for frame in read_frames(source, **options)])


def times_of(source) -> np.ndarray:
    return np.array([frame.t_s for frame in read_frames(source)])


def difference(a, b) -> int:
    return int(np.abs(np.asarray(a).astype(int) - np.asarray(b).astype(int)).max())


def centres(image: np.ndarray) -> np.ndarray:
    return image[16::32, 16::32]


def patch_after(path: Path, box: bytes, offset: int, data: bytes) -> None:
    """Overwrite bytes of an mp4 box; offset counts from its four-letter name."""
    content = bytearray(path.read_bytes())
    assert content.count(box) == 1
    at = content.index(box) + offset
    content[at : at + len(data)] = data
    path.write_bytes(content)


def encode(path: Path, images, codec="libx264", pix_fmt="yuv420p", stamps=None, space=None, **of):
    """A film by PyAV at 25 frames per second.

    Args:
        path: The file; its suffix decides the container.
        images: uint8 (H, W, 3) each.
        codec: Name of FFmpeg's encoder.
        pix_fmt: Pixel format.
        stamps: Number of each frame in time; None leaves that to PyAV.
        space: (matrix, range) by H.273: (1: BT.709 or 6: BT.601, 1: limited or 2: full).
        of: Options, "container" for the container, others for the stream.
    """
    with av.open(str(path), "w", options=of.pop("container", {})) as out:
        stream = out.add_stream(codec, rate=25)
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt, stream.options = pix_fmt, of
        if space:
            context = stream.codec_context
            context.colorspace = context.color_primaries = context.color_trc = space[0]
            context.color_range = space[1]
        for i, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            if space:
                to = {"dst_colorspace": space[0], "dst_color_range": space[1]}
                frame = frame.reformat(format=pix_fmt, **to)
            if stamps:
                frame.pts = stamps[i]
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


def noisy(n: int) -> list[np.ndarray]:
    image = np.random.default_rng(1).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    return [np.roll(image, i, 1) for i in range(n)]


# ---- round trips -------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(96, 96), (95, 96), (96, 95), (95, 95)])
def test_colours_and_true_size_survive_writing(tmp_path, size):
    image = chart()[: size[0], : size[1]]
    write_video(tmp_path / "chart.mp4", [image] * 3)
    read = images_of(tmp_path / "chart.mp4")
    assert read.shape == (3, *size, 3)
    assert read.dtype == np.uint8
    for frame in read:
        assert difference(centres(frame), centres(image)) <= 2


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (17, 16), (1, 7), (2, 2, 3), (3, 5, 3)])
def test_one_frame_of_any_size(tmp_path, shape):
    write_video(tmp_path / "one.mp4", [np.full(shape, 100, np.uint8)])
    (frame,) = read_frames(tmp_path / "one.mp4", pixels="luma" if len(shape) == 2 else "rgb")
    assert frame.image.shape == shape
    assert (frame.index, frame.t_s) == (0, 0.0)
    assert difference(frame.image, 100) <= 1


@pytest.mark.parametrize("image", [ramp(), chart()], ids=["ramp", "chart"])
def test_mp4_and_png_agree(tmp_path, image):
    write_video(tmp_path / "a.mp4", [image] * 2, crf=10)
    (tmp_path / "pngs").mkdir()
    Image.fromarray(image).save(tmp_path / "pngs" / "1.png")
    flat = image.ndim == 2
    luma = image if flat else np.rint(image @ [0.299, 0.587, 0.114])
    for pixels, expected in (("luma", luma), ("rgb", image[..., None] if flat else image)):
        png, mp4 = (images_of(tmp_path / f, pixels=pixels)[-1] for f in ("pngs", "a.mp4"))
        assert difference(png, expected) <= (pixels == "luma" and not flat)
        assert difference(*((mp4, png) if flat else (centres(mp4), centres(expected)))) <= 2


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv444p", "yuv420p10le"])
@pytest.mark.parametrize("space", [1, 6])
@pytest.mark.parametrize("span", [1, 2])
def test_matrix_range_and_depth_of_the_file_are_respected(tmp_path, pix_fmt, space, span):
    file = tmp_path / "a.mp4"
    encode(file, [chart()] * 3, pix_fmt=pix_fmt, space=(space, span), crf="1")
    assert difference(centres(images_of(file)[1]), centres(chart())) <= 3
    weights = [0.2126, 0.7152, 0.0722] if space == 1 else [0.299, 0.587, 0.114]
    luma = images_of(file, pixels="luma")[1]
    assert difference(centres(luma), centres(np.rint(chart() @ weights))) <= 1


def test_files_are_tagged_bt601_limited_and_bytes_repeat(tmp_path):
    for name in ("a.mp4", "b.mp4"):
        write_video(tmp_path / name, numbered(5))
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()
    with av.open(str(tmp_path / "a.mp4")) as container:
        frame = next(container.decode(video=0))
        assert (frame.colorspace, frame.color_range) == (6, 1)
        assert frame.format.name == "yuv420p"


# ---- time --------------------------------------------------------------------------------------


def test_variable_frame_rate_is_kept(tmp_path):
    t_s = np.cumsum([0, 0.01, 0.2, 0.033, 0.05, 1.7, 0.04])
    write_video(tmp_path / "vfr.mp4", iter(numbered(7)), t_s=iter(7 + t_s))
    frames = list(read_frames(tmp_path / "vfr.mp4"))
    np.testing.assert_allclose([frame.t_s for frame in frames], t_s, atol=6e-6)
    assert [frame.index for frame in frames] == list(range(7))
    with av.open(str(tmp_path / "vfr.mp4")) as container:
        assert container.streams.video[0].start_time == 0  # players show no gap at the start
    # the last frame is shown for the mean step
    length_s = t_s[-1] + t_s[-1] / 6
    assert probe(tmp_path / "vfr.mp4").duration_s == pytest.approx(length_s, abs=0.01)
    assert [round(int(frame.image[16, 16, 0]), -1) for frame in frames] == list(range(20, 90, 10))


def test_one_image_in_an_hour(tmp_path):
    write_video(tmp_path / "slow.mp4", numbered(3), t_s=[0, 3600, 7200.5])
    np.testing.assert_allclose(times_of(tmp_path / "slow.mp4"), [0, 3600, 7200.5], atol=6e-6)


@pytest.mark.parametrize("fps", [24, 30000 / 1001, 120, 200, 7.3])
def test_constant_rates(tmp_path, fps):
    write_video(tmp_path / "a.mp4", numbered(12), fps=fps)
    np.testing.assert_allclose(times_of(tmp_path / "a.mp4"), np.arange(12) / fps, atol=6e-6)
    assert probe(tmp_path / "a.mp4").fps == pytest.approx(fps, rel=1e-3)


def test_stamps_that_run_backwards_are_refused(tmp_path):
    with av.open(str(tmp_path / "a.mkv"), "w") as out:
        stream = out.add_stream("mjpeg", rate=25)
        stream.height, stream.width, stream.pix_fmt = 32, 48, "yuvj420p"
        order = iter([0, 1, 3, 2, 4])
        for image in numbered(5):
            for packet in stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")):
                packet.dts, packet.pts = packet.pts - 2, next(order)
                out.mux(packet)
    refused(lambda: list(read_frames(tmp_path / "a.mkv")), "a.mkv", "increase at frame 3")


def test_avi_with_reordered_frames_has_wrong_stamps_that_are_not_used(tmp_path):
    encode(tmp_path / "a.avi", noisy(12))
    with av.open(str(tmp_path / "a.avi")) as container:
        stamps = [frame.pts for frame in container.decode(video=0)]
    assert stamps != sorted(stamps)
    np.testing.assert_allclose(times_of(tmp_path / "a.avi"), np.arange(12) / 25, atol=1e-9)


def test_edit_list_hides_frames_and_time_starts_at_the_first_shown(tmp_path):
    file = tmp_path / "edited.mp4"
    write_video(file, numbered(10), fps=25)
    # elst version 0: name, version and flags, count, then duration, media time, rate
    patch_after(file, b"elst", 16, struct.pack(">i", 3 * 90_000 // 25))
    frames = list(read_frames(file))
    assert [round(int(frame.image[16, 16, 0]), -1) for frame in frames] == list(range(50, 120, 10))
    np.testing.assert_allclose([frame.t_s for frame in frames], np.arange(7) / 25, atol=1e-6)


def test_reordered_frames_and_a_late_start_come_out_in_order_from_zero(tmp_path):
    for name in ("b.mp4", "b.mkv", "b.ts", "b.avi", "b.h264"):
        late = 0 if name in ("b.avi", "b.h264") else 5
        stamps = range(late, late + 12)
        encode(tmp_path / name, numbered(12), stamps=stamps, **{"bf": "3", "b-adapt": "0"})
        frames = list(read_frames(tmp_path / name))
        assert [round(int(f.image[16, 16, 0]), -1) for f in frames] == list(range(20, 140, 10))
        times = [frame.t_s for frame in frames]
        np.testing.assert_allclose(times, np.arange(12) / 25, atol=2e-3, err_msg=name)


@pytest.mark.parametrize(
    ("matrix", "turns"),
    [((1, 0, 0, 1), 0), ((0, 1, -1, 0), 3), ((-1, 0, 0, -1), 2), ((0, -1, 1, 0), 1)],
)
def test_rotation_tag(tmp_path, matrix, turns):
    """ISO 14496-12: x' = a x + c y, y' = b x + d y; (0, 1, -1, 0) turns by 90 degrees clockwise."""
    file = tmp_path / "turned.mp4"
    image = np.zeros((32, 64, 3), np.uint8)
    image[:16, :32] = (220, 40, 40)
    write_video(file, [image])
    a, b, c, d = (value << 16 for value in matrix)
    patch_after(file, b"tkhd", 44, struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30))
    expected = np.rot90(image, turns)
    for pixels, want in (("rgb", expected), ("luma", expected @ [0.299, 0.587, 0.114])):
        got = images_of(file, pixels=pixels)[0]
        assert got.shape == want.shape
        assert got.flags.c_contiguous
        assert difference(got[8::16, 8::16], np.rint(want[8::16, 8::16])) <= 3
    info = probe(file)
    assert (info.width, info.height, info.rotation) == (*expected.shape[1::-1], 90 * turns)


@needs_real
def test_real_files():
    frames = list(read_frames(REAL / "single_face.mp4"))
    assert len(frames) == 72
    np.testing.assert_allclose([frame.t_s for frame in frames], np.arange(72) / 30, atol=1e-9)
    info = probe(REAL / "single_face.mp4")
    path = str(REAL / "single_face.mp4")
    assert info == VideoInfo(path, 640, 360, 30.0, 72, pytest.approx(2.4), 0, True)
    assert len(list(read_frames(REAL / "no_face.mp4", pixels="luma"))) == 95
    assert probe(REAL / "no_face.mp4").n_frames == 98


# ---- laziness ----------------------------------------------------------------------------------


def test_memory_does_not_grow_with_the_film(tmp_path):
    file, one_image = tmp_path / "long.mp4", 120 * 160 * 3
    tracemalloc.start()
    write_video(file, (np.full((120, 160, 3), i % 250, np.uint8) for i in range(300)))
    assert sum(frame.image[0, 0, 0] >= 0 for frame in read_frames(file)) == 300
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 30 * one_image


def test_a_folder_is_read_one_file_at_a_time(tmp_path):
    for i in range(3):
        Image.fromarray(chart()).save(tmp_path / f"{i}.png")
    (tmp_path / "3.png").write_bytes(b"not a picture")
    frames = read_frames(tmp_path)
    assert len(list(islice(frames, 3))) == 3
    refused(lambda: next(frames), "3.png", "not an image")


# ---- folders of images -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "pattern",
    ["reg_img{}.jpg", "img{}.JPG", "EP02_01f-{}.jpeg", "{}.bmp", "frame_{:04d}.png", "a {} ü.tif"],
)
def test_natural_order(tmp_path, pattern):
    folder = tmp_path / "Gefühl and spaces"
    folder.mkdir()
    numbers = [1, 2, 9, 10, 11, 46, 100]
    for number in reversed(numbers):
        Image.new("RGB", (6, 5), (2 * number,) * 3).save(folder / pattern.format(number))
    (folder / ".hidden.png").write_bytes(b"x")
    (folder / "Thumbs.db").write_bytes(b"x")
    (folder / "more.png").mkdir()
    frames = list(read_frames(folder, fps=200))
    assert [round(frame.image[2, 2, 0] / 2) for frame in frames] == numbers
    assert [frame.t_s for frame in frames] == [i / 200 for i in range(7)]
    assert [frame.t_s for frame in read_frames(str(folder))][1] == pytest.approx(1 / 30)
    info = probe(folder)
    assert (info.width, info.height, info.n_frames, info.has_audio) == (6, 5, 7, False)


def test_kinds_of_pictures(tmp_path):
    deep = np.array([[0, 257, 128 * 257, 65535, 300, 386]], np.uint16)
    grey, expected = deep[0] / 257, {}
    Image.fromarray(deep).save(tmp_path / "1.png")
    Image.fromarray(deep).save(tmp_path / "2.tif")
    expected[0] = expected[1] = np.rint(np.stack([grey] * 3, -1))[None]
    rgba = np.zeros((1, 6, 4), np.uint8)
    rgba[0, :, 0], rgba[0, :, 3] = 200, [0, 51, 102, 153, 204, 255]
    Image.fromarray(rgba).save(tmp_path / "3.png")
    expected[2] = np.zeros((1, 6, 3))
    expected[2][0, :, 0] = [0, 40, 80, 120, 160, 200]  # 200 * alpha / 255
    palette = Image.fromarray(np.array([[0, 1, 2, 2, 1, 0]], np.uint8)).convert("P")
    palette.putpalette([10, 20, 30, 250, 0, 0, 0, 90, 255])
    palette.save(tmp_path / "4.png")
    expected[3] = np.array([[10, 20, 30], [250, 0, 0], [0, 90, 255]])[[[0, 1, 2, 2, 1, 0]]]
    Image.fromarray(np.array([[0, 40, 80, 120, 160, 255]], np.uint8)).save(tmp_path / "5.bmp")
    expected[4] = np.array([[[v] * 3 for v in (0, 40, 80, 120, 160, 255)]])
    for frame in read_frames(tmp_path):
        assert frame.image.dtype == np.uint8
        assert difference(frame.image, np.rint(expected[frame.index])) <= (frame.index == 2)
    for frame in read_frames(tmp_path, pixels="luma"):
        want = np.rint(expected[frame.index] @ [0.299, 0.587, 0.114])
        assert difference(frame.image, want) <= 1


def test_exif_orientation(tmp_path):
    image = np.zeros((32, 64, 3), np.uint8)
    image[:16, :32] = 200
    exif = Image.Exif()
    exif[0x0112] = 6  # stored rows run down the right side: turn clockwise to show
    Image.fromarray(image).save(tmp_path / "1.jpg", exif=exif, quality=95)
    (frame,) = read_frames(tmp_path)
    assert difference(frame.image[8::16, 8::16], np.rot90(image, 3)[8::16, 8::16]) <= 3
    assert (probe(tmp_path).width, probe(tmp_path).height) == (32, 64)


# ---- refusals ----------------------------------------------------------------------------------


def test_names_with_spaces_umlauts_and_patterns(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("Tränen und Lächeln.mp4", "表情 1.mp4", "a:b.mp4", "img%03d.mp4", "-x.mp4"):
        write_video(name, numbered(2))
        assert len(list(read_frames(name))) == len(list(read_frames(tmp_path / name))) == 2


@pytest.mark.parametrize("read", [probe, lambda source: list(read_frames(source))])
def test_sources_that_are_no_video(tmp_path, capfd, read):
    write_video(tmp_path / "good.mp4", numbered(30))
    good = (tmp_path / "good.mp4").read_bytes()
    files = {
        "empty.mp4": (b"", "empty file"),
        "half.mp4": (good[: len(good) // 2], "not a video or sound file, or cut short"),
        "noise.mp4": (np.random.default_rng(0).bytes(5000), "not a video or sound file"),
        "notes.txt": (b"just some words\n" * 50, "no picture"),
        "table.csv": (b"a,b\n1,2\n" * 50, "not a video or sound file"),
    }
    for name, (content, fault) in files.items():
        (tmp_path / name).write_bytes(content)
        refused(lambda name=name: read(tmp_path / name), name, fault)
    refused(lambda: read(tmp_path / "nowhere.mp4"), "nowhere.mp4", "No such file", "check")
    (tmp_path / "nothing").mkdir()
    refused(lambda: read(tmp_path / "nothing"), "nothing", "without images", "png")
    (tmp_path / "nothing" / "readme.txt").write_text("x")
    refused(lambda: read(tmp_path / "nothing"), "without images")
    with av.open(str(tmp_path / "sound.m4a"), "w") as out:
        stream = out.add_stream("aac", rate=8000)
        sound = np.zeros((1, 2048), np.float32)
        frame = av.AudioFrame.from_ndarray(sound, format="fltp", layout="mono")
        frame.sample_rate = 8000
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    refused(lambda: read(tmp_path / "sound.m4a"), "sound.m4a", "no picture")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["cut.mp4", "cut.mkv", "cut.webm", "cut.avi"])
def test_a_file_cut_in_the_middle_raises_at_the_break(tmp_path, capfd, name):
    codec = {"webm": "libvpx", "avi": "mjpeg"}.get(name[4:], "libx264")
    pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    container = {"movflags": "faststart"} if name == "cut.mp4" else {}
    encode(tmp_path / name, noisy(60), codec, pix_fmt, container=container)
    assert len(list(read_frames(tmp_path / name))) == 60
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) * 6 // 10])
    seen = []
    refused(lambda: seen.extend(read_frames(tmp_path / name)), name, "cut short after")
    assert 0 < len(seen) < 60
    assert capfd.readouterr() == ("", "")


def test_an_mp4_cut_between_two_packets_is_refused(tmp_path):
    """FFmpeg reads it without a word; only the header still knows the full length."""
    path = tmp_path / "cut.mp4"
    encode(path, noisy(60), container={"movflags": "faststart"})
    with av.open(str(path)) as container:
        starts = sorted(p.pos for p in container.demux() if p.pos is not None)
    path.write_bytes(path.read_bytes()[: starts[30]])
    refused(lambda: list(read_frames(path)), "cut.mp4", "cut short after")


def test_damage_that_ffmpeg_would_conceal_is_refused(tmp_path):
    rows, columns = np.mgrid[:96, :128]
    film = (127 + 60 * np.sin((columns + 3 * i) / 9) + 50 * np.cos(rows / 7) for i in range(20))
    write_video(tmp_path / "a.mp4", (image.astype(np.uint8) for image in film))
    content = bytearray((tmp_path / "a.mp4").read_bytes())
    content[len(content) // 2 : len(content) // 2 + 20] = np.random.default_rng(2).bytes(20)
    (tmp_path / "a.mp4").write_bytes(content)
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert len(list(container.decode(video=0))) == 20
    refused(lambda: list(read_frames(tmp_path / "a.mp4")), "damaged", "concealed")


def test_bad_arguments_are_refused_at_the_call(tmp_path):
    Image.new("L", (8, 8)).save(tmp_path / "1.png")
    refused(lambda: read_frames(tmp_path, pixels="bgr"), "bgr", "luma")
    for fps in (0, -1, float("nan"), float("inf")):
        refused(lambda fps=fps: read_frames(tmp_path, fps=fps), "fps")
    refused(lambda: read_frames(tmp_path / "none"), "none")
    for name, width in (("2.png", 8), ("10.png", 9), ("11.png", 7)):
        Image.new("L", (width, 8)).save(tmp_path / name)
    refused(lambda: list(read_frames(tmp_path)), "10.png", "9x8", "8x8")  # the first to differ


@pytest.mark.parametrize(
    ("images", "options", "words"),
    [
        ([], {}, ["no images"]),
        ([np.zeros((8, 8), np.float32)], {}, ["image 0", "float32", "uint8"]),
        ([[[1]]], {}, ["image 0", "list"]),
        ([np.zeros((8, 8, 4), np.uint8)], {}, ["image 0", "(8, 8, 4)"]),
        ([np.zeros((0, 8), np.uint8)], {}, ["image 0", "(0, 8)"]),
        ([np.zeros(8, np.uint8)], {}, ["image 0"]),
        ([*numbered(2), np.zeros((8, 9, 3), np.uint8)], {}, ["image 2", "(8, 9, 3)"]),
        ([*numbered(1), np.zeros((32, 48), np.uint8)], {}, ["image 1"]),
        (numbered(3), {"t_s": [0, 1]}, ["3 images or more", "2 times"]),
        (numbered(3), {"t_s": [0, 1, 2, 3]}, ["3 images", "4 times"]),
        (numbered(3), {"t_s": [0, 1, 1]}, ["t_s", "image 2"]),
        (numbered(3), {"t_s": [0, float("nan"), 1]}, ["t_s", "finite"]),
        (numbered(3), {"t_s": []}, ["t_s"]),
        (numbered(3), {"fps": 0}, ["fps"]),
        (numbered(3), {"crf": 52}, ["crf=52"]),
    ],
)
def test_writing_refuses_and_leaves_nothing(tmp_path, images, options, words):
    refused(lambda: write_video(tmp_path / "a.mp4", iter(images), **options), *words)
    assert not list(tmp_path.iterdir())
    (tmp_path / "a.mp4").write_bytes(b"old")
    refused(lambda: write_video(tmp_path / "a.mp4", iter(images), **options), *words)
    with pytest.raises(KeyError):  # a fault of the caller's own generator
        write_video(tmp_path / "a.mp4", map({0: numbered(1)[0]}.__getitem__, range(3)))
    assert [file.name for file in tmp_path.iterdir()] == ["a.mp4"]
    assert (tmp_path / "a.mp4").read_bytes() == b"old"


def test_targets_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "folder.mp4").mkdir()
    for target in ("missing/a.mp4", "file/a.mp4", "folder.mp4", "a.avi", "a"):
        refused(lambda target=target: write_video(tmp_path / target, numbered(2)), target)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["file", "folder.mp4"]


def test_without_pyav_pictures_are_read_and_films_are_refused_in_one_line(tmp_path, monkeypatch):
    write_video(tmp_path / "film.mp4", [np.zeros((16, 16, 3), np.uint8)] * 2)
    folder = tmp_path / "pictures"
    folder.mkdir()
    Image.new("L", (8, 6), 9).save(folder / "1.png")
    monkeypatch.setattr("micromacro.video.av", None)
    assert len(list(read_frames(folder))) == 1
    with pytest.raises(BadInput, match=r"film\.mp4: needs PyAV; pip install"):
        probe(tmp_path / "film.mp4")
    with pytest.raises(BadInput, match=r"new\.mp4: needs PyAV; pip install"):
        write_video(tmp_path / "new.mp4", [np.zeros((16, 16, 3), np.uint8)])
