"""Money and tokens by hand, and limits that hold with requests on their way."""

import pytest

from crossward.core.spending import Budget, Spending


def test_cost_by_hand():
    spending = Spending(budget=Budget(prompt_price=2.0, completion_price=8.0))
    spending.add(1_000_000, 500_000)
    spending.add(500_000, 0)
    assert (spending.cost, spending.n_answers) == (7.0, 2)


def test_a_limit_counts_what_is_on_its_way():
    spending = Spending(budget=Budget(max_tokens=100))
    assert spending.reserve(60)
    assert not spending.reserve(50)
    spending.release(60)
    spending.add(50, 5)  # it took less than was thought
    assert spending.reserve(45)
    assert not spending.reserve(1)


def test_a_limit_in_money():
    spending = Spending(budget=Budget(prompt_price=10.0, max_cost=0.001))  # 100 tokens
    assert spending.reserve(100)
    assert not spending.reserve(1)
    with pytest.raises(ValueError, match="a limit in money needs prices"):
        Budget(max_cost=1.0)
