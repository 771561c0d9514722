"""The network of photographs: files made up here against what face-api made of them, and the true
ones.

The true files may not be committed. So the test makes two of the same layout, of numbers from a
formula, and beside them stands what face-api 1.7.15 itself, run by node, gave for these files and
pictures.
"""

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
from clips import face_clip
from refusals import refused

from micromacro.faces import expression, extract_faces
from micromacro.faces.expression import CLASSES, PhotoExpressionNet, photo_expressions
from micromacro.systems.msff import EMOTIONS
from micromacro.weights import CACHE_VARIABLE, WEIGHTS, Weights

BIN, MANIFEST = "face_expression_model.bin", "face_expression_model-weights_manifest.json"
NAMES = {BIN: "photo_expression", MANIFEST: "photo_expression_manifest"}
MODELS = Path(os.environ.get(CACHE_VARIABLE, Path(__file__).parents[3] / "shared/data/models"))
# What face-api calls neutral, happy, sad, angry, fearful, disgusted, surprised.
ORDER = ("Neutral", "Happy", "Sad", "Angry", "Fear", "Disgust", "Surprise")
# face-api's shares in the order of the file, for `pictures` and the files of `made_up`.
SHARES = (
    (1.141770e-3, 2.646003e-3, 7.793471e-2, 1.083052e-2, 4.419367e-3, 3.113235e-5, 9.029965e-1),
    (1.156111e-3, 2.365545e-3, 8.125346e-2, 1.615208e-2, 7.121596e-3, 3.423741e-5, 8.919169e-1),
)
# Likewise of the second picture, for the true files.
TRUE_SHARES = (0.4783872, 0.1887146, 0.0688122, 0.0920444, 0.0160979, 0.0109677, 0.1449759)


def shapes():
    """Name and shape of each tensor in the order of the file; TensorFlow's axes."""
    widths = (3, 32, 64, 128, 256)
    for k in range(4):
        for j in range(4):
            n_in, n_out, name = widths[k + (j > 0)], widths[k + 1], f"dense{k}/conv{j}"
            if k == j == 0:
                yield f"{name}/filters", (3, 3, n_in, n_out)
            else:
                yield f"{name}/depthwise_filter", (3, 3, n_in, 1)
                yield f"{name}/pointwise_filter", (1, 1, n_in, n_out)
            yield f"{name}/bias", (n_out,)
    yield "fc/weights", (256, 7)
    yield "fc/bias", (7,)


def noise(n: int, start: int) -> np.ndarray:
    """Numbers 0 to 255 without a pattern, the same on every machine."""
    k = np.arange(start, start + n, dtype=np.uint64) + np.uint64(1)
    k = k * np.uint64(2654435761) % np.uint64(2**32)
    k = (k ^ (k >> np.uint64(15))) * np.uint64(2246822519) % np.uint64(2**32)
    return (k >> np.uint64(24)).astype(np.uint8)


def made_up(folder: Path) -> Path:
    """A folder with two files of the true layout."""
    folder.mkdir()
    raw, about, at = b"", [], 0
    for name, shape in shapes():
        n, entry = int(np.prod(shape)), {"name": name, "shape": [*shape], "dtype": "float32"}
        if name.endswith("bias"):
            raw += ((noise(n, at) / np.float32(255) - np.float32(0.5)) / 5).astype("<f4").tobytes()
        else:
            inputs = 9 if "depthwise" in name else n // shape[-1]
            most = float(np.sqrt(3 / inputs)) * (3 if name == "fc/weights" else 1)
            code = {"dtype": "uint8", "scale": 2 * most / 255, "min": -most}
            raw, entry = raw + noise(n, at).tobytes(), entry | {"quantization": code}
        about, at = [*about, entry], at + n
    (folder / BIN).write_bytes(raw)
    (folder / MANIFEST).write_text(json.dumps([{"weights": about, "paths": [BIN]}]))
    return folder


def pictures() -> torch.Tensor:
    """Two pictures uint8 (2, 3, 112, 112) that are no mirror image of themselves."""
    c, y, x = np.mgrid[:3, :112, :112]
    one = (3 * y + 5 * x + 40 * c + x * y // 7) % 256
    other = noise(3 * 112 * 112, 0).reshape(112, 112, 3).transpose(2, 0, 1)
    return torch.from_numpy(np.stack([one.astype(np.uint8), other]))


def registered(monkeypatch, folder: Path) -> None:
    for file, name in NAMES.items():
        raw = (folder / file).read_bytes()
        known = Weights(WEIGHTS[name].url, len(raw), hashlib.sha256(raw).hexdigest())
        monkeypatch.setitem(WEIGHTS, name, known)


@pytest.fixture
def files(tmp_path, monkeypatch) -> Path:
    folder = made_up(tmp_path / "model")
    registered(monkeypatch, folder)
    return folder


def test_it_computes_what_face_api_computes(files):
    shares = PhotoExpressionNet(files)(pictures().float() / 255).softmax(1)
    assert np.allclose(shares, SHARES, rtol=1e-4, atol=1e-8)


def test_columns_are_the_emotions_of_msff(files):
    """The file has another order; the second picture's largest share is that of its last class."""
    clip = face_clip(pictures().numpy(), none=[0])
    table = photo_expressions(clip, weights=files)
    assert tuple(table) == EMOTIONS
    assert CLASSES == ORDER
    assert (table.shape, {*table.dtypes}) == ((2, 7), {np.dtype(np.float32)})
    assert np.allclose(table.loc[1, [*ORDER]].astype(float), SHARES[1], rtol=1e-4, atol=1e-8)
    assert table.loc[0].isna().all()


def test_each_frame_is_looked_at_by_itself(files, monkeypatch):
    """Whatever stands beside it, whatever the colours are stored as; none, where there is no
    face."""
    frames = pictures().numpy()[[0, 1, 0, 1, 1, 0, 1]]
    whole = photo_expressions(face_clip(frames), weights=files)
    monkeypatch.setattr(expression, "BATCH", 2)
    lost = [1, 2]
    some = photo_expressions(face_clip(frames, none=lost), weights=files)
    assert some.loc[lost].isna().all(axis=None)
    assert np.allclose(some.drop(lost), whole.drop(lost), atol=1e-5)
    assert np.allclose(some.drop(lost).sum(axis=1), 1, atol=1e-5)
    nobody = photo_expressions(face_clip(frames, none=range(7)), weights=files)
    assert nobody.isna().all(axis=None)
    grey = frames[:2, :1]
    same = photo_expressions(face_clip(np.repeat(grey, 3, axis=1)), weights=files)
    assert np.allclose(photo_expressions(face_clip(grey), weights=files), same, atol=1e-5)


def test_other_sizes_are_resized(files):
    """A smooth picture looks alike at all sizes; a rough one is not sampled without a filter."""
    net = PhotoExpressionNet(files)
    y, x = torch.meshgrid(*[torch.linspace(-1, 1, 448)] * 2, indexing="ij")
    large = torch.stack([0.5 + 0.4 * torch.sin(2 * x + y), 0.5 + 0.3 * x * y, 0.5 - 0.4 * y])[None]
    small = torch.nn.functional.avg_pool2d(
        large, 4
    )  # (1, 3, 112, 112), pixels over the same places
    assert torch.allclose(net(large), net(small), atol=0.02)
    striped = torch.tensor([1.0, 0, 0, 1]).repeat(112)[:, None].expand(1, 3, 448, 448)
    assert torch.allclose(net(striped), net(torch.full((1, 3, 112, 112), 0.5)), atol=0.02)


# ---- doors ---------------------------------------------------------------------------------------


def test_only_the_registered_files_are_taken(files, tmp_path, monkeypatch):
    clip = face_clip(pictures().numpy())
    monkeypatch.setenv(CACHE_VARIABLE, str(files))
    assert photo_expressions(clip).notna().all(axis=None)  # from the cache
    for file in NAMES:
        whole = (files / file).read_bytes()
        (files / file).write_bytes(whole[:-1])
        refused(lambda: PhotoExpressionNet(files), files / file, "SHA-256")
        (files / file).unlink()
        refused(lambda: PhotoExpressionNet(files), files / file)
        (files / file).write_bytes(whole)


def test_without_the_files_and_a_network_the_remedy_is_named(files, tmp_path, monkeypatch):
    for file, name in NAMES.items():
        known = WEIGHTS[name]
        nowhere = Weights(f"https://nowhere.invalid/{file}", known.size, known.sha256)
        monkeypatch.setitem(WEIGHTS, name, nowhere)
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "empty"))
    refused(lambda: PhotoExpressionNet(), MANIFEST, "by hand", tmp_path / "empty")


@pytest.mark.parametrize(
    ("images", "fault"),
    [
        (torch.rand(1, 2, 112, 112), "(B, 1|3, H, W)"),
        (torch.rand(3, 112, 112), "(B, 1|3, H, W)"),
        (torch.rand(1, 3, 112, 112).double(), "float32"),
        (255 * torch.rand(1, 3, 112, 112), "255"),
        (torch.full((1, 3, 112, 112), torch.nan), "finite"),
    ],
)
def test_other_pictures_are_refused(files, images, fault):
    refused(lambda: PhotoExpressionNet(files)(images), "images", fault)


# ---- the true network ----------------------------------------------------------------------------


@pytest.mark.skipif(not (MODELS / BIN).is_file(), reason=f"not run: no {MODELS / BIN}")
def test_the_true_network_sees_a_smile():
    """scikit-image's portrait of an astronaut; face-api says 1.0 for the same crop."""
    clip = extract_faces(skimage.data.astronaut()[None], size=112)
    assert photo_expressions(clip, weights=MODELS).loc[0, "Happy"] > 0.99
    shares = PhotoExpressionNet(MODELS)(pictures()[1:].float() / 255).softmax(1)
    assert np.allclose(shares, TRUE_SHARES, atol=1e-5)
