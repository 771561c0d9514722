"""Two heads that cross before one camera; the truth is where each was pasted."""

import cv2
import numpy as np
import pytest

from micromacro.faces import extract_faces
from micromacro.synthetic import Face, Identity, perform

HEAD = 110  # pixels; a face of 80
N_FRAMES, SIZE = 56, (200, 400)


def still(t):
    return 200, 100


def passing(t):
    return 20 + 6.5 * t, 104


def against(t):
    return 380 - 6.5 * t, 96


def rushing(t):
    return -40 + 12 * t, 100


def arriving(t):
    return min(200, 20 + 6.5 * t), 102


def beside(t):
    return 306, 100


@pytest.fixture(scope="module")
def heads():
    """uint8 (T, HEAD, HEAD, 3) of two people."""
    play = perform(N_FRAMES, nuisance="easy", seed=1)
    faces = [Face(Identity.draw(seed, split="dev"), size=(HEAD, HEAD)) for seed in (1, 2)]
    return [(face.render(play) * 255).permute(0, 2, 3, 1).numpy() for face in faces]


def scene(*layers) -> np.ndarray:
    """Heads along their paths before smooth noise, the last one in front: uint8 (T, H, W, 3)."""
    rng = np.random.default_rng(0)
    wall = cv2.GaussianBlur(rng.uniform(40, 160, (*SIZE, 3)).astype(np.float32), (0, 0), 9)
    y, x = np.mgrid[:HEAD, :HEAD] / HEAD - 0.5
    oval = np.clip((1 - (x / 0.4) ** 2 - (y / 0.48) ** 2) * 8, 0, 1).astype(np.float32)
    frames = []
    for t in range(N_FRAMES):
        image = wall + rng.normal(0, 1.5, wall.shape).astype(np.float32)
        for head, path in layers:
            corner = np.subtract(path(t), HEAD / 2)
            shift = np.array([[1, 0, corner[0]], [0, 1, corner[1]]])
            face, alpha = (cv2.warpAffine(a, shift, SIZE[::-1]) for a in (head[t], oval))
            image += alpha[..., None] * (face - image)
        frames.append(np.clip(np.rint(image), 0, 255).astype(np.uint8))
    return np.stack(frames)


def off(clip, path) -> np.ndarray:
    """Distance from the middle of the landmarks to a head's middle, pixels."""
    return np.linalg.norm(clip.landmarks.mean(axis=1) - [path(t) for t in range(len(clip))], axis=1)


COVERS = [
    *[(still, passing, "aligned"), (against, passing, "stabilised"), (still, rushing, "aligned")],
    *[(still, arriving, "aligned"), (still, passing, "per_frame")],
]


@pytest.mark.parametrize(("ours", "other", "mode"), COVERS)
def test_a_face_that_comes_in_front_ends_the_segment(heads, ours, other, mode):
    film = scene((heads[0], ours), (heads[1], other))
    clip = extract_faces(
        film, mode=mode, size=64, select="index:1" if ours is against else "centre"
    )
    apart = np.linalg.norm([np.subtract(ours(t), other(t)) for t in range(N_FRAMES)], axis=1)
    hidden = apart < 30
    assert hidden.any()
    assert set(clip.status[hidden]) == {"none"}
    assert set(clip.status[: np.argmax(apart < 90)]) <= {"track", "detect"}  # and not before
    seen = clip.status != "none"
    assert off(clip, ours)[seen].max() < 18  # never the other one, who is 6.5 px away a frame later
    first = clip.segments()[0]
    assert first[0] == 0
    assert any(f"frame {first[1]}" in note for note in clip.settings["notes"])
    if other is arriving:
        assert not seen[first[1] :].any()
    else:
        assert seen[-6:].all()


@pytest.mark.parametrize(("ours", "other"), [(still, passing), (against, passing), (still, beside)])
def test_a_face_behind_or_beside_ours_ends_nothing(heads, ours, other):
    film = scene((heads[1], other), (heads[0], ours))
    clip = extract_faces(film, size=64, select="index:1" if ours is against else "centre")
    assert clip.segments() == [(0, N_FRAMES)]
    assert off(clip, ours).max() < 18
    assert not any("front" in note for note in clip.settings["notes"])


def test_two_that_look_alike_end_the_segment_too(heads):
    film = scene((heads[0], against), (heads[0], passing))
    clip = extract_faces(film, size=64, select="index:1")
    assert set(clip.status[24:32]) == {"none"}
    assert any("front" in note for note in clip.settings["notes"])


@pytest.mark.parametrize("mode", ["aligned", "per_frame"])
def test_a_cover_of_few_frames_is_never_bridged(portrait, monkeypatch, mode):
    """As a loss without another face would be: the crops would show somebody else."""
    film = portrait.frames[:8].copy()
    film[:, 0, 0, 0] = range(8)

    def refuses(self, image, reading):
        self.doubt = image[0, 0, 0] in (3, 4)
        return self.doubt

    identity = "micromacro.faces.identity.Identity"
    monkeypatch.setattr(f"{identity}.refuses", refuses)
    monkeypatch.setattr(f"{identity}.find", lambda self, image, readings: None)
    clip = extract_faces(film, mode=mode, size=64)
    assert np.flatnonzero(clip.status == "none").tolist() == [3, 4]
    assert clip.segments() == [(0, 3), (5, 8)]
    assert [note for note in clip.settings["notes"] if "frame 3:" in note]
