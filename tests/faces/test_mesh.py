"""The mesh: its geometry with stand-ins for the two networks, and the networks themselves if they
are there.

The bundle may not be committed and is not on every machine, so what is ours is tested on a bundle
made up here, whose networks find a bright spot. Beside it stands what MediaPipe gave on one
portrait.
"""

import hashlib
import os
import zipfile
from pathlib import Path

import cv2
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import skimage.data
from clips import face_clip
from PIL import Image
from play import defined
from refusals import refused
from scipy.spatial.transform import Rotation

from micromacro import cli
from micromacro.clip import load_clip
from micromacro.faces import extract_faces
from micromacro.faces import mesh as under_test
from micromacro.faces.mesh import POINTS, face_mesh, pose_deg, square
from micromacro.video import write_video
from micromacro.weights import CACHE_VARIABLE, WEIGHTS, Weights

FIVE = np.array([[-20, -12], [20, -12], [0, 5], [-15, 22], [15, 22.0]])
MIDDLE = np.array([150, 100])
FACE = FIVE + MIDDLE
PARTS = ("face_landmarks_detector.tflite", "face_blendshapes.tflite")
MODELS = Path(__file__).parents[3] / "shared/data/models"
BUNDLE = Path(os.environ.get(CACHE_VARIABLE, MODELS)) / "face_landmarker.task"


class Spot:
    """Stands in for the first network: every landmark is the middle of the bright spot it sees."""

    def setInput(self, image):  # noqa: N802, OpenCV's name
        assert (image.shape, image.dtype) == ((1, 3, 256, 256), np.float32)
        assert image.max() <= 1
        self.image = image[0, 0].astype(np.float64)  # red

    def forward(self, names):
        assert names == ["Identity", "Identity_1"]
        mass = max(self.image.sum(), 1e-9)
        x, y = ((self.image.sum(axis=k) * np.arange(256)).sum() / mass for k in (0, 1))
        points = np.tile(np.float32([x + 0.5, y + 0.5, 10]), 478)  # edges are whole numbers
        return points.reshape(1, 1434, 1, 1), np.float32([[[[self.image.max() - 0.2]]]])


class Shapes:
    """Stands in for the second network."""

    def setInput(self, points):  # noqa: N802
        assert (points.shape, points.dtype) == ((1, 146, 2), np.float32)
        assert points.max() > 1, "pixels, not shares"

    def forward(self):
        return np.arange(52, dtype=np.float32).reshape(1, 52) / 100


@pytest.fixture
def bundle(tmp_path, monkeypatch):
    """A made-up bundle, registered in place of the true one; its model of a face is noise."""
    model = np.zeros(468 * 5, "u1,<f4")
    model["f1"] = np.random.default_rng(0).normal(size=468 * 5)
    path = tmp_path / "face_landmarker.task"
    with zipfile.ZipFile(path, "w") as parts:
        for name in PARTS:
            parts.writestr(name, name)
        parts.writestr("geometry_pipeline_metadata_landmarks.binarypb", bytes(8) + model.tobytes())
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    known = Weights("https://nowhere.invalid/face_landmarker.task", path.stat().st_size, digest)
    monkeypatch.setitem(WEIGHTS, "face_landmarker", known)
    nets = dict(zip(PARTS, (Spot, Shapes), strict=True))
    monkeypatch.setattr(
        cv2.dnn, "readNetFromTFLite", lambda file, *_: nets[Path(file).read_text()]()
    )
    return path


def spots(folder, at, grey=False):
    """A folder of pictures, each with a bright spot at one of the places x y."""
    folder.mkdir()
    y, x = np.mgrid[:200, :300]
    for k, (cx, cy) in enumerate(at):
        image = np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / 2 / 4**2)
        image = np.rint(255 * image).astype(np.uint8)
        Image.fromarray(image if grey else np.stack([image] * 3, -1)).save(folder / f"{k}.png")
    return folder


def following(five):
    """A clip that says where the five points are; nan rows have no face."""
    five = np.asarray(five, np.float32)
    lost = np.flatnonzero(np.isnan(five).any(axis=(1, 2)))
    return face_clip(np.ones((len(five), 3, 8, 8), np.uint8), none=lost, landmarks=five)


# ---- geometry ------------------------------------------------------------------------------------


@pytest.mark.parametrize("grey", [False, True])
def test_landmarks_come_back_to_the_pixels_of_the_film(tmp_path, bundle, grey):
    """However large the face is and however it is turned; a film of one size is another's crop."""
    at = np.array([(150.0, 100), (143.3, 91.8), (160.6, 108.2), (150.0, 100), (150, 100)])
    five = np.stack([FIVE * k for k in (1.0, 0.8, 1.7, 3.1, 1)]) + MIDDLE
    for k, degrees in enumerate((0, 20, -35, 90, 180)):
        turn = Rotation.from_euler("z", degrees, degrees=True).as_matrix()[:2, :2]
        five[k] = (five[k] - MIDDLE) @ turn.T + MIDDLE
    mesh = face_mesh(spots(tmp_path / "film", at, grey), following(five), weights=bundle)
    assert (mesh.landmarks.shape, mesh.landmarks.dtype) == ((5, 478, 3), np.float32)
    assert np.abs(mesh.landmarks[..., :2] - at[:, None]).max() < 0.05
    # The side of the square is 3.6 eye distances here, on 256 pixels; depth has the unit of x and
    # y.
    eyes = np.linalg.norm(five[:, 1] - five[:, 0], axis=1)
    assert np.allclose(mesh.landmarks[:, 0, 2], 10 * 3.6 * eyes / 256, rtol=1e-5)


def test_frames_without_a_face_are_nan(tmp_path, bundle):
    film = spots(tmp_path / "film", [(150, 100), (150, 100), (20, 20)])  # the last is out of sight
    five = np.stack([FACE] * 3)
    five[1] = np.nan
    mesh = face_mesh(film, following(five), weights=bundle)
    for values in (mesh.landmarks.reshape(3, -1), mesh.table().to_numpy(), mesh.region("nose")):
        assert [*np.isnan(values).all(axis=1)] == [*np.isnan(values).any(axis=1)]
        assert [*np.isnan(values).all(axis=1)] == [False, True, True]


def test_the_square_is_around_the_face_and_upright():
    matrix = square(FACE)
    corners = under_test.apply(under_test.invert(matrix), np.array([(-0.5, -0.5), (255.5, 255.5)]))
    side = 3.6 * 40
    assert np.allclose(corners[1] - corners[0], side)
    assert np.allclose(corners.mean(axis=0), (150, 100 - 12 + 0.45 * 34))
    for degrees in (30, -75, 180):
        turn = Rotation.from_euler("z", degrees, degrees=True).as_matrix()[:2, :2]
        x, y = under_test.apply(square(FIVE @ turn.T), FIVE @ turn.T).T
        assert np.allclose(y[[0, 3]], y[[1, 4]])
        assert (x[0] < x[1], y[0] < y[2] < y[3]) == (True, True)
    narrow = FIVE * (0.5, 1)  # seen from the side: eyes are near to each other
    assert np.isclose(256 / np.hypot(*square(narrow)[0, :2]), 3.3 * 34)


def test_pose_is_that_of_a_turned_model():
    """SciPy as the oracle; in any place, at any scale; signs as the actor has them."""
    rng = np.random.default_rng(1)
    model = rng.normal(size=(20, 3))
    model -= model.mean(axis=0)
    for yaw, pitch, roll in rng.uniform(-60, 60, (8, 3)):
        turn = Rotation.from_euler("ZYX", (roll, -yaw, pitch), degrees=True).as_matrix()
        points = 37 * model @ turn.T + (100, 50, 7)
        assert np.allclose(pose_deg(points, model), (yaw, pitch, roll))
    nose = np.array([0, 0, -1.0])  # towards the camera
    to_the_right = Rotation.from_euler("ZYX", (0, -20, 0), degrees=True).as_matrix() @ nose
    down = Rotation.from_euler("ZYX", (0, 0, 20), degrees=True).as_matrix() @ nose
    assert to_the_right[0] > 0.3
    assert down[1] > 0.3
    mirrored = model * (-1, 1, 1)  # no turn does that: the best one still mirrors nothing
    roll, yaw, pitch = Rotation.align_vectors(mirrored, model)[0].as_euler("ZYX", degrees=True)
    assert np.allclose(pose_deg(mirrored, model), (-yaw, pitch, roll))


def test_the_model_of_a_face_is_turned_to_the_picture(bundle):
    """In the file y goes up and z to the camera; in pictures y goes down, and z away."""
    numbers = np.random.default_rng(0).normal(size=(468, 5))[POINTS["rigid"], :3]
    expected = (numbers - numbers.mean(axis=0)) * (1, -1, -1)
    assert np.allclose(under_test._Nets(bundle).model, expected, atol=1e-6)


def test_au_like_features_are_means_of_both_sides(tmp_path, bundle):
    film = spots(tmp_path / "film", [(150, 100)])
    mesh = face_mesh(film, following([FACE]), weights=bundle)
    shapes = dict(zip(POINTS["blendshapes"], np.arange(52) / 100, strict=True))
    like = mesh.au_like()
    assert (like.shape, [*like][:2]) == ((1, 18), ["AU01_like", "AU02_like"])
    smile = (shapes["mouthSmileLeft"] + shapes["mouthSmileRight"]) / 2
    assert np.allclose(like[["AU12_like", "AU26_like"]], [[smile, shapes["jawOpen"]]])
    assert mesh.table().shape == (1, 3 + 18 + 52 + 7 * 4)


def test_regions_are_boxes_of_their_landmarks():
    points = np.random.default_rng(0).uniform(0, 100, (2, 478, 3)).astype(np.float32)
    mesh = under_test.FaceMesh(points, pd.DataFrame(), pd.DataFrame())
    x0, y0, x1, y1 = mesh.region("mouth").to_numpy().T
    inside = points[:, POINTS["regions"]["mouth"]]
    assert np.array_equal([x0, y0, x1, y1], [*inside.min(axis=1).T[:2], *inside.max(axis=1).T[:2]])
    refused(lambda: mesh.region("ear"), "'ear'", "brow_left", "mouth")


# ---- doors ---------------------------------------------------------------------------------------


def test_another_film_than_the_clips_is_refused(tmp_path, bundle):
    clip = following([FACE] * 3)
    for n_frames in (2, 4):
        other = spots(tmp_path / f"film {n_frames}", [MIDDLE] * n_frames)
        refused(lambda at=other: face_mesh(at, clip, weights=bundle), other, "3 frames of its clip")


def test_only_the_registered_bundle_is_taken(tmp_path, bundle, monkeypatch):
    film, clip = spots(tmp_path / "film", [(150, 100)]), following([FACE])
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    assert face_mesh(film, clip).landmarks.shape == (1, 478, 3)  # from the cache
    other = tmp_path / "other.task"
    other.write_bytes(bundle.read_bytes()[:-1])
    refused(lambda: face_mesh(film, clip, weights=other), other, "SHA-256")
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "empty"))
    refused(lambda: face_mesh(film, clip), "face_landmarker.task", "by hand")


# ---- micromacro faces VIDEO OUT --mesh -----------------------------------------------------------


@pytest.fixture(scope="module")
def film(portrait, tmp_path_factory):
    path = tmp_path_factory.mktemp("film") / "actor.mp4"
    write_video(path, portrait.frames[:3], fps=25)
    return path


def test_lesson_07_draws_a_readers_own_film(film, tmp_path, bundle, monkeypatch, capsys):
    """The cell itself: the strip with five curves; without the bundle the strip, and one line."""
    cells = ("PROFILE =", "from micromacro import", "def own_film")
    monkeypatch.setattr(plt, "show", lambda: None)
    rows = {}
    for folder in (bundle.parent, tmp_path / "no bundle"):
        monkeypatch.setenv(CACHE_VARIABLE, str(folder))
        figure = defined("07_reaction_intensity", cells, VIDEO=str(film))["figure"]
        assert figure.axes[0].images  # the strip
        rows[folder] = [ax.get_ylabel() for ax in figure.axes if ax.get_ylabel()]
        said = capsys.readouterr().out
        assert ("no curves: " in said) == (folder != bundle.parent)
    assert [len(labels) for labels in rows.values()] == [5, 0]


def test_the_command_writes_the_mesh_beside_the_clip(film, tmp_path, bundle, capsys):
    words = ["faces", film, tmp_path / "out", "--size", 32, "--mesh", "--mesh-weights", bundle]
    assert cli.main([*map(str, words)]) == 0
    assert "_sheet.png, _mesh.csv, _mesh.npy" in capsys.readouterr().out
    endings = (".csv", ".npz", "_mesh.csv", "_mesh.npy", "_sheet.png", "_stabilised.mp4")
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [
        f"actor{e}" for e in endings
    ]
    table = pd.read_csv(tmp_path / "out/actor_mesh.csv", index_col="frame")
    assert np.allclose(table["t_s"], load_clip(tmp_path / "out/actor.npz").t_s)
    assert {"yaw_deg", "AU12_like", "jawOpen"} < {*table}
    landmarks = np.load(tmp_path / "out/actor_mesh.npy")
    assert (landmarks.shape, landmarks.dtype) == ((3, 478, 3), np.float32)
    assert np.allclose(table["oval_x1"], landmarks[:, POINTS["regions"]["oval"], 0].max(axis=1))


def test_without_a_bundle_nothing_is_written(film, tmp_path, bundle, capsys, monkeypatch):
    monkeypatch.setattr("micromacro.faces.export.extract_faces", None)  # refused before the work
    bundle.write_bytes(b"another")
    words = ["faces", film, tmp_path / "out", "--mesh", "--mesh-weights", bundle]
    assert cli.main([*map(str, words)]) == 2
    assert "face_landmarker.task: SHA-256" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_other_peoples_files_are_kept(film, tmp_path, bundle):
    (tmp_path / "actor_mesh.csv").write_text("my own notes")
    words = ["faces", film, tmp_path, "--mesh-weights", bundle]  # which implies --mesh
    assert cli.main([*map(str, words)]) == 2
    assert [*tmp_path.glob("actor*")] == [tmp_path / "actor_mesh.csv"]


# ---- the true networks ---------------------------------------------------------------------------

# What MediaPipe 1.2.3 gives for scikit-image's portrait of an astronaut: landmarks x y in pixels
# whose middles are whole numbers, and blendshapes above 0.2.
PORTRAIT = {1: (223.0, 130.6), 10: (225.5, 71.7), 13: (222.8, 142.7), 33: (194.8, 100.1)}
PORTRAIT |= {61: (201.8, 138.7), 152: (220.9, 176.9), 263: (254.8, 103.3), 291: (244.0, 140.1)}
PORTRAIT |= {468: (203.0, 100.6), 473: (245.5, 103.0)}
SHAPES = {"eyeSquintLeft": 0.35, "eyeSquintRight": 0.27, "mouthSmileLeft": 0.90}
SHAPES |= {"mouthSmileRight": 0.90, "mouthUpperUpLeft": 0.47, "mouthUpperUpRight": 0.47}


@pytest.mark.skipif(not BUNDLE.is_file(), reason=f"the mesh's networks were not run: no {BUNDLE}")
def test_the_true_networks_see_what_mediapipe_sees(tmp_path):
    folder = tmp_path / "film"
    folder.mkdir()
    photo = skimage.data.astronaut()
    for k, image in enumerate((photo, np.full_like(photo, 128))):
        Image.fromarray(image).save(folder / f"{k}.png")
    clip = extract_faces(folder)
    points = clip.landmarks[[0, 0]]
    mesh = face_mesh(folder, following(points), weights=BUNDLE)
    assert np.isnan(mesh.landmarks[1]).all()  # the clip says there is a face, the networks see none
    apart = np.linalg.norm(mesh.landmarks[0, [*PORTRAIT], :2] - [*PORTRAIT.values()], axis=1)
    assert apart.mean() < 0.8  # of 43 px between the eyes; chin and forehead are 1.7 px off
    assert apart.max() < 2.5
    shapes = mesh.blendshapes.loc[0]
    assert np.abs(shapes[[*SHAPES]] - [*SHAPES.values()]).max() < 0.2
    assert {*shapes[shapes > 0.2].index} == {*SHAPES}
    assert mesh.au_like().loc[0].idxmax() == "AU12_like"
    yaw, pitch, roll = mesh.pose.loc[0]
    assert (abs(yaw) < 3, 5 < pitch < 16, 1 < roll < 6) == (True, True, True)
    assert np.abs(mesh.landmarks[0, [468, 473], :2] - points[0, :2]).max() < 3
