from dataclasses import dataclass

import torch
from torch import Tensor

from alpot.exploration.rows import Rows


@dataclass(frozen=True)
class Record:
    scalars: Tensor
    vectors: Tensor


def records(first: int, n: int) -> Record:
    numbers = torch.arange(first, first + n)
    return Record(numbers, numbers[:, None].double().expand(n, 3))


def test_rows_come_and_go_in_the_same_memory():
    rows = Rows(records(0, 0))
    rows.append(records(0, 5))
    rows.append(records(5, 4))  # the buffers double: room for ten
    place = rows.used.vectors.data_ptr()
    rows.keep(torch.tensor([1, 2, 7, 8]))
    rows.append(records(20, 6))
    assert rows.used.scalars.tolist() == [1, 2, 7, 8, *range(20, 26)]
    assert len(rows) == 10 and rows.used.vectors.data_ptr() == place
    torch.testing.assert_close(rows.used.vectors[:, 2], rows.used.scalars.double())
    rows.append(records(30, 1))
    assert rows.used.vectors.data_ptr() != place
    assert rows.used.scalars.tolist() == [1, 2, 7, 8, *range(20, 26), 30]


def test_the_rows_in_use_are_the_buffers_themselves():
    rows = Rows(records(0, 0))
    rows.append(records(0, 3))
    rows.used.scalars.mul_(10)
    rows.keep(torch.tensor([2]))
    assert rows.used.scalars.tolist() == [20]
    rows.keep(torch.tensor([], dtype=torch.int64))
    assert len(rows.used.vectors) == 0
