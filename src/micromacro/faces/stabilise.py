"""Sub-pixel stabilisation: what is left of head motion after alignment, removed by the skin itself.

Five landmarks leave up to a pixel of slow error at 224 px, as much as a micro-expression. Here each
crop is registered to a key frame by a four-parameter similarity, on the face without eyes, brows
and mouth, so that the expression stays and the head does not.
"""

from collections.abc import Callable

import cv2
import numpy as np

from micromacro.faces.align import compose, invert

WORK_PX = 224  # the fit runs at this size whatever the crop: the same result at 48 and at 224 px
KEY_EVERY = 15  # frames; one reference for a whole clip failed on 15 of 150 frames of a talker
BLUR_PX = 1.0
HUBER = 1.345  # residuals beyond this many sigmas count linearly
MOST_STEPS = 25
SMALL_STEP_PX = 3e-3
SLACK = 1e-3  # a still face fits as well before as after
LARGEST_SHIFT = 0.09  # of the crop; a larger correction is a wrong fit
SCALES = (0.85, 1.18)


def face_mask(points: np.ndarray, size: int = WORK_PX) -> np.ndarray:
    """The skin that moves with the skull: an ellipse without eyes, brows and mouth.

    A smaller "rigid" patch such as forehead and nose is a trap: it extrapolates a rotation to the
    mouth (measured: correlation with a true micro-expression 0.56 in place of 0.96).

    Args:
        points: (5, 2), x y: the template's points in the crop.
        size: Side of the crop.

    Returns:
        bool (size, size).
    """
    eyes, mouth = points[:2].mean(axis=0), points[3:].mean(axis=0)
    unit = np.linalg.norm(points[1] - points[0])  # eye distance: 70 px at 224
    y, x = np.mgrid[:size, :size]

    def ellipse(centre: np.ndarray, dx: float, dy: float, rx: float, ry: float) -> np.ndarray:
        u, v = (x - centre[0]) / unit - dx, (y - centre[1]) / unit - dy
        return (u / rx) ** 2 + (v / ry) ** 2 <= 1

    mask = ellipse(eyes, 0, 0.22, 1.04, 1.42)  # to the edge of the face; wider takes in background
    for eye in points[:2]:
        mask &= ~ellipse(eye, 0, -0.1, 0.36, 0.32)
    return mask & ~ellipse(mouth, 0, 0.02, 0.6, 0.33)


class Registration:
    """Inverse-compositional Gauss-Newton fit of similarities to one reference image.

    With I the image and R the reference it minimises Σ huber((α I(W x) + β - R(x)) / σ) over the
    mask; α and β match the weighted mean and spread, σ = 1.4826 median |e| (Baker and Matthews
    2004, with Huber weights). The derivatives of R are taken once.

    Args:
        reference: float32 (S, S), grey.
        mask: bool (S, S).
    """

    def __init__(self, reference: np.ndarray, mask: np.ndarray):
        rows, cols = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        self.corner = np.array([cols[0], rows[0]], dtype=np.float64)
        window = np.s_[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1]
        inside = mask[window]
        self.size = inside.shape[::-1]
        self.places = np.flatnonzero(inside)  # taking places is faster than a mask
        blurred = cv2.GaussianBlur(reference, (0, 0), BLUR_PX)
        gy, gx = (g[window][inside] for g in np.gradient(blurred))
        y, x = (c.astype(np.float64) for c in np.nonzero(inside))
        self.middle = np.array([x.mean(), y.mean()]) + self.corner
        x, y = x - x.mean(), y - y.mean()
        self.unit = 0.22 * len(reference)  # makes a step in scale or angle count in pixels
        columns = [gx, gy, (gx * x + gy * y) / self.unit, (gy * x - gx * y) / self.unit]
        self.jacobian = np.stack(columns, axis=1).astype(np.float32)
        self.values = blurred[window][inside]

    def _moved(self, image: np.ndarray, warp: np.ndarray) -> np.ndarray:
        """I(W x) on the mask."""
        shifted = compose(warp, np.column_stack([np.eye(2), self.corner]))
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return cv2.warpAffine(image, shifted, self.size, flags=flags).take(self.places)

    def _residual(self, moved: np.ndarray, weight: np.ndarray) -> np.ndarray | None:
        """α I(W x) + β - R(x) on the mask, or `None` where the image is flat."""
        total = weight.sum()
        theirs, ours = (v - weight @ v / total for v in (moved, self.values))
        energy = weight @ theirs**2
        if energy < 1e-6 * total:
            return None
        return theirs * np.sqrt(weight @ ours**2 / energy) - ours

    def fit(self, image: np.ndarray) -> np.ndarray | None:
        """The similarity W with I(W x) ≈ R(x), or `None` if the fit cannot be believed.

        Args:
            image: float32 (S, S), grey, within a few pixels of the reference.

        Returns:
            float64 (2, 3).
        """
        image = cv2.GaussianBlur(image, (0, 0), BLUR_PX)
        warp, weight = np.eye(2, 3), np.ones_like(self.values)
        still = moved = self._moved(image, warp)
        for _ in range(MOST_STEPS):
            error = self._residual(moved, weight)
            if error is None:
                return None
            weight = _huber_weight(error)
            weighted = self.jacobian * weight[:, None]
            normal = (weighted.T @ self.jacobian).astype(np.float64)
            step = np.linalg.solve(normal + 1e-3 * np.eye(4), weighted.T @ error)
            warp = compose(warp, invert(self._similarity(step)))
            moved = self._moved(image, warp)
            if np.abs(step).max() < SMALL_STEP_PX:
                break
        before, after = (self._residual(values, weight) for values in (still, moved))
        if before is None or after is None:
            return None
        # Same weights before and after, so that an expression's outliers do not vote.
        better = weight @ after**2 <= (1 + SLACK) * (weight @ before**2)
        return warp if better and is_small(warp, self.middle, len(image)) else None

    def _similarity(self, step: np.ndarray) -> np.ndarray:
        """The parameters (shift x, shift y, scale, angle), in pixels, as a (2, 3) matrix."""
        a, b = 1 + step[2] / self.unit, step[3] / self.unit
        linear = np.array([[a, -b], [b, a]])
        return np.column_stack([linear, self.middle - linear @ self.middle + step[:2]])


def _huber_weight(error: np.ndarray) -> np.ndarray:
    """Huber's weights; σ = 1.4826 median |e|, with a floor for images that are equal."""
    size = np.abs(error)
    sigma = max(1.4826 * float(np.median(size)), 1e-3)
    return np.minimum(1, HUBER * sigma / np.maximum(size, 1e-6)).astype(np.float32)


def is_small(warp: np.ndarray, middle: np.ndarray, size: int) -> bool:
    """Whether a correction moves the face by under 9 % of the crop and scales by 0.85 to 1.18."""
    shift = np.linalg.norm(warp[:, :2] @ middle + warp[:, 2] - middle)
    scale = np.sqrt(abs(np.linalg.det(warp[:, :2])))
    return bool(shift < LARGEST_SHIFT * size and SCALES[0] < scale < SCALES[1])


class Stabiliser:
    """Corrections for the frames of one run, chained over key frames.

    Args:
        points: (5, 2), the template's points at `WORK_PX`.

    Attributes:
        refused: Frames whose fit could not be believed and kept the correction before.
    """

    def __init__(self, points: np.ndarray):
        self.mask = face_mask(points)
        self.middle = points.mean(axis=0)
        self.refused = 0
        self.reset()

    def reset(self) -> None:
        """Start anew, after a cut or a gap."""
        self.key: Registration | None = None
        self.correction = np.eye(2, 3)
        self.age = 0

    def step(self, sample: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """The correction for the next frame.

        Args:
            sample: Gives the frame's grey crop, (224, 224), under aligned-to-crop correction C:
                the source seen through C ∘ S.

        Returns:
            float64 (2, 3): aligned crop pixels to stabilised crop pixels. A refused fit keeps the
            one before; falling back to none would make a jump.
        """
        if self.key is not None:
            warp = self.key.fit(sample(self.correction).astype(np.float32))
            update = None if warp is None else compose(invert(warp), self.correction)
            if update is not None and is_small(update, self.middle, WORK_PX):
                self.correction = update
            else:
                self.refused += 1
        self.age += 1
        if self.key is None or self.age > KEY_EVERY:
            self.key = Registration(sample(self.correction).astype(np.float32), self.mask)
            self.age = 1
        return self.correction
