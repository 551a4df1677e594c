import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alpot.config import Training
from alpot.potential.cross_validation import Role, block_of, member_roles

KEYS = st.lists(st.text("0123456789abcdef", min_size=4, max_size=8), unique=True, min_size=2, max_size=60)
BLOCKS = st.sampled_from([(16, 2, 1), (3, 1, 1), (5, 2, 0), (8, 3, 4)])


def settings_of(blocks: tuple[int, int, int]) -> Training:
    return Training(blocks=blocks[0], validation_blocks=blocks[1], test_blocks=blocks[2])


@settings(max_examples=25, deadline=None, derandomize=True)
@given(keys=KEYS, n_members=st.integers(2, 9), blocks=BLOCKS)
def test_every_member_trains_and_validates(keys, n_members, blocks):
    roles = member_roles(keys, n_members, settings_of(blocks))
    assert roles.shape == (n_members, len(keys))
    for row in roles:
        assert {Role.TRAIN, Role.VALIDATE} <= set(row.tolist()) <= set(Role)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(keys=KEYS, n_members=st.integers(2, 9), blocks=BLOCKS, seed=st.integers(0, 99))
def test_a_role_belongs_to_the_frame_and_not_to_its_place(keys, n_members, blocks, seed):
    order = np.random.default_rng(seed).permutation(len(keys))
    roles = member_roles(keys, n_members, settings_of(blocks))
    np.testing.assert_array_equal(
        member_roles([keys[i] for i in order], n_members, settings_of(blocks)), roles[:, order]
    )


def test_roles_stay_when_frames_are_added():
    """Otherwise a member that goes on from its old weights would have trained on what validates it."""
    keys = [f"frame-{i}" for i in range(600)]
    before = member_roles(keys[:200], 8, Training())
    after = member_roles(keys, 8, Training())
    np.testing.assert_array_equal(after[:, :200], before)


def test_shares_are_those_of_the_paper():
    """13 : 2 : 1 of 16 blocks; each frame validates two of the paper's 8 members... and tests at most one."""
    keys = [f"frame-{i}" for i in range(1600)]
    roles = member_roles(keys, 8, Training())
    shares = [(roles == role).mean() for role in (Role.TRAIN, Role.VALIDATE, Role.TEST)]
    # 1600 frames in 16 blocks at random: each block holds 100 ± 10, the shares of all members far less noise.
    np.testing.assert_allclose(shares, [13 / 16, 2 / 16, 1 / 16], atol=0.02)
    assert ((roles == Role.VALIDATE).sum(0) == 1).all()
    assert ((roles == Role.TEST).sum(0) <= 1).all()


def test_no_two_members_have_the_same_folds():
    roles = member_roles([f"frame-{i}" for i in range(400)], 8, Training())
    assert all((a != b).any() for a, b in itertools.combinations(roles, 2))


@pytest.mark.parametrize("n_frames", [2, 3, 4, 7])
def test_tiny_sets_use_what_there_is(n_frames):
    roles = member_roles([f"frame-{i}" for i in range(n_frames)], 4, Training())
    assert (roles != Role.TEST).all()
    assert ((roles == Role.VALIDATE).sum(1) == 1).all()
    assert len({tuple(row) for row in roles}) > 1


def test_blocks_are_even():
    counts = np.bincount([block_of(f"frame-{i}", 16) for i in range(16_000)], minlength=16)
    assert abs(counts - 1000).max() < 150  # binomial with deviation 31
