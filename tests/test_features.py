"""Features in their cache: counted calls, keys, damaged files, runs broken off."""

import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from test_backbones import port_state, refused

from micromacro.backbones import FrozenFeatures, FrozenResNet50
from micromacro.clip import FaceClip


@pytest.fixture(scope="module")
def ferplus(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("weights") / "resnet50_ferplus_dag.pth"
    torch.save(port_state(), file)
    return file


def a_clip(n: int = 5, *, seed: int = 0, gap: bool = True, channels: int = 3) -> FaceClip:
    frames = np.random.default_rng(seed).integers(0, 256, (n, channels, 40, 40), dtype=np.uint8)
    status = np.array(["track"] * n, dtype="<U6")
    if gap:
        status[2], frames[2] = "none", 0
    none = status == "none"
    return FaceClip(
        frames=frames,
        t_s=np.arange(n) / 25,
        status=status,
        score=np.where(none, np.nan, 1).astype(np.float32),
        landmarks=np.where(none[:, None, None], np.nan, np.ones((n, 5, 2))).astype(np.float32),
        transform=np.where(none[:, None, None], np.nan, np.ones((n, 2, 3))),
        shot=np.zeros(n, np.int32),
        n_faces=np.where(none, 0, 1).astype(np.int32),
        mode="aligned",
        source="a/video.mp4",
        settings={},
    )


class Counted(FrozenResNet50):
    """Features that can be told by eye, from a network that counts its calls."""

    def __init__(self, scale: float = 1.0, **settings):
        torch.nn.Module.__init__(self)
        self.scale, self.calls = scale, []
        self.settings = {"sha256": "0", "file": "a.pth", **settings}

    def forward(self, images):
        self.calls.append(len(images))
        return images.mean((1, 2, 3))[:, None] * self.scale * torch.linspace(1, 2, 2048)


def test_features_are_computed_once(tmp_path, ferplus):
    clip, backbone = a_clip(), FrozenResNet50("ferplus", ferplus)
    extract = FrozenFeatures(backbone, tmp_path / "new" / "cache", dtype="float32", batch=3)
    features = extract(clip)
    assert features.shape == (5, 2048)
    assert features.dtype == np.float32
    assert not features[2].any()  # no face
    direct = backbone(clip.images()[[0, 1, 3, 4]]).numpy()
    np.testing.assert_allclose(features[[0, 1, 3, 4]], direct, rtol=1e-4, atol=1e-3)
    again = FrozenFeatures(Counted(**backbone.settings), tmp_path / "new" / "cache",
                           dtype="float32")  # fmt: skip
    np.testing.assert_array_equal(again(clip), features)
    assert again.backbone.calls == []
    with np.load(extract.path(clip), allow_pickle=False) as stored:
        about = json.loads(str(stored["about"]))
    assert about["source"] == "a/video.mp4"
    assert about["weights"] == "ferplus"
    assert about["mean"] == [131.0912, 103.8827, 91.4953]


def test_batches_and_rounding(tmp_path):
    clip, net = a_clip(11), Counted(10)
    exact = FrozenFeatures(net, tmp_path, dtype="float32", batch=4)(clip)
    assert net.calls == [4, 4, 2]  # ten of eleven frames show a face
    np.testing.assert_allclose(exact[:, 0], clip.images().mean((1, 2, 3)) * 10, rtol=1e-6)
    half = FrozenFeatures(net, tmp_path)
    first = half(clip)
    np.testing.assert_array_equal(first, exact.astype(np.float16).astype(np.float32))
    np.testing.assert_array_equal(half(clip), first)  # the same from memory and from disk
    assert len(list(tmp_path.iterdir())) == 2
    refused(lambda: FrozenFeatures(Counted(1e6, sha256="1"), tmp_path)(clip), "float32")
    assert len(list(tmp_path.iterdir())) == 2
    assert not FrozenFeatures(net, tmp_path)(a_clip(3))[2].any()


def test_the_key_is_the_content(tmp_path):
    def key(clip=None, dtype="float16", **settings):
        return FrozenFeatures(Counted(**settings), tmp_path, dtype=dtype).path(clip or a_clip())

    black = dataclasses.replace(a_clip(gap=False), frames=a_clip().frames)
    others = [
        key(a_clip(seed=1)),
        key(a_clip(gap=False)),
        key(black),  # a black frame, and a frame without a face
        key(a_clip(4)),
        key(dtype="float32"),
        key(sha256="1"),
        key(mean=(0, 0, 0)),
    ]
    assert len({key(), *others}) == 8
    same = dataclasses.replace(a_clip(), source="elsewhere.mp4", settings={"a": 1})
    assert key(same) == key(file="b.pth") == key()


@pytest.mark.parametrize("damage", [b"", b"x", 100, 1000, -1, None])
def test_a_damaged_cache_file_is_made_again(tmp_path, damage):
    clip, net = a_clip(), Counted()
    extract = FrozenFeatures(net, tmp_path)
    features, path = extract(clip), extract.path(clip)
    content = bytearray(path.read_bytes())
    if damage is None:
        content[len(content) // 2] ^= 1  # inside the compressed features
    path.write_bytes(damage if isinstance(damage, bytes) else content[:damage])
    np.testing.assert_array_equal(extract(clip), features)
    assert len(net.calls) == 2
    np.savez(path, features=features[:-1])
    np.testing.assert_array_equal(extract(clip), features)
    extract(clip)
    assert len(net.calls) == 3


def test_a_broken_extraction_goes_on_where_it_was(tmp_path, monkeypatch):
    extract, save = FrozenFeatures(Counted(), tmp_path), np.savez_compressed

    def broken(file, **arrays):
        if len(list(tmp_path.glob("*.npz"))) == 2:
            file.write(b"half")
            raise KeyboardInterrupt
        save(file, **arrays)

    monkeypatch.setattr(np, "savez_compressed", broken)
    with pytest.raises(KeyboardInterrupt):
        [extract(a_clip(seed=seed)) for seed in range(5)]
    assert len(list(tmp_path.iterdir())) == 2
    monkeypatch.undo()
    lost = extract.path(a_clip(seed=2))
    lost.with_name(f".{lost.name}.1.part").write_bytes(b"half")  # what SIGKILL leaves
    extract.backbone.calls.clear()
    [extract(a_clip(seed=seed)) for seed in range(5)]
    assert len(extract.backbone.calls) == 3


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("x")
    refused(lambda: FrozenFeatures(Counted(), tmp_path / "file" / "cache"), "file/cache")
    refused(lambda: FrozenFeatures(Counted(), tmp_path, dtype="int8"), "int8", "float16")
    if os.geteuid() != 0:
        tmp_path.chmod(0o500)
        refused(lambda: FrozenFeatures(Counted(), tmp_path)(a_clip()), "written")


@pytest.mark.gpu
def test_cuda_agrees_with_the_cpu(tmp_path, ferplus):
    clip = a_clip()
    cpu = FrozenFeatures(FrozenResNet50("ferplus", ferplus), tmp_path / "a")(clip)
    cuda = FrozenFeatures(FrozenResNet50("ferplus", ferplus), tmp_path / "b", device="cuda")(clip)
    # TF32 convolutions keep 10 bits
    np.testing.assert_allclose(cuda, cpu, rtol=0.05, atol=0.01 * cpu.max())
