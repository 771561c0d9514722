from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from micromacro.synthetic import AUS, EXPRESSIONS, FIVE_POINTS, FOLD_OVER, LANDMARKS, Face, Identity
from micromacro.synthetic.performance import Performance, px, units
from micromacro.synthetic.script import macro_event, micro_event, perform, pose


def grey_face(subject: int, size: int) -> Face:
    return Face(Identity.draw(subject), size=size, colour=False)


@pytest.fixture(scope="module")
def face():
    return grey_face(3, 64)


@pytest.fixture(scope="module")
def large():
    return grey_face(7, 128)


def move(**channels) -> Performance:
    """Two still frames, the second with the given channels."""
    play = Performance.still(2)
    for name, value in channels.items():
        changed = getattr(play, name).clone().float()
        changed[1] = torch.as_tensor(value)
        play = replace(play, **{name: changed})
    return play


def au(**peaks) -> torch.Tensor:
    row = torch.zeros(len(AUS))
    for name, value in peaks.items():
        row[AUS.index(name[2:])] = value
    return row


def at(name: str) -> int:
    return LANDMARKS.index(name)


def least_area(material: torch.Tensor, size: int) -> float:
    """Least area of skin that a pixel shows, relative to its own; below 0 the skin folds over."""
    (dxx, dxy), (dyx, dyy) = (torch.gradient(m, spacing=2 / size, dim=(1, 0)) for m in material)
    return float((dxx * dyy - dxy * dyx).min())


def warp_back(image: torch.Tensor, flow_px: torch.Tensor) -> torch.Tensor:
    """Image j sampled at x + flow: an independent warp, bicubic, pixel coordinates."""
    H, W = image.shape[-2:]
    y, x = torch.meshgrid(torch.arange(H), torch.arange(W), indexing="ij")
    grid = torch.stack([2 * (x + flow_px[0]) / (W - 1) - 1, 2 * (y + flow_px[1]) / (H - 1) - 1], -1)
    return F.grid_sample(image[None], grid[None], mode="bicubic", align_corners=True)[0]


# ---- identity -----------------------------------------------------------------------------------


def test_identities_do_not_repeat_across_splits_subjects_and_runs():
    keys = product(range(5), ("train", "dev", "test", "pretrain"), range(2))
    people = [Identity.draw(subject, split=split, run_seed=run) for subject, split, run in keys]
    assert len({p.seed for p in people}) == 40
    assert len({(p.age, p.eye_x, p.skin) for p in people}) == 40
    assert Identity.draw(1, split="dev") == Identity.draw(1, split="dev")


@pytest.mark.parametrize("subject", [1, 6])
def test_same_seed_is_the_same_person_at_every_resolution(subject):
    person, play = Identity.draw(subject), pose("happiness")
    small, other = (Face(p, size=64).render(play) for p in (person, Identity.draw(subject + 10)))
    shrunk = F.avg_pool2d(Face(person, size=128).render(play), 2)
    wide = Face(person, size=(64, 114)).render(play)[..., 25:89]  # more room
    assert (wide - small)[:, :, 8:56, 20:44].abs().mean() < 0.01
    same = (shrunk - small).square().mean().sqrt()
    assert same < 0.02
    assert same < 0.15 * (small - other).square().mean().sqrt()


# ---- pictures -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "colour"), [(33, False), ((50, 77), True), ((97, 48), False)])
def test_render_shape_range_and_grey_levels(size, colour):
    play = perform(3, 30.0, nuisance="hard", seed=1)
    frames = Face(Identity.draw(0), size=size, colour=colour).render(play)
    H, W = size if isinstance(size, tuple) else (size, size)
    assert (frames.shape, frames.dtype) == ((3, 3 if colour else 1, H, W), torch.float32)
    assert 0 <= frames.min() < frames.max() - 0.2 <= 0.8
    assert torch.equal(frames, (frames * 255).round() / 255)


def test_a_frame_does_not_depend_on_its_batch():
    events = [macro_event(2, "happiness", duration_s=0.8), micro_event(40, "surprise")]
    play = perform(70, 30.0, events, nuisance="hard", seed=5)
    face = Face(Identity.draw(2), size=48)
    whole = face.render(play)
    assert torch.equal(face.render(play, 10, 20), whole[10:20])
    assert torch.equal(face.render(play[37:38]), whole[37:38])
    assert torch.equal(face.render(play[5:] + play[:5]), torch.cat([whole[5:], whole[:5]]))
    # 8-bit rounding hides a lot: the motion itself has the same bits, too.
    assert torch.equal(face.motion.drift(play[37:38]), face.motion.drift(play)[37:38])


def test_noise_is_of_the_clip_and_the_frame():
    play = replace(Performance.still(3, seed=1), noise_sd=torch.full((3,), 0.02))
    face = grey_face(2, 48)
    first, clean = face.render(play), face.render(Performance.still(3))
    other = face.render(replace(play, noise_key=play.noise_key + torch.tensor([1, 0])))
    assert torch.equal(first, face.render(play))
    assert (first[0] != first[1]).float().mean() > 0.7
    assert (first != other).float().mean() > 0.7
    assert (first - clean).std() == pytest.approx(0.02, rel=0.05)


def test_light_gain_offset_and_shadow_act_on_linear_light():
    face = grey_face(4, 48)
    play = move(gain=0.8, offset=0.02, shadow=[0.3, 0.0, 0.1, 8.0])
    before, after = face.render(play) ** 1.6
    x = (torch.arange(48) + 0.5) / 24 - 1
    expected = before * 0.8 * (1 - 0.3 / (1 + torch.exp(-8 * (x - 0.1)))) + 0.02
    assert (after - expected).abs().max() < 0.01
    (change,) = face.render(move(light=[0.3, 0.0])).diff(dim=0)[:, 0, 20:36]
    assert change[:, 26:36].mean() > 0.03
    assert change[:, 12:22].mean() < -0.03


def test_blink_hides_the_iris_and_mouth_opens_on_dark():
    face = grey_face(4, 96)
    x, y = face.landmarks(Performance.still(1))[0, at("pupil_left")].round().int()
    open_eye, closed = face.render(move(blink=1.0))[:, 0, y - 2 : y + 3, x - 2 : x + 3]
    assert closed.median() > open_eye.median() + 0.1
    play = move(jaw=0.10)
    upper, lower = face.landmarks(play)[1, [at("lip_upper"), at("lip_lower")]]
    assert lower[1] - upper[1] > 2
    x, y = (0.25 * upper + 0.75 * lower).round().int()
    shut, opened = face.render(play)[:, 0, y, x]
    assert opened < shut - 0.1


# ---- motion -------------------------------------------------------------------------------------


def test_many_pairs_at_once_are_the_pairs_one_by_one(face):
    play = perform(40, 30.0, [macro_event(5, "happiness", duration_s=1)], nuisance="hard", seed=2)
    flow, valid = face.flow(play, range(18), [39] * 18)
    assert flow.shape == (18, 2, 64, 64)
    for k in (0, 7, 17):
        one, ok = face.flow(play, k, 39)
        assert torch.allclose(flow[k], one, atol=1e-3)
        assert (ok == valid[k]).float().mean() > 0.999


def similarity(points, centre, shift_px, roll, log_scale):
    """Points (..., 2) turned and scaled about a centre, then moved: the closed form of a head."""
    c, s = np.exp(log_scale) * np.cos(roll), np.exp(log_scale) * np.sin(roll)
    turn = torch.tensor([[c, -s], [s, c]], dtype=points.dtype)
    return (points - centre) @ turn.T + centre + torch.tensor(shift_px, dtype=points.dtype)


def test_flow_of_a_rigid_head_has_closed_form(face):
    flow, valid = face.flow(move(shift=[0.05, -0.03], roll=0.06, log_scale=0.04), 0, 1)
    points = torch.stack(torch.meshgrid(*[torch.arange(64.0)] * 2, indexing="xy"), -1)
    expected = similarity(points, 31.5, [0.05 * 32, -0.03 * 32], 0.06, 0.04) - points
    inside = valid & (face._cover(face._pixels)[0] > 0.99)
    assert inside.sum() > 1500
    assert (flow.movedim(0, -1) - expected).norm(dim=-1)[inside].max() < 0.02
    assert flow[:, valid & ~inside].abs().max() == 0


@pytest.mark.parametrize("name", AUS)
def test_unit_peak_and_no_fold_over_of_each_action_unit(name):
    person = replace(Identity.draw(AUS.index(name)), rest=(0.0,) * 5)
    face = Face(person, size=96, colour=False)
    flow, valid = face.flow(move(au=au(**{f"AU{name}": 0.05})), 0, 1)
    assert flow.norm(dim=0)[valid].max() == pytest.approx(px(0.05, 96), rel=0.06)
    if name == "12R":  # outwards and up
        assert flow[:, valid][0].sum() > 0 > flow[:, valid][1].sum()
    play = move(au=au(**{f"AU{name}": FOLD_OVER}))
    material = face.motion.material(face._pixels, play[1:])[0][0]
    assert least_area(material, 96) > 0.02


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_no_expression_folds_the_skin(expression):
    play = pose(expression, FOLD_OVER)
    for face in (grey_face(subject, 48) for subject in range(4)):
        smooth = face.motion.smooth(face._pixels, face.motion.drift(play))[0]
        assert least_area(smooth, 48) > 0.1


def test_flow_returns_home_and_agrees_with_a_finer_face():
    play = pose("neutral") + pose("happiness", 0.08)
    face = grey_face(7, 64)
    (there, ok), (back, ok_back) = face.flow(play, 0, 1), face.flow(play, 1, 0)
    home = there + warp_back(back, there)
    good = ok & (warp_back(ok_back[None].float(), there)[0] > 0.999)
    assert good.float().mean() > 0.7
    assert home.norm(dim=0)[good].quantile(0.98) < 0.02
    fine, fine_ok = grey_face(7, 192).flow(play, 0, 1)
    middle = fine[:, 1::3, 1::3] / 3  # every third pixel has the same centre
    both = ok & fine_ok[1::3, 1::3]
    assert (there - middle).norm(dim=0)[both].max() < 0.02


HEADS = {name: {name: 0.08} for name in ("roll", "log_scale")}
HEADS |= {"yaw": {"yaw": 0.06}, "pitch": {"pitch": 0.06}, "shift": {"shift": [0.06, -0.04]}}
FACES = {n: {"au": au(**{f"AU{n}": units(1.5, 128)})} for n in ("4", "12R", "17", "2")}


@pytest.mark.parametrize("name", HEADS | FACES)
def test_the_picture_moves_as_the_flow_says(large, name):
    play = move(**(HEADS | FACES)[name])
    frames = large.render(play)
    for i, j in ((0, 1), (1, 0)):
        flow, valid = large.flow(play, i, j)
        moving = valid & (flow.norm(dim=0) > (0.8 if name in HEADS else 0.5))
        error, wrong, before = (
            (image - frames[i]).abs()[0, moving].mean()
            for image in (warp_back(frames[j], flow), warp_back(frames[j], -flow), frames[j])
        )
        assert moving.sum() > (300 if name in HEADS else 20)
        assert error < 0.5 * before < 0.5 * wrong


def test_flow_masks_mouth_lids_and_uncovered_room(face):
    play = move(jaw=0.1, part=0.03, shift=[0.1, 0.0])
    _, valid = face.flow(play, 1, 0)
    names = ("lip_upper", "lip_lower", "pupil_left")
    upper, lower, pupil = face.landmarks(play)[1, [at(name) for name in names]]
    for x, y in ((0.5 * (upper + lower)).round().int(), pupil.round().int()):
        assert not valid[y, x]
    cover = face._cover(face.motion.material(face._pixels, play)[0])
    border = (cover[1] > 0.02) & (cover[1] < 0.98)
    assert not valid[border].any()
    assert not valid[(cover[1] < 0.01) & (cover[0] > 0.5)].any()
    assert valid.float().mean() > 0.6


def test_landmarks_follow_the_flow():
    face = grey_face(5, 96)
    play = replace(pose("neutral") + pose("surprise", 0.08), yaw=torch.tensor([0.0, 0.04]))
    flow, valid = face.flow(play, 0, 1)
    points = face.landmarks(play)
    grid = 2 * points[0] / 95 - 1
    options = {"mode": "bicubic", "align_corners": True}
    expected = F.grid_sample(flow[None], grid[None, None], **options)[0, :, 0].T
    for k, name in enumerate(LANDMARKS):
        x, y = points[0, k].round().int()
        calm = valid[y - 2 : y + 3, x - 2 : x + 3].all()
        if calm and not name.startswith(("lid", "pupil", "lip", "mouth")):
            assert (points[0, k] + expected[k] - points[1, k]).norm() < 0.1, name
    drop = (points[1] - points[0])[:, 1]
    assert drop[at("chin")] > 3 > 0 > drop[at("brow_mid_left")]
    assert drop[at("lip_lower")] > drop[at("lip_upper")] + 2
    assert drop[at("lid_upper_left")] < -0.5


@pytest.mark.gpu
def test_gpu_and_cpu_agree():
    play = perform(20, 30.0, [macro_event(2, "surprise", duration_s=0.5)], nuisance="hard", seed=1)
    person = Identity.draw(3)
    cpu, gpu = (Face(person, size=64, device=d) for d in ("cpu", "cuda"))
    levels = (cpu.render(play) - gpu.render(play).cpu()).abs() * 255
    assert (levels > 1.5).float().mean() < 1e-4
    assert (cpu.flow(play, 0, 9)[0] - gpu.flow(play, 0, 9)[0].cpu()).abs().max() < 0.01
    assert (cpu.landmarks(play) - gpu.landmarks(play).cpu()).abs().max() < 0.01


# ---- do they pass for faces? --------------------------------------------------------------------


def test_a_face_detector_takes_them_for_faces():
    from micromacro.faces.detect import MtcnnDetector

    detector = MtcnnDetector()
    detected, error_px = [], []
    for subject in range(3):
        face = Face(Identity.draw(subject, split="mtcnn"), size=160)
        for expression in EXPRESSIONS:
            play = pose(expression)
            image = (face.render(play)[0] * 255).round().byte().permute(1, 2, 0).numpy()
            faces = detector(image)
            detected.append(len(faces) == 1 and faces.scores[0] >= 0.9)
            if detected[-1]:
                truth = face.landmarks(play)[0, list(FIVE_POINTS)].numpy()
                error_px.append(np.linalg.norm(faces.landmarks[0] - truth, axis=1).mean())
    assert np.mean(detected) >= 0.95
    assert np.mean(error_px) < 4  # 2.5 % of the picture
