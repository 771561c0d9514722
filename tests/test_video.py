"""Decoding and writing; oracles are numpy, Pillow, and bytes patched as ISO 14496-12 has them."""

import struct
import tracemalloc
import wave
from itertools import islice
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from refusals import refused

from micromacro.video import VideoInfo, probe, read_frames, write_video

REAL = Path(__file__).parents[2] / "shared" / "data" / "real"
PATCHES = "000000 ffffff ff0000 00ff00 0000ff c8785a 1e3cc8 808080 f0dcc8"
CHART = np.frombuffer(bytes.fromhex(PATCHES), np.uint8).reshape(3, 3, 3).repeat(32, 0).repeat(32, 1)
RAMP = np.tile(np.arange(256, dtype=np.uint8), (32, 1))
BT601, BT709 = [0.299, 0.587, 0.114], [0.2126, 0.7152, 0.0722]
FAST_START = {"movflags": "faststart"}
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason=f"no real videos in {REAL}")


@pytest.fixture
def film(tmp_path) -> Path:
    return tmp_path / "film.mp4"


def numbered(n: int, size: tuple[int, int] = (32, 48)) -> list[np.ndarray]:
    return [np.full((*size, 3), 20 + 10 * (i % 20), np.uint8) for i in range(n)]


def images_of(source, **options) -> np.ndarray:
    return np.stack([frame.image for frame in read_frames(source, **options)])


def times_of(source) -> np.ndarray:
    return np.array([frame.t_s for frame in read_frames(source)])


def numbers_of(source) -> list[int]:
    """Place of each frame among the `numbered` ones."""
    return [round((int(frame.image[16, 16, 0]) - 20) / 10) for frame in read_frames(source)]


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
    """A film by PyAV at 25 frames per second, the container's suffix deciding its kind.

    Stamps are numbers of the frames in time; space is (matrix, range) by H.273: (1: BT.709 or
    6: BT.601, 1: limited or 2: full); of the options "container" is for that, others for the stream.
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


@pytest.mark.parametrize("size", [(95, 96), (96, 95), (95, 95)])
def test_colours_and_true_size_survive_writing(film, size):
    image = CHART[: size[0], : size[1]]
    write_video(film, [image] * 3)
    read = images_of(film)
    assert (read.shape, read.dtype) == ((3, *size, 3), np.uint8)
    assert difference(read[:, 16::32, 16::32], centres(image)) <= 2


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (17, 16), (2, 2, 3), (3, 5, 3)])
def test_one_frame_of_any_size(film, shape):
    write_video(film, [np.full(shape, 100, np.uint8)])
    (frame,) = read_frames(film, pixels="luma" if len(shape) == 2 else "rgb")
    assert (frame.image.shape, frame.index, frame.t_s) == (shape, 0, 0.0)
    assert difference(frame.image, 100) <= 1


@pytest.mark.parametrize("image", [RAMP, CHART], ids=["ramp", "chart"])
def test_mp4_and_png_agree(tmp_path, film, image):
    write_video(film, [image] * 2, crf=10)
    (tmp_path / "pngs").mkdir()
    Image.fromarray(image).save(tmp_path / "pngs" / "1.png")
    flat = image.ndim == 2
    luma = image if flat else np.rint(image @ BT601)
    for pixels, expected in (("luma", luma), ("rgb", image[..., None] if flat else image)):
        png, mp4 = (images_of(source, pixels=pixels)[-1] for source in (tmp_path / "pngs", film))
        assert difference(png, expected) <= (pixels == "luma" and not flat)
        assert difference(*((mp4, png) if flat else (centres(mp4), centres(expected)))) <= 2


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv444p", "yuv420p10le"])
@pytest.mark.parametrize(("space", "weights"), [(1, BT709), (6, BT601)])
@pytest.mark.parametrize("span", [1, 2])
def test_matrix_range_and_depth_of_the_file_are_respected(film, pix_fmt, space, weights, span):
    encode(film, [CHART] * 3, pix_fmt=pix_fmt, space=(space, span), crf="1")
    assert difference(centres(images_of(film)[1]), centres(CHART)) <= 3
    luma = images_of(film, pixels="luma")[1]
    assert difference(centres(luma), centres(np.rint(CHART @ weights))) <= 1


def test_files_are_tagged_bt601_limited_and_bytes_repeat(film):
    write_video(film, numbered(5))
    before = film.read_bytes()
    write_video(film, numbered(5))
    assert film.read_bytes() == before
    with av.open(str(film)) as container:
        frame = next(container.decode(video=0))
    assert (frame.colorspace, frame.color_range, frame.format.name) == (6, 1, "yuv420p")


# ---- time --------------------------------------------------------------------------------------


def test_variable_frame_rate_is_kept(film):
    t_s = np.cumsum([0, 0.01, 0.2, 0.033, 0.05, 1.7, 0.04])
    write_video(film, iter(numbered(7)), t_s=iter(7 + t_s))
    np.testing.assert_allclose(times_of(film), t_s, atol=6e-6)
    assert [frame.index for frame in read_frames(film)] == numbers_of(film) == [*range(7)]
    with av.open(str(film)) as container:
        assert container.streams.video[0].start_time == 0  # players show no gap at the start
    # the last frame is shown for the mean step
    assert probe(film).duration_s == pytest.approx(t_s[-1] * 7 / 6, abs=0.01)
    write_video(film, numbered(3), t_s=[0, 3600, 7200.5])
    np.testing.assert_allclose(times_of(film), [0, 3600, 7200.5], atol=6e-6)


@pytest.mark.parametrize("fps", [24, 30000 / 1001, 120, 200, 7.3])
def test_constant_rates(film, fps):
    write_video(film, numbered(12), fps=fps)
    np.testing.assert_allclose(times_of(film), np.arange(12) / fps, atol=6e-6)
    assert probe(film).fps == pytest.approx(fps, rel=1e-3)


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
    file = tmp_path / "a.avi"
    encode(file, noisy(12))
    with av.open(str(file)) as container:
        stamps = [frame.pts for frame in container.decode(video=0)]
    assert stamps != sorted(stamps)
    np.testing.assert_allclose(times_of(file), np.arange(12) / 25, atol=1e-9)


def test_edit_list_hides_frames_and_time_starts_at_the_first_shown(film):
    write_video(film, numbered(10), fps=25)
    # elst version 0: name, version and flags, count, then duration, media time, rate
    patch_after(film, b"elst", 16, struct.pack(">i", 3 * 90_000 // 25))
    assert numbers_of(film) == [*range(3, 10)]
    np.testing.assert_allclose(times_of(film), np.arange(7) / 25, atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "late"), [("mp4", 5), ("mkv", 5), ("ts", 5), ("avi", 0), ("h264", 0)]
)
def test_reordered_frames_and_a_late_start_come_out_in_order_from_zero(tmp_path, kind, late):
    file, reordered = tmp_path / f"b.{kind}", {"bf": "3", "b-adapt": "0"}
    encode(file, numbered(12), stamps=range(late, late + 12), **reordered)
    assert numbers_of(file) == [*range(12)]
    np.testing.assert_allclose(times_of(file), np.arange(12) / 25, atol=2e-3)


@pytest.mark.parametrize(
    ("matrix", "turns"),
    [((1, 0, 0, 1), 0), ((0, 1, -1, 0), 3), ((-1, 0, 0, -1), 2), ((0, -1, 1, 0), 1)],
)
def test_rotation_tag(film, matrix, turns):
    """ISO 14496-12: x' = a x + c y, y' = b x + d y; (0, 1, -1, 0) turns by 90 degrees clockwise."""
    image = np.zeros((32, 64, 3), np.uint8)
    image[:16, :32] = (220, 40, 40)
    write_video(film, [image])
    a, b, c, d = (value << 16 for value in matrix)
    patch_after(film, b"tkhd", 44, struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30))
    expected = np.rot90(image, turns)
    for pixels, want in (("rgb", expected), ("luma", expected @ BT601)):
        (got,) = images_of(film, pixels=pixels)
        assert got.shape == want.shape
        assert next(read_frames(film, pixels=pixels)).image.flags.c_contiguous
        assert difference(got[8::16, 8::16], np.rint(want[8::16, 8::16])) <= 3
    info = probe(film)
    assert (info.width, info.height, info.rotation) == (*expected.shape[1::-1], 90 * turns)


@needs_real
def test_real_files():
    film, other = REAL / "single_face.mp4", REAL / "no_face.mp4"
    np.testing.assert_allclose(times_of(film), np.arange(72) / 30, atol=1e-9)
    assert probe(film) == VideoInfo(str(film), 640, 360, 30, 72, pytest.approx(2.4), 0, True)
    assert (len(times_of(other)), probe(other).n_frames) == (95, 98)


# ---- laziness ----------------------------------------------------------------------------------


def test_memory_does_not_grow_with_the_film(film):
    tracemalloc.start()
    write_video(film, (np.full((120, 160, 3), i % 250, np.uint8) for i in range(300)))
    assert sum(frame.image[0, 0, 0] >= 0 for frame in read_frames(film)) == 300
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 30 * 120 * 160 * 3  # a fifth of it


def test_a_folder_is_read_one_file_at_a_time(tmp_path):
    for i in range(3):
        Image.fromarray(CHART).save(tmp_path / f"{i}.png")
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
    alpha, grey = np.uint8([[0, 51, 102, 153, 204, 255]]), np.uint8([[0, 40, 80, 120, 160, 255]])
    rgba = np.stack([np.full_like(alpha, 200), 0 * alpha, 0 * alpha, alpha], 2)
    red = np.stack([alpha / 255 * 200, 0 * alpha, 0 * alpha], 2)
    places, colours = np.uint8([[0, 1, 2, 2, 1, 0]]), np.uint8([10, 20, 30, 250, 0, 0, 0, 90, 255])
    palette = Image.fromarray(places).convert("P")
    palette.putpalette(colours.tolist())
    kinds = {
        "1.png": (Image.fromarray(deep), deep[..., None] / 257),
        "2.png": (Image.fromarray(rgba), red),
        "3.png": (palette, colours.reshape(3, 3)[places]),
        "4.bmp": (Image.fromarray(grey), grey[..., None]),
    }
    for name, (picture, _) in kinds.items():
        picture.save(tmp_path / name)
    expected = np.stack([np.rint(np.broadcast_to(want, (1, 6, 3))) for _, want in kinds.values()])
    off = np.abs(images_of(tmp_path) - expected).max((1, 2, 3))
    assert (off <= [0, 1, 0, 0]).all()
    assert difference(images_of(tmp_path, pixels="luma"), np.rint(expected @ BT601)) <= 1
    Image.fromarray(np.full((1, 6), 65536, np.int32)).save(tmp_path / "5.tif")
    refused(lambda: images_of(tmp_path), "5.tif", "16 bit")


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
    for name in ("Tränen und 表情 1.mp4", "a:b.mp4", "img%03d.mp4", "-x.mp4"):
        write_video(name, numbered(2))
        assert len(list(read_frames(name))) == len(list(read_frames(tmp_path / name))) == 2


@pytest.mark.parametrize("read", [probe, lambda source: list(read_frames(source))])
def test_sources_that_are_no_video(tmp_path, capfd, read):
    write_video(tmp_path / "half.mp4", numbered(30))
    good = (tmp_path / "half.mp4").read_bytes()
    with wave.open(str(tmp_path / "sound.wav"), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(bytes(4096))
    (tmp_path / "nothing").mkdir()
    (tmp_path / "nothing" / "readme.txt").write_text("x")
    for name, content, *words in (
        ("empty.mp4", b"", "empty file"),
        ("half.mp4", good[: len(good) // 2], "not a video or sound file, or cut short"),
        ("noise.mp4", np.random.default_rng(0).bytes(5000), "not a video or sound file"),
        ("notes.txt", b"just some words\n" * 50, "no picture"),
        ("nowhere.mp4", None, "No such file", "check"),
        ("nothing", None, "without images", "png"),
        ("sound.wav", None, "no picture"),
    ):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        refused(lambda name=name: read(tmp_path / name), name, *words)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", ["mp4", "mkv", "webm", "avi"])
def test_a_file_cut_in_the_middle_raises_at_the_break(tmp_path, capfd, kind):
    codec = {"webm": "libvpx", "avi": "mjpeg"}.get(kind, "libx264")
    pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    file, container = tmp_path / f"cut.{kind}", FAST_START if kind == "mp4" else {}
    encode(file, noisy(30), codec, pix_fmt, container=container)
    assert len(times_of(file)) == 30
    file.write_bytes(file.read_bytes()[: file.stat().st_size * 6 // 10])
    seen = []
    refused(lambda: seen.extend(read_frames(file)), file.name, "cut short after")
    assert 0 < len(seen) < 30
    assert capfd.readouterr() == ("", "")


def test_an_mp4_cut_between_two_packets_is_refused(film):
    """FFmpeg reads it without a word; only the header still knows the full length."""
    encode(film, noisy(60), container=FAST_START)
    with av.open(str(film)) as container:
        starts = sorted(p.pos for p in container.demux() if p.pos is not None)
    film.write_bytes(film.read_bytes()[: starts[30]])
    refused(lambda: list(read_frames(film)), "film.mp4", "cut short after")


def test_damage_that_ffmpeg_would_conceal_is_refused(film):
    i, rows, columns = np.mgrid[:20, :96, :128]
    images = 127 + 60 * np.sin((columns + 3 * i) / 9) + 50 * np.cos(rows / 7)
    write_video(film, images.astype(np.uint8))
    content = bytearray(film.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 20] = np.random.default_rng(2).bytes(20)
    film.write_bytes(content)
    with av.open(str(film)) as container:
        assert len(list(container.decode(video=0))) == 20
    refused(lambda: list(read_frames(film)), "damaged", "concealed")


def test_bad_arguments_are_refused_at_the_call(tmp_path):
    Image.new("L", (8, 8)).save(tmp_path / "1.png")
    refused(lambda: read_frames(tmp_path, pixels="bgr"), "bgr", "luma")
    for fps in (0, -1, float("nan"), float("inf")):
        refused(lambda fps=fps: read_frames(tmp_path, fps=fps), "fps")
    refused(lambda: read_frames(tmp_path / "none"), "none")
    for name, width in (("2.png", 8), ("10.png", 9), ("11.png", 7)):
        Image.new("L", (width, 8)).save(tmp_path / name)
    refused(lambda: list(read_frames(tmp_path)), "10.png", "9x8", "8x8")  # the first to differ


BLACK, NAN = np.zeros((32, 48, 3), np.uint8), float("nan")
BAD_FILMS = [
    ([], {}, ["no images"]),
    ([np.zeros((8, 8), np.float32)], {}, ["image 0", "float32", "uint8"]),
    *[([np.zeros(n, np.uint8)], {}, ["image 0", str(n)]) for n in ((8, 8, 4), (0, 8), (8,))],
    ([BLACK, BLACK, BLACK[:, 1:]], {}, ["image 2", "(32, 47, 3)"]),
    ([BLACK] * 3, {"t_s": [0, 1]}, ["3 images or more", "2 times"]),
    ([BLACK] * 3, {"t_s": [0, 1, 2, 3]}, ["3 images", "4 times"]),
    ([BLACK] * 3, {"t_s": [0, 1, 1]}, ["t_s", "image 2"]),
    ([BLACK] * 3, {"t_s": [0, NAN, 1]}, ["t_s", "finite"]),
    ([BLACK] * 3, {"t_s": []}, ["t_s"]),
    ([BLACK] * 3, {"fps": 0}, ["fps"]),
    ([BLACK] * 3, {"crf": 52}, ["crf=52"]),
]


@pytest.mark.parametrize(("images", "options", "words"), BAD_FILMS)
def test_writing_refuses_and_leaves_what_was_there(tmp_path, film, images, options, words):
    refused(lambda: write_video(film, iter(images), **options), *words)
    assert not list(tmp_path.iterdir())
    film.write_bytes(b"old")
    refused(lambda: write_video(film, iter(images), **options), *words)
    with pytest.raises(KeyError):  # a fault of the caller's own generator
        write_video(film, map({0: BLACK}.__getitem__, range(3)))
    assert list(tmp_path.iterdir()) == [film]
    assert film.read_bytes() == b"old"


def test_targets_that_cannot_be_written(tmp_path):
    (tmp_path / "folder.mp4").mkdir()
    for target in ("missing/a.mp4", "folder.mp4", "a.avi"):
        refused(lambda target=target: write_video(tmp_path / target, numbered(2)), target)
    assert [file.name for file in tmp_path.iterdir()] == ["folder.mp4"]


def test_without_pyav_pictures_are_read_and_films_are_refused(tmp_path, film, monkeypatch):
    write_video(film, [BLACK] * 2)
    (tmp_path / "pictures").mkdir()
    Image.new("L", (8, 6), 9).save(tmp_path / "pictures" / "1.png")
    monkeypatch.setattr("micromacro.video.av", None)
    assert len(times_of(tmp_path / "pictures")) == 1
    refused(lambda: probe(film), "film.mp4: needs PyAV; pip install")
    refused(lambda: write_video(film, [BLACK]), "film.mp4: needs PyAV; pip install")
