"""Decoding and writing; oracles are numpy, Pillow, and bytes patched as ISO 14496-12 has them."""

import struct
import wave
import weakref
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from refusals import refused

from micromacro.video import Frame, VideoInfo, probe, read_frames, write_video

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


def encode(
    path: Path,
    images,
    codec="libx264",
    pix_fmt="yuv420p",
    stamps=None,
    space=None,
    aspect=None,
    **of,
):
    """A film by PyAV at 25 frames per second, the container's suffix deciding its kind.

    Stamps are numbers of the frames in time; space is (matrix, range) by H.273: (1: BT.709 or
    6: BT.601, 1: limited or 2: full); aspect is that of a pixel; of the options "container" is for
    that, others for the stream.
    """
    with av.open(str(path), "w", options=of.pop("container", {})) as out:
        stream = out.add_stream(codec, rate=25)
        if aspect:
            stream.codec_context.sample_aspect_ratio = Fraction(aspect)
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


EIGHT = [(a, 0, 0, d) for a in (1, -1) for d in (1, -1)]
EIGHT += [(0, b, c, 0) for b in (1, -1) for c in (1, -1)]


def display_matrix(a: int, b: int, c: int, d: int) -> bytes:
    """Nine numbers of a tkhd box: 16.16 fixed point, the last column 2.30."""
    return struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)


def noted(source, **options) -> tuple[list[Frame], list[str]]:
    """Frames, and what is to be known of them."""
    notes = []
    return list(read_frames(source, notes=notes, **options)), notes


def images_noted(source, **options) -> tuple[np.ndarray, list[str]]:
    frames, notes = noted(source, **options)
    return np.stack([frame.image for frame in frames]), notes


def combs(images: np.ndarray) -> float:
    """Mean difference of a row from the mean of its neighbours, of the first channel."""
    rows = images.reshape(*images.shape[:3], -1)[..., 0].astype(float)
    return np.abs(rows[:, 1:-1] - (rows[:, 2:] + rows[:, :-2]) / 2).mean()


def write_hdr(path: Path, image: np.ndarray, curve: int) -> None:
    """Five frames of an RGB image, displayed with 203 cd/m2 as white, by ITU-R BT.2100 and
    BT.2020."""
    to_2020 = [[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]]
    light = (image / 255) ** 2.4 @ np.transpose(to_2020) * 203
    weights = np.array([0.2627, 0.6780, 0.0593])
    if curve == 16:  # PQ
        y = (light / 10_000) ** (2610 / 16384)
        signal = ((3424 / 4096 + 18.8515625 * y) / (1 + 18.6875 * y)) ** 78.84375
    else:  # HLG on a display of 1000 cd/m2, whose system gamma is 1.2
        shown = light / 1000
        scene = shown * np.maximum(shown @ weights, 1e-9)[..., None] ** (-0.2 / 1.2)
        bright = 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
        signal = np.where(scene <= 1 / 12, np.sqrt(3 * scene), bright)
    luma = signal @ weights
    blue, red = (signal[..., 2] - luma) / 1.8814, (signal[..., 0] - luma) / 1.4746
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"crf": "1"})
        stream.height, stream.width, stream.pix_fmt = *image.shape[:2], "yuv444p10le"
        context = stream.codec_context
        context.colorspace = context.color_primaries = 9
        context.color_trc, context.color_range = curve, 1
        codes = [64 + 876 * luma, 512 + 896 * blue, 512 + 896 * red]
        for _ in range(5):
            frame = av.VideoFrame(*image.shape[1::-1], stream.pix_fmt)
            for plane, code in zip(frame.planes, codes, strict=True):
                plane.update(np.rint(code).astype("<u2").tobytes())
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


def seen_to_be_damaged(path: Path) -> bool:
    """Whether FFmpeg itself says of any frame that it is."""
    with av.open(str(path)) as container:
        try:
            return any(frame.is_corrupt for frame in container.decode(video=0))
        except av.FFmpegError:
            return True


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
    write_video(film, numbered(2), t_s=[0, 20_000])  # a frame rate that rounds to 0
    np.testing.assert_allclose(times_of(film), [0, 20_000], atol=6e-6)


@pytest.mark.parametrize("fps", [24, 30000 / 1001, 120, 200, 7.3])
def test_constant_rates(film, fps):
    write_video(film, numbered(12), fps=fps)
    np.testing.assert_allclose(times_of(film), np.arange(12) / fps, atol=6e-6)
    assert probe(film).fps == pytest.approx(fps, rel=1e-3)


def write_stamped(path: Path, stamps: list[int], damage=()) -> None:
    """Still pictures with time stamps of 1/25 s as they come; the numbers `damage` hold zeros."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mjpeg", rate=25)
        stream.height, stream.width, stream.pix_fmt = 32, 48, "yuvj420p"
        for i, (image, stamp) in enumerate(zip(numbered(len(stamps)), stamps, strict=True)):
            for packet in stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")):
                if i in damage:
                    new = av.Packet(bytes(len(bytes(packet))))
                    new.stream, new.time_base, packet = stream, packet.time_base, new
                packet.dts, packet.pts = min(stamps[i:]), stamp
                out.mux(packet)


# stamps in 1/25 s -> times in 1/25 s
REPEATED = [
    ([0, 1, 1, 2, 3], [0, 1, 1.5, 2, 3]),
    ([0, 0, 2, 3], [0, 1, 2, 3]),
    ([0, 1, 1, 1, 4, 5], [0, 1, 2, 3, 4, 5]),
    ([0, 0, 1, 1, 2, 2], [0, 0.5, 1, 1.5, 2, 2.5]),
    ([0, 1, 2, 2], [0, 1, 2, 2.5]),
    ([7, 7, 7], [0, 1, 2]),
]


@pytest.mark.parametrize(("stamps", "times"), REPEATED)
def test_frames_that_repeat_a_stamp_are_kept_between_their_neighbours(tmp_path, stamps, times):
    write_stamped(tmp_path / "a.mkv", stamps)
    frames, notes = noted(tmp_path / "a.mkv")
    read = [25 * frame.t_s for frame in frames]
    assert (np.diff(read) > 0).all()
    np.testing.assert_allclose(read[: len(times) - 1], times[:-1], atol=1e-6)
    assert read[-1] == pytest.approx(times[-1], abs=0.51)  # nothing says how long the last ones are
    n_repeated = len(stamps) - len(set(stamps))
    assert [f"repeated time stamps: {n_repeated}" in note for note in notes] == [True]
    assert [round((int(frame.image[16, 16, 0]) - 20) / 10) for frame in frames] == [
        *range(len(stamps))
    ]


def test_what_was_done_is_a_warning_where_no_one_collects_notes(tmp_path):
    write_stamped(tmp_path / "a.mkv", [0, 1, 1, 2])
    with pytest.warns(UserWarning, match=r"a\.mkv: repeated time stamps: 1"):
        assert len(times_of(tmp_path / "a.mkv")) == 4


@pytest.mark.parametrize(("stamps", "at"), [([0, 1, 3, 2, 4], 3), ([0, 1, 1, 0, 4], 3)])
def test_stamps_that_run_backwards_are_refused(tmp_path, stamps, at):
    write_stamped(tmp_path / "a.mkv", stamps)
    refused(lambda: list(read_frames(tmp_path / "a.mkv")), "a.mkv", f"increase at frame {at}")


def test_a_film_without_time_is_refused_before_it_fills_the_memory(tmp_path):
    write_stamped(tmp_path / "a.mkv", [0, *[1] * 40])
    refused(lambda: list(read_frames(tmp_path / "a.mkv")), "a.mkv", "time stamps")


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


# ---- what a file says of its pixels -------------------------------------------------------------


@pytest.mark.parametrize("pixels", ["rgb", "luma"])
@pytest.mark.parametrize("matrix", EIGHT)
def test_display_matrix(film, matrix, pixels):
    """ISO 14496-12: x' = a x + c y, y' = b x + d y, then the picture is moved into view."""
    image = np.zeros((32, 64, 3), np.uint8)
    image[:16, :32] = (220, 40, 40)
    image[16:, :32] = (40, 40, 220)
    write_video(film, [image])
    a, b, c, d = matrix
    patch_after(film, b"tkhd", 44, display_matrix(*matrix))
    y, x = np.mgrid[:32, :64]
    to_x, to_y = a * x + c * y, b * x + d * y
    expected = np.zeros((32, 64, 3) if a else (64, 32, 3), np.uint8)
    expected[to_y - to_y.min(), to_x - to_x.min()] = image
    (got,) = images_of(film, pixels=pixels)
    want = expected if pixels == "rgb" else expected @ BT601
    assert got.shape == want.shape
    flags = next(read_frames(film, pixels=pixels)).image.flags
    assert flags.c_contiguous
    assert flags.writeable
    assert difference(got[8::16, 8::16], np.rint(want[8::16, 8::16])) <= 3
    info = probe(film)
    assert (info.width, info.height) == expected.shape[1::-1]
    turned = np.rot90(image, info.rotation // 90)
    np.testing.assert_array_equal(turned[:, ::-1] if info.mirrored else turned, expected)


def test_a_display_matrix_that_makes_no_sense_is_passed_over(film):
    write_video(film, numbered(2))
    patch_after(film, b"tkhd", 44, display_matrix(0, 0, 0, 0))
    assert images_of(film).shape == (2, 32, 48, 3)


@pytest.mark.parametrize("aspect", ["2", "1/2", "16/15", "10/11", "64/45"])
@pytest.mark.parametrize("kind", ["mp4", "mkv", "avi", "mov", "h264"])
def test_pixels_become_square(tmp_path, kind, aspect):
    """A disc, stored as a camera with such pixels would, is a disc again."""
    ratio, file = Fraction(aspect), tmp_path / f"film.{kind}"
    y, x = np.mgrid[:180, :160] - np.array([90, 80])[:, None, None]
    disc = np.where(np.hypot(x * float(ratio), y) < 38, 230, 20).astype(np.uint8)
    encode(file, [disc[..., None].repeat(3, 2)] * 2, aspect=aspect, crf="5")
    for pixels in ("rgb", "luma"):
        images, notes = images_noted(file, pixels=pixels)
        bright = images[0].reshape(*images.shape[1:3], -1)[..., 0] > 125
        width, height = bright.any(0).sum(), bright.any(1).sum()
        assert width == pytest.approx(height, abs=2)
        assert height >= 74  # nothing that was recorded is thrown away
        assert ["square" in note for note in notes] == [True]
        assert images.shape[1:3] == (probe(file).height, probe(file).width)


def test_aspect_goes_before_the_turn(film):
    encode(film, numbered(2), aspect="2")
    patch_after(film, b"tkhd", 44, display_matrix(0, 1, -1, 0))
    assert images_noted(film)[0].shape == (2, 96, 32, 3)
    assert (probe(film).width, probe(film).height) == (32, 96)


@pytest.mark.parametrize(("aspect", "noted"), [("100/101", 0), ("1", 0), ("6", 1), ("1/6", 1)])
def test_a_rounded_aspect_is_left_and_an_impossible_one_not_believed(tmp_path, aspect, noted):
    encode(tmp_path / "a.mkv", numbered(2, (160, 160)), aspect=aspect)
    images, notes = images_noted(tmp_path / "a.mkv")
    assert (images.shape, len(notes)) == ((2, 160, 160, 3), noted)


@pytest.mark.parametrize(
    ("kind", "codec", "options"),
    [
        ("mp4", "libx264", {"x264-params": "tff=1"}),
        ("mkv", "libx264", {"x264-params": "bff=1"}),
        ("mpg", "mpeg2video", {"flags": "+ildct+ilme", "top": "1"}),
    ],
)
@pytest.mark.parametrize("pixels", ["rgb", "luma"])
def test_interlaced_films_lose_their_combs(tmp_path, kind, codec, options, pixels):
    """A bar that moves 8 pixels from field to field, woven as cameras did."""
    file = tmp_path / f"film.{kind}"
    fields = [np.full((64, 160, 3), 30, np.uint8) for _ in range(16)]
    for i, field in enumerate(fields):
        field[:, 8 * i : 8 * i + 16] = 220
    woven = [top.copy() for top in fields[::2]]
    for frame, bottom in zip(woven, fields[1::2], strict=True):
        frame[1::2] = bottom[1::2]
    encode(file, woven, codec, **options, **({"crf": "5"} if codec == "libx264" else {}))
    images, notes = images_noted(file, pixels=pixels)
    assert len(images) == 8
    assert ["interlaced" in note and "bwdif" in note for note in notes] == [True]
    assert combs(np.stack(woven)) > 10 * combs(images)
    times = [frame.t_s for frame in read_frames(file, notes=[])]
    np.testing.assert_allclose(times, np.arange(8) / 25, atol=1e-9)


def test_progressive_films_are_not_touched_by_it(film):
    encode(film, noisy(6))
    with av.open(str(film)) as container:
        plain = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    np.testing.assert_array_equal(images_of(film), plain)


@pytest.mark.parametrize(("curve", "pixels"), [(16, "rgb"), (18, "luma")])  # tables take seconds
def test_hdr_has_the_contrast_of_the_same_film_in_the_standard_range(tmp_path, curve, pixels):
    colours = np.concatenate([np.tile(np.arange(0, 256, 8), (3, 1)).T, [(200, 150, 120)] * 32])
    stripes = colours[None].repeat(64, 0).repeat(4, 1)
    write_hdr(tmp_path / "hdr.mp4", stripes, curve)
    images, notes = images_noted(tmp_path / "hdr.mp4", pixels=pixels)
    want = stripes if pixels == "rgb" else np.rint(stripes @ BT709)
    assert difference(images[0][:, 2::4], want[:, 2::4]) <= 12
    assert images[0][:, :128].std() == pytest.approx(stripes[:, :128].std(), rel=0.03)
    assert ["HDR" in note and "BT.709" in note for note in notes] == [True]


@needs_real
def test_real_files():
    film, other = REAL / "single_face.mp4", REAL / "no_face.mp4"
    np.testing.assert_allclose(times_of(film), np.arange(72) / 30, atol=1e-9)
    assert probe(film) == VideoInfo(str(film), 640, 360, 30, 72, pytest.approx(2.4), 0, True)
    assert (len(times_of(other)), probe(other).n_frames) == (95, 98)


# ---- laziness ----------------------------------------------------------------------------------


def test_memory_does_not_grow_with_the_film(film):
    """At no time are there more than a few images: counted, since bytes are also the process's."""
    seen = []

    def noted(image: np.ndarray) -> np.ndarray:
        seen.append(weakref.ref(image))
        assert sum(ref() is not None for ref in seen) < 5
        return image

    write_video(film, (noted(np.full((120, 160, 3), i % 250, np.uint8)) for i in range(300)))
    assert sum(noted(frame.image)[0, 0, 0] >= 0 for frame in read_frames(film)) == 300
    assert len(seen) == 600


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
    numbers = [3, 4, 9, 10, 11, 46, 100]
    for number in reversed(numbers):
        Image.new("RGB", (6, 5), (2 * number,) * 3).save(folder / pattern.format(number))
    (folder / ".hidden.png").write_bytes(b"x")
    (folder / "Thumbs.db").write_bytes(b"x")
    (folder / "more.png").mkdir()
    frames, notes = noted(folder, fps=200)
    assert [round(frame.image[2, 2, 0] / 2) for frame in frames] == numbers
    assert [frame.index for frame in frames] == [*range(7)]
    assert [frame.t_s for frame in frames] == [(number - 3) / 200 for number in numbers]
    assert ["steps of 1 to 54" in note for note in notes] == [True]
    assert [frame.t_s for frame in read_frames(str(folder), notes=[])][1] == pytest.approx(1 / 30)
    info = probe(folder)
    assert (info.width, info.height, info.n_frames, info.has_audio) == (6, 5, 7, False)


def touch_pictures(folder: Path, *names: str) -> None:
    for name in names:
        Image.new("L", (8, 6), 90).save(folder / name)


@pytest.mark.parametrize(
    ("names", "steps", "n_notes"),
    [
        (["7.png"], [], 0),
        (["a 08.png", "a 09.png", "a 10.png"], [1, 1], 0),
        (["img5.png", "img10.png", "img15.png"], [5, 5], 1),
        (["s1_3.png", "s1_4.png", "s2_1.png"], [1, 1], 1),  # two series
        (["left.png", "right.png", "up.png"], [1, 1], 1),
        (["a1.png", "b2.png", "c9.png"], [1, 1], 1),
        (["1403636579763555584.png", "1403636579813555584.png"], [1], 1),  # nanoseconds
    ],
)
def test_numbers_of_one_series_are_times(tmp_path, names, steps, n_notes):
    touch_pictures(tmp_path, *names)
    frames, notes = noted(tmp_path)
    np.testing.assert_allclose(np.diff([30 * frame.t_s for frame in frames]), steps)
    assert len(notes) == n_notes


@pytest.mark.parametrize(
    "names",
    [
        ("img000.png", "img000.jpg"),
        ("img1.png", "img01.png"),
        ("IMG2.png", "img2.webp"),
        ("face.bmp", "face.tif"),
    ],
)
def test_two_pictures_of_one_moment_are_refused(tmp_path, names):
    touch_pictures(tmp_path, "img004.png", *names)
    refused(lambda: read_frames(tmp_path), names[0], names[1], "keep one")


def test_a_stray_number_is_refused_by_name(tmp_path):
    touch_pictures(tmp_path, *(f"{i}.png" for i in range(6)), "99999999.png")
    refused(lambda: read_frames(tmp_path), "99999999.png", "rename")
    touch_pictures(tmp_path, f"{10**200}.png")
    refused(lambda: read_frames(tmp_path), "99999999.png", "rename")


def test_a_picture_of_several_pages_is_refused(tmp_path):
    pages = [Image.new("L", (8, 6), 40 * i) for i in range(5)]
    for kind in ("tif", "webp", "png"):
        file = tmp_path / kind / f"1.{kind}"
        file.parent.mkdir()
        pages[0].save(file, save_all=True, append_images=pages[1:])
        for source in (file.parent, file):  # alone it is no film either
            refused(lambda source=source: list(read_frames(source)), file.name, "5 pages")
            refused(lambda source=source: probe(source), file.name, "5 pages")
    photo = tmp_path / "1.jpg"
    pages[0].save(photo, "MPO", save_all=True, append_images=pages[1:2])  # with its preview
    assert images_of(photo).shape == (1, 6, 8, 3)


@pytest.mark.parametrize("bits", [10, 12, 14])
@pytest.mark.parametrize("kind", ["png", "tif", "pgm", "mkv"])
def test_few_bits_in_sixteen_are_noted(tmp_path, bits, kind):
    ramp = np.tile(np.linspace(0, 2**bits - 1, 64).astype(np.uint16), (48, 1))
    for i, image in enumerate((0 * ramp, ramp)):  # a film may begin black
        Image.fromarray(image).save(tmp_path / f"{i}.{'png' if kind == 'mkv' else kind}")
    source = tmp_path
    if kind == "mkv":
        source = tmp_path / "film.mkv"
        with av.open(str(source), "w") as out:
            stream = out.add_stream("ffv1", rate=25)
            stream.height, stream.width, stream.pix_fmt = 48, 64, "gray16le"
            for image in (0 * ramp, ramp):
                out.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="gray16le")))
            out.mux(stream.encode(None))
    for pixels in ("rgb", "luma"):
        _, notes = images_noted(source, pixels=pixels)
        assert ["grey levels" in note and "scale" in note for note in notes] == [True]


@pytest.mark.parametrize("kind", ["png", "mjpeg", "tiff"])
@pytest.mark.parametrize("aspect", ["1", "2", "10/11"])
def test_pictures_cut_from_a_film_with_other_pixels_are_noted(tmp_path, kind, aspect):
    context = av.CodecContext.create(kind, "w")
    context.width, context.height, context.time_base = 48, 32, Fraction(1, 25)
    context.pix_fmt = "yuvj420p" if kind == "mjpeg" else "rgb24"
    context.sample_aspect_ratio = Fraction(aspect)
    frame = av.VideoFrame.from_ndarray(numbered(1)[0], format="rgb24")
    packets = context.encode(frame.reformat(format=context.pix_fmt)) + context.encode(None)
    suffix = {"mjpeg": "jpg"}.get(kind, kind)
    (tmp_path / f"1.{suffix}").write_bytes(b"".join(map(bytes, packets)))
    images, notes = images_noted(tmp_path)
    assert images.shape == (1, 32, 48, 3)
    words = f"said to be {float(Fraction(aspect)):.3g} times"
    assert [words in note and "resize" in note for note in notes] == [True] * (aspect != "1")


def test_a_dark_film_of_eight_bits_has_no_such_note(tmp_path):
    Image.fromarray(RAMP[:16, :40]).save(tmp_path / "1.png")
    assert images_noted(tmp_path)[1] == []


@pytest.mark.parametrize("kind", ["webp", "jfif", "jp2", "pgm", "ppm"])
def test_other_kinds_of_pictures(tmp_path, kind):
    options = {"lossless": True} if kind == "webp" else {}
    image = CHART[::8, ::8] if kind != "pgm" else CHART[::8, ::8, 0]
    Image.fromarray(image).save(tmp_path / f"1.{kind}", **options)
    got = images_of(tmp_path)[0]
    assert difference(got, image if image.ndim == 3 else image[..., None]) <= 250 * (kind == "jfif")


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


# EXIF 2.3: where the stored first row and first column are to be shown
EXIF = {1: "top left", 2: "top right", 3: "bottom right", 4: "bottom left"}
EXIF |= {5: "left top", 6: "right top", 7: "right bottom", 8: "left bottom"}


@pytest.mark.parametrize(("number", "sides"), EXIF.items())
def test_exif_orientation(tmp_path, number, sides):
    image = np.zeros((32, 64, 3), np.uint8)
    image[:16, :32] = 200
    exif = Image.Exif()
    exif[0x0112] = number
    Image.fromarray(image).save(tmp_path / "1.jpg", exif=exif, quality=95)
    expected = image if number < 5 else image.transpose(1, 0, 2)
    expected = expected[::-1] if "bottom" in sides else expected
    expected = expected[:, ::-1] if "right" in sides else expected
    for source in (tmp_path, tmp_path / "1.jpg"):
        (frame,) = read_frames(source)
        assert difference(frame.image[8::16, 8::16], expected[8::16, 8::16]) <= 3
        assert (probe(source).width, probe(source).height) == expected.shape[1::-1]


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


def damaged(frames) -> str:
    return "".join("x" if frame.damaged else "." for frame in frames)


def test_damaged_frames_are_kept_and_marked_if_asked_for(tmp_path):
    file, marks = tmp_path / "a.mkv", "...x..xx..x"
    lost = [i for i, mark in enumerate(marks) if mark == "x"]
    write_stamped(file, [*range(11)], damage=lost)
    refused(lambda: list(read_frames(file)), "a.mkv", "damaged")
    frames, notes = noted(file, keep_damaged=True)
    assert damaged(frames) == marks
    np.testing.assert_allclose([25 * frame.t_s for frame in frames], range(11), atol=1e-6)
    for frame in frames:  # the last one that can be trusted
        good = max(i for i in range(frame.index + 1) if i not in lost)
        assert difference(frame.image, 20 + 10 * good) <= 2
    assert ["damaged frames: 4" in note for note in notes] == [True]
    write_stamped(tmp_path / "b.mkv", [*range(4)], damage=[0])  # nothing before it to show
    assert damaged(read_frames(tmp_path / "b.mkv", keep_damaged=True, notes=[])) == "x..."
    write_stamped(tmp_path / "c.mkv", [*range(4)], damage=range(4))
    refused(lambda: noted(tmp_path / "c.mkv", keep_damaged=True), "c.mkv", "no frame")


@pytest.mark.parametrize(
    ("kind", "codec", "more"),
    [
        ("mp4", "libx264", {}),
        ("mkv", "libx264", {"bf": "2", "b-adapt": "0"}),
        ("ts", "mpeg2video", {}),
        ("avi", "mpeg4", {}),
    ],
)
def test_what_builds_on_damage_is_marked_up_to_the_next_key_frame(tmp_path, kind, codec, more):
    file = tmp_path / f"film.{kind}"
    encode(file, noisy(30), codec, g="10", **more)
    with av.open(str(file)) as container:
        packets = [(p.pos, p.size, p.is_keyframe) for p in container.demux() if p.size]
    assert [i for i, (*_, key) in enumerate(packets) if key] == [0, 10, 20]
    content, (at, size, _) = bytearray(file.read_bytes()), packets[14]
    for byte in range(255, -1, -1):  # not all damage shows; which, an encoder's bits decide
        content[at + size // 3 : at + size // 3 + size // 2] = bytes([byte]) * (size // 2)
        file.write_bytes(content)
        if seen_to_be_damaged(file):
            break
    refused(lambda: list(read_frames(file)), file.name, "damaged")
    frames, notes = noted(file, keep_damaged=True)
    assert len(frames) == 30
    marks = damaged(frames)
    assert "x" not in marks[:10] + marks[20:]
    assert marks[14:20] == "xxxxxx"
    assert len(notes) == 1


def test_a_film_that_is_cut_short_ends_there_if_asked_for(film):
    encode(film, noisy(60), container=FAST_START)
    film.write_bytes(film.read_bytes()[: film.stat().st_size * 6 // 10])
    frames, notes = noted(film, keep_damaged=True)
    assert 20 < len(frames) < 50
    assert any("cut short" in note for note in notes)
    film.write_bytes(film.read_bytes()[:900])
    refused(lambda: list(read_frames(film, keep_damaged=True)), "film.mp4")


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
    *[([BLACK] * 3, {"t_s": [0, 1, late]}, ["t_s", "image 2"]) for late in (1e6, 1e300)],
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
