"""478 landmarks and 52 blendshapes of real faces: regions, the head's pose, AU-like curves.

Two networks of MediaPipe's face landmarker (Google, Apache-2.0; the face mesh of Kartynnik et al.
2019, arXiv 1907.06724, and Grishchenko et al. 2020, arXiv 2006.10962) run through OpenCV: nothing
else is installed. Their bundle is fetched once, see `micromacro.weights`. What is made of the
landmarks here is ours. Compared with MediaPipe itself on a film of 72 frames with 68 px between the
eyes, landmarks lie 0.59 px apart, blendshapes 0.011 (correlation 0.993), and angles 1.3 degrees or
less; on a portrait far from the middle of its picture the nod differs by 5. Ours are the angles
seen along the line of sight, MediaPipe's those in front of an assumed camera.

Use it for macro-expressions of real people. It is no help with micro-motion: landmarks shake more
than `extract_faces` with ``mode="stabilised"`` leaves. Nor with the actor of
`micromacro.synthetic`, whose blendshapes barely move. cheekSquint and noseSneer, which would stand
for action units 6 and 9, stayed below 0.01 on all real faces that we tried, smiles too. Where eyes
or mouth are covered the networks draw what is usual there, and do not say so.
"""

import json
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from micromacro.clip import FaceClip
from micromacro.errors import BadInput, check_choice
from micromacro.faces.action_units import action_units_of
from micromacro.faces.align import apply, invert, warp
from micromacro.faces.detect import single_thread
from micromacro.video import read_frames
from micromacro.weights import fetch_weights

# Names of the blendshapes, and numbers of landmarks: what the second network sees, what does not
# move with the face, and the regions. Left and right of a region are those of the image, as
# everywhere here; those in the names of blendshapes are the person's own.
POINTS = json.loads(Path(__file__).with_name("mesh_points.json").read_text(encoding="utf-8"))
POSE = ("yaw_deg", "pitch_deg", "roll_deg")
NET_PX = 256  # side of the first network's input
DROP = 0.45  # middle of the square: so far from the eyes to the mouth
EYES, HEIGHT = 3.6, 3.3  # its side: in distances of the eyes, or from eyes to mouth if that is more


@dataclass(frozen=True, eq=False)
class FaceMesh:
    """What the two networks saw in T frames; nan where the clip has no face, or they saw none.

    Attributes:
        landmarks: float32 (T, 478, 3), x and y in source pixels; z, the depth, in the same unit
            from the middle of the head, smaller is nearer.
        blendshapes: float32 (T, 52), 0 to 1; its columns have their names.
        pose: float32 (T, 3), columns yaw_deg, pitch_deg, roll_deg: the face turned to the right of
            the image, downwards, clockwise; signs as in `synthetic.Performance`.
    """

    landmarks: np.ndarray
    blendshapes: pd.DataFrame
    pose: pd.DataFrame

    def region(self, name: str) -> pd.DataFrame:
        """The box around a region, float32 (T, 4), columns x0 y0 x1 y1, in source pixels.

        Args:
            name: brow_left, brow_right, eye_left, eye_right, nose, mouth or oval, the whole face.

        Raises:
            BadInput: There is no such region.
        """
        check_choice("region", name, POINTS["regions"])
        xy = self.landmarks[:, POINTS["regions"][name], :2]  # (T, points, 2)
        return pd.DataFrame(np.hstack([xy.min(1), xy.max(1)]), columns=["x0", "y0", "x1", "y1"])

    def au_like(self) -> pd.DataFrame:
        """Means of the blendshapes that stand for an action unit, left and right alike.

        They are no action units: `micromacro.faces.action_units` says why.

        Returns:
            float32 (T, 18), 0 to 1, columns "AU01_like" to "AU45_like".
        """
        units = action_units_of("mesh").items()
        means = {f"AU{n:02}_like": self.blendshapes[[*b]].mean(axis=1) for n, b in units}
        return pd.DataFrame(means)

    def table(self) -> pd.DataFrame:
        """A row a frame: pose, AU-like columns, blendshapes, boxes of regions, as "mouth_x0"."""
        boxes = [self.region(name).add_prefix(f"{name}_") for name in POINTS["regions"]]
        return pd.concat([self.pose, self.au_like(), self.blendshapes, *boxes], axis=1)


def face_mesh(source: str | Path, clip: FaceClip, *, weights: str | Path | None = None) -> FaceMesh:
    """Lay the mesh over the face that a clip follows; its film is read once more.

    Each frame is looked at by itself, in a square around the five tracked points, so that nothing
    drifts: about 15 ms a frame on one core.

    Args:
        source: The video file or folder of images that the clip was extracted from.
        clip: T frames, of `extract_faces`.
        weights: Your own copy of the bundle; None takes it from the cache or downloads it.

    Raises:
        BadInput: Unusable source, or one of another number of frames; no bundle, or another one.
    """
    nets = _Nets(fetch_weights("face_landmarker", path=weights))
    frames = read_frames(source, keep_damaged=bool(clip.settings.get("keep_damaged")))
    landmarks, rest = (np.full((len(clip), *n), np.nan, np.float32) for n in ((478, 3), (3 + 52,)))
    index = -1
    with single_thread():
        for index, (five, frame) in enumerate(zip(clip.landmarks, frames, strict=False)):
            if np.isfinite(five).all() and (seen := nets(frame.image, five)):
                landmarks[index], rest[index] = seen
    if index + 1 < len(clip) or next(frames, None) is not None:
        fault = f"has not the {len(clip)} frames of its clip"
        raise BadInput(source, fault, "give the film that the clip was extracted from")
    pose, shapes = pd.DataFrame(rest[:, :3], columns=POSE), pd.DataFrame(rest[:, 3:])
    return FaceMesh(landmarks, shapes.set_axis(POINTS["blendshapes"], axis=1), pose)


class _Nets:
    """The two networks of the bundle."""

    def __init__(self, bundle: Path):
        engine = [cv2.dnn.ENGINE_CLASSIC] if hasattr(cv2.dnn, "ENGINE_CLASSIC") else []
        with zipfile.ZipFile(bundle) as parts, tempfile.TemporaryDirectory() as folder:
            # OpenCV 5.0 takes its new engine for nets from memory, and that gives one output only.
            self.landmarks, self.blendshapes = (
                cv2.dnn.readNetFromTFLite(parts.extract(name, folder), *engine)
                for name in ("face_landmarks_detector.tflite", "face_blendshapes.tflite")
            )
            model = parts.read("geometry_pipeline_metadata_landmarks.binarypb")
        # A resting face: x, y, z and two more numbers for each landmark but the irises' ten, a byte
        # before each. The digest is checked, so they always lie there.
        numbers = np.frombuffer(model, np.dtype("u1,<f4"), 468 * 5, offset=8)["f1"]
        xyz = numbers.reshape(468, 5)[:, :3] * [1, -1, -1]  # y down, z away from the camera
        self.model = xyz[POINTS["rigid"]] - xyz[POINTS["rigid"]].mean(axis=0)

    def __call__(self, image: np.ndarray, five: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        """Landmarks (478, 3); pose and blendshapes, (55,). None where no face is seen."""
        matrix = square(five)
        crop = warp(image, matrix, NET_PX).astype(np.float32) / 255  # (256, 256, 3)
        self.landmarks.setInput(crop.transpose(2, 0, 1)[None])
        # Landmarks in pixels whose edges are whole numbers; and a logit: is that a face?
        points, face = self.landmarks.forward(["Identity", "Identity_1"])
        if face.item() <= 0:
            return None
        points = points.reshape(478, 3) - (0.5, 0.5, 0)
        points[:, :2] = apply(invert(matrix), points[:, :2])
        points[:, 2] /= np.hypot(*matrix[0, :2])
        self.blendshapes.setInput(np.float32(points[None, POINTS["blendshape_points"], :2]))
        turned = pose_deg(points[POINTS["rigid"]], self.model)
        return points, np.concatenate([turned, self.blendshapes.forward().ravel()])


def square(five: np.ndarray) -> np.ndarray:
    """The transform (2, 3) from source pixels to the upright square around a face.

    Args:
        five: (5, 2), the points of `clip.LANDMARKS` in source pixels.
    """
    across, middle = five[1] - five[0], five[:2].mean(axis=0)
    down = five[3:].mean(axis=0) - middle
    k = NET_PX / max(EYES * np.hypot(*across), HEIGHT * np.hypot(*down))
    cos, sin = k * across / np.hypot(*across)
    linear = np.array([[cos, sin], [-sin, cos]])
    return np.column_stack([linear, (NET_PX - 1) / 2 - linear @ (middle + DROP * down)])


def pose_deg(points: np.ndarray, model: np.ndarray) -> np.ndarray:
    """Yaw, pitch and roll that turn a model, scaled and shifted, into the points: least squares.

    Args:
        points: (N, 3), x right, y down, z away from the camera, in any unit.
        model: (N, 3), the same landmarks of a face that looks into the camera, of mean 0.
    """
    u, _, vt = np.linalg.svd((points - points.mean(axis=0)).T @ model)  # Kabsch 1976
    turn = u @ np.diag([1, 1, np.linalg.det(u @ vt)]) @ vt  # (3, 3), never a mirror image
    yaw = np.arctan2(turn[2, 0], np.hypot(turn[2, 1], turn[2, 2]))
    pitch, roll = np.arctan2(turn[2, 1], turn[2, 2]), np.arctan2(turn[1, 0], turn[0, 0])
    return np.degrees([yaw, pitch, roll])
