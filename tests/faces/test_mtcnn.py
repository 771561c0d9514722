"""MTCNN, written anew, against the package whose weights it takes; its code is imported here
only."""

import importlib.util
import shutil
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import skimage.data
import torch

from micromacro.errors import BadInput
from micromacro.faces import mtcnn

PHOTO = skimage.data.astronaut()
CROWD = np.tile(cv2.resize(PHOTO[30:200, 150:300], (75, 85)), (3, 5, 1))
IMAGES = {
    "a portrait": PHOTO,
    "fifteen equal faces": CROWD,  # equal scores, so the order of ties counts
    "turned": cv2.warpAffine(PHOTO, cv2.getRotationMatrix2D((224, 120), 25, 0.8), (400, 300)),
    "close": PHOTO[60:180, 160:290],
    "at the edge": PHOTO[90:300, 210:500],
    "grey noise": np.random.default_rng(0).integers(0, 256, (120, 90, 3), dtype=np.uint8),
    "a cat": skimage.data.cat(),
    "black": np.zeros((40, 50, 3), np.uint8),
}
COUNTS = {"fifteen equal faces": 15, "grey noise": 0, "black": 0}


@pytest.fixture(scope="module")
def theirs():
    package = pytest.importorskip("facenet_pytorch")
    nets = {px: package.MTCNN(keep_all=True, min_face_size=px, device="cpu") for px in (20, 48)}
    for net in nets.values():
        net.to(memory_format=torch.channels_last)  # as ours are
    return nets


@pytest.mark.parametrize("name", IMAGES)
@pytest.mark.parametrize("min_face_px", [20, 48])
def test_faces_are_facenets_bit_for_bit(theirs, name, min_face_px):
    image = np.ascontiguousarray(IMAGES[name])
    found, expected = mtcnn.find_faces(image, min_face_px), [None]
    if min(image.shape[:2]) >= min_face_px:  # facenet-pytorch cannot bear less
        expected = theirs[min_face_px].detect(image, landmarks=True)
    if expected[0] is None:
        expected = [np.zeros(shape) for shape in ((0, 4), (0,), (0, 5, 2))]
    for ours, other in zip(found, expected, strict=True):
        assert ours.dtype == np.float32
        np.testing.assert_array_equal(ours, np.asarray(other, np.float32), strict=True)
    assert len(found[0]) == COUNTS.get(name, len(found[0]))


def test_loading_draws_no_random_numbers():
    before = torch.get_rng_state()
    mtcnn.load_net.cache_clear()
    mtcnn.load_net("rnet")
    assert torch.equal(torch.get_rng_state(), before)


def test_weights_that_are_absent_or_others(tmp_path, monkeypatch):
    real = importlib.util.find_spec("facenet_pytorch")
    shutil.copytree(Path(real.origin).with_name("data"), tmp_path / "data")
    file = tmp_path / "data" / "onet.pt"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    mtcnn.load_net.cache_clear()
    for spec, words in (
        (None, "facenet-pytorch is not installed"),
        (SimpleNamespace(origin=str(tmp_path / "__init__.py")), "onet.pt: is not the known file"),
    ):
        monkeypatch.setattr(importlib.util, "find_spec", lambda name, spec=spec: spec)
        with pytest.raises(BadInput, match=f"{words}.*; pip install"):
            mtcnn.load_net("onet")
