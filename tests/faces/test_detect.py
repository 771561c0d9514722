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


@pytest.mark.parametrize("factor", [1, 8])
def test_mtcnn_finds_the_eyes_in_large_frames_too(factor):
    photo = PHOTO[:240, 100:380]
    image = cv2.resize(photo, None, fx=factor, fy=factor, interpolation=cv2.INTER_LINEAR)
    faces = search(MtcnnDetector(), image).faces
    assert faces.scores[0] > 0.99
    expected = (EYES - (100, 0)) * factor
    np.testing.assert_allclose(faces.landmarks[0, :2], expected, atol=4 * factor)


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
    assert isinstance(make_detector("mtcnn"), MtcnnDetector)
    refused(lambda: make_detector("cascade"), "cascade")
    refused(lambda: make_detector("mtcnn", tmp_path / "x.onnx"), "carries its own")
    refused(lambda: make_detector("mtcnn", sha256="0" * 64), "carries its own")
    refused(lambda: make_detector("yunet", tmp_path / "x.onnx"), "x.onnx")
