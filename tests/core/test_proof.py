"""The proof of somebody's own rule: a mistake is named by rule and method at its first use."""

from __future__ import annotations

import collections
import contextlib
import inspect
import re
import time
import types

import numpy
import pytest

import samestep
from samestep import (
    AdamW,
    Lookahead,
    Wrapper,
    neutral,
    option,
    proof,
    route,
    shared,
    slot,
)
from samestep.conformance.rules.test_agreement import assert_agrees
from samestep.parity.backend import backends
from samestep.vocabulary import Move, choose, norm
from tests.core.own_rules import Right, mistaken, returning


def writing(statement):
    """The right rule with a statement that writes into an array."""

    def direction(self, xp, grad, param, state, s):
        exec(statement, {}, {"grad": grad, "param": param, "state": state, "s": s})
        return grad, {"m": state.m}

    return mistaken(direction=direction)


def clipped(xp, grad):
    length = norm(xp, grad)
    return xp.where(length > 100.0, grad * (100.0 / length), grad)


PAIR = r"it must return \(direction, slots\): an array shaped like the parameter, and a dict"
MISTAKES = {
    "a piece as the point": (
        mistaken(point=lambda self, param, state: state.m[:1]),
        r"^Mine\.point returned \(1, 4\) for a parameter of shape \(8, 4\)",
    ),
    "two steps in one": (
        mistaken(
            Wrapper,
            moved=lambda self, xp, grad, param, state, s: (
                Move(lambda: -grad, lambda: param - 0.5 * grad),
                {},
            ),
        ),
        r"^Mine\.moved returned a Move whose change does not lead from",
    ),
    "an infinite direction that waits": (
        mistaken(
            waits=1,
            scalars=lambda self, xp, t: {"k": choose(xp, t > 1, 1.0, numpy.inf)},
            direction=lambda self, xp, grad, param, state, s: (s.k * grad, {"m": grad}),
        ),
        r"^Mine declares waits = 1, but has a direction that is not finite in these steps",
    ),
    "a point of other elements": (
        mistaken(point=lambda self, param, state: state.m / state.m[0]),
        r"^Mine declares needs = 'element', but the step of an array .* in the shape",
    ),
    "only the direction": (
        returning(lambda xp, grad, state, s: grad),
        rf"^Mine\.direction returned an array; {PAIR}",
    ),
    "nothing": (
        returning(lambda xp, grad, state, s: None),
        rf"^Mine\.direction returned None; {PAIR}",
    ),
    "swapped": (
        returning(lambda xp, grad, state, s: ({"m": grad}, grad)),
        rf"^Mine\.direction returned \(a dict, an array\); {PAIR}",
    ),
    "no scalars": (
        returning(lambda xp, grad, state, s: (s.debias * grad, {"m": grad})),
        r"^Mine\.direction fails .*no debias here; there are lr, beta.*scalars\(\) must return it",
    ),
    "scalars of nothing": (
        mistaken(scalars=lambda self, xp, t: None),
        r"^Mine\.scalars returned None; it must return a dict of numbers",
    ),
    "NumPy's function": (
        returning(lambda xp, grad, state, s: (numpy.sign(grad), {"m": grad})),
        r"^Mine\.direction fails .*applies NumPy's sign to grad of shape \(8, 4\).*functions of xp",
    ),
    "NumPy's norm": (
        returning(lambda xp, grad, state, s: (grad / numpy.linalg.norm(grad), {"m": grad})),
        r"^Mine\.direction fails .*applies NumPy's norm to grad",
    ),
    "if on an array": (
        returning(lambda xp, grad, state, s: (grad if xp.sum(grad) > 0 else -grad, {"m": grad})),
        r"^Mine\.direction fails .*asks for the value of an array of shape \(\) .*use xp\.where",
    ),
    "if on the step": (
        mistaken(scalars=lambda self, xp, t: {"warm": 1.0 if t > 3 else 0.5}),
        r"^Mine\.scalars fails: it asks for the value of .*choose\(xp, \.\.\.\) in scalars",
    ),
    "if on a coefficient": (
        returning(lambda xp, grad, state, s: (grad if s.beta > 0.5 else -grad, {"m": grad})),
        r"^Mine\.direction fails .*asks for the value of an array of shape \(\)",
    ),
    "sums only": (
        mistaken(needs="tree", local=lambda self, xp, grad, param, state, s: {"sum": grad}),
        r"^Mine\.local returned a dict; it must return \(slots, sums\): a dict of new slots, and a",
    ),
    "sums that are no sums": (
        mistaken(needs="tree", local=lambda self, xp, grad, param, state, s: ({}, {"sum": grad})),
        r"^Mine\.local returned sum of shape \(8, 4\); it must be 0-d",
    ),
    "sums that are numbers": (
        mistaken(needs="tree", local=lambda self, xp, grad, param, state, s: ({}, {"sum": 1.0})),
        r"^Mine\.local returned sum as float; it must be a 0-d array, such as xp\.sum",
    ),
    "combines to a number": (
        mistaken(
            needs="tree",
            total=shared("a sum", start=0.0),
            local=lambda self, xp, grad, param, state, s: ({}, {"sum": xp.sum(grad)}),
            combine=lambda self, xp, sums, shared, s: {"total": 2.0},
        ),
        r"^Mine\.combine returned total as float; it must be a 0-d array",
    ),
    "combines to nothing": (
        mistaken(
            needs="tree",
            local=lambda self, xp, grad, param, state, s: ({}, {"sum": xp.sum(grad)}),
            combine=lambda self, xp, sums, shared, s: None,
        ),
        r"^Mine\.combine returned None; it must return a dict of 0-d arrays",
    ),
    "a norm of an element rule": (
        returning(lambda xp, grad, state, s: (grad / norm(xp, grad), {"m": grad})),
        r"^Mine declares needs = 'element', but .*steps of its pieces; .*declares needs = 'tensor'",
    ),
    "a limit that is seldom reached": (
        returning(lambda xp, grad, state, s: (clipped(xp, grad), {"m": grad})),
        r"^Mine declares needs = 'element', but .*steps of its pieces",
    ),
    "a look for zeros in an element rule": (
        returning(
            lambda xp, grad, state, s: (
                xp.where(xp.any(grad != 0), grad + state.m, grad),
                {"m": grad},
            )
        ),
        r"^Mine declares needs = 'element', but .*steps of its pieces",
    ),
    "a look for NaN in an element rule": (
        returning(
            lambda xp, grad, state, s: (
                xp.where(xp.all(xp.isfinite(grad)), grad, 0.0 * state.m),
                {"m": grad},
            )
        ),
        r"^Mine declares needs = 'element', but .*steps of its pieces",
    ),
    "rows without a gradient in a tensor rule": (
        mistaken(
            returning(
                lambda xp, grad, state, s: (
                    xp.where(xp.any(grad != 0, axis=-1, keepdims=True), grad + state.m, 0.0 * grad),
                    {"m": grad},
                )
            ),
            needs="tensor",
        ),
        r"^Mine declares needs = 'tensor', but .*of the same numbers in the shape",
    ),
    "sums that nothing calls": (
        mistaken(local=lambda self, xp, grad, param, state, s: ({}, {"sum": xp.sum(grad)})),
        r"^Mine declares needs = 'element', but has local, which is called for needs = 'tree' only",
    ),
    "NumPy's name of an argument": (
        returning(lambda xp, grad, state, s: (xp.clip(grad, a_min=-1.0, a_max=1.0), {"m": grad})),
        r"^Mine\.direction fails .*it gives xp\.clip a_min=, a_max=, which not all .* 3 by place;",
    ),
    "ones of the default dtype": (
        returning(lambda xp, grad, state, s: (grad + 0.1 * xp.ones(grad.shape), {"m": grad})),
        r"^Mine\.direction fails .*xp\.ones makes floating numbers of none, in float32 in torch",
    ),
    "numbers by a condition": (
        returning(lambda xp, grad, state, s: (xp.where(grad > 0, 0.1, -0.1), {"m": grad})),
        r"^Mine\.direction fails .*xp\.where makes floating numbers of none",
    ),
    "truth values times a number": (
        returning(lambda xp, grad, state, s: (grad + 0.1 * (grad > 0), {"m": grad})),
        r"^Mine\.direction fails .*rmul of an array .* computes with truth values.* use xp\.wh",
    ),
    "truth values times an array": (
        returning(lambda xp, grad, state, s: (grad * (grad > 0), {"m": grad})),
        r"^Mine\.direction fails .*mul of grad .* computes with truth values, .* use xp\.where",
    ),
    "truth values turned": (
        returning(lambda xp, grad, state, s: (grad / (1 - (grad > 0)), {"m": grad})),
        r"^Mine\.direction fails .*rsub of an array .* computes with truth values",
    ),
    "truth values in a function": (
        returning(lambda xp, grad, state, s: (xp.multiply(grad > 0, grad), {"m": grad})),
        r"^Mine\.direction fails .*xp\.multiply computes with truth values",
    ),
    "the sign of NaN": (
        returning(lambda xp, grad, state, s: (xp.sign(grad), {"m": grad})),
        r"^Mine\.direction fails .*xp\.sign, .* use samestep\.vocabulary\.sign\(xp, x\)",
    ),
    "a step size that is not called rate": (
        mistaken(scalars=lambda self, xp, t: {"lr": self.lr / t}),
        r"^Mine\.scalars returned lr, .*multiplies the direction is called rate",
    ),
    "a step size in a wrapper": (
        mistaken(Wrapper, scalars=lambda self, xp, t: {"rate": 1 / t}),
        r"^Mine\.scalars returned rate, which nothing reads: step size and decay .* of AdamW",
    ),
    "a decay in a wrapper": (
        mistaken(Wrapper, scalars=lambda self, xp, t: {"weight_decay": 1 / t, "lr": 1.0}),
        r"^Mine\.scalars returned lr, weight_decay, which nothing reads",
    ),
    "an axis by place": (
        returning(lambda xp, grad, state, s: (grad / xp.sum(grad, 1), {"m": grad})),
        r"fails .*gives xp\.sum 2 arguments by place, .* 1 by place, and by name axis, keepdims;",
    ),
    "elements by truth values": (
        returning(lambda xp, grad, state, s: (grad + xp.sum(grad[grad > 0]), {"m": grad})),
        r"^Mine\.direction fails .*chooses elements of grad of shape \(8, 4\) by truth values",
    ),
    "backwards": (
        returning(lambda xp, grad, state, s: (grad[:, ::-1], {"m": grad})),
        r"^Mine\.direction fails .*reads grad of shape \(8, 4\) backwards, .*use xp\.flip",
    ),
    "axes of a tensor rule": (
        mistaken(
            returning(lambda xp, grad, state, s: (grad - xp.mean(grad, axis=0), {"m": grad})),
            needs="tensor",
        ),
        r"^Mine declares needs = 'tensor', but .*declares needs = 'axes', 'factored' or 'matrix'",
    ),
    "an element rule's number of axes": (
        returning(lambda xp, grad, state, s: (grad * (0.5 if grad.ndim == 4 else 1), {"m": grad})),
        r"^Mine declares needs = 'element', but .* shape \(8, 4\) .* in the shape \(4, 2, 2, 2\);",
    ),
    "a tensor rule's number of axes": (
        mistaken(
            returning(
                lambda xp, grad, state, s: (
                    grad - xp.mean(grad) if grad.ndim > 2 else grad,
                    {"m": grad},
                )
            ),
            needs="tensor",
        ),
        r"^Mine declares needs = 'tensor', but .* in the shape \(8, 2, 2\);",
    ),
    "no axes in a wrapper": (
        mistaken(
            Wrapper,
            prepare=lambda self, xp, grad, param, state, s: grad if param.shape else 2 * grad,
        ),
        r"^Mine declares reads = 'element', but .* shape \(1,\) .* in the shape \(\);",
    ),
    "a norm of an element wrapper": (
        mistaken(Wrapper, prepare=lambda self, xp, grad, param, state, s: grad / norm(xp, grad)),
        r"^Mine declares reads = 'element', but .*declares reads = 'tensor'",
    ),
    "a slot of another shape": (
        returning(lambda xp, grad, state, s: (grad, {"m": xp.mean(grad)})),
        r"^Mine\.direction returned slot m of shape \(\); it must be \(8, 4\)",
    ),
    "a slot that is no array": (
        returning(lambda xp, grad, state, s: (grad, {"m": 0.0})),
        r"^Mine\.direction returned slot m as float; it must be an array",
    ),
    "a slot that begins as no array": (
        mistaken(n=slot("n", init=lambda xp, param: 0.0)),
        r"^Mine: init of slot n returned float; it must be an array, such as xp\.zeros_like",
    ),
    "a slot is left out": (
        mistaken(n=slot("n")),
        r"^Mine\.direction returned slots m; Mine keeps m, n",
    ),
    "a slot is left out of all": (
        mistaken(
            needs="tree",
            n=slot("n"),
            local=lambda self, xp, grad, param, state, s: ({"m": grad}, {"sum": xp.sum(grad)}),
            combine=lambda self, xp, sums, shared, s: {},
            direction=lambda self, xp, grad, param, state, s: (grad, {}),
        ),
        r"^Mine keeps n, which no method returns, .*return it, or declare n with fixed=True",
    ),
    "a slot of a wrapper is left out": (
        mistaken(
            Wrapper,
            reads="tree",
            n=slot("n"),
            local=lambda self, xp, grad, param, state, s: ({}, {"sum": xp.sum(grad)}),
            combine=lambda self, xp, sums, shared, s: {},
        ),
        r"^Mine keeps n, which no method returns",
    ),
    "a slot is returned that is fixed": (
        mistaken(m=slot("m", fixed=True)),
        r"^Mine\.direction returned slots m; they are declared as fixed",
    ),
    "a slot that begins as whole numbers": (
        mistaken(n=slot("n", init=lambda xp, param: xp.zeros(param.shape, dtype=xp.int32))),
        r"^Mine: init of slot n returned an array of int32; slots are kept in the dtype of",
    ),
    "a slot of whole numbers": (
        returning(lambda xp, grad, state, s: (grad, {"m": xp.astype(grad, xp.int32)})),
        r"^Mine\.direction returned slot m of int32; slots are kept in the dtype of the parameter",
    ),
    "a wrapper's step without the slots of the rule in it": (
        mistaken(Wrapper, step=lambda self, *given: (Wrapper.step(self, *given)[0], {})),
        r"^Mine\.step returned slots none; Mine keeps m, v",
    ),
    "the size of an array": (
        mistaken(
            returning(lambda xp, grad, state, s: (grad / grad.size, {"m": grad})), needs="tensor"
        ),
        r"^Mine\.direction fails .*the size of grad .* method in torch; use .*count\(xp, x\)",
    ),
    "writes into the gradient": (
        writing("grad += param"),
        r"^Mine\.direction fails .*writes into grad .*make a new array, such as grad \+ \.\.\.",
    ),
    "writes into a slot": (
        writing("state.m *= s.beta"),
        r"^Mine\.direction fails .*writes into state\.m .*make a new array",
    ),
    "writes into elements": (
        writing("param[0] = 1.0"),
        r"^Mine\.direction fails .*writes into param of shape \(8, 4\)",
    ),
    "a function that is asked for": (
        returning(lambda xp, grad, state, s: (grad * (1 + hasattr(xp, "compile")), {"m": grad})),
        r"^Mine\.direction fails .*not all frameworks have xp\.compile",
    ),
    "writes a coefficient": (
        writing("s.beta = 0.5"),
        r"^Mine\.direction fails .*beta cannot be set here, where other parameters read it",
    ),
    "writes with out=": (
        returning(lambda xp, grad, state, s: (xp.add(grad, grad, out=grad), {"m": grad})),
        r"^Mine\.direction fails .*writes into grad of shape \(8, 4\) with out=",
    ),
    "a vector for matrices": (
        mistaken(
            returning(lambda xp, grad, state, s: (grad @ grad.mT @ grad, {"m": grad})),
            needs="matrix",
            min_ndim=1,
        ),
        r"^Mine declares min_ndim = 1, but fails for a parameter of shape \(8,\); declare",
    ),
    "a method of NumPy's arrays": (
        returning(lambda xp, grad, state, s: (grad.clip(-1, 1), {"m": grad})),
        r"^Mine\.direction fails .*reads clip of grad .*not all arrays have; use the functions",
    ),
    **{
        f"what some arrays have: {name}": (
            returning(
                lambda xp, grad, state, s, f=asks: (grad * (2 if f(xp, grad) else 1), {"m": grad})
            ),
            rf"^Mine\.direction fails .*it {words}",
        )
        for name, asks, words in (
            (
                "getattr",
                lambda xp, x: getattr(x, "requires_grad", False),
                "reads requires_grad of grad",
            ),
            ("hasattr", lambda xp, x: hasattr(x, "detach"), "reads detach of grad"),
            ("device", lambda xp, x: x.device == "cpu", "reads device of grad"),
            ("dtype", lambda xp, x: str(x.dtype) == "float32", "asks for the name of a dtype"),
            ("in f", lambda xp, x: f"{x.dtype}" == "float32", "asks for the name of a dtype"),
            ("kind", lambda xp, x: getattr(x.dtype, "kind", "f") == "f", "reads kind of a dtype"),
            ("of NumPy", lambda xp, x: x.dtype == numpy.float32, "compares a dtype with .*float32"),
        )
    },
    **{
        f"what some frameworks have: {name}": (
            returning(lambda xp, grad, state, s, f=computed: (f(xp, grad), {"m": grad})),
            rf"^Mine\.direction fails .*not all frameworks have xp\.{name}",
        )
        for name, computed in (
            ("hypot", lambda xp, x: xp.hypot(x, x)),
            ("linalg.vector_norm", lambda xp, x: x / xp.linalg.vector_norm(x)),
            ("median", lambda xp, x: x / xp.median(x)),
        )
    },
    "NumPy's number on the left": (
        returning(lambda xp, grad, state, s: (numpy.float64(0.3) * grad, {"m": grad})),
        r"^Mine\.direction fails .*a number of NumPy's \(0\.3\) with grad .*use float",
    ),
    "NumPy's number on the right": (
        returning(lambda xp, grad, state, s: (grad / numpy.sqrt(4.0), {"m": grad})),
        r"^Mine\.direction fails .*a number of NumPy's \(2\.0\) with grad .*use float",
    ),
    "another number each time": (
        returning(lambda xp, grad, state, s: (numpy.random.normal() * grad, {"m": grad})),
        r"^Mine: the same arrays gave another result the second time",
    ),
    "a gradient of another shape": (
        mistaken(Wrapper, prepare=lambda self, xp, grad, param, state, s: xp.sum(grad)),
        r"^Mine\.prepare returned an array of shape \(\) for .*the shapes must be equal",
    ),
}


def begin(rule, framework):
    """Use a rule for the first time."""
    if framework == "numpy":
        rule.init(numpy.ones((3, 2)))
    elif framework == "torch":
        samestep.torch.bind(rule, [pytest.importorskip("torch").ones(3, 2)])
    else:
        pytest.importorskip(framework)
        getattr(samestep, framework).bind(rule)


def made(cls):
    return cls(AdamW()) if issubclass(cls, Wrapper) else cls()


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named_by_rule_and_method_with_what_must_be_there(mistake):
    cls, words = MISTAKES[mistake]
    for _ in range(2):  # a rule that has failed is tried again
        with pytest.raises((TypeError, ValueError, AttributeError), match=words):
            begin(made(cls), "numpy")


@pytest.mark.parametrize("framework", ["torch", "jax", "mlx"])
@pytest.mark.parametrize("around", [lambda r: r, Lookahead, route])
def test_a_mistake_is_found_where_a_rule_is_bound_and_inside_other_rules(framework, around):
    cls, words = MISTAKES["nothing"]
    with pytest.raises(ValueError, match=words):
        begin(around(cls()), framework)


def test_a_rule_is_tried_once_for_its_options_and_in_less_than_50_ms(monkeypatch):
    tried = []
    original = proof.tried
    monkeypatch.setattr(proof, "tried", lambda rule: tried.append(rule) or original(rule))
    seconds = []
    for _ in range(3):  # in one of which the garbage of other tests may be collected
        cls = mistaken(mode=option("a", "which way", choices=("a", "b")))
        tried.clear()
        started = time.process_time()
        cls(lr=0.0).init(numpy.ones(3))
        seconds.append(time.process_time() - started)
    assert min(seconds) < 0.05
    for rule in (cls(lr=2.0, maximize=False), cls(lr=lambda step: 0.1), cls(mode="b"), AdamW()):
        rule.init(numpy.ones(3))
    assert [rule.mode for rule in tried] == ["a", "b"]


def test_a_right_rule_is_not_refused_for_what_it_may_do():
    """In place on a result of its own, a narrow state, limits of a dtype, a choice by the step."""

    def scalars(self, xp, t):
        pair = (numpy.sqrt(self.beta), 1 - self.beta)
        return {"warm": choose(xp, t > 3, 1.0, 0.5), "pair": pair}

    def direction(self, xp, grad, param, state, s):
        m = s.pair[0] * state.m
        m += s.pair[1] * grad
        return xp.finfo(m.dtype).eps + 2.0 * s.warm * xp.astype(m, param.dtype), {"m": m}

    rule = mistaken(scalars=scalars, direction=direction)(state_dtype="bfloat16")
    pytest.importorskip("torch")
    begin(rule, "torch")


@pytest.mark.parametrize("by", ["eigh", "svd", "pinv"])
def test_a_rule_may_decompose_a_matrix_which_numpy_does_not_do_for_nan(by):
    def decomposed(xp, grad, state, s):
        square = grad @ grad.mT + xp.eye(grad.shape[0], dtype=grad.dtype)
        found = getattr(xp.linalg, by)(square)
        return grad * xp.sum(found if by == "pinv" else found[1]), {"m": grad}

    begin(mistaken(returning(decomposed), needs="matrix")(layout="oi"), "numpy")


def test_numbers_of_numpy_in_scalars_are_plain_ones_where_a_step_is_traced():
    mx = pytest.importorskip("mlx.core")

    def direction(self, xp, grad, param, state, s):
        return s.root * grad, {"m": state.m}

    rule = mistaken(scalars=lambda self, xp, t: {"root": numpy.sqrt(0.25)}, direction=direction)()
    optimizer, params = samestep.mlx.bind(rule), {"w": mx.ones(3)}
    optimizer.init(params)
    update = mx.compile(optimizer.apply_gradients, inputs=optimizer.state, outputs=optimizer.state)
    assert update({"w": mx.full(3, 0.5)}, params)["w"].tolist() == [0.75] * 3


@pytest.mark.parametrize(
    ("base", "name", "words"),
    [
        (Wrapper, "direction", "a wrapper takes the direction of the rule in it; define prepare"),
        (Wrapper, "prepared", "define prepare"),
        (Wrapper, "acts", "a method of a wrapper that lets no step be taken"),
        (Right, "acts", "it is a method of a Wrapper"),
        (Right, "prepare", "it is a method of a Wrapper"),
        (Right, "redirect", "it is a method of a Wrapper"),
    ],
)
def test_a_method_that_nothing_calls_is_refused(base, name, words):
    with pytest.raises(TypeError, match=rf"^Mine\.{name} is never called: .*{words}"):
        mistaken(base, **{name: lambda self, *given: given[0]})


def stepping(self, xp, grad, param, state, s):
    return param - s.rate * grad, {"m": grad}


def calling(self, xp, grad, param, state, s):
    direction, slots = self.direction(xp, grad, param, state, s)
    return self.descended(param, direction, s), slots


@pytest.mark.parametrize(
    ("base", "body", "never"),
    [
        (Right, {"step": stepping, "direction": Right.direction}, "direction"),
        (mistaken(step=stepping), {"direction": Right.direction}, "direction"),
        (Wrapper, {"step": stepping, "prepare": Wrapper.prepare}, "prepare"),
        (Wrapper, {"moved": stepping, "redirect": Wrapper.redirect}, "redirect"),
        (Right, {"step": calling, "direction": Right.direction}, None),
        (Right, {"step": stepping}, None),
        (mistaken(step=stepping), {"step": calling, "direction": Right.direction}, None),
        (Lookahead, {"prepare": Wrapper.prepare}, None),
    ],
)
def test_a_method_that_a_step_of_its_own_does_not_call_is_refused(base, body, never):
    body = {n: types.FunctionType(f.__code__, globals()) for n, f in body.items()}
    if never is None:
        assert mistaken(base, **body)
        return
    form = "moved" if "moved" in body else "step"
    with pytest.raises(
        TypeError, match=rf"^Mine\.{never} is never called: Mine\.{form} is the step"
    ):
        mistaken(base, **body)


def test_a_step_has_one_form():
    with pytest.raises(TypeError, match=r"^Mine has step and moved, which are one step"):
        mistaken(step=stepping, moved=calling)


def test_a_rule_of_matrices_takes_no_vector_unless_it_says_so():
    cls = mistaken(returning(lambda xp, grad, state, s: (grad @ grad.mT @ grad, {"m": grad})))
    cls = mistaken(cls, needs="matrix")
    assert cls.min_ndim == 2 and mistaken(needs="matrix", min_ndim=1).min_ndim == 1
    begin(cls(layout="oi"), "numpy")
    with pytest.raises(
        ValueError, match=r"'b' has shape \(3,\); Mine takes arrays with at least 2"
    ):
        cls().init({"b": numpy.ones(3)})


@pytest.mark.parametrize("array", ["numpy.asarray", "torch.asarray", "mlx.core.array"])
def test_a_rule_takes_the_axes_of_a_kernel_in_no_order_but_the_outputs_first(array):
    """torch keeps OIHW, MLX OHWI, Flax HWIO: a norm over axis 1 is of inputs, or of places."""
    library, _, name = array.rpartition(".")
    array = getattr(pytest.importorskip(library), name)

    def of(axes):
        def result(xp, grad, state, s):
            size = xp.sqrt(xp.sum(grad * grad, axis=axes(grad), keepdims=True))
            return grad / size, {"m": grad}

        return mistaken(returning(result), needs="axes", min_ndim=2)

    kernel = array(numpy.ones((4, 3, 2, 2), numpy.float32))
    wrong, right = of(lambda g: 1), of(lambda g: tuple(range(1, g.ndim)))
    right(layout="oi", batch_axes=()).init(kernel)
    wrong(layout="oi", batch_axes=()).init(kernel[:, :, 0, 0])
    words = r"the step of Mine depends on the order of the axes after the outputs, .*as_matrix"
    with pytest.raises(ValueError, match=words):
        wrong(layout="oi", batch_axes=()).init(kernel)


def test_a_rule_that_fails_for_a_kernel_is_refused_in_words():
    cls = mistaken(
        returning(lambda xp, grad, state, s: (grad @ grad.T @ grad, {"m": grad})), needs="matrix"
    )
    made = cls(layout="oi", batch_axes=())
    made.init({"w": numpy.ones((4, 3))})
    words = (
        r"'w' has shape \(4, 3, 2\), and Mine takes no array of 3 axes; take .*as_matrix.*Mine\.d"
    )
    with pytest.raises(ValueError, match=words):
        made.init({"w": numpy.ones((4, 3, 2))})


DIFFERENT = {"load", "median", "save", "set_printoptions", "split", "transpose", "unique"}
DIFFERENT |= {"empty", "empty_like", "sign"}  # what the memory held before; the sign of NaN
"""What every framework has, with another meaning in torch or MLX, and what is no arithmetic."""


def parameters(function):
    """The parameters of a function; MLX tells its own in the documentation. Some tell none."""
    with contextlib.suppress(TypeError, ValueError):
        return inspect.signature(function).parameters.values()
    name, space = function.__name__, collections.defaultdict(type(None))
    told = function.__doc__ if "mlx" in str(function.__module__) else ""
    told = re.findall(rf"\b{name}(\(.*\)) ->", told or "")
    with contextlib.suppress(IndexError, SyntaxError):
        exec(f"from __future__ import annotations\ndef {name}{told[0]}: ...", space)
        return inspect.signature(space[name]).parameters.values()


def shared_arguments(functions):
    """How many arguments all of these functions take by place, and the names that all know."""
    known = [
        [one for one in found if one.name not in {"out", "order", "stream", "where"}]
        for found in map(parameters, functions)
        if found is not None
    ]
    places = [
        sum((1, 1, 9, 0, 0)[one.kind] for one in found)  # 9 for as many as there are
        for found in known
    ]
    names = [{one.name for one in found if one.kind in (1, 3)} for found in known]
    arrays = {"a", "b", "x", "arrays"}  # are given by place
    return min(9, *places), sorted(set.intersection(*names) - arrays)


def test_xp_of_the_proof_has_what_every_framework_has_and_takes_what_every_framework_takes():
    compat = [pytest.importorskip(f"array_api_compat.{name}") for name in ("numpy", "torch")]
    spaces = [*compat, *map(pytest.importorskip, ("mlx.core", "jax.numpy"))]
    found = {}
    for prefix in ("", "fft.", "linalg."):
        of = [getattr(xp, prefix[:-1]) if prefix else xp for xp in spaces]
        for name in dir(getattr(numpy, prefix[:-1]) if prefix else numpy):
            if name[0] != "_" and all(hasattr(x, name) for x in of) and name not in DIFFERENT:
                same = [getattr(x, name) for x in of]
                function = callable(same[0]) and not isinstance(same[0], type)
                found[prefix + name] = shared_arguments(same) if function else (0, [])
    assert neutral._arguments() == found


def test_agreement_is_tried_with_every_option():
    """An option that one framework computes otherwise; the default is right there."""
    pytest.importorskip("torch")

    def direction(self, xp, grad, param, state, s):
        wrong = self.by == "rms" and type(grad).__module__ == "torch"
        return grad * (1.001 if wrong else 1.0), {"m": grad}

    cls = mistaken(direction=direction, by=option("norm", "which", choices=("norm", "rms")))
    torch = backends()["torch"]
    assert_agrees(cls(), torch)
    with pytest.raises(AssertionError):
        assert_agrees(cls(by="rms"), torch)
