"""What the kernels and the motion tools refuse: the argument is named, and so is what to do."""

import dataclasses
import math
from functools import partial

import pytest
import torch
from refusals import refused

from micromacro.kernels import local_contrast, phase_difference
from micromacro.motion.flow import METHODS, optical_flow
from micromacro.motion.lbp_top import lbp_top
from micromacro.motion.magnify import magnify
from micromacro.motion.pyramid import analyse, synthesise
from micromacro.motion.tim import linear_interpolation, tim

GOOD = torch.full((9, 32, 32), 0.5)
PLACE = torch.tensor(3)


def flow(images, **options):
    return optical_flow(GOOD, images, **options)


def still(images, **options):
    return optical_flow(images, images, **options)


def pyramid(images, levels=1, orientations=2):
    return analyse(images, levels=levels, orientations=orientations)


CALLS = {
    "images": [local_contrast, pyramid],
    "frames": [phase_difference],
    "second": [partial(flow, method=method) for method in METHODS],
    "clip": [magnify, lbp_top, partial(tim, n_frames=4), partial(linear_interpolation, n_frames=4)],
}
EVERYONE = [(name, call) for name, calls in CALLS.items() for call in calls]
TENSORS = {
    "array": (GOOD.numpy(), "ndarray, not a tensor"),
    "number": (GOOD[0, 0, 0], "give ("),
    "integers": (GOOD.int(), "int32; give float"),
    "nan": (GOOD.index_fill(0, PLACE, math.nan), "NaN or infinite"),
    "infinite": (GOOD.index_fill(0, PLACE, -math.inf), "NaN or infinite"),
}
TAKES_ANY_NUMBER = {pyramid}


@pytest.mark.parametrize("fault", TENSORS)
@pytest.mark.parametrize(("name", "call"), EVERYONE)
def test_tensors(name, call, fault):
    tensor, words = TENSORS[fault]
    if fault in ("nan", "infinite") and getattr(call, "func", call) in TAKES_ANY_NUMBER:
        return
    refused(lambda: call(tensor), f"{name}: ", words)


contrast, phase = local_contrast, phase_difference
EMPTY, SMALL, LOW = GOOD[:0], GOOD[:, :11, :11], GOOD[:, :20, :].repeat(1, 1, 4)
FARNEBACK, TRITON = {"method": "farneback"}, {"backend": "triton"}
CASES = [
    *[(call, GOOD * 255, {}, ["values from 127.5", "divide 8-bit"]) for call in (contrast, phase)],
    *[(call, GOOD - 2, {}, ["values from -1.5"]) for call in (contrast, phase)],
    *[(call, GOOD.double(), {}, ["float64"]) for call in (contrast, phase)],
    # local contrast
    (contrast, GOOD, {"method": "std"}, ["method", "jarrett, mean_std"]),
    (contrast, GOOD, {"backend": "numpy"}, ["backend", "auto, opencv"]),
    *[(contrast, GOOD, {"window": n}, ["window", "odd"]) for n in (8, 1, 9.0)],
    (contrast, GOOD[:, :12], {"window": 13}, ["window: 13 px on images of 12x32"]),
    (contrast, GOOD[:0, :4], {}, ["window: 9 px on images of 4x32"]),
    *[(contrast, GOOD, {"sigma": s}, ["sigma", "above 0"]) for s in (0, math.inf, math.nan)],
    (contrast, GOOD, {"eps": -1.0}, ["eps"]),
    (contrast, GOOD, {"window": 19, **TRITON}, ["window: 19 px is too wide"]),
    # phase differences
    (phase, GOOD[..., :18], {"levels": (1, 2, 3)}, ["multiples of 4"]),
    (phase, GOOD[:, :17], {"levels": (1,)}, ["17 x 32 px"]),
    (phase, GOOD[:, :6, :6], {}, ["at least 8"]),
    (phase, GOOD[:, :0, :0], {}, ["at least 8"]),
    *[(phase, GOOD[:n], {}, [f"{n} frame(s)", "give two"]) for n in (0, 1)],
    (phase, GOOD[0], {}, ["give (..., T, H, W)"]),
    *[(phase, GOOD, {"levels": n}, ["levels"]) for n in ((), (0, 1), (1, 1))],
    *[(phase, GOOD, {"size": n}, ["size", "not a side"]) for n in (16.0, (16,), "16")],
    (phase, GOOD, {"size": 15}, ["15 x 15"]),
    *[(phase, GOOD, {"blur_sigma": s}, ["blur_sigma"]) for s in (None, -1.0, math.nan)],
    (phase, GOOD, {"orientations": 0}, ["orientations"]),
    (phase, GOOD, {"mode": "mean"}, ["mode", "weighted, arg_of_blur"]),
    (phase, GOOD, {"backend": "cuda"}, ["backend", "auto, gemm"]),
    (phase, GOOD, {"mode": "arg_of_blur", "legacy_unwrap": True}, ["choose one"]),
    (phase, GOOD, {"orientations": 3, **TRITON}, ["choose backend='gemm'"]),
    # flow
    (flow, GOOD[..., :31], {}, ["(9, 32, 31)", "give the same shape"]),
    (flow, GOOD[None], {}, ["give the same shape"]),
    (flow, GOOD.half(), {}, ["second", "float16"]),
    *[(flow, image, {}, ["second: values from"]) for image in (255 * GOOD, GOOD - 1)],
    *[(still, images, {}, ["12 px"]) for images in (SMALL, SMALL[:0])],
    *[(still, LOW, {"method": m}, ["too wide for DIS"]) for m in METHODS if m[:3] == "dis"],
    (flow, GOOD, {"method": "raft"}, ["'raft': is unknown", "tvl1"]),
    (flow, GOOD, {"gamma": 0.1}, ["gamma: not a setting of tvl1; take tau"]),
    (flow, GOOD, {"tau": 0.1, **FARNEBACK}, ["tau: not a setting of farneback"]),
    (flow, GOOD, {"method": "dis_fast", "winsize": 5}, ["winsize: not a setting", "give none"]),
    (flow, GOOD, {"lambda_": 0}, ["lambda_: is 0; give a number above 0"]),
    (flow, GOOD, {"tau": math.nan}, ["tau: is nan"]),
    (flow, GOOD, {"theta": "0.3"}, ["theta: is '0.3'"]),
    (flow, GOOD, {"epsilon": -1e-3}, ["epsilon: is -0.001; give a number of 0 or more"]),
    *[(flow, GOOD, {"scale_step": n}, [f"scale_step: is {n}; give a num"]) for n in (1.0, 2)],
    *[(flow, GOOD, {"warps": n}, [f"warps: is {n}; give a whole number"]) for n in (0, True)],
    (flow, GOOD, {"scales": 2.0}, ["scales: is 2.0"]),
    (flow, GOOD, {"method": "dual_tvl1", "median_filtering": 4}, ["is 4; give 1, 3 or 5"]),
    # pyramid
    *[(pyramid, GOOD.to(d), {}, ["images", "dtype"]) for d in (torch.half, torch.complex64)],
    *[(pyramid, GOOD[:, :n], {}, ["images", "at least 8 x 8"]) for n in (7, 0)],
    *[(pyramid, GOOD, {"levels": n}, [f"levels={n}", "carry 1 to 3"]) for n in (0, 4)],
    (pyramid, GOOD, {"orientations": 0}, ["orientations=0"]),
    # magnification
    (magnify, EMPTY, {}, ["clip", "has no frame"]),
    (magnify, GOOD[:, :7], {}, ["at least 8 x 8"]),
    (magnify, GOOD, {"alpha": math.nan}, ["alpha=nan"]),
    (magnify, GOOD, {"blur_px": -1}, ["alpha=15.0, blur_px=-1"]),
    # LBP-TOP
    (lbp_top, GOOD[:6], {}, ["clip: has 6 x 32 x 32 frames, rows, columns; give at least 7"]),
    (lbp_top, GOOD[:, :13], {}, ["clip: has 9 x 13 x 32"]),
    (lbp_top, GOOD[..., :20], {"grid": (2, 15)}, ["clip: has 9 x 32 x 20"]),
    (lbp_top, GOOD[:, None].repeat(1, 3, 1, 1), {}, ["clip: has shape (9, 3, 32, 32)"]),
    (lbp_top, GOOD[0], {}, ["clip: has shape (32, 32)"]),
    (lbp_top, GOOD, {"radius": 0}, ["radius=0"]),
    (lbp_top, GOOD, {"grid": (0, 2)}, ["radius=3, grid=(0, 2)"]),
    # temporal interpolation
    *[(call, EMPTY, {"n_frames": 4}, ["0 to 4 frames"]) for call in (tim, linear_interpolation)],
    *[(call, GOOD, {"n_frames": 0}, ["9 to 0 frames"]) for call in (tim, linear_interpolation)],
]


@pytest.mark.parametrize(("call", "tensor", "options", "words"), CASES)
def test_options(call, tensor, options, words):
    refused(lambda: call(tensor, **options), *words)


def test_parts_of_a_pyramid_that_do_not_fit():
    good = analyse(torch.rand(2, 20, 33), levels=2, orientations=3)
    fine, coarse = good.bands
    for bands, *words in (
        ([fine, coarse.abs()], "bands[1]: is torch.float32"),
        ([fine, coarse[..., :-1]], "bands[1]: has shape (2, 3, 10, 16)", "(2, 3, 10, 17)"),
        ([fine[0], coarse], "bands[0]: has shape (3, 20, 33)"),
        ([fine[:1], coarse], "bands[0]: has shape (1, 3, 20, 33)"),
        ([fine], "low: has shape (2, 5, 9)", "(2, 10, 17)"),
    ):
        refused(lambda bands=bands: synthesise(dataclasses.replace(good, bands=bands)), *words)
