# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What is kept of recordings follows the road users in them, and who does that better is told."""

from collections.abc import Mapping, Sequence
from functools import partialmethod
import json
from pathlib import Path
from typing import Any

from all_commands import app
from bag_maker import compressed, drive, jpeg, picture, real_bags, times, write
import cv2
from detector_maker import real_detector, yolox
import numpy as np
from numpy.typing import NDArray
import pytest
from typer.testing import CliRunner, Result

from vts_ros.lab.evaluation.box_coverage import (
    area_under_curve,
    ellipse,
    GROUPS,
    light_of,
    measure,
    measure_all,
    RIVALS,
    saliencies,
    Salient,
)
from vts_ros.lab.evaluation.drawn_boxes import drawn_users, read_tracks, Track, TrafficError
from vts_ros.lab.evaluation.proposal_networks import about_network
from vts_ros.lab.evaluation.recordings_page import (
    DATA,
    draw_kept,
    leads_in_words,
    PAGE,
    PICTURE,
    summarize,
)
from vts_ros.lab.teacher import Found, KINDS, RoadUser, Teacher
from vts_ros.lab.training import labelled_pictures
from vts_ros.lab.training.proposal_training import Recipe
from vts_ros.lab.training.teacher_training import road_pictures, split, TeachingError
from vts_ros.paths import model_path
from vts_ros.pipeline.picture_messages import COMPRESSED_IMAGE
from vts_ros.sparsify import Sparsifier

pytestmark = pytest.mark.slow

#: Drawn by hand.
BOXES = Path(__file__).parent / 'data' / 'vehicles.json'
GRID = (4, 7)
SHIPPED = model_path('proposal/frame.onnx').parent


@pytest.fixture(scope='module')
def ways() -> dict[str, Salient]:
    """Return the shipped network and what it is compared with."""
    return saliencies({'shipped': SHIPPED}, GRID, has_teacher=True)


@pytest.fixture(scope='module')
def few_ways(ways: dict[str, Salient]) -> dict[str, Salient]:
    """Return them without what the network knows of the place, which looks a second time."""
    return {name: way for name, way in ways.items() if name != 'shipped: place'}


def still(*boxes: Sequence[float], name: str = 'car') -> dict[str, Track]:
    """Return road users that stay where they are."""
    return {f'{name} {number}': Track(np.array([0.0, 9.0]), np.array([box] * 2))
            for number, box in enumerate(boxes)}


def found_in(bag: Path, *boxes: Sequence[float], name: str = 'car') -> Found:
    """Return the same in each frame of a bag."""
    return drawn_users(bag, still(*boxes, name=name))


def test_a_vehicle_moves_evenly_between_its_boxes() -> None:
    track = Track(np.array([1.0, 2.0]), np.array([[0.0, 0.2, 0.1, 0.4], [0.4, 0.4, 0.5, 0.6]]))
    assert track.at(1.0) == (0.0, 0.2, 0.1, 0.4)
    assert track.at(1.25) == pytest.approx((0.1, 0.25, 0.2, 0.45))
    # Half a frame beyond is the same picture; more is not known.
    assert track.at(2.05) == (0.4, 0.4, 0.5, 0.6)
    assert track.at(0.9) is None
    assert track.at(2.1) is None


@pytest.mark.parametrize('content', [
    '{', '[]', '{"recordings": 3}', '{"recordings": {"a": {"b": []}}}',
    '{"recordings": {"a": {"b": [[0, 0, 0, 1]]}}}',
    '{"recordings": {"a": {"b": [[0, 0.5, 0, 0.4, 1]]}}}',
    '{"recordings": {"a": {"b": [[0, 0, 0, 960, 540]]}}}',
    '{"recordings": {"a": {"b": [[1, 0, 0, 1, 1], [0, 0, 0, 1, 1]]}}}',
    '{"recordings": {"a": {"b": [[NaN, 0, 0, 1, 1]]}}}',
    '{"recordings": {"a": {"b": [["x", 0, 0, 1, 1]]}}}'])
def test_a_file_that_holds_no_boxes_is_named(content: str, tmp_path: Path) -> None:
    path = tmp_path / 'boxes.json'
    path.write_text(content)
    with pytest.raises(TrafficError, match=r'boxes\.json does not hold boxes') as caught:
        read_tracks(path)
    assert '\n' not in str(caught.value)


def test_the_share_is_that_of_the_area(ways: dict[str, Salient], tmp_path: Path) -> None:
    bag = drive(tmp_path / 'bag', 24)
    # Whole tokens, so that each counts the same: all of the picture.
    values = measure(bag, found_in(bag, (0.0, 0.0, 1.0, 1.0)), ways, GRID, (1.0, 0.5)).values
    assert values['windows'] >= 8
    assert values['users']['all'] == values['frames']
    assert values['kept'].keys() == {'shipped', 'shipped: place', 'ellipse', 'teacher', *RIVALS}
    for way, kept in values['kept'].items():
        assert kept['1']['all'] == 1.0, way
    # Exactly half of all tokens are kept, and less of the older frames, which have no share of
    # their own; as many of every frame are half of each.
    assert values['kept']['shipped']['0.5']['all'] < 0.5
    assert values['level']['shipped']['0.5']['all'] == pytest.approx(0.5, abs=1e-4)
    assert values['kept']['random']['0.5']['all'] == pytest.approx(0.5, abs=1e-4)
    # EVS keeps the first frame whole, and of the next three what it has left for four.
    assert values['kept']['evs']['0.5']['all'] > 0.5
    # Where all is road user, nothing is more salient than the rest.
    assert not values['auc']['shipped']


def test_what_is_kept_is_where_the_saliency_is(
        few_ways: dict[str, Salient], tmp_path: Path) -> None:
    bag = drive(tmp_path / 'bag', 24)
    ahead, corner = (0.43, 0.5, 0.57, 0.75), (0.0, 0.8, 0.1, 1.0)
    values = measure(
        bag, found_in(bag, ahead, corner, name='person'), few_ways, GRID, (0.3,)).values
    both = values['level']['ellipse']['0.3']
    assert both['all'] == both['person'] == both['over 15 %'] == pytest.approx(0.5, abs=0.01)
    assert 'car' not in both
    assert values['users']['person'] == values['users']['all'] == 2 * values['frames']
    alone = measure(bag, found_in(bag, ahead), few_ways, GRID, (0.3,)).values
    assert alone['level']['ellipse']['0.3']['all'] == 1.0
    assert alone['auc']['ellipse']['all'] > 0.95
    assert measure(bag, found_in(bag, corner), few_ways, GRID, (0.3,)).values[
        'level']['ellipse']['0.3']['all'] == 0.0
    # The teacher looks where its boxes are.
    assert values['level']['teacher']['0.3']['all'] == 1.0


def test_a_user_of_whom_the_teacher_is_not_sure_does_not_count(
        few_ways: dict[str, Salient], tmp_path: Path) -> None:
    bag = drive(tmp_path / 'bag', 24)
    found = found_in(bag, (0.43, 0.5, 0.57, 0.75))
    for users in found.values():
        users.append(RoadUser('car', 0.1, (0.0, 0.0, 0.2, 0.2)))
    values = measure(bag, found, few_ways, GRID, (0.3,)).values
    assert values['users']['all'] == values['frames']


def test_what_a_network_knows_of_the_place_is_measured_alone(
        ways: dict[str, Salient], tmp_path: Path) -> None:
    assert list(ways) == ['shipped', 'shipped: place', 'ellipse', 'teacher']
    rgb, place = picture(3), ways['shipped: place']
    seen = place.propose(rgb, [])
    assert seen.saliency.shape == ways['shipped'].propose(rgb, []).saliency.shape
    # The place is an ellipse around the horizon, and nothing looks new in it.
    rows, columns = seen.saliency.shape
    wanted = ellipse((rows, columns))
    assert np.corrcoef(seen.saliency.ravel(), wanted.ravel())[0, 1] > 0.6
    assert (seen.embedding == 1.0).all()
    # A network of another shape knows no place apart.
    other = tmp_path / 'other'
    other.mkdir()
    for graph in ('frame', 'window'):
        (other / f'{graph}.onnx').write_bytes((SHIPPED / 'window.onnx').read_bytes())
    assert list(saliencies({'other': other}, GRID, has_teacher=False)) == ['other', 'ellipse']


def test_broken_pictures_cost_their_windows_and_several_cameras_are_refused(
        few_ways: dict[str, Salient], tmp_path: Path) -> None:
    whole = (0.0, 0.0, 1.0, 1.0)
    sound, broken = drive(tmp_path / 'sound', 24), drive(tmp_path / 'broken', 24, broken=0)
    windows = [measure(bag, found_in(bag, whole), few_ways, GRID, (0.5,)).values['windows']
               for bag in (sound, broken)]
    assert windows[1] == windows[0] - 1
    both = write(tmp_path / 'both', [
        (f'/{name}/image_raw/compressed', COMPRESSED_IMAGE, stamp,
         compressed(stamp, jpeg(picture(number)), name))
        for number, stamp in enumerate(times(24)) for name in ('left', 'right')])
    with pytest.raises(TrafficError, match='several cameras'):
        found_in(both, whole)


def test_recordings_without_road_users_are_left_out(few_ways: dict[str, Salient], tmp_path: Path
                                                    ) -> None:
    bags = [drive(tmp_path / name, 24) for name in ('empty', 'full')]
    found = {bags[0]: Found(), bags[1]: found_in(bags[1], (0.2, 0.2, 0.6, 0.6))}
    told: list[float] = []
    measured, empty = measure_all(bags, found.__getitem__, few_ways, GRID, (0.5,),
                                  lambda share, what: told.append(share))
    assert [recording.values['name'] for recording in measured] == ['full']
    assert empty == ['empty']
    assert told == sorted(told)
    with pytest.raises(TrafficError, match='no road users in any full window of empty'):
        measure_all(bags[:1], found.__getitem__, few_ways, GRID, (0.5,))


def test_the_area_under_the_curve_is_that_of_all_pairs() -> None:
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 5, 40) / 4.0
    positive = rng.random(40)
    negative = 1.0 - positive
    pairs = (scores[:, None] > scores) + 0.5 * (scores[:, None] == scores)
    wanted = (pairs * np.outer(positive, negative)).sum() / (positive.sum() * negative.sum())
    assert area_under_curve(scores, positive, negative) == pytest.approx(wanted, abs=1e-4)
    assert area_under_curve(scores, np.zeros(40), negative) is None


@pytest.mark.parametrize(('floor', 'ceiling', 'light'), [
    (60, 230, 'day'), (10, 130, 'dusk'), (0, 60, 'night'), (130, 170, 'low contrast')])
def test_the_light_is_measured_from_the_pictures(
        floor: int, ceiling: int, light: str, few_ways: dict[str, Salient], tmp_path: Path
        ) -> None:
    ramp = np.linspace(floor, ceiling, 160).astype(np.uint8)
    for number in range(20):
        cv2.imwrite(str(tmp_path / f'{number:02d}.png'), np.broadcast_to(
            ramp[:, None], (96, 160, 3)))
    found = found_in(tmp_path, (0.2, 0.2, 0.6, 0.6))
    values = measure(tmp_path, found, few_ways, GRID, (0.5,)).values
    assert values['light'] == light
    assert values['brightness'] == pytest.approx((floor + ceiling) / 2, abs=2.0)
    assert values['contrast'] == pytest.approx(0.9 * (ceiling - floor), abs=4.0)
    assert light_of(values['brightness'], values['contrast']) == light


def recording(name: str, light: str, network: Mapping[str, float], rival: float
              ) -> dict[str, Any]:
    """Return what was found in a recording: by group for the network, the same for the ellipse."""
    def shares(value: Mapping[str, float]) -> dict[str, Any]:
        return {'0.4': dict(value)}

    others = dict.fromkeys(network, rival)
    kept = {'mine': shares(network), 'ellipse': shares(others),
            **{way: shares(dict.fromkeys(network, 0.1)) for way in RIVALS}}
    return {'name': name, 'light': light, 'windows': 4, 'frames': 20, 'brightness': 100.0,
            'contrast': 150.0, 'users': {group: int(group in network) for group in GROUPS},
            'kept': kept, 'level': kept, 'auc': {'mine': network, 'ellipse': others}}


def test_it_is_told_where_a_baseline_is_ahead() -> None:
    recordings = [recording(f'day {number}', 'day', {'all': 0.9 + 0.01 * number, 'car': 0.95},
                            0.8) for number in range(6)]
    recordings += [recording(f'night {number}', 'night', {'all': 0.7, 'person': 0.2}, 0.75)
                   for number in range(3)]
    recordings[-1]['kept']['mine']['0.4']['person'] = 0.9
    result = summarize(recordings, ['mine'])
    whole = result['groups']['all']
    assert (whole['n'], result['groups']['night']['n'], result['groups']['car']['n']) == (9, 3, 6)
    mean, low, high = whole['kept']['mine']['0.4']
    assert mean == pytest.approx((6 * 0.925 + 3 * 0.7) / 9, abs=1e-4)
    # Intervals over nine recordings, of which three are much worse.
    assert 0.75 < low < 0.82 < 0.88 < high < 0.93
    assert whole['auc']['ellipse'][0] == pytest.approx((6 * 0.8 + 3 * 0.75) / 9, abs=1e-4)
    assert 'dusk' not in result['groups']
    assert [(lead['group'], lead['sure']) for lead in result['ahead']
            if lead['part'] == 'kept'] == [('night', True), ('person', False)]
    sentences = list(leads_in_words(result))
    assert sentences[0] == (
        'As the window step keeps, `ellipse` is ahead of `mine`: recordings of night at 40% (0.75 '
        'against 0.70, surely); person at 40% (0.75 against 0.43).')
    assert sentences[1] == 'As the window step keeps, `random` is ahead of `mine`: nowhere.'


def test_the_picture_shows_what_is_kept(few_ways: dict[str, Salient], tmp_path: Path) -> None:
    bag = drive(tmp_path / 'bag', 24)
    shown = measure(bag, found_in(bag, (0.25, 0.25, 0.75, 0.75)), few_ways, GRID, (0.4,)).shown
    drawn = draw_kept(shown, few_ways['shipped'], 'shipped', GRID)
    # 60 % of the area of five frames are grey, and of the rest what is so by itself.
    coloured = np.ptp(drawn.astype(int), axis=2) > 8
    assert 0.1 < coloured.mean() < 0.42
    # The upper edge of the box, in the oldest frame.
    assert (drawn[34, 70:170] == (255, 210, 60)).all()


def run(*arguments: object) -> Result:
    """Run the command ``vts`` in this process."""
    return CliRunner().invoke(app, list(map(str, arguments)), env={'COLUMNS': '200'})


def last_line(done: Result) -> dict[str, Any]:
    """Return the JSON object of a run that went well."""
    assert done.exit_code == 0, (done.output, done.exception)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def test_the_command_says_what_it_needs(tmp_path: Path) -> None:
    bag = drive(tmp_path / 'unknown', 6)
    for wrong in (['--bag', bag], ['--teacher', BOXES],
                  ['--bag', bag, '--boxes', BOXES, '--teacher', BOXES]):
        done = run('eval', 'proposal', *wrong)
        assert done.exit_code == 2
        assert '--bag needs --boxes or --teacher' in done.output
    unknown = run('eval', 'proposal', '--bag', bag, '--boxes', BOXES)
    assert str(unknown.exception).endswith('knows no unknown')
    twice = run('eval', 'proposal', '--bag', bag, '--bag', bag, '--boxes', BOXES)
    assert str(twice.exception) == 'two recordings are called unknown: rename one'


def pixels(path: Path) -> NDArray[Any]:
    """Return a picture file as it is there."""
    found = cv2.imread(str(path))
    assert found is not None
    return found


def test_a_teacher_judges_networks_side_by_side(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    bags = [drive(tmp_path / f'drive{number}', 20 + 4 * number) for number in range(2)]
    detector = yolox(tmp_path / 'detector.onnx', (96, 160))
    done = run('eval', 'proposal', '--bag', bags[0], '--bag', bags[1], '--teacher', detector,
               '--network', f'same={SHIPPED}', '--budgets', '0.4,0.2', '--grid', '6x10',
               '--report', tmp_path, '--json')
    result = last_line(done)
    kept = result['groups']['all']['kept']
    assert kept['same'] == kept['shipped']
    assert set(kept['shipped']) == {'0.4', '0.2'}
    # Chance, and what the judge sees itself.
    assert kept['random']['0.4'][0] == pytest.approx(0.4, abs=0.05)
    assert kept['teacher']['0.4'][0] > 0.9
    page = (tmp_path / PAGE).read_text()
    assert '`ellipse` is ahead of `same`:' in page
    assert 'boxes of the detector `detector.onnx` of a confidence of 0.4 or more' in page
    assert 'what the teacher finds, to be looked at: out/boxes/teacher.jpg' in done.output
    assert pixels(tmp_path / 'out' / 'boxes' / 'teacher.jpg').shape[1] == 960
    assert pixels(tmp_path / PICTURE).shape == (272, 1200, 3)


@pytest.mark.slow
def test_what_is_kept_of_recordings_follows_the_traffic(tmp_path: Path) -> None:
    bags = {bag.name: bag for bag in real_bags()}
    # The test below has the other one.
    known = [name for name in sorted(bags.keys() & read_tracks(BOXES).keys())
             if 'following' not in name]
    if not known:
        pytest.skip('no recording with boxes here')
    arguments = [part for name in known for part in ('--bag', bags[name])]
    result = last_line(run('eval', 'proposal', *arguments, '--boxes', BOXES, '--budgets',
                           '0.4,0.2', '--report', tmp_path, '--json'))
    assert sorted(result['recordings']) == known
    for name, found in result['recordings'].items():
        assert found['windows'] >= 5, name
        assert found['users']['all'] >= 10, name
        for budget, shares in found['level']['shipped'].items():
            # Chance keeps the budget.
            assert shares['all'] > 1.3 * float(budget), (name, budget, shares)
        assert f'| `{name}` | day | {found["windows"]} |' in (tmp_path / PAGE).read_text()
    assert json.loads((tmp_path / DATA).read_text())['result'] == result
    assert pixels(tmp_path / PICTURE).shape == (136 * len(known), 1200, 3)


@pytest.mark.slow
def test_a_real_detector_agrees_with_a_person_about_what_is_kept(
        few_ways: dict[str, Salient], tmp_path: Path) -> None:
    teacher, tracks = Teacher(real_detector()), read_tracks(BOXES)
    # The shortest that has boxes: all of them take a minute.
    known = [bag for bag in real_bags() if bag.name in tracks and 'following' in bag.name]
    if not known:
        pytest.skip('no recording with boxes here')
    for bag in known[:1]:
        by_hand = measure(bag, drawn_users(bag, tracks[bag.name]), few_ways, GRID, (0.4,))
        by_teacher = measure(bag, teacher.boxes_of(bag, tmp_path), few_ways, GRID, (0.4,))
        for way in ('shipped', 'ellipse', 'random'):
            shares = [measured.values['level'][way]['0.4']['all']
                      for measured in (by_hand, by_teacher)]
            assert shares[0] == pytest.approx(shares[1], abs=0.1), (bag.name, way)


@pytest.mark.slow
def test_the_network_learns_from_a_teacher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch
                                           ) -> None:
    # What is rendered beside real roads, in place of thousands of pictures.
    monkeypatch.setattr(labelled_pictures, '_SHARD', 4)
    monkeypatch.setattr(Recipe, '__init__', partialmethod(
        Recipe.__init__, rendered=4, over=4, batch=2))
    bags = [drive(tmp_path / f'drive{number}', 16 + 4 * number) for number in range(3)]
    detector = yolox(tmp_path / 'detector.onnx', (96, 160))
    arguments = [part for bag in bags for part in ('--bag', bag)]
    work = tmp_path / 'out' / 'train'
    done = run('train', 'proposal', *arguments, '--teacher', detector, '--steps', '2', '--work',
               work)
    assert done.exit_code == 0, (done.output, done.exception)
    assert f'VTS_MODELS_DIR={work / "models"}' in done.output
    assert str(work.parent / 'boxes' / 'teacher.jpg') in done.output
    trained = work / 'models' / 'proposal'
    report = json.loads((trained / 'holdout.json').read_text())
    assert report['settings']['bags'] == ['drive0', 'drive1']
    assert report['train'] == 36
    assert list(report['result']['recordings']) == ['drive2']
    # It goes on from the shipped network: two steps change it, and not by much.
    curve = report['result']['groups']['all']['auc']
    assert curve['trained'][0] == pytest.approx(curve['shipped'][0], abs=0.2)
    rgb = picture(3)
    before, after = (Sparsifier.load(folder).propose(rgb) for folder in (SHIPPED, trained))
    assert 0.0 < np.abs(before.saliency - after.saliency).mean() < 0.3
    assert about_network(trained).startswith(
        'road users that the detector `detector.onnx` finds in 36 frames of `drive0`, `drive1`')
    done = run('train', 'proposal', '--teacher', detector)
    assert '--teacher needs --bag' in done.output


def test_the_end_of_a_single_recording_is_held_out(tmp_path: Path) -> None:
    bag = drive(tmp_path / 'bag', 51)
    found = found_in(bag, (0.2, 0.2, 0.6, 0.6))
    train, held_out = split({bag: found})
    stamps = sorted(stamp for _, stamp in found)
    seconds = [sorted((stamp - stamps[0]) * 1e-9 for _, stamp in part[bag])
               for part in (train, held_out)]
    assert seconds[0][-1] == pytest.approx(5.8)
    assert (seconds[1][0], seconds[1][-1]) == pytest.approx((8.0, 10.0))
    both = {bag: found, tmp_path / 'other': found}
    assert [list(part) for part in split(both)] == [[bag], [tmp_path / 'other']]


def test_sure_road_users_are_learned_from(tmp_path: Path) -> None:
    bag = drive(tmp_path / 'bag', 8, broken=2)
    found = {key: [RoadUser('heavy vehicle', 0.9, (0.1, 0.4, 0.3, 0.6)),
                   RoadUser('person', 0.2, (0.5, 0.5, 0.6, 0.7))]
             for key in found_in(bag, (0.0, 0.0, 1.0, 1.0)) if key[1] != times(8)[2]}
    roads = road_pictures({bag: found}, 100)
    assert len(roads) == 7
    thing, = roads.draw(np.random.default_rng(0)).things
    assert labelled_pictures.KINDS[thing.kind] == 'heavy vehicle'
    assert thing.box == (0.1, 0.4, 0.3, 0.6)
    assert len(road_pictures({bag: found}, 3)) == 3
    # Of every kind that a teacher knows it can be told how important it is.
    assert set(KINDS) < set(labelled_pictures.KINDS)
    with pytest.raises(TeachingError, match='no road users'):
        road_pictures({bag: {key: users[1:] for key, users in found.items()}}, 100)
