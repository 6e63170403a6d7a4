# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Every way to choose tokens keeps exactly what it was asked for, and by its own formula."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import given, strategies
import numpy as np
from numpy.typing import NDArray
import pytest

from vts_ros.lab.rivals.baselines import downsample, newest, random
from vts_ros.lab.rivals.published import dart, dtd, dycoke, evs, evs_newest, vidcom2
from vts_ros.lab.rivals.ranking import apportion, cosine, evenly, ranked, spread
from vts_ros.lab.rivals.registry import BASELINES, Method, METHOD_NAMES, methods, RANDOM_SEEDS
from vts_ros.sparsify import Proposal, Sparsifier, token_budget, WindowFeatures
from vts_ros.sparsify.proposal_network import MAP_SIZE

Tokens = NDArray[np.float32]
#: Methods that look at the visual tokens and not at where they are in the picture.
BLIND_TO_PLACE = ('evs', 'evs-newest', 'dycoke', 'dtd', 'vidcom2', 'dart')


@pytest.fixture(scope='module')
def sparsifier() -> Sparsifier:
    return Sparsifier()


@pytest.fixture(scope='module')
def known(sparsifier: Sparsifier) -> dict[str, Method]:
    return {method.name: method for method in methods(sparsifier)}


def evidence(tokens: Tokens, grid: tuple[int, int] | None = None, seed: int = 0,
             object_area: Iterable[float] | None = None) -> WindowFeatures:
    """Return a window with these tokens, and pictures and proposals at random."""
    rng = np.random.default_rng(seed)
    frames = len(tokens)
    embedding = rng.normal(size=(frames, 48, *MAP_SIZE)).astype(np.float32)
    embedding /= np.linalg.norm(embedding, axis=1, keepdims=True)
    area = np.linspace(0, 0.1, frames) if object_area is None else np.array([*object_area])
    return WindowFeatures(
        frames=rng.integers(0, 256, (frames, 16, 28, 3), np.uint8),
        proposals=tuple(Proposal(rng.random(MAP_SIZE, np.float32), embedding[frame])
                        for frame in range(frames)),
        tokens=np.asarray(tokens, np.float32), grid=grid or (1, tokens.shape[1]),
        object_area=area.astype(np.float32))


def random_tokens(frames: int, tokens: int, width: int = 8, seed: int = 0) -> Tokens:
    """Return tokens that resemble those of the frame before, as those of a camera do."""
    rng = np.random.default_rng(seed)
    still = rng.normal(size=(1, tokens, width))
    return (still + 0.5 * rng.normal(size=(frames, tokens, width))).astype(np.float32)


def still(frames: int, tokens: int, width: int = 8) -> Tokens:
    """Return a video in which nothing moves."""
    return np.repeat(random_tokens(1, tokens, width), frames, axis=0)


def painted(frames: int, tokens: int, changes: dict[tuple[int, int], int]) -> Tokens:
    """Return tokens that all point to axis 0, but for (frame, token): axis."""
    video = np.zeros((frames, tokens, 6), np.float32)
    video[..., 0] = 1.0
    for place, axis in changes.items():
        video[place] = np.eye(6)[axis]
    return video


def feasible(name: str, budget: int, frames: int, tokens: int) -> bool:
    """Return whether the docstring of the method says that it can keep so few."""
    if name == 'dycoke':
        return budget >= -(-frames // 4) * tokens
    return name not in ('evs', 'evs-newest', 'dtd') or budget >= tokens


# What all have in common

@given(frames=strategies.integers(1, 9), rows=strategies.integers(1, 9),
       columns=strategies.integers(1, 14), ratio=strategies.floats(0.001, 1.0),
       kind=strategies.sampled_from(('random', 'still', 'zero')),
       seed=strategies.integers(0, 1000))
def test_exactly_the_budget(known: dict[str, Method], frames: int, rows: int, columns: int,
                            ratio: float, kind: str, seed: int) -> None:
    tokens = rows * columns
    video = {'random': random_tokens(frames, tokens, seed=seed), 'still': still(frames, tokens),
             'zero': np.zeros((frames, tokens, 4), np.float32)}[kind]
    window = evidence(video, (rows, columns), seed)
    budget = token_budget(frames, (rows, columns), ratio)
    for name, method in known.items():
        for choice in range(len(method.choices)):
            keep = method.keep(window, budget, choice)
            assert (keep is not None) == feasible(name, budget, frames, tokens), name
            if keep is not None:
                assert keep.dtype == np.int32, name
                assert len(keep) == budget, name
                assert (np.diff(keep) > 0).all(), name
                assert keep[0] >= 0, name
                assert keep[-1] < frames * tokens, name


@pytest.mark.parametrize('ratio', [0.8, 0.6, 0.4, 0.2, 0.1])
@pytest.mark.parametrize('grid', [(8, 14), (4, 7)])
def test_windows_of_the_embedded_model(known: dict[str, Method], grid: tuple[int, int],
                                       ratio: float) -> None:
    tokens = grid[0] * grid[1]
    window = evidence(random_tokens(5, tokens), grid)
    cannot = {name for name, method in known.items()
              if method.keep(window, token_budget(5, grid, ratio)) is None}
    assert cannot == {0.2: {'dycoke'}, 0.1: {'evs', 'evs-newest', 'dtd', 'dycoke'}}.get(
        ratio, set())


def test_the_choice_depends_on_the_window_alone(known: dict[str, Method]) -> None:
    first, second = (evidence(random_tokens(5, 28, seed=seed), (4, 7), seed) for seed in (1, 2))
    for method in known.values():
        before = method.keep(first, 84)
        method.keep(second, 84)
        again = method.keep(first, 84)
        assert before is not None
        assert again is not None
        assert before.tolist() == again.tolist(), method.name


@pytest.mark.parametrize('name', BLIND_TO_PLACE)
def test_places_may_be_permuted(known: dict[str, Method], name: str) -> None:
    video = random_tokens(6, 20, seed=3)
    order = np.random.default_rng(4).permutation(20)
    plain = known[name].keep(evidence(video), 70)
    moved = known[name].keep(evidence(video[:, order]), 70)
    assert plain is not None
    assert moved is not None
    frame, place = np.divmod(moved, 20)
    assert sorted(frame * 20 + order[place]) == plain.tolist()


@pytest.mark.parametrize('name', BLIND_TO_PLACE)
def test_the_unit_of_the_features_does_not_matter(known: dict[str, Method], name: str) -> None:
    video = random_tokens(6, 20, seed=5)
    plain, scaled = (known[name].keep(evidence(video * scale), 70) for scale in (1.0, 0.125))
    assert plain is not None
    assert scaled is not None
    assert plain.tolist() == scaled.tolist()


@pytest.mark.parametrize('name', ['evs', 'evs-newest', 'dycoke', 'dtd'])
def test_a_brighter_token_is_no_other_token(known: dict[str, Method], name: str) -> None:
    video = random_tokens(6, 20, seed=6)
    scale = 2.0 ** np.random.default_rng(7).integers(-3, 4, (6, 20, 1))
    plain, scaled = (known[name].keep(evidence(features), 70)
                     for features in (video, video * scale))
    assert plain is not None
    assert scaled is not None
    assert plain.tolist() == scaled.tolist()


def test_names_are_unique_and_known(sparsifier: Sparsifier) -> None:
    assert len(set(METHOD_NAMES)) == len(METHOD_NAMES)
    assert {'random', 'downsample', 'newest', 'evs', 'evs-newest', 'dycoke', 'dtd', 'vidcom2',
            'dart', 'vts'} <= set(METHOD_NAMES)
    assert [method.name for method in methods(sparsifier)] == list(METHOD_NAMES)
    assert [method.name for method in methods(sparsifier, ('vts', 'evs', 'vts'))] == [
        'vts', 'evs']
    with pytest.raises(ValueError, match="method 'best' is none of random, "):
        methods(sparsifier, ['best'])


@pytest.mark.parametrize('budget', [0, 13])
def test_impossible_budgets_are_refused(budget: int) -> None:
    with pytest.raises(ValueError, match='not within 1 to 12'):
        BASELINES[0].keep(evidence(random_tokens(3, 4)), budget)


def test_a_broken_promise_is_noticed() -> None:
    greedy = Method('greedy', 'baseline', '', '',
                    (lambda window, budget: np.arange(12, dtype=np.int32),))
    with pytest.raises(ValueError, match='greedy keeps 12 tokens instead of 5'):
        greedy.keep(evidence(random_tokens(3, 4)), 5)


# Controls

def test_random_takes_equally_many_of_every_frame() -> None:
    window = evidence(random_tokens(5, 28), (4, 7))
    counts = np.bincount(random(window, 87) // 28, minlength=5)
    assert set(counts) == {17, 18}


def test_random_differs_by_seed_and_by_window(known: dict[str, Method]) -> None:
    first, second = (evidence(random_tokens(5, 28), (4, 7), seed) for seed in (1, 2))
    kept = {tuple(random(window, 70, seed).tolist())
            for window in (first, second) for seed in range(RANDOM_SEEDS)}
    assert len(kept) == 2 * RANDOM_SEEDS
    assert len(known['random'].choices) == RANDOM_SEEDS == 5


def test_random_has_no_favourite_place() -> None:
    counts = np.zeros(28)
    for seed in range(400):
        counts += np.bincount(random(evidence(still(5, 28), (4, 7), 0), 70, seed) % 28,
                              minlength=28)
    assert counts.sum() == 400 * 70
    np.testing.assert_allclose(counts, 1000, atol=130)


def test_downsample_is_a_coarser_grid() -> None:
    keep = downsample(evidence(random_tokens(2, 112), (8, 14)), 2 * 28)
    row, column = np.divmod(keep[:28], 14)
    assert set(row) == {1, 3, 5, 7}
    assert set(column) == {1, 3, 5, 7, 9, 11, 13}
    assert keep[28:].tolist() == (keep[:28] + 112).tolist()


def test_downsample_gives_the_remainder_to_the_newest() -> None:
    keep = downsample(evidence(random_tokens(5, 28), (4, 7)), 73)
    assert np.bincount(keep // 28).tolist() == [14, 14, 15, 15, 15]
    assert np.bincount(downsample(evidence(random_tokens(5, 28), (4, 7)), 2) // 28,
                       minlength=5).tolist() == [0, 0, 0, 1, 1]


@pytest.mark.parametrize('grid', [(8, 14), (4, 7), (1, 30), (9, 1), (20, 3)])
def test_spread_leaves_no_large_gaps(grid: tuple[int, int]) -> None:
    tokens = grid[0] * grid[1]
    place = np.stack(np.divmod(np.arange(tokens), grid[1]), axis=1)
    for count in range(1, tokens + 1):
        chosen = spread(grid, count)
        assert len(set(chosen.tolist())) == count
        gaps = np.sqrt(((place[:, None] - place[chosen]) ** 2).sum(axis=2).min(axis=1))
        # Half the diagonal of the cells of a perfect coarse grid, and a token for rounding.
        thin = max(tokens / count / min(grid), np.sqrt(tokens / count))
        assert gaps.max() <= 0.75 * thin + 1.0, count


def test_newest_keeps_whole_frames() -> None:
    window = evidence(random_tokens(5, 28), (4, 7))
    assert newest(window, 56).tolist() == list(range(84, 140))
    keep = newest(window, 70)
    assert keep[14:].tolist() == list(range(84, 140))
    assert keep[:14].tolist() == sorted(56 + spread((4, 7), 14))
    assert newest(window, 7).tolist() == sorted(112 + spread((4, 7), 7))
    assert newest(window, 140).tolist() == list(range(140))


# Published methods

def test_a_still_video_is_its_anchor_for_evs() -> None:
    window = evidence(still(4, 6))
    first, last = evs(window, 6), evs_newest(window, 6)
    assert first is not None
    assert last is not None
    assert first.tolist() == list(range(6))
    assert last.tolist() == list(range(18, 24))


def test_equal_changes_are_taken_in_their_order() -> None:
    window = evidence(still(4, 6))
    first, last = evs(window, 9), evs_newest(window, 9)
    assert first is not None
    assert last is not None
    assert first.tolist() == list(range(9))
    # Time is reversed, so those of the frame next to the anchor come first.
    assert last.tolist() == [12, 13, 14, *range(18, 24)]


def test_evs_ranks_changes_against_the_frame_before() -> None:
    video = painted(3, 4, {(1, 2): 1, (2, 2): 1})
    video[2, 0] = (-1.0, 0, 0, 0, 0, 0)  # the opposite of before, more than a right angle
    for budget, expected in ((5, [8]), (6, [6, 8])):
        keep = evs(evidence(video), budget)
        assert keep is not None
        assert keep.tolist() == [0, 1, 2, 3, *expected]


def test_evs_newest_ranks_changes_against_the_frame_after() -> None:
    video = painted(3, 4, {(1, 2): 1, (2, 2): 1})
    video[2, 0] = (-1.0, 0, 0, 0, 0, 0)
    for budget, expected in ((5, [4]), (6, [2, 4])):
        keep = evs_newest(evidence(video), budget)
        assert keep is not None
        assert keep.tolist() == [*expected, 8, 9, 10, 11]


def test_dtd_shares_equally_where_evs_ranks_all() -> None:
    window = evidence(painted(3, 4, {(1, 1): 1, (1, 2): 2, (2, 1): 1, (2, 2): 2, (2, 3): 3}))
    by_dtd, by_evs = dtd(window, 6), evs(window, 6)
    assert by_dtd is not None
    assert by_evs is not None
    assert by_dtd.tolist() == [0, 1, 2, 3, 5, 11]
    assert by_evs.tolist() == [0, 1, 2, 3, 5, 6]


def test_dycoke_compares_within_groups_of_four() -> None:
    # Frame 1 differs from frame 0 in token 1; frame 2 is like frame 1; frame 3 is frame 2 but
    # for token 3. So 2 is compared with 0, and 3 with 2.
    changes = {(1, 1): 1, (2, 1): 1, (3, 1): 1, (3, 3): 2}
    keep = dycoke(evidence(painted(5, 4, changes)), 2 * 4 + 3)
    assert keep is not None
    assert keep.tolist() == [0, 1, 2, 3, 4 + 1, 8 + 1, 12 + 3, 16, 17, 18, 19]


def test_dycoke_drops_repeats_and_keeps_the_first_of_each_group() -> None:
    keep = dycoke(evidence(still(8, 5)), 10)
    assert keep is not None
    assert keep.tolist() == [0, 1, 2, 3, 4, 20, 21, 22, 23, 24]
    assert dycoke(evidence(still(8, 5)), 9) is None


def test_dart_keeps_pivots_and_what_is_unlike_them() -> None:
    frame = painted(1, 8, {(0, 2): 1, (0, 6): 2})
    frame[0, [1, 3, 4, 7]] *= np.array([[9.0], [7.0], [8.0], [6.0]], np.float32)
    frame[0, 5] = (1.0, 0.1, 0, 0, 0, 0)
    window = evidence(frame)
    assert dart(window, 2).tolist() == [1, 4]  # the largest pivots
    assert dart(window, 4).tolist() == [1, 3, 4, 7]
    assert dart(window, 6).tolist() == [1, 2, 3, 4, 6, 7]
    assert dart(window, 7).tolist() == [1, 2, 3, 4, 5, 6, 7]  # 0 repeats the pivots exactly


def test_dart_looks_for_pivots_in_each_picture() -> None:
    video = random_tokens(5, 28, seed=8)
    video[0] *= 100.0
    keep = dart(evidence(video, (4, 7)), 40)
    assert np.bincount(keep // 28).tolist() == [8] * 5
    for frame in range(5):
        norm = np.abs(video[frame]).sum(axis=1)
        assert set(28 * frame + np.argsort(-norm)[:4]) <= set(keep)


def slow_vidcom2(video: Tokens, budget: int) -> list[int]:
    """Return the keep list by the formulas, token by token."""
    frames, tokens, width = video.shape
    wide = video.astype(float)
    spread_of = [np.var([wide[t, i, c] for t in range(frames) for i in range(tokens)])
                 for c in range(width)]
    chosen = sorted(range(width), key=lambda c: spread_of[c])[:width // 2]
    vectors = {(t, i): wide[t, i, chosen] / np.linalg.norm(wide[t, i, chosen])
               for t in range(frames) for i in range(tokens)}
    centre = sum(vectors.values()) / len(vectors)

    def kernel(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
        square = float(((first - second) ** 2).sum())
        return sum(float(np.exp(-square / (2 * alpha))) for alpha in (1/8, 1/4, 1/2, 1, 2))

    video_like = {place: kernel(vector, centre) for place, vector in vectors.items()}
    frame_like = {}
    for t in range(frames):
        mean = sum(vectors[t, i] for i in range(tokens)) / tokens
        frame_like.update({(t, i): kernel(vectors[t, i], mean) for i in range(tokens)})
    unusual = [-sum(video_like[t, i] for i in range(tokens)) / tokens / 0.01
               for t in range(frames)]
    weights = [np.exp(u - max(unusual)) for u in unusual]
    weights = [weight / sum(weights) for weight in weights]
    ratio = budget / (frames * tokens)
    wanted = [ratio * (1 + weight - 1 / frames) * tokens for weight in weights]
    quota = [min(tokens, int(want)) for want in wanted]
    while sum(quota) < budget:
        best = max((t for t in range(frames) if quota[t] < tokens),
                   key=lambda t: (wanted[t] - quota[t], -t))
        quota[best] += 1
    kept = []
    for t in range(frames):
        ordered = sorted(range(tokens), key=lambda i: video_like[t, i] + frame_like[t, i])
        kept += [t * tokens + i for i in ordered[:quota[t]]]
    return sorted(kept)


@pytest.mark.parametrize('budget', [3, 17, 40, 84, 110])
def test_vidcom2_is_as_published(budget: int) -> None:
    for seed in range(4):
        video = random_tokens(4, 28, width=10, seed=seed)
        video[seed] += 0.4  # an unusual frame
        assert vidcom2(evidence(video, (4, 7)), budget).tolist() == slow_vidcom2(video, budget)


def test_vidcom2_keeps_more_of_an_unusual_frame_and_what_is_unlike_it() -> None:
    video = np.ones((4, 10, 4), np.float32)
    rng = np.random.default_rng(9)
    video[..., 2:] += rng.normal(0.0, 20.0, (4, 10, 2))  # channels that vary do not count
    video[2, [1, 4, 8], 0] = 0.2
    keep = vidcom2(evidence(video), 16)
    counts = np.bincount(keep // 10, minlength=4)
    assert counts[2] == counts.max() > counts[0]
    assert {21, 24, 28} <= set(keep)


# VTS and its ablations

@pytest.mark.parametrize(('name', 'key'), [
    ('vts-key-newest', 4), ('vts-key-oldest', 0), ('vts-key-oracle', 2)])
def test_key_frame_and_newest_have_their_quarters(known: dict[str, Method], name: str,
                                                  key: int) -> None:
    window = evidence(random_tokens(5, 28), (4, 7), object_area=(0.1, 0.2, 0.4, 0.3, 0.0))
    keep = known[name].keep(window, 60)
    assert keep is not None
    of_frames = np.bincount(keep // 28, minlength=5)
    assert of_frames[[key, 4]].min() >= 15
    few = known[name].keep(window, 9)
    assert few is not None
    of_frames = np.bincount(few // 28, minlength=5)
    assert of_frames[key] >= 3
    assert of_frames[4] >= 2
    assert of_frames[key] < 9


def test_the_oracle_takes_the_newest_of_equals_and_needs_the_truth(
        known: dict[str, Method]) -> None:
    nothing = evidence(random_tokens(5, 28), (4, 7), object_area=[0.0] * 5)
    keep, newest = (known[name].keep(nothing, 28) for name in ('vts-key-oracle', 'vts-key-newest'))
    assert keep is not None
    assert newest is not None
    assert keep.tolist() == newest.tolist()
    with pytest.raises(ValueError, match='needs the truth'):
        known['vts-key-oracle'].keep(nothing._replace(object_area=None), 28)


def test_every_frame_is_a_random_key_at_times(known: dict[str, Method]) -> None:
    keys = set()
    for seed in range(40):
        keep = known['vts-key-random'].keep(evidence(random_tokens(5, 28), (4, 7), seed), 28)
        assert keep is not None
        keys.add(int(np.bincount(keep // 28, minlength=5).argmax()))
    assert keys == {0, 1, 2, 3, 4}


@pytest.mark.parametrize(('name', 'settings_of'), [
    ('vts', {}), ('vts-score-similarity', {'alpha': 1.0}),
    ('vts-score-importance', {'alpha': 0.0}), ('vts-radius-0', {'search_radius': 0}),
    ('vts-radius-2', {'search_radius': 2}),
    ('vts-share-whole', {'key_share': 1.0, 'newest_share': 0.0}),
    ('vts-share-half', {'key_share': 0.5}),
    ('vts-share-key', {'newest_share': 0.0}), ('vts-share-newest', {'key_share': 0.0}),
    ('vts-share-none', {'key_share': 0.0, 'newest_share': 0.0})])
def test_variants_are_the_sparsifier_with_other_settings(
        known: dict[str, Method], name: str, settings_of: dict[str, float]) -> None:
    window = evidence(random_tokens(5, 112), (8, 14), seed=3)
    sparsifier = Sparsifier(**settings_of)  # type: ignore[arg-type]
    for ratio, budget in ((0.6, 336), (0.2, 112)):
        expected = sparsifier.select(window.proposals, (8, 14), ratio)
        keep = known[name].keep(window, budget)
        assert keep is not None
        assert keep.tolist() == expected.keep.tolist()


def test_a_variant_keeps_the_other_settings() -> None:
    window = evidence(random_tokens(5, 112), (8, 14), seed=4)
    changed = Sparsifier(
        alpha=0.9, search_radius=2, key_share=0.7, newest_share=0.1).variant(hysteresis=0.0)
    expected = Sparsifier(
        alpha=0.9, search_radius=2, hysteresis=0.0, key_share=0.7, newest_share=0.1)
    for previous in (None, 1):
        found, wanted = (sparsifier.select(window.proposals, (8, 14), 0.6, previous)
                         for sparsifier in (changed, expected))
        assert found.keep.tolist() == wanted.keep.tolist()


# Orders and quotas

def test_order_by_score_and_by_turns() -> None:
    score = np.array([[0.5, 0.9, 0.5], [0.7, 0.1, 0.2]])
    assert ranked(score).tolist() == [1, 3, 0, 2, 5, 4]
    assert evenly(score).tolist() == [1, 3, 0, 5, 2, 4]


def test_cosine_of_repeats_is_exactly_one() -> None:
    vectors = random_tokens(1, 500, width=37)[0]
    assert (cosine(vectors, vectors) == 1.0).all()
    assert (cosine(vectors, -vectors) == -1.0).all()
    assert cosine(np.zeros(3), np.ones(3)) == 0.0


@pytest.mark.parametrize(('wanted', 'limit', 'total', 'expected'), [
    ((1.5, 1.4, 1.1), 10, 4, [2, 1, 1]), ((9.0, 1.0, 1.0), 5, 11, [5, 3, 3]),
    ((2.0, 2.0), 2, 4, [2, 2]), ((0.4, 0.6), 3, 1, [0, 1])])
def test_shares_become_whole_numbers(wanted: tuple[float, ...], limit: int, total: int,
                                     expected: list[int]) -> None:
    assert apportion(np.array(wanted), limit, total).tolist() == expected
