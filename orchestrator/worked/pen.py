"""What is written while thinking: single results, sums digit by digit, and now and then a slip that is
noticed and put right."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from orchestrator.worked.draw import Draw

# Of the single results: a wrong one is written, noticed and put right; a right one is checked, in the same
# words. Hard ones are checked so often that top_p does not cut it away.
EASY = (0.02, 0.02)
HARD = (0.05, 0.12)
FORGET = 0.02  # of the carries: forgotten, noticed and put right


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a thought; ``slip``: it is wrong, and what follows says so."""

    text: str
    slip: bool = False


def value(a: int, op: str, b: int) -> int:
    if op == "+":
        return a + b
    return a - b if op == "-" else a * b


def _hard(a: int, op: str, b: int) -> bool:
    """Whether it is more than a table or a sum of small numbers."""
    return value(a, op, b) >= 100 and (a >= 10 if op == "*" else min(a, b) >= 20)


class Pen:
    """Writes one thought. Lines end where `line` begins the next one."""

    def __init__(self, draw: Draw) -> None:
        self._draw = draw
        self._pieces: list[Piece] = []

    def pieces(self) -> tuple[Piece, ...]:
        """The thought, with neighbours joined; a piece begins at a word's start."""
        joined: list[Piece] = []
        for piece in self._pieces:
            if joined and not piece.slip and not joined[-1].slip:
                joined[-1] = Piece(joined[-1].text + piece.text)
            else:
                joined.append(piece)
        return tuple(joined)

    def line(self, text: str = "") -> None:
        """Begins a line."""
        if self._pieces:
            self._pieces.append(Piece("\n"))
        self.add(text)

    def add(self, text: str, *, slip: bool = False) -> None:
        """Goes on in the line."""
        if text:
            self._pieces.append(Piece(text, slip))

    def result(self, a: int, op: str, b: int, end: str = ".") -> int:
        """``a op b = r`` at once, in the line that has begun; a slip or a check brings it to its end."""
        right = value(a, op, b)
        self.add(f"{a} {op} {b} =")
        kind, (slip, check) = self._draw.random(), HARD if _hard(a, op, b) else EASY
        if kind >= slip + check or b < 2 or right < 3:
            self.add(f" {right}{end}")
            return right
        claimed = right if kind >= slip else self._wrong(right)
        self.add(f" {claimed}.", slip=claimed != right)
        if op == "*":
            less = a * (b - 1)
            checked = f"{a} * {b - 1} = {less} and {less} + {a} = {right}"
            expected, got = claimed, right
        else:
            back = "-" if op == "+" else "+"
            expected, got = a, value(claimed, back, b)
            checked = f"{claimed} {back} {b} = {got}"
        self.add(f" Wait, let me check that: {checked}")
        if expected != got:
            self.add(f", not {expected}. So {a} {op} {b} = {right}{end}")
        else:
            self.add(f". That is right{end}")
        return right

    def _wrong(self, right: int) -> int:
        by = self._draw.pick((1, 10, 2, 100 if right > 200 else 1, 20 if right > 40 else 1))
        return right - by if right > by + 1 and self._draw.chance(0.5) else right + by

    def single(self, a: int, op: str, b: int) -> int:
        """`result`, in a line of its own."""
        self.line()
        return self.result(a, op, b)

    def columns(self, a: int, op: str, b: int) -> int:
        """A sum or a difference (``a`` at least ``b``) as on paper, from the right, in a line of its own."""
        self.line(f"{a} {op} {b}, from the right: ")
        self._steps(self._plus(a, b) if op == "+" else self._minus(a, b))
        self.add(f". So {a} {op} {b} = {value(a, op, b)}.")
        return value(a, op, b)

    def _steps(self, steps: Iterable[tuple[str, str]]) -> None:
        """Each as (a slip or nothing, what is right)."""
        for number, (slip, right) in enumerate(steps):
            self.add("; " if number else "")
            if slip:
                self.add(slip, slip=True)
                self.add(f" - wait, the carry: {right}")
            else:
                self.add(right)

    def _forgotten(self, carry: int, slip: str) -> str:
        return slip if carry and self._draw.chance(FORGET) else ""

    def _plus(self, a: int, b: int) -> list[tuple[str, str]]:
        width = max(len(str(a)), len(str(b)))
        carry, steps = 0, []
        for x, y in zip(_digits(a, width), _digits(b, width), strict=True):
            total = x + y + carry
            slip = self._forgotten(carry, f"{x} + {y} = {x + y}, write {(x + y) % 10}")
            more = f" + {carry}" if carry else ""
            after = ", carry 1" if total > 9 else ""
            steps.append((slip, f"{x} + {y}{more} = {total}, write {total % 10}{after}"))
            carry = total // 10
        if carry:
            steps.append(("", "write 1"))
        return steps

    def _minus(self, a: int, b: int) -> list[tuple[str, str]]:
        """``a`` is at least ``b``."""
        width = len(str(a))
        borrowed, steps = 0, []
        for x, y in zip(_digits(a, width), _digits(b, width), strict=True):
            less = " - 1" if borrowed else ""
            rest = x - y - borrowed
            if rest < 0:
                step = f"{x} - {y}{less} is below 0, {x + 10} - {y}{less} = {rest + 10}, "
                step += f"write {rest + 10}, borrow 1"
            else:
                step = f"{x} - {y}{less} = {rest}, write {rest}"
            steps.append(("", step))
            borrowed = int(rest < 0)
        return steps

    def product(self, a: int, b: int, *, at_once: bool) -> int:
        """As on paper, a digit of ``b`` after the other; each of its rows digit by digit or ``at_once``."""
        if b > 9 > a:
            a, b = b, a
        total, place = 0, 1
        for digit in _digits(b, len(str(b))):
            row = a * digit * place
            if digit and at_once:
                self.single(a, "*", digit)
                self.add(f" So {a} * {digit * place} = {row}." if place > 1 else "")
            elif digit:
                self.line(f"{a} * {digit}, from the right: ")
                self._steps(self._by_digit(a, digit))
                self.add(f". So {a} * {digit * place} = {row}.")
            if digit and total:
                self.columns(row, "+", total)
            total += row
            place *= 10
        if b > 9:
            self.line(f"So {a} * {b} = {total}.")
        return total

    def _by_digit(self, a: int, digit: int) -> list[tuple[str, str]]:
        carry, steps = 0, []
        for x in _digits(a, len(str(a))):
            total = x * digit + carry
            slip = self._forgotten(carry, f"{x} * {digit} = {x * digit}, write {x * digit % 10}")
            more = f" + {carry}" if carry else ""
            after = f", carry {total // 10}" if total > 9 else ""
            steps.append((slip, f"{x} * {digit}{more} = {total}, write {total % 10}{after}"))
            carry = total // 10
        if carry:
            steps.append(("", f"write {carry}"))
        return steps


def _digits(number: int, width: int) -> list[int]:
    """From the right, with zeros up to ``width``."""
    return [int(digit) for digit in str(number).zfill(width)[::-1]]
