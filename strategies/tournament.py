"""Tournament: a judge compares the answers with each other until one is left."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import ClassVar

from ttscale import _check
from ttscale.answers import Answer
from ttscale.errors import InvalidInput
from ttscale.sampling import Sampler
from ttscale.strategies import rounds
from ttscale.strategies.comparing import LABELS, ComparingJudge
from ttscale.strategies.ledger import Ledger, Planned, Totals, answers_of, report, totals
from ttscale.strategies.outcome import Outcome
from ttscale.strategies.protocol import Ask, Score
from ttscale.strategies.select import argmax, best_member
from ttscale.strategies.vote import draw_lot, rounded, tally
from ttscale.types import Prompt
from ttscale.verifiers import ScoreSheet, Verifier
from ttscale.verifiers.protocol import check_verifier

RULES = ("knockout", "round-robin")
Match = tuple[int, ...]


@dataclass(frozen=True)
class Tournament(Planned):
    """Draws `n` samples, and a judge compares one of each class of equivalent answers.

    Each class enters with its likeliest sample; classes are seeded by their votes. When no sample
    states an answer, all samples enter. With `knockout` the best of each group goes on, until one
    is left; with `round-robin` every two meet, and the shares of all matches are summed. With
    `group=2` the judge compares pairs, with more it reads a list.

    Each match is asked in both orders, since judges favour places, and the two are averaged. When
    they agree on nothing, or the judge fails, the entrant with more votes goes on.
    `Outcome.notes["order_flips"]` is the share of matches in which the judge's favourite changed
    with the order; `Outcome.notes["matches"]` is their number.

    Attributes:
        n: Number of samples.
        sampler: How they are drawn.
        judge: What compares; its scores for the candidates of one call are relative to each other.
        rule: `knockout` or `round-robin`.
        group: Entrants of one match, 2 to 9; 2 with `round-robin`.
        kind: Kind of answer to look for, as in `ttscale.answers.extract_answer`.

    Raises:
        InvalidInput: A setting is outside its legal range.
    """

    n: int = 8
    sampler: Sampler = field(default_factory=Sampler)
    judge: Verifier = field(default_factory=ComparingJudge)
    rule: str = "knockout"
    group: int = 2
    kind: str = "auto"
    name: ClassVar[str] = "tournament"

    def __post_init__(self) -> None:
        rounds.check_settings(self.n, self.sampler, self.kind)
        check_verifier(self.judge)
        _check.choice("rule", self.rule, RULES)
        _check.integer("group", self.group, 2, len(LABELS))
        if self.rule == "round-robin" and self.group != 2:
            raise InvalidInput(f"group must be 2 with rule='round-robin', got {self.group}")

    def plan(self, ledger: Ledger) -> tuple[Ask, ...]:
        """The draw, then one round of matches after the other."""
        if not ledger.asked:
            return (ledger.draw(0, self.n, self.sampler),)
        total = totals(ledger)
        matches = self._play(ledger, total).to_play
        orders = [order for match in matches for order in (match, match[::-1])]
        return tuple(
            self._ask(len(ledger.asked) + k, ledger.prompt, total, order)
            for k, order in enumerate(orders)
        )

    def best(self, state: Ledger) -> Outcome:
        """Whoever has come furthest."""
        total = totals(state)
        played = self._play(state, total)
        answers = answers_of(total.candidates, self.kind)
        reached = [played.points.get(place) for place in range(len(total.candidates))]
        picked = argmax(total.candidates, answers, reached, state.tie_seed)
        notes = {"matches": float(played.matches), "order_flips": played.flipped}
        return report(self.name, state, total.candidates, answers, picked, notes=notes)

    def _ask(self, ask_id: int, prompt: Prompt, total: Totals, order: Match) -> Score:
        entrants = tuple(total.candidates[place] for place in order)
        return Score(ask_id, self.judge, prompt, entrants)

    def _play(self, ledger: Ledger, total: Totals) -> _Played:
        """Go through the matches as far as they have been judged."""
        answers = answers_of(total.candidates, self.kind)
        seeded = entrants(total, answers, ledger.tie_seed)
        played = _Played(dict(seeded))
        sheets = [sheet for _, sheet in ledger.scores]
        alive = list(seeded)
        while len(alive) > 1:
            groups = self._groups(alive)
            matches = [group for group in groups if len(group) > 1]
            if len(sheets) < 2 * len(matches):
                played.to_play = matches
                return played
            results = [played.judge(match, *_pop_two(sheets)) for match in matches]
            if self.rule == "round-robin":
                for result in results:
                    played.add(result)
                return played
            free = [group[0] for group in groups if len(group) == 1]
            best = {*free, *(_winner(result, alive) for result in results)}
            alive = [place for place in alive if place in best]
            for place in alive:
                played.points[place] += 1.0
        return played

    def _groups(self, alive: Sequence[int]) -> list[Match]:
        """Who meets whom; whoever is alone in a group goes on."""
        if self.rule == "round-robin":
            return list(combinations(alive, 2))
        count = math.ceil(len(alive) / self.group)
        return [tuple(alive[start::count]) for start in range(count)]


@dataclass(slots=True)
class _Played:
    """How far a tournament has come: points by place, and what the judge did."""

    points: dict[int, float]
    to_play: list[Match] = field(default_factory=list)
    matches: int = 0
    flips: int = 0

    @property
    def flipped(self) -> float:
        """Share of the matches in which the favourite changed with the order."""
        return self.flips / self.matches if self.matches else 0.0

    def judge(self, match: Match, first: ScoreSheet, second: ScoreSheet) -> dict[int, float]:
        """Mean share of each entrant over the two orders; all equal when the judge failed."""
        shares = [_by_place(match, first), _by_place(match[::-1], second)]
        known = [share for share in shares if share]
        self.matches += 1
        favourites = {_favourite(share) for share in known} - {None}
        self.flips += len(favourites) > 1
        even = 1 / len(match)
        return {
            place: math.fsum(s[place] for s in known) / len(known) if known else even
            for place in match
        }

    def add(self, result: dict[int, float]) -> None:
        """Add the shares of one match to the points."""
        for place, share in result.items():
            self.points[place] += share


def entrants(total: Totals, answers: Sequence[Answer | None], seed: int) -> dict[int, float]:
    """The likeliest sample of each class with its share of the votes, most votes first.

    Shares are below 1, so that they decide only between entrants that came equally far.
    """
    none: list[float | None] = [None] * len(answers)
    votes = tally(answers, [1.0] * len(answers), seed).votes
    share = 1 / (len(answers) + 1) if answers else 0.0
    if votes:
        return {best_member(v.members, total.candidates, none): v.count * share for v in votes}
    places = range(len(answers))
    return dict.fromkeys(
        sorted(places, key=lambda p: draw_lot(seed, total.candidates[p].text)), 0.0
    )


def _favourite(share: dict[int, float]) -> int | None:
    """Whoever has the largest share; None when several have it."""
    most = max(share.values())
    first = [place for place, value in share.items() if rounded(value) == rounded(most)]
    return first[0] if len(first) == 1 else None


def _winner(result: dict[int, float], alive: Sequence[int]) -> int:
    """Whoever has the largest share; of equals the one that comes first among the living."""
    return min(result, key=lambda place: (-rounded(result[place]), alive.index(place)))


def _pop_two(sheets: list[ScoreSheet]) -> tuple[ScoreSheet, ScoreSheet]:
    return sheets.pop(0), sheets.pop(0)


def _by_place(order: Match, sheet: ScoreSheet) -> dict[int, float]:
    """The scores by place; empty when any is missing, since they are relative to each other."""
    values = {order[score.index]: score.value for score in sheet.scores}
    known = {place: value for place, value in values.items() if value is not None}
    return known if len(known) == len(order) else {}
