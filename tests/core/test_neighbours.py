import torch
from hypothesis import given
from hypothesis import strategies as st

from interp_refiner.core import neighbours

masks = st.integers(1, 16).flatmap(
    lambda t: st.lists(st.lists(st.booleans(), min_size=t, max_size=t).filter(any), min_size=1, max_size=4)
)


@given(masks)
def test_neighbours_are_those_of_the_slow_loop(rows):
    near = neighbours(torch.tensor(rows))
    for b, row in enumerate(rows):
        known = [frame for frame, is_known in enumerate(row) if is_known]
        for t in range(len(row)):
            left = max((k for k in known if k <= t), default=None)
            right = min((k for k in known if k >= t), default=None)
            one_sided = left is None or right is None
            left, right = (right if left is None else left), (left if right is None else right)
            assert (near.left[b, t], near.right[b, t]) == (left, right)
            assert near.one_sided[b, t] == one_sided
            assert near.distance_left[b, t] == abs(t - left)
            assert near.distance_right[b, t] == abs(right - t)
            assert near.distance[b, t] == min(abs(t - k) for k in known)
            assert near.gap[b, t] == right - left
            alpha = (t - left) / (right - left) if right > left else 0.0
            torch.testing.assert_close(near.alpha[b, t], torch.tensor(alpha))


def test_known_values():
    near = neighbours(torch.tensor([[False, True, False, False, False, True, False]]))
    assert near.left.tolist() == [[1, 1, 1, 1, 1, 5, 5]]
    assert near.right.tolist() == [[1, 1, 5, 5, 5, 5, 5]]
    assert near.one_sided.tolist() == [[True, False, False, False, False, False, True]]
    assert near.alpha.tolist() == [[0, 0, 0.25, 0.5, 0.75, 0, 0]]
    assert near.distance.tolist() == [[1, 0, 1, 2, 1, 0, 1]]
