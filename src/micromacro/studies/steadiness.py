"""The experiment of notebook 01: which way of cropping keeps a face steady enough?

One actor plays one micro-expression while the head drifts; the film is compressed as any film is.
The actor is synthetic, so the motion of every landmark is known, and each mode is judged by what a
meter of optical flow then reads at the mouth corner.
"""

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from micromacro import synthetic
from micromacro.clip import FaceClip
from micromacro.faces import extract_faces
from micromacro.faces.align import apply, compose, invert, similarity, warp
from micromacro.faces.stability import patch_motion_px, residual_px
from micromacro.synthetic import FIVE_POINTS, LANDMARKS, Face, Identity, Performance
from micromacro.video import read_frames, write_video

CROP_PX = 224  # every figure is in pixels of a crop of this size
EYES_PX = 70.5  # apart in the ArcFace template at that size
FPS = 50.0  # as cameras for micro-expressions; 24 frames for one of half a second
PEAK_PX = 1.44  # of the crop: a micro-expression of ordinary size
PATCH_PX = 12  # radius of the patch of skin that the meter reads
CRF = 23  # x264's default quality
MODES = ("first_frame", "per_frame", "aligned", "stabilised", "oracle")


@dataclass(frozen=True)
class Scene:
    """What happens before the camera, and the truth about it.

    Attributes:
        actor: The face that plays, painted at the size of the picture.
        play: What is played; `play.events` holds the one micro-expression.
        landmarks: float64 (T, P, 2), picture pixels, in the order of `LANDMARKS`.
        rigid: float64 (T, P, 2): where they would be without the expression: the head alone.
    """

    actor: Face
    play: Performance
    landmarks: np.ndarray
    rigid: np.ndarray

    @property
    def head(self) -> np.ndarray:
        """Similarities from each frame's head to the first frame's, float64 (T, 2, 3)."""
        return np.stack([similarity(points, self.rigid[0]) for points in self.rigid])

    def corner(self, name: str = "mouth_right") -> np.ndarray:
        """Path of a landmark in the first frame's head coordinates, float64 (T, 2), pixels."""
        path = self.landmarks[:, LANDMARKS.index(name)]
        return np.stack([apply(m, p) for m, p in zip(self.head, path, strict=True)])

    def film(self) -> np.ndarray:
        """The rendered frames, uint8 (T, H, W, 3)."""
        frames = self.actor.render(self.play)
        return (frames * 255).round().byte().permute(0, 2, 3, 1).contiguous().numpy()


def stage(seed: int, *, n_frames: int = 72, size: tuple[int, int] = (360, 640)) -> Scene:
    """Stage one scene; everything follows from the seed.

    In units of the 224-px crop the head drifts by 4 px, 2 degrees and 1.5 %, and one mouth corner
    rises by 1.44 px for 24 frames (0.48 s) in the middle. The sensor noise is 2 grey levels.

    Args:
        seed: Random seed; another seed draws another person, another drift and other noise.
        n_frames: Number of frames at 50 per second; at least 48, so that the face rests before and
            after.
        size: Height and width of the picture in pixels.
    """
    actor = Face(Identity.draw(seed, split="test"), size=size)
    left, right = actor.landmarks(Performance.still(1))[0, list(FIVE_POINTS[:2])]
    crop_px = min(size) * EYES_PX / float((right - left).norm())  # of the short side, in the crop
    peak, onset = synthetic.units(PEAK_PX, round(crop_px)), n_frames // 2 - 8
    event = synthetic.micro_event(onset, [("12R", 1.0)], fps=FPS, duration_s=0.48, peak=peak)
    drift = synthetic.HeadDrift.at(4, 2, 1.5, size=round(crop_px), period_s=1.8)
    noise = synthetic.Nuisance(noise_sd=2 / 255)
    play = synthetic.perform(n_frames, FPS, [event], nuisance=noise, seed=seed, head_drift=drift)
    both = (play, synthetic.exaggerate(play, 0.0))
    landmarks, rigid = (actor.landmarks(p).double().numpy() for p in both)
    return Scene(actor, play, landmarks, rigid)


def crop(scene: Scene, film: Path, mode: str) -> FaceClip:
    """Crops of a scene's film in one of `MODES`; "oracle" uses the true motion of the head."""
    if mode != "oracle":
        return extract_faces(film, mode=mode, size=CROP_PX)
    clip = extract_faces(film, mode="first_frame", size=CROP_PX)
    transform = np.stack([compose(clip.transform[0], m) for m in scene.head])
    images = (frame.image for frame in read_frames(film))
    crops = [warp(image, m, CROP_PX) for image, m in zip(images, transform, strict=True)]
    return replace(clip, frames=np.stack(crops).transpose(0, 3, 1, 2), transform=transform)


def judge(scene: Scene, clip: FaceClip) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Compare what a meter reads at the mouth corner with what the corner really did.

    Args:
        scene: The scene that was filmed, and the truth about it.
        clip: Crops of its film; every frame holds a face.

    Returns:
        Scores: `correlation` of the reading with the truth; `false_motion_px`, standard deviation
        of the reading before the onset; `geometric_error_px`, root mean square of where the
        head's points land over time. Curves: `reading_px` and `truth_px`, (T,).
    """
    (event,) = scene.play.events
    before = event.onset - 1
    path = scene.corner()
    rest, move = path[before], path[event.apex] - path[before]
    to_crop = compose(clip.transform[before], invert(scene.head[before]))
    direction = to_crop[:, :2] @ move
    length = np.linalg.norm(direction)
    motion = patch_motion_px(clip.frames, apply(to_crop, rest), PATCH_PX, reference=before)
    reading = motion @ (direction / length)
    truth = (path - rest) @ move / (move @ move) * length
    error = residual_px(clip.transform, scene.head, scene.rigid[0])
    scores = {
        "correlation": float(np.corrcoef(reading, truth)[0, 1]),
        "false_motion_px": float(reading[: event.onset].std()),
        "geometric_error_px": float(np.sqrt((error**2).sum(-1).mean())),
    }
    return scores, {"reading_px": reading, "truth_px": truth}


def unit(*, seed: int, modes: tuple[str, ...] = MODES, n_frames: int = 72) -> tuple[dict, dict]:
    """One scene in several modes, as a unit for `units.run`.

    The modes share a unit because rendering and coding the film is most of the work.

    Returns:
        Metrics named "<mode>/<score>", curves named "<mode>/<curve>"; see `judge`.
    """
    scene, scores, curves = stage(seed, n_frames=n_frames), {}, {}
    with tempfile.TemporaryDirectory() as folder:
        film = Path(folder) / "scene.mp4"
        write_video(film, scene.film(), fps=scene.play.fps, crf=CRF)
        for mode in modes:
            results = judge(scene, crop(scene, film, mode))
            for kept, new in zip((scores, curves), results, strict=True):
                kept |= {f"{mode}/{name}": value for name, value in new.items()}
    return scores, curves
