"""Seeded arithmetic word problems of one or two steps, for models too small for GSM8K."""

from __future__ import annotations

import random
from collections.abc import Callable

from ttscale import _check
from ttscale.evaluation.tasks import Problem, Task

NAMES = ("Anna", "Ben", "Emma", "Jack", "Leo", "Lily", "Maria", "Mia", "Sam", "Tom")
THINGS = ("apples", "books", "coins", "eggs", "marbles", "pencils", "shells", "stickers")
BOXES = ("bags", "baskets", "boxes", "jars")

Template = Callable[[random.Random], tuple[str, int]]


def word_problems(count: int, seed: int = 0) -> Task:
    """`count` problems from the templates below, in turn; all answers are positive integers.

    The same seed gives the same problems, and a longer list starts with the shorter one.

    Raises:
        InvalidInput: `count` is below 1 or `seed` below 0.
    """
    _check.integer("count", count, 1)
    _check.integer("seed", seed, 0)
    dice = random.Random(seed)  # noqa: S311 - reproducible, not secret
    made = [TEMPLATES[place % len(TEMPLATES)](dice) for place in range(count)]
    problems = (
        Problem(question, str(answer), f"word-{seed}-{place}")
        for place, (question, answer) in enumerate(made)
    )
    return Task("word_problems", tuple(problems))


def _add(dice: random.Random) -> tuple[str, int]:
    name, thing = dice.choice(NAMES), dice.choice(THINGS)
    a, b = dice.randint(2, 9), dice.randint(2, 9)
    text = f"{name} has {a} {thing} and finds {b} more. How many {thing} does {name} have now?"
    return text, a + b


def _take(dice: random.Random) -> tuple[str, int]:
    name, thing = dice.choice(NAMES), dice.choice(THINGS)
    rest, b = dice.randint(2, 9), dice.randint(2, 9)
    text = f"{name} had {rest + b} {thing} and gave away {b}. How many {thing} are left?"
    return text, rest


def _boxes(dice: random.Random) -> tuple[str, int]:
    thing, box = dice.choice(THINGS), dice.choice(BOXES)
    a, b = dice.randint(2, 5), dice.randint(2, 6)
    return f"There are {a} {box} with {b} {thing} in each. How many {thing} are there?", a * b


def _share(dice: random.Random) -> tuple[str, int]:
    thing = dice.choice(THINGS)
    a, each = dice.randint(2, 5), dice.randint(2, 5)
    text = f"{a} children share {a * each} {thing} equally. How many {thing} does each child get?"
    return text, each


def _buy_and_lose(dice: random.Random) -> tuple[str, int]:
    name, thing = dice.choice(NAMES), dice.choice(THINGS)
    a, b = dice.randint(3, 9), dice.randint(2, 6)
    c = dice.randint(1, 4)
    text = (
        f"{name} has {a} {thing}, buys {b} more and then loses {c}. "
        f"How many {thing} does {name} have at the end?"
    )
    return text, a + b - c


def _price(dice: random.Random) -> tuple[str, int]:
    name = dice.choice(NAMES)
    a, price, b = dice.randint(2, 4), dice.randint(2, 5), dice.randint(1, 5)
    text = (
        f"A ticket costs {price} dollars. {name} buys {a} tickets and a drink for {b} dollars. "
        f"How many dollars does {name} spend in total?"
    )
    return text, a * price + b


def _change(dice: random.Random) -> tuple[str, int]:
    name, paid = dice.choice(NAMES), dice.choice((10, 20))
    a, price = dice.randint(2, 3), dice.randint(2, 3)
    text = (
        f"{name} buys {a} notebooks at {price} dollars each and pays with a {paid} dollar bill. "
        "How many dollars does the seller give back?"
    )
    return text, paid - a * price


def _twice(dice: random.Random) -> tuple[str, int]:
    (first, second), thing = dice.sample(NAMES, 2), dice.choice(THINGS)
    a = dice.randint(2, 8)
    text = (
        f"{first} has {a} {thing}. {second} has twice as many. "
        f"How many {thing} do they have together?"
    )
    return text, 3 * a


def _age(dice: random.Random) -> tuple[str, int]:
    first, second = dice.sample(NAMES, 2)
    a, older, years = dice.randint(4, 9), dice.randint(2, 5), dice.randint(2, 4)
    text = (
        f"{first} is {a} years old. {second} is {older} years older than {first}. "
        f"How old will {second} be in {years} years?"
    )
    return text, a + older + years


def _distance(dice: random.Random) -> tuple[str, int]:
    name = dice.choice(NAMES)
    speed, hours, more = dice.randint(3, 6), dice.randint(2, 3), dice.randint(2, 5)
    text = (
        f"{name} rides a bicycle at {speed} km per hour for {hours} hours and then walks "
        f"{more} km. How many km does {name} travel in all?"
    )
    return text, speed * hours + more


def _pages(dice: random.Random) -> tuple[str, int]:
    name = dice.choice(NAMES)
    each, days, rest = dice.randint(3, 8), dice.randint(2, 4), dice.randint(2, 10)
    text = (
        f"A book has {each * days + rest} pages. {name} reads {each} pages a day for {days} days. "
        "How many pages are still to be read?"
    )
    return text, rest


def _rows(dice: random.Random) -> tuple[str, int]:
    rows, seats = dice.randint(2, 5), dice.randint(2, 5)
    taken = dice.randint(2, rows * seats - 1)
    text = (
        f"A hall has {rows} rows of {seats} seats. {taken} seats are taken. "
        "How many seats are free?"
    )
    return text, rows * seats - taken


def _pack(dice: random.Random) -> tuple[str, int]:
    thing, box = dice.choice(THINGS), dice.choice(BOXES)
    each, full, used = dice.randint(2, 4), dice.randint(2, 4), dice.randint(2, 5)
    text = (
        f"A shop has {each * full + used} {thing} and sells {used} of them. The others are packed "
        f"into {box} of {each}. How many {box} are filled?"
    )
    return text, full


def _savings(dice: random.Random) -> tuple[str, int]:
    name = dice.choice(NAMES)
    start, each, weeks = dice.randint(2, 10), dice.randint(2, 5), dice.randint(2, 4)
    text = (
        f"{name} has {start} dollars and saves {each} dollars every week. "
        f"How many dollars does {name} have after {weeks} weeks?"
    )
    return text, start + each * weeks


TEMPLATES: tuple[Template, ...] = (
    _add,
    _price,
    _take,
    _age,
    _boxes,
    _buy_and_lose,
    _share,
    _distance,
    _twice,
    _change,
    _pages,
    _rows,
    _savings,
    _pack,
)
