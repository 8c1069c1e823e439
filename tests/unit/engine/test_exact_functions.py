"""Replaced functions: rounded as exact arithmetic rounds, and differentiable."""

import subprocess
import sys
from math import isqrt

import pytest

# In a process of its own, since the replacements last as long as it does.
BEGIN = """
from fractions import Fraction
from math import isqrt
import numpy as np
import torch
from fedapm_mpi.engine.exact_functions import replace_functions
replace_functions()
replace_functions()
g = torch.Generator().manual_seed(3)
"""


def check(code):
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", BEGIN + code],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr


def test_every_square_root_is_the_nearest_number():
    # In integers: of x = m 2^e with even e, sqrt(m 4^60) is known to 60 further bits.
    assert isqrt(2 * 4**60) // 2**60 == 1
    check("""
x = torch.rand(3000, generator=g, dtype=torch.float64) * 50
for value, root in zip(x.tolist(), x.sqrt().tolist()):
    f = Fraction(value) * 4**120
    exact = Fraction(isqrt(int(f)), 2**120)
    below, above = np.nextafter(root, 0), np.nextafter(root, 99)
    assert abs(exact - Fraction(root)) <= min(
        abs(exact - Fraction(below)), abs(Fraction(above) - exact)), value
""")


def test_all_forms_give_the_same():
    check("""
x = torch.rand(4, 6, generator=g)
want = np.sqrt(x.numpy())
for got in (x.sqrt(), torch.sqrt(x, out=torch.empty(0)), x.clone().sqrt_(),
            x.t().sqrt().t(), x.t().clone().sqrt_().t(), torch._foreach_sqrt([x])[0],
            torch.func.vmap(torch.sqrt)(x)):
    assert np.array_equal(got.numpy(), want)
assert torch.tensor(4.0).sqrt() == 2 and torch.tensor([9]).sqrt().dtype == torch.float32
assert torch.tensor(-1.0).sqrt().isnan()
half = torch.tensor([2.0], dtype=torch.bfloat16)
assert half.sqrt().dtype == half.dtype and half.sqrt_().item() == 1.4140625
assert torch.tensor([-1 + 0j]).sqrt().item() == 1j
try:
    torch.sqrt(x, out=torch.empty(4, 6, dtype=torch.int64))
except RuntimeError as error:
    assert "can't be cast" in str(error)
else:
    raise AssertionError("numbers were cut")
""")


def test_logarithms_at_the_border_of_their_domain():
    check("""
found = torch.tensor([0.0, -1.0, 1.0, float("inf")]).log()
assert found[0] == -torch.inf and found[1].isnan()
assert found[2] == 0 and found[3] == torch.inf
x = torch.rand(500, generator=g, dtype=torch.float64)
assert torch.allclose(x.log().exp(), x, rtol=1e-14, atol=0)
assert torch.allclose(x.log2() * np.log(2), x.log10() * np.log(10), rtol=1e-14)
""")


def test_gradients_are_those_of_the_functions():
    check("""
from fedapm_mpi.engine.exact_functions import FUNCTIONS
for name in FUNCTIONS:
    x = torch.rand(20, generator=g, dtype=torch.float64) * 0.8 + 0.1
    assert torch.autograd.gradcheck(getattr(torch, name), x.requires_grad_()), name
""")


@pytest.mark.parametrize("name", ["adam", "adadelta"])
def test_optimizers_use_them(name):
    kind = {"adam": "Adam", "adadelta": "Adadelta"}[name]
    check(f"""
from fedapm_mpi.engine import exact_functions
p = torch.nn.Parameter(torch.rand(5, generator=g, dtype=torch.float64))
before = p.detach().clone()
called = []
old = exact_functions._apply
exact_functions._apply = lambda *args: (called.append(1), old(*args))
step = torch.optim.{kind}([p])
p.square().sum().backward()
step.step()
assert called and not torch.equal(p, before)
""")
