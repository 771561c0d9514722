"""The doors of all public models, kernels and motion tools: one table, and what each must refuse.

The table says which argument of a door is tried and what the door takes beyond float32 in [0, 1].
Every fault is tried at every door, and every door on a device without float64.
"""

import math
import re
from collections.abc import Callable
from functools import cache, partial
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch
from clips import face_clip
from pretend_device import DEVICE, PretendDevice, held
from refusals import refused

from micromacro import kernels, metrics, synthetic
from micromacro.action_unit_net import shown
from micromacro.backbones import Thumbnail
from micromacro.errors import BadInput
from micromacro.expression_encoder import ExpressionEncoder
from micromacro.files import project_root
from micromacro.kernels import checks, grey, phase_difference
from micromacro.motion.fields import main_direction, optical_strain
from micromacro.motion.flow import optical_flow, summed_flow
from micromacro.motion.lbp_top import lbp_top
from micromacro.motion.magnify import magnify
from micromacro.motion.maps import motion_maps
from micromacro.motion.prepare import normalise, prepare
from micromacro.motion.pyramid import analyse, synthesise
from micromacro.motion.tim import linear_interpolation, tim
from micromacro.systems.akmnet import AkmNet, FrameNet, Mining, StillNet, akm_loss
from micromacro.systems.akmnet.inputs import choose
from micromacro.systems.mimamo import MimamoNet, OmgNet, ccc_loss, mse_loss
from micromacro.systems.mimamo.inputs import video_inputs
from micromacro.systems.msff.inputs import spectrum_pictures
from micromacro.systems.msff.model import (
    Blstm,
    C3d,
    CnnBlstm,
    R3d18,
    ResNet50,
    SpectrogramVgg,
    VggFace,
)
from micromacro.systems.spotting import SpottingNet
from micromacro.systems.spotting.inputs import gap_flow
from micromacro.systems.spotting.model import SoftNet
from micromacro.training import isolated_rng

# What some doors take: NaN and infinities, any finite range, other floating-point types.
NAN, RANGE, DOUBLE, HALF = {"nan", "infinite"}, {"bytes"}, {"double"}, {"bfloat16"}
ANY = NAN | RANGE | DOUBLE | HALF


def pictures(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


FILM, FACES = pictures(9, 32, 32), pictures(2, 4, 1, 17, 17)
FACE_FILM = pictures(9, 3, 32, 32)
COLOURS, VIDEO = pictures(2, 3, 32, 32), pictures(1, 3, 3, 20, 20)
SHOWN, FLOW_PX = pictures(2, 3, 1, 20, 20), pictures(2, 2, 2, 12, 12)
FEATURES, LEVEL_1, LEVEL_2 = (pictures(2, 3, *s) for s in ((8,), (2, 8, 8), (2, 4, 4)))
SEGMENTS = pictures(2, 1, 96, 64)
SIZES = {"n_features": 8, "phase_channels": 2, "phase_widths": (4, 4), "hidden": 4, "gru_hidden": 4}


def networks():
    with isolated_rng(0):
        nets = {
            "akm": AkmNet(3, widths=(4, 6), image_px=17, gru_hidden=3),
            "still": StillNet(FrameNet((4, 6)), 3),
            "mimamo": MimamoNet(**SIZES),
            "omg": OmgNet(**SIZES),
            "spotting": SpottingNet(widths=(3, 3, 4), grid=2, hidden=5),
            "soft": SoftNet(12, hidden=5),
            "encoder": ExpressionEncoder(),
            "thumbnail": Thumbnail(),
            "vgg": VggFace(2, 4, 3, image_px=32),
            "resnet": ResNet50(2, (1, 1, 1, 1)),
            "c3d": C3d(2, 4, image_px=16, scale=60),
            "r3d": R3d18(image_px=16),
            "vggish": SpectrogramVgg(2, 4, 3),
            "blstm": Blstm(8, 4),
        }
        nets["stream"] = CnnBlstm(nets["vgg"], Blstm(4, 4))
    return {name: net.eval() for name, net in nets.items()}


class Door(NamedTuple):
    """Name or names of an argument, a good one, the call, and the faults that it takes."""

    name: str
    good: torch.Tensor
    call: Callable
    takes: set[str] = frozenset()


def doors(put):
    """The table; networks and the arguments that are not in question are `put` on a device."""
    nets = {name: put(net) for name, net in networks().items()}
    film, features, one, two, flow_px = map(put, (FILM, FEATURES, LEVEL_1, LEVEL_2, FLOW_PX))
    centres, near = put(torch.arange(3)), flow_px[0]
    akm, mimamo, omg = nets["akm"], nets["mimamo"], nets["omg"]
    # A tuple as an index would become a tensor without values on "meta".
    nets["spotting"].order = put(torch.tensor(nets["spotting"].order))
    farneback = {"method": "farneback"}
    table = {
        "phase": Door("frames", FILM, phase_difference),
        "phase reference": Door(
            "frames", FILM, kernels.phase_difference_reference, NAN | RANGE | DOUBLE
        ),
        "snippets": Door("maps", LEVEL_1, partial(kernels.snippets, length=2), ANY),
        "contrast": Door("images", FILM, kernels.local_contrast),
        "contrast by torch": Door("images", FILM, partial(kernels.local_contrast, backend="torch")),
        "contrast reference": Door(
            "images", FILM, kernels.local_contrast_reference, NAN | RANGE | DOUBLE
        ),
        "grey": Door("images", COLOURS, grey, ANY),
        "flow from": Door("first", FILM, lambda x: optical_flow(x, film, warps=1), DOUBLE),
        "flow to": Door("second", FILM, lambda x: optical_flow(film, x, **farneback), DOUBLE),
        "magnify": Door("clip", FILM, magnify, RANGE | DOUBLE),
        "pyramid": Door("images", FILM, pyramid, NAN | RANGE | DOUBLE),
        "LBP-TOP": Door("clip", FILM, partial(lbp_top, grid=(2, 2)), RANGE | DOUBLE | HALF),
        "TIM": Door(
            "clip",
            FILM[..., :8, :8],
            partial(tim, n_frames=4),
            RANGE | DOUBLE | HALF | {"one axis"},
        ),
        "linear": Door(
            "clip", FILM[:, 0, 0], partial(linear_interpolation, n_frames=4), RANGE | DOUBLE | HALF
        ),
        "maps": Door(
            "faces", (255 * FILM).byte()[None], lambda x: motion_maps(x, centres, length=2)
        ),
        "AkmNet": Door("frames|clips", FACES, akm),
        "AkmNet, packed": Door("frames|lengths", FACES[0], lambda x: akm(x, [3, 1])),
        "AkmNet, list": Door("clips|frames", FACES[0], lambda x: akm([x])),
        "frozen maps": Door("frames", FACES[0], akm.frame_net.frozen_maps),
        "StillNet": Door("frames", FACES[0], nets["still"]),
        "MimamoNet": Door("features", FEATURES, lambda x: mimamo(x, one, two), RANGE),
        "MimamoNet, 1": Door("level_1", LEVEL_1, lambda x: mimamo(features, x, two), RANGE),
        "OmgNet, 2": Door("level_2", LEVEL_2, lambda x: omg(features, one, x), RANGE),
        "SpottingNet": Door("frames", SHOWN, nets["spotting"]),
        "SoftNet": Door("flow_px", FLOW_PX, nets["soft"], RANGE),
        "strain": Door("flow_px", FLOW_PX[0], optical_strain, ANY),
        "MDMD": Door("near_px", FLOW_PX[0], lambda x: main_direction(x, near, blocks=3), ANY),
        "gap flow": Door("frames|first", SHOWN, partial(gap_flow, **farneback), DOUBLE),
        "summed flow": Door(
            "chunk|first|second", SHOWN[0], lambda x: next(summed_flow([x], **farneback)), DOUBLE
        ),
        "videos": Door("videos", VIDEO, lambda x: video_inputs(x, nets["thumbnail"])),
        "ExpressionEncoder": Door("images", COLOURS, nets["encoder"]),
        "Thumbnail": Door("images", COLOURS, nets["thumbnail"]),
        "action units": Door("frames", FACE_FILM, shown),
        "VggFace": Door("images", COLOURS, nets["vgg"]),
        "VggFace, features": Door("images", COLOURS, nets["vgg"].features),
        "ResNet50": Door("images", COLOURS, nets["resnet"]),
        "C3d": Door("faces", FACES, nets["c3d"]),
        "R3d18": Door("faces", FACES, nets["r3d"]),
        "SpectrogramVgg": Door("segments", SEGMENTS, nets["vggish"], RANGE),
        "Blstm": Door("features", FEATURES, nets["blstm"], RANGE),
        "CnnBlstm": Door("rows|images", FACES, nets["stream"]),
        "spectrum pictures": Door("segments", SEGMENTS, spectrum_pictures, RANGE),
        "CCC loss": Door("prediction", FEATURES, lambda x: ccc_loss(x, features), ANY),
        "MSE loss": Door("target", FEATURES, lambda x: mse_loss(features, x), ANY),
    }
    for kind in ("raw", "zscore", "local_contrast"):
        table[f"prepare, {kind}"] = Door("frames", FILM, partial(prepare, inputs=kind, size=16))
    for kind in ("lcn", "zscore", "clahe", "raw"):
        table[f"normalise, {kind}"] = Door("frames", FILM, partial(normalise, inputs=kind))
    return table


def pyramid(images):
    return synthesise(analyse(images, levels=2, orientations=2))


DOORS = doors(lambda it: it)


def spoilt(good, value):
    bad = good.clone().float()
    bad.view(-1)[5] = value
    return bad


FAULTS = {
    "array": lambda good: good.numpy(),
    "list": lambda good: good.tolist(),
    "nothing": lambda good: None,
    "double": torch.Tensor.double,
    "bfloat16": torch.Tensor.bfloat16,
    "integers": lambda good: (255 * good).long(),
    "truth": lambda good: good > 0,
    "complex": lambda good: good.to(torch.complex64),
    "nan": partial(spoilt, value=math.nan),
    "infinite": partial(spoilt, value=-math.inf),
    "bytes": lambda good: 255 * good.float(),
    "one axis": torch.Tensor.flatten,
    "a number": lambda good: good.flatten()[0],
}


@pytest.mark.parametrize("fault", ["none", *FAULTS])
@pytest.mark.parametrize("door", DOORS)
def test_every_fault_at_every_door(door, fault):
    names, good, call, takes = DOORS[door]
    given = good if fault == "none" else FAULTS[fault](good)
    if fault in takes | {"none"} or (door == "linear" and fault == "one axis"):
        call(given)
        return
    with pytest.raises(BadInput, match=rf"^[\w ]*\b({names})\b.*; .") as caught:
        call(given)
    assert "\n" not in str(caught.value)


# ---- axes taken for one another ------------------------------------------------------------------

CLIP = face_clip(np.random.default_rng(0).integers(0, 256, (15, 3, 32, 32), dtype=np.uint8))
RGB = CLIP.images()  # (15, 3, 32, 32)
GREY_WAY, SHOWN_RGB = "kernels.grey", SHOWN.expand(2, 3, 3, 20, 20)
MISTAKEN = {  # door: what is given, and the way out that the message names
    "phase": [
        *((x, "clip.grey()") for x in (RGB, RGB[None], RGB[:1], (255 * RGB).byte())),
        *((x, "movedim(-1, -3)") for x in (RGB.movedim(1, -1), CLIP.grey()[..., None])),
        (CLIP.grey()[:, None], "without an axis"),
    ],
    "phase reference": [(RGB, "clip.grey()"), (RGB.movedim(1, -1), "movedim(-1, -3)")],
    "maps": [((255 * RGB).byte(), "grey"), ((255 * RGB).byte()[:, 0], "(N, T, H, W)")],
    "AkmNet": [
        (FACES.expand(2, 4, 3, 17, 17), GREY_WAY),
        (FACES.transpose(1, 2), "x.transpose(-4, -3)"),
        (FACES.movedim(2, -1), "x.movedim(-1, -3)"),
    ],
    "AkmNet, packed": [(FACES[0].expand(4, 3, 17, 17), GREY_WAY)],
    "AkmNet, list": [(FACES[0].transpose(0, 1), "x.transpose(-4, -3)")],
    "StillNet": [(FACES[0].expand(4, 3, 17, 17), GREY_WAY), (FACES[0].movedim(1, -1), "movedim")],
    "frozen maps": [(FACES[0].expand(4, 3, 17, 17), GREY_WAY)],
    "SpottingNet": [
        (SHOWN_RGB, GREY_WAY),
        (SHOWN.transpose(1, 2), "x.transpose(-4, -3)"),
        (SHOWN[:, :2], "(B, 3, 1, H, W)"),
    ],
    "gap flow": [(SHOWN_RGB, GREY_WAY)],
    "summed flow": [(SHOWN_RGB[0], GREY_WAY)],
    "SoftNet": [(SHOWN, "(B, 2, 2, H, W)")],
    "videos": [
        (VIDEO.movedim(2, -1), "x.movedim(-1, -3)"),
        (VIDEO.repeat(1, 2, 1, 1, 1).transpose(1, 2), "x.transpose(-4, -3)"),
        (VIDEO[:, :, :1], "(B, T, 3, H, W)"),
    ],
    "LBP-TOP": [(RGB, "(T, H, W)")],
    "MimamoNet": [(RGB[None], "(B, S, 8)")],
    "Thumbnail": [(COLOURS.movedim(1, -1), "x.movedim(-1, -3)")],
    "ExpressionEncoder": [(COLOURS.movedim(1, -1), "x.movedim(-1, -3)")],
    "VggFace": [(COLOURS.movedim(1, -1), "x.movedim(-1, -3)")],
    "C3d": [(FACES.movedim(2, -1), "x.movedim(-1, -3)"), (FACES[0], "(B, T, 1|3, H, W)")],
    "SpectrogramVgg": [(SEGMENTS.transpose(2, 3), "(B, 1, 96, 64)")],
    "grey": [(RGB.movedim(1, -1), "x.movedim(-1, -3)"), (RGB[:, :2], "1|3")],
}
CASES = [(door, *case) for door, cases in MISTAKEN.items() for case in cases]


@pytest.mark.parametrize(("door", "given", "way"), CASES)
def test_axes_that_are_taken_for_one_another(door, given, way):
    refused(lambda: DOORS[door].call(given), way)


def test_three_frames_are_frames_where_nobody_says_colours():
    assert phase_difference(FILM[:3])[0].shape == (2, 2, 32, 32)
    batch = torch.stack([FILM[:3], FILM[3:6]])
    for call in (phase_difference, kernels.phase_difference_reference):
        both = call(batch, check=False)[0]
        torch.testing.assert_close(both[1], call(FILM[3:6])[0])


def test_the_ways_out_are_ways_out():
    """What a message says is done, then the call works."""
    grey_film = CLIP.grey()
    assert (grey_film.shape, grey_film.dtype) == ((15, 32, 32), torch.float32)
    torch.testing.assert_close(grey(RGB), grey_film, rtol=0, atol=0)
    red, green, blue = RGB.unbind(1)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    torch.testing.assert_close(grey_film, luma, rtol=0, atol=1e-6)
    assert torch.equal(grey(RGB[:, :1].expand_as(RGB)), RGB[:, 0])  # grey in RGB comes back
    assert torch.equal(grey((255 * RGB[:, :1]).round().byte()), RGB[:, 0])
    assert grey(torch.ones(3, 4, 4)).max() == 1
    assert torch.equal(CLIP.grey(3, 5), grey_film[3:5])
    phases = phase_difference(grey_film, size=16)
    for frames in (grey(RGB), grey(RGB.movedim(1, -1).movedim(-1, -3))):
        assert all(map(torch.equal, phase_difference(frames, size=16), phases))
    net, colours = DOORS["AkmNet"].call, FACES.expand(2, 4, 3, 17, 17)
    assert torch.equal(net(grey(colours).unsqueeze(-3)).logits, net(FACES).logits)


def test_the_readme_joins_its_snippets():
    blocks = re.findall(r"```python\n(.*?)```", (project_root() / "README.md").read_text(), re.S)
    faces, phases = (block for block in blocks if "extract_faces" in block or "snippets(" in block)
    names = {"extract_faces": lambda *_, **__: CLIP}
    exec(faces.replace("from micromacro.faces import extract_faces", ""), names)
    exec(phases, names)
    assert names["windows"].shape == (3, 2, 12, 48, 48)


# ---- a device without float64 --------------------------------------------------------------------


@pytest.fixture
def lacking(monkeypatch):
    """The pretended device has no float64, and the package knows it."""
    monkeypatch.setattr(checks, "NO_FLOAT64", (DEVICE.type,))
    autocast = torch.autocast  # which does not know the device

    def known(kind, **options):
        return autocast("cpu" if kind == DEVICE.type else kind, **options)

    monkeypatch.setattr(torch, "autocast", known)
    with PretendDevice() as device:
        yield device


def numbers(result):
    """All floating-point tensors of a result, whatever holds them."""
    if isinstance(result, torch.Tensor):
        return [result] if result.is_floating_point() else []
    result = vars(result) if isinstance(result, Mining) else result
    parts = result.values() if isinstance(result, dict) else result
    holders = torch.Tensor, tuple, list, Mining
    return [n for part in parts if isinstance(part, holders) for n in numbers(part)]


@cache
def doors_there():
    """The table on the pretended device, made once: it holds 34 million weights."""
    return doors(lambda it: it.to(DEVICE))


@torch.no_grad()
@pytest.mark.parametrize("door", DOORS)
def test_no_float64_is_made_on_a_device_that_has_none(door, lacking):
    """There, or on the CPU where float64 is needed, comes out what the CPU gives."""
    given, there = DOORS[door].good, doors_there()[door].call
    found, expected = there(given.to(DEVICE)), DOORS[door].call(given)
    pairs = [*zip(numbers(found), numbers(expected), strict=True)]
    assert pairs
    for one, other in pairs:  # what is still float64 is on the CPU
        assert one.device.type == ("cpu" if one.dtype == torch.float64 else DEVICE.type)
        torch.testing.assert_close(held(one), other, check_dtype=False, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("steps", ["s123", "s12", "s13", "s23", "none"])
def test_a_step_of_training_makes_none_either(steps, lacking):
    with isolated_rng(0):
        net = AkmNet(3, steps=steps, widths=(4, 6), image_px=17, gru_hidden=3).eval()
    grads = []
    for place in ("cpu", DEVICE):
        net = net.to(place)
        net.zero_grad()
        output = net(FACES.to(place))
        akm_loss(output, torch.tensor([0, 2]).to(place)).backward()
        assert output.logits.device == torch.device(place)
        grads.append([held(p.grad) for p in net.parameters()])
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


# ---- whole numbers of any type -------------------------------------------------------------------

AKM = {"widths": (4, 6), "image_px": 17, "gru_hidden": 3}
NET = networks()["akm"]
PERSON = synthetic.Identity.draw(0)
FACE, PLAY = synthetic.Face(PERSON, size=32, colour=False), synthetic.perform(3)
TWO = SimpleNamespace(table=pd.DataFrame({"T": [9, 8], "apex": [4, 4]}), envelope=())


def drawn(make, *args, **options):
    """First weights of a network, from one seed."""
    with isolated_rng(0):
        return [p.detach() for p in make(*args, **options).parameters()]


def identity(**numbers):
    return [torch.tensor(synthetic.Identity.draw(**({"subject": 0} | numbers)).rest)]


def acted(*args, **options):
    return FACE.render(synthetic.perform(*args, **options))


def actor_flow(n):
    return FACE.flow(PLAY, n, 2)


def random_state(n):
    with isolated_rng(n):
        return torch.rand(3)


INTEGERS = [  # name of the argument, a good number, and what it makes
    ("window", 5, lambda n: kernels.local_contrast(FILM, window=n)),
    ("window", 5, lambda n: kernels.local_contrast_reference(FILM, window=n)),
    ("size", 16, lambda n: phase_difference(FILM, size=n)),
    ("size", 16, lambda n: phase_difference(FILM, size=(n, 16))),
    ("size", 16, lambda n: kernels.phase_difference_reference(FILM, size=n)),
    ("levels", 1, lambda n: phase_difference(FILM, levels=n)),
    ("levels", 1, lambda n: phase_difference(FILM, levels=[2, n])),
    ("orientations", 2, lambda n: phase_difference(FILM, orientations=n)),
    ("length", 2, lambda n: kernels.snippets(LEVEL_1, length=n)),
    ("stride", 2, lambda n: kernels.snippets(LEVEL_1, length=1, stride=n)),
    ("warps", 2, lambda n: optical_flow(FILM[:1], FILM[1:2], warps=n, scales=1)),
    ("radius", 2, lambda n: lbp_top(FILM, radius=n, grid=(2, 2))),
    ("grid", 2, lambda n: lbp_top(FILM, grid=(2, n))),
    ("frames", 4, lambda n: tim(FILM, n)),
    ("frames", 4, lambda n: linear_interpolation(FILM, n)),
    ("orientations", 3, lambda n: magnify(FILM, orientations=n)),
    ("levels", 2, lambda n: analyse(FILM, levels=n, orientations=2).bands),
    ("size", 48, lambda n: prepare(FILM, "local_contrast", n)),
    ("length", 2, lambda n: motion_maps((255 * FILM).byte()[None], torch.arange(3), length=n)),
    ("n_classes", 5, lambda n: drawn(AkmNet, n, **AKM)),
    ("widths", 130, lambda n: drawn(AkmNet, **(AKM | {"widths": (4, n)}))),
    ("blocks", 1, lambda n: drawn(AkmNet, **AKM, blocks=n)),
    ("image_px", 129, lambda n: drawn(AkmNet, **(AKM | {"image_px": n}))),
    ("gru_hidden", 130, lambda n: drawn(AkmNet, **(AKM | {"gru_hidden": n}))),
    ("parts", 1, lambda n: drawn(FrameNet((4,)).freeze, n) and torch.zeros(1)),
    ("lengths", 2, lambda n: NET(FACES[0], [n, 2]).logits),
    ("after", 0, lambda n: NET(FACES, after=n).logits),
    ("hidden", 3, lambda n: drawn(MimamoNet, **(SIZES | {"hidden": n}))),
    ("n_features", 3, lambda n: drawn(MimamoNet, **(SIZES | {"n_features": n}))),
    ("phase_channels", 3, lambda n: drawn(OmgNet, **(SIZES | {"phase_channels": n}))),
    ("phase_widths", 200, lambda n: drawn(OmgNet, **(SIZES | {"phase_widths": (4, n)}))),
    ("gru_hidden", 200, lambda n: drawn(OmgNet, **(SIZES | {"gru_hidden": n}))),
    ("grid", 20, lambda n: drawn(SpottingNet, grid=n)),
    ("n_gaps", 1, lambda n: drawn(SpottingNet, n_gaps=n)),
    ("map_px", 50, lambda n: drawn(SoftNet, n)),
    ("blocks", 3, lambda n: main_direction(FLOW_PX[0], FLOW_PX[1], blocks=n)),
    ("subject", 3, lambda n: identity(subject=n)),
    ("run_seed", 3, lambda n: identity(run_seed=n)),
    ("size", 16, lambda n: synthetic.Face(PERSON, size=n).render(PLAY)),
    ("size", 16, lambda n: synthetic.Face(PERSON, size=(n, 16)).render(PLAY)),
    ("n_frames", 3, acted),
    ("seed", 200, lambda n: acted(2, nuisance="hard", seed=n)),
    ("onset", 200, lambda n: [torch.tensor(synthetic.macro_event(n, "fear", fps=99).offset)]),
    ("seed", 200, random_state),
]


@pytest.mark.parametrize("kind", [np.int64, np.uint8, torch.tensor])
@pytest.mark.parametrize(("name", "good", "make"), INTEGERS)
def test_whole_numbers_are_taken_whatever_their_type(name, good, make, kind):
    """Of 8 bit too, whose sums and squares would overflow."""
    given, expected = make(kind(good)), make(good)
    torch.testing.assert_close(given, expected, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("wrong", [2.5, "4", None, -1, np.float32(3), torch.tensor(2.5), True])
@pytest.mark.parametrize(("name", "good", "make"), INTEGERS)
def test_what_is_no_whole_number_is_refused(name, good, make, wrong):
    if (name, wrong) == ("size", None):  # as the frames are
        return
    refused(lambda: make(wrong), name)


def test_other_places_for_numbers():
    """A frame of the actor, a seed of a draw, numbers that need not be whole."""
    assert all(map(torch.equal, actor_flow(np.int64(1)), actor_flow(1)))
    takes = {"takes": [3, 3]}
    for choice in ("random", "random window"):
        drawn = choose(choice, TWO, np.int64(5), **takes)
        assert all(map(torch.equal, drawn, choose(choice, TWO, 5, **takes)))
    three = np.float32(3)
    torch.testing.assert_close(magnify(FILM, three, blur_px=three), magnify(FILM, 3.0, blur_px=3.0))
    flows = [optical_flow(FILM[:1], FILM[1:2], warps=1, theta=v) for v in (np.float64(0.2), 0.2)]
    assert torch.equal(*flows)
    for options in ({"alpha": math.inf}, {"blur_px": -1.0}, {"blur_px": math.inf}):
        refused(lambda options=options: magnify(FILM, **options), *options)


# ---- scores --------------------------------------------------------------------------------------

NO_NUMBERS = {
    "words": ["a", "b"],
    "ragged": [[1.0, 2.0], [3.0]],
    "complex": np.array([1j, 2j]),
    "dates": np.array(["2020-01-01", "2020-01-02"], "datetime64[D]"),
    "nothing": None,
    "objects": [object(), object()],
}


@pytest.mark.parametrize("score", [metrics.ccc, metrics.pcc, metrics.mse])
@pytest.mark.parametrize("kind", NO_NUMBERS)
def test_scores_of_what_are_no_numbers(score, kind):
    for pair in ((NO_NUMBERS[kind], [0.1, 0.2]), ([0.1, 0.2], NO_NUMBERS[kind])):
        refused(lambda pair=pair: score(*pair), "give")
