"""One person followed through a film: where it is cut, who is followed, where the five points are.

A shot begins with the detector; from then on O-Net alone, MTCNN's last network, reads each frame in
the box of the one before. MTCNN frame by frame makes landmarks jump by a pixel, because it crops at
whole pixels of boxes from a coarse pyramid. O-Net on shifted sub-pixel crops, averaged, is steadier
by a factor of four to ten, and cheaper by ten.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, repeat

import cv2
import numpy as np
import torch

from micromacro.errors import BadInput
from micromacro.faces.align import apply, invert, square_to_patch
from micromacro.faces.detect import Detector, Faces, Sighting, rgb_patch, search
from micromacro.faces.identity import Identity
from micromacro.faces.mtcnn import load_net
from micromacro.video import Frame

# ---- cuts: a track, a stabiliser or a snippet must never cross one ------------------------------

THUMB = (64, 36)  # width, height: small enough to be cheap, large enough to see a new scene
ROWS = 360  # of the picture that it is made from: the rest would cost time and tell nothing
LEAST_CHANGE = 6.0  # grey levels: below it no cut, however still the shot
RATIO = 5.0  # measured: largest change inside a shot 2.6 times the local median, cuts from 10
CONTEXT = 5  # frames on either side in the local median


def mark_cuts(frames: Iterable[Frame]) -> Iterator[tuple[Frame, int]]:
    """Give each frame the number of its shot, 0 onwards; five frames are held back.

    A cut is a frame whose mean absolute luma change at 64x36 exceeds 6 grey levels and five times
    (the median change of its ten neighbours + 0.5). Measured: every cut of three edited clips, no
    false cut in 853 frames. A flash of one frame counts as two cuts.
    """
    changes, waiting = deque(maxlen=2 * CONTEXT + 1), deque()
    previous, shot = None, 0
    for frame in chain(frames, repeat(None, CONTEXT)):
        if frame is not None:
            thumb = _thumb(frame.image)
            changes.append(np.nan if previous is None else np.abs(thumb - previous).mean())
            previous = thumb
            waiting.append(frame)
        if len(waiting) > CONTEXT or (frame is None and waiting):
            shot += _is_cut(changes, len(changes) - len(waiting))
            yield waiting.popleft(), shot


def _is_cut(changes: deque, position: int) -> bool:
    """Whether the change at `position` stands out among its neighbours; nan is never a cut."""
    others = [c for i, c in enumerate(changes) if i != position and np.isfinite(c)]
    usual = np.median(others) if others else 0.0
    return bool(changes[position] > max(LEAST_CHANGE, RATIO * (usual + 0.5)))


def _thumb(image: np.ndarray) -> np.ndarray:
    """Luma of `image`, uint8 (H, W[, 3]), at 64x36 as float32."""
    image = image[:: max(1, len(image) // ROWS)]
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if image.ndim == 3 else image
    return cv2.resize(grey, THUMB, interpolation=cv2.INTER_AREA).astype(np.float32)


# ---- O-Net in a known box -----------------------------------------------------------------------

PATCH = 48  # O-Net's input, pixels
# Four crops, 3 of 48 pixels apart, slices of one patch. O-Net's first pooling makes its answer
# depend on odd and even positions; an odd step averages all four phases. Frame-to-frame error over
# five films of a portrait at 224 px: one crop 0.85 px, step 2 0.45, five crops in a cross 0.09 to
# 0.11, this square 0.09 at four fifths of the cost.
STEP = 3
CORNERS = np.array([(0, 0), (STEP, 0), (0, STEP), (STEP, STEP)])
WIDE = PATCH + STEP
_UNIT_BOX = np.array([(0, 0), (1, 1)])  # O-Net corrects the corners of its own crop


@dataclass(frozen=True)
class Reading:
    """O-Net's answer for one frame, in image coordinates.

    Attributes:
        centre: (2,), x y: centre of the face box.
        side: Side of the square box, pixels.
        landmarks: float64 (5, 2).
        score: Mean probability of a face over the shifted crops.
        turn: Quarter turns anticlockwise that bring the face upright.
        stretched: Whether the contrast is stretched before reading.
    """

    centre: np.ndarray
    side: float
    landmarks: np.ndarray
    score: float
    turn: int = 0
    stretched: bool = False


class OnetReader:
    """O-Net alone, averaged over four shifted crops in one batch (test-time augmentation)."""

    def __init__(self):
        self.net = load_net("onet")

    @torch.inference_mode()
    def __call__(self, image: np.ndarray, last: Reading) -> Reading:
        """Read the face of `image`, uint8 (H, W, 3) or (H, W), in the box of `last`."""
        to_patch = square_to_patch(last.centre, last.side, last.turn, PATCH, WIDE)
        patch = rgb_patch(image, to_patch, WIDE, last.stretched).astype(np.float32)
        patch = (patch - 127.5) / 128  # about [-1, 1]
        crops = np.stack([patch[y : y + PATCH, x : x + PATCH] for x, y in CORNERS])
        batch = torch.from_numpy(crops).permute(0, 3, 1, 2)  # channels last in memory
        scores, boxes, points = (a.numpy() for a in self.net(batch))
        corner = CORNERS[:, None] - 0.5  # pixel centres are whole numbers
        points = np.stack([points[:, :5], points[:, 5:]], axis=-1) * PATCH + corner
        boxes = (boxes.reshape(-1, 2, 2) + _UNIT_BOX) * PATCH + corner
        box, back = boxes.mean(axis=0), invert(to_patch)
        return replace(
            last,
            centre=apply(back, box.mean(axis=0)),
            side=float((box[1] - box[0]).max()) * last.side / PATCH,
            landmarks=apply(back, points.mean(axis=0)),
            score=float(scores.mean()),
        )


# ---- the track ----------------------------------------------------------------------------------

# How fast the box follows: undamped, two of four dev actors had boxes that wobbled by 1 to 2 % and
# landmarks by 0.9 px a frame at 224 px; so damped 0.4, and a head still outruns it by 12 % a frame.
FOLLOW, BREATHE = 0.5, 0.3
KEEP = 0.7  # mean probability that keeps a track: 0.967 was the lowest with a hand on the face
START = 0.9  # and that starts one, or resumes it after a miss
SURE = 0.99  # probability of an upright face, settled; lying ones reach 0.97
TURNS = (0, 3, 1, 2)  # quarter turns anticlockwise, likeliest first
LONGEST_INTERP = 5  # frames: a blink of the camera, not a turned head
BACK_OFF = 5  # after LONGEST_INTERP misses the detector runs on every 5th frame
PROBE_EVERY = 60  # frames between two looks at other rotations in a shot still without a face


@dataclass(frozen=True)
class Observation:
    """One frame of a track; `landmarks` is float64 (5, 2), nan where `status` is "none"."""

    frame: Frame
    shot: int
    status: str  # "track" | "detect" | "interp" | "none"
    score: float
    landmarks: np.ndarray
    n_faces: int  # -1 where the detector did not run
    turn: int = 0  # quarter turns anticlockwise that bring the face upright
    stretched: bool = False  # read with stretched contrast
    covered: bool = False  # lost because another face lies over it


def parse_select(select: str) -> tuple[str, int]:
    """Check `select`: "auto", "largest", "centre" or "index:N", counted from the left.

    Raises:
        BadInput: Anything else.
    """
    rule, _, number = select.partition(":")
    if rule in ("auto", "largest", "centre") and not number:
        return rule, 0
    if rule == "index" and number.isdecimal():
        return rule, int(number)
    raise BadInput(f"select {select!r}", "is unknown", "use auto, largest, centre or index:N")


def choose(faces: Faces, shape: tuple[int, int], select: str = "auto") -> int | None:
    """Which face a shot is about.

    Args:
        faces: At least one face.
        shape: Height and width of the image.
        select: "auto" takes the largest area * score^8 * centrality, where centrality falls from 1
            in the middle of the image to 0.5 in its corners; "largest" and "centre" say it
            themselves; "index:N" counts from the left, from 0.

    Returns:
        An index into `faces`; `None` if "index:N" asks for more faces than there are.
    """
    rule, number = parse_select(select)
    centres = (faces.boxes[:, :2] + faces.boxes[:, 2:]) / 2
    area = np.prod(faces.boxes[:, 2:] - faces.boxes[:, :2], axis=1)
    middle = (np.array(shape[::-1]) - 1) / 2
    distance = np.linalg.norm(centres - middle, axis=1) / np.linalg.norm(middle)
    if rule == "index":
        order = np.argsort(centres[:, 0], kind="stable")
        return int(order[number]) if number < len(order) else None
    if rule == "largest":
        return int(np.argmax(area))
    if rule == "centre":
        return int(np.argmin(distance))
    return int(np.argmax(area * faces.scores.astype(np.float64) ** 8 * (1 - distance / 2)))


class Tracker:
    """Follows one person; feed it the frames of one shot after the other.

    Args:
        detector: Finds faces at the start of a shot and after a loss.
        select: See `choose`.
        every_frame: Run the detector on every frame and take its own landmarks: the usual way,
            kept to show what it costs.
    """

    def __init__(self, detector: Detector, select: str = "auto", *, every_frame: bool = False):
        parse_select(select)
        self.detector, self.select, self.every_frame = detector, select, every_frame
        self.reader = OnetReader()

    def follow(self, marked: Iterable[tuple[Frame, int]]) -> Iterator[Observation]:
        """One observation a frame, in order; none is dropped.

        Up to five frames are held back while the face is lost, to be interpolated if it returns.

        Args:
            marked: Frames, uint8 (H, W, 3) RGB or (H, W), with their shot numbers (`mark_cuts`).
        """
        lost, shot = [], None
        for frame, number in marked:
            if number != shot:
                yield from lost
                lost, shot = [], number
                self._begin()
            seen = self._observe(frame, number)
            if seen.status == "none":
                lost.append(seen)
                broken = seen.covered or frame.damaged  # never bridged
                if self.last is None or len(lost) > LONGEST_INTERP or broken:
                    yield from lost
                    lost, self.bridge = [], None
                continue
            yield from _interpolate(self.bridge, lost, seen) if self.bridge else lost
            yield seen
            lost, self.bridge = [], seen
        yield from lost

    def _begin(self) -> None:
        """Forget the shot before."""
        self.last: Reading | None = None  # where the person was last seen
        self.bridge: Observation | None = None  # from where a short loss may be interpolated
        self.misses = 0  # frames since then
        self.people = 0  # most faces seen at once in this shot
        self.identity = Identity(self.detector, self.reader, settle=self.every_frame)

    def _observe(self, frame: Frame, shot: int) -> Observation:
        """Track, or failing that detect."""
        image, reading, status, n_faces = frame.image, None, "track", -1
        if self.last is not None and not (self.every_frame or frame.damaged):
            reading = self.reader(image, self.last)
            reading = self._ours(image, reading, START if self.misses else KEEP)
        due = self.misses <= LONGEST_INTERP or self.misses % BACK_OFF == 0
        if reading is None and due and not frame.damaged:
            status = "detect"
            reading, n_faces = self._detect(image)
            reading = reading and self._ours(image, reading, 0)
        if reading is None:
            self.misses += 1
            nowhere = np.full((5, 2), np.nan)
            covered = self.identity.doubt
            return Observation(frame, shot, "none", np.nan, nowhere, n_faces, covered=covered)
        self.last = _eased(self.last, reading) if status == "track" else reading
        self.misses = 0
        where = {"turn": reading.turn, "stretched": reading.stretched}
        return Observation(frame, shot, status, reading.score, reading.landmarks, n_faces, **where)

    def _detect(self, image: np.ndarray) -> tuple[Reading | None, int]:
        """The person, found anew, and the number of faces in sight.

        Detectors also report faces that lie on their side or head, as if upright, at scores up to
        0.997. O-Net, settled on the face, tells: 0.99 and more where it is upright, at most 0.97
        where it is not. So an upright face in doubt is compared with the other three turns.
        """
        best, n_faces = None, 0
        for turn in TURNS if self.last is None else (self.last.turn,):
            if self.last is None and turn and best is None and self.misses % PROBE_EVERY:
                break
            sighting = search(self.detector, image, turn)
            n_faces = max(n_faces, len(sighting.faces))
            self.people = max(self.people, n_faces)
            settled = self._settle(image, sighting)
            if settled is not None and (best is None or settled.score > best.score):
                best = settled
            if best is not None and best.score >= SURE:
                break
        return best, n_faces

    def _settle(self, image: np.ndarray, sighting: Sighting) -> Reading | None:
        """The face to follow, as O-Net reads it once its box has settled, if it can be believed."""
        faces, pick = sighting.faces, None
        if len(faces):
            shape = image.shape[:2]
            started = self.last is not None
            pick = self._same(image, sighting) if started else choose(faces, shape, self.select)
        if pick is None:
            return None
        found = reading = _from_box(sighting, pick)
        for _ in range(3):  # the detector's box is not O-Net's own
            reading = self.reader(image, reading)
        if not _sound(reading, START):
            return None
        return replace(found, score=reading.score) if self.every_frame else reading

    def _ours(self, image: np.ndarray, reading: Reading, least: float) -> Reading | None:
        """`reading` if it can be believed, and is of the person who is followed."""
        sound = _sound(reading, least)
        return reading if sound and not self.identity.refuses(image, reading) else None

    def _same(self, image: np.ndarray, sighting: Sighting) -> int | None:
        """The face nearest to where the person was; a lone face may be anywhere if it always was.

        After a cover it is the one that looks like the person, wherever it is.
        """
        faces = sighting.faces
        if self.identity.doubt:
            readings = [_from_box(sighting, i) for i in range(len(faces))]
            if (pick := self.identity.find(image, readings)) is not None:
                return pick
        centres = (faces.boxes[:, :2] + faces.boxes[:, 2:]) / 2
        distance = np.linalg.norm(centres - self.last.centre, axis=1) / self.last.side
        pick = int(np.argmin(distance))
        return pick if distance[pick] < 1 or self.people == 1 else None


def _sound(reading: Reading, least: float) -> bool:
    """Whether a reading can be believed."""
    return reading.score >= least and reading.side >= 8 and np.isfinite(reading.landmarks).all()


def _eased(last: Reading, reading: Reading) -> Reading:
    """`reading` with a box between its own and the last: O-Net's box feeds back into itself."""
    return replace(
        reading,
        centre=last.centre + FOLLOW * (reading.centre - last.centre),
        side=last.side + BREATHE * (reading.side - last.side),
    )


def _from_box(sighting: Sighting, pick: int) -> Reading:
    """The detector's face as a start for O-Net: the square around its box."""
    faces = sighting.faces
    box = faces.boxes[pick].astype(np.float64)
    return Reading(
        centre=(box[:2] + box[2:]) / 2,
        side=float((box[2:] - box[:2]).max()),
        landmarks=faces.landmarks[pick].astype(np.float64),
        score=float(faces.scores[pick]),
        turn=sighting.turn,
        stretched=sighting.stretched,
    )


def _interpolate(
    before: Observation, lost: list[Observation], after: Observation
) -> Iterator[Observation]:
    """The lost frames with landmarks on the straight line between their neighbours, in time."""
    start, end = before.frame.t_s, after.frame.t_s
    for gap in lost:
        share = (gap.frame.t_s - start) / (end - start)
        landmarks = (1 - share) * before.landmarks + share * after.landmarks
        score = (1 - share) * before.score + share * after.score
        yield replace(gap, status="interp", landmarks=landmarks, score=score, turn=before.turn)
