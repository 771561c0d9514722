"""Is it still the same person? The faces that come near the followed one, and the looks of both.

O-Net reads whatever face lies in its box. Where another one comes in front, it goes over to that
one and its score says nothing. So the detector looks around the box as often as another head could
have arrived; where boxes overlap, the crop must look like the followed face of a moment ago, and
less like the other one.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import cv2
import numpy as np

from micromacro.faces import align
from micromacro.faces.detect import Detector, rgb_patch

if TYPE_CHECKING:
    from micromacro.faces.track import OnetReader, Reading

FACE_PX = 27  # side of the followed face in the picture that is searched
REACH = 3  # from its middle to the edges of that picture, in sides of its box
# Lengths from here on are in sides of that box too; a gap is negative where boxes overlap.
SPEED = 0.18  # a frame, of two heads that approach each other
LOOK_EVERY = 12  # frames, in which no head comes from beyond the picture
TOUCH = -0.2  # gap from which on looks decide
HIDDEN = 15  # frames for which a head that vanished at the followed one is expected back
LOOK_PX = 48  # side of the crops that are compared
FACE = np.s_[5:48, 6:42]  # of them: narrower, actors look too alike; wider, neighbours show
BAND_PX = (1, 3)  # their detail, between two blurs: light and shape of the head are anyone's
SAME = 0.85  # correlation of two looks of one face within a second (0.99), of two people up to 0.79
MARGIN = 0.1  # by which the own look must be nearer than the other one


class Identity:
    """Says of each reading of a shot whether it is still of the person who is followed.

    Args:
        detector: Finds the faces around.
        reader: O-Net; looks need its landmarks, those of detectors are too coarse.
        settle: Whether readings are a detector's, so that O-Net reads them first.

    Attributes:
        doubt: Whether readings are refused at present: another face was last seen over ours.
    """

    def __init__(self, detector: Detector, reader: "OnetReader", *, settle: bool):
        self.detector, self.reader, self.settle = detector, reader, settle
        self.template = align.template_points(LOOK_PX)
        self.own: np.ndarray | None = None  # look of the followed face when it was clear
        self.other: np.ndarray | None = None  # and of the face that came nearest
        self.gap = np.inf  # between the two when they were seen last
        self.hidden = 0  # frames since the other one was
        self.wait = 0  # frames until the next look
        self.doubt = False

    def refuses(self, image: np.ndarray, reading: "Reading") -> bool:
        """Whether another face lies over the one of `reading`, or is what was read.

        Args:
            image: uint8 (H, W, 3) RGB or (H, W).
            reading: A reading that its score makes believable.
        """
        self.wait -= 1
        if self.wait > 0:
            return False
        if self.settle:
            reading = self.settled(image, reading)
        gap, other = self._nearest(image, reading)
        self.hidden = self.hidden + 1 if other is None else 0
        merged = other is None and self.gap < SPEED and self.hidden < HIDDEN
        touching = self.own is not None and (merged or gap < TOUCH)
        look = self._look(image, reading)
        if other is not None and (self.other is None or gap > SPEED):  # nearer, our crops show both
            self.other = self._look(image, self.settled(image, other))
        if touching or self.doubt:
            alike, nearer = self._own(look) >= SAME, self._nearer(look)
            accepted = alike and nearer >= MARGIN
            if not touching:  # back after a cover: in another pose, or two of one look
                accepted = nearer >= (-MARGIN if alike else MARGIN)
            self.doubt = not accepted
        if not touching and not self.doubt:
            self.own = look
        if not merged:
            self.gap = gap
        self.wait = 1 if touching or self.doubt else int(np.clip(gap / SPEED, 1, LOOK_EVERY))
        return self.doubt

    def find(self, image: np.ndarray, readings: Sequence["Reading"]) -> int | None:
        """Which of several faces looks like ours; `None` if none does clearly."""
        looks = [self._look(image, self.settled(image, reading)) for reading in readings]
        nearer = [self._nearer(look) for look in looks]
        best = int(np.argmax(nearer))
        return best if nearer[best] >= MARGIN else None

    def _nearest(self, image: np.ndarray, reading: "Reading") -> "tuple[float, Reading | None]":
        """Gap to the nearest other face around, and its box; infinite and `None` without one."""
        size = 2 * REACH * FACE_PX
        to_patch = align.square_to_patch(reading.centre, reading.side, reading.turn, FACE_PX, size)
        faces = self.detector(rgb_patch(image, to_patch, size, reading.stretched))
        faces = faces.keep(faces.scores >= self.detector.start_score)
        corners = faces.boxes.reshape(-1, 2, 2).astype(np.float64)
        middles, sides = corners.mean(axis=1), np.ptp(corners, axis=1).max(axis=1) / FACE_PX
        off = np.abs(middles - (size - 1) / 2).max(axis=1) / FACE_PX
        gaps = off - (1 + sides) / 2
        if len(off) and off.min() < 0.5:
            gaps[off.argmin()] = np.inf  # ours
        if not np.isfinite(gaps).any():
            return np.inf, None
        nearest = gaps.argmin()
        centre = align.apply(align.invert(to_patch), middles[nearest])
        side = sides[nearest] * reading.side
        return float(gaps[nearest]), replace(reading, centre=centre, side=side)

    def settled(self, image: np.ndarray, reading: "Reading") -> "Reading":
        """What O-Net reads in a detector's box, once the box is its own."""
        return self.reader(image, self.reader(image, reading))

    def _look(self, image: np.ndarray, reading: "Reading") -> np.ndarray:
        """The face as one vector of length 1 and mean 0: products are correlations."""
        crop = align.warp(image, align.similarity(reading.landmarks, self.template), LOOK_PX)
        crop = align.luma(crop).astype(np.float32)
        fine, coarse = (cv2.GaussianBlur(crop, (0, 0), sigma) for sigma in BAND_PX)
        values = (fine - coarse)[FACE].ravel()
        values -= values.mean()
        return values / max(float(np.linalg.norm(values)), 1e-6)

    def _own(self, look: np.ndarray) -> float:
        return float(self.own @ look)

    def _nearer(self, look: np.ndarray) -> float:
        """By how much a look is more like the followed face than like the other one."""
        return self._own(look) - (SAME - MARGIN if self.other is None else float(self.other @ look))
