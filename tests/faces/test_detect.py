import cv2
import numpy as np
import pytest
import skimage.data
from refusals import refused

from micromacro.faces.detect import MtcnnDetector, YunetDetector, make_detector, search, turn_back

PHOTO = skimage.data.astronaut()
EYES = np.array([(203.6, 101.4), (246.8, 103.2)])  # by eye, x y


@pytest.mark.parametrize("turn", range(4))
def test_turn_back_finds_the_pixel(turn):
    image = np.zeros((7, 11), np.uint8)
    image[2, 9] = 1
    y, x = np.argwhere(np.rot90(image, turn))[0]
    np.testing.assert_array_equal(turn_back(np.array([x, y]), turn, image.shape), (9, 2))


def test_mtcnn_finds_the_portrait():
    faces = MtcnnDetector()(PHOTO)
    assert faces.scores.max() > 0.99
    best = int(faces.scores.argmax())
    np.testing.assert_allclose(faces.landmarks[best, :2], EYES, atol=4)
    left, right, nose, mouth_left, mouth_right = faces.landmarks[best]
    assert left[0] < nose[0] < right[0]
    assert mouth_left[0] < mouth_right[0]
    assert nose[1] < mouth_left[1]
    for array in (faces.boxes, faces.scores, faces.landmarks):
        assert array.dtype == np.float32


def test_large_frames_are_shrunk_and_places_come_back():
    large = cv2.resize(PHOTO[:240, 100:380], None, fx=8, fy=8, interpolation=cv2.INTER_LINEAR)
    sighting = search(MtcnnDetector(), large)
    np.testing.assert_allclose(sighting.faces.landmarks[0, :2], (EYES - (100, 0)) * 8, atol=32)


@pytest.mark.parametrize("shape", [(5, 7, 3), (19, 300, 3), (64, 64, 3)])
def test_no_face_in_small_or_empty_images(shape):
    assert len(MtcnnDetector()(np.zeros(shape, np.uint8))) == 0


def test_dark_needs_the_stretch():
    dark = (PHOTO * 0.05).astype(np.uint8)
    detector = MtcnnDetector()
    assert len(detector(dark)) == 0
    sighting = search(detector, dark)
    assert sighting.stretched
    np.testing.assert_allclose(sighting.faces.landmarks[0, :2], EYES, atol=5)


@pytest.mark.parametrize("turn", [1, 2, 3])
def test_a_turn_brings_a_lying_face_upright(turn):
    lying = np.ascontiguousarray(np.rot90(PHOTO[:300], -turn))
    faces = search(MtcnnDetector(), lying, turn).faces
    marked = np.zeros(PHOTO[:300].shape[:2])
    marked[101, 204] = 1
    y, x = np.argwhere(np.rot90(marked, -turn))[0]
    np.testing.assert_allclose(faces.landmarks[0, 0], (x, y), atol=4)


def test_grey_images_are_searched_too():
    assert len(search(MtcnnDetector(), cv2.cvtColor(PHOTO, cv2.COLOR_RGB2GRAY)).faces) >= 1


def test_yunet(shared_file):
    weights = shared_file("models/face_detection_yunet_2023mar.onnx")
    detector = YunetDetector(weights)
    faces = search(detector, PHOTO).faces
    plain = cv2.FaceDetectorYN.create(str(weights), "", PHOTO.shape[1::-1])
    _, rows = plain.detect(cv2.cvtColor(PHOTO, cv2.COLOR_RGB2BGR))
    np.testing.assert_allclose(faces.scores[0], rows[0, 14], atol=1e-5)
    np.testing.assert_allclose(faces.landmarks[0, :2], EYES, atol=6)
    assert len(detector(np.zeros((200, 200, 3), np.uint8))) == 0


def test_backends_by_name(tmp_path):
    assert make_detector("mtcnn").name == "mtcnn"
    refused(lambda: make_detector("cascade"), "cascade")
    refused(lambda: make_detector("mtcnn", tmp_path / "x.onnx"), "carries its own")
    refused(lambda: make_detector("yunet", tmp_path / "x.onnx"), "x.onnx")
