"""The answer: which configuration to take in each setting, what it gains, how sure it is, what limits it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from orchestrator.report.comparisons import Line, has_limits
from orchestrator.report.limits import limits
from orchestrator.report.names import Names
from orchestrator.report.options import Options
from orchestrator.report.pairs import groups, reference_of
from orchestrator.report.variants import Variant
from orchestrator.report.words import amounts, fewest_runs, units, words
from orchestrator.store.schema import quoted_from


@dataclass(frozen=True)
class Answer:
    """For one model in one setting. ``choice`` names what to take or stay with, None where nothing fits;
    ``take`` says it in a sentence; ``gains``, ``sure`` and ``limits`` are lists of sentences; ``decided``:
    whether a test says so."""

    where: str
    choice: str | None
    take: str
    decided: bool
    gains: tuple[str, ...]
    sure: tuple[str, ...]
    limits: tuple[str, ...]


def answers(
    variants: Sequence[Variant], lines: Sequence[Line], options: Options, names: Names
) -> list[Answer]:
    """One per model, kind of GPU and setting, in their order. Models are not chosen among, since they answer
    differently: the tables compare them."""
    by_pair: dict[tuple[Variant, Variant], list[Line]] = {}
    for line in lines:
        by_pair.setdefault((line.pair.baseline, line.pair.variant), []).append(line)
    found = []
    for group in groups(variants):
        reference = reference_of(group, options.baseline)
        against = {one: by_pair.get((reference, one), []) for one in group if reference is not None}
        where = f"{names.model(group[0])}, {names.setting(group[0])}"
        say = _Say(options, names)
        found.append(_answer(where, group, reference, against, say))
    return found


def headline(answers: Sequence[Answer]) -> str | None:
    """All answers in one sentence, where there are several."""
    chosen: dict[str, list[Answer]] = {}
    for one in answers:
        if one.choice is not None:
            chosen.setdefault(one.choice, []).append(one)
    if len(answers) < 2 or not chosen:
        return None
    parts = [
        f"{name} in {len(of)} of {len(answers)} settings "
        f"({sum(one.decided for one in of) or 'none'} decided by a test)"
        for name, of in sorted(chosen.items(), key=lambda pair: -len(pair[1]))
    ]
    return f"{'; '.join(parts)}."


@dataclass(frozen=True)
class _Say:
    """What every sentence needs."""

    options: Options
    names: Names

    def words(self, line: Line) -> str:
        return words(line, self.options)

    def name(self, variant: Variant) -> str:
        return self.names.engine(variant)


Against = Mapping[Variant, Sequence[Line]]  # each variant's lines, against the reference


def meets_limits(variant: Variant, options: Options) -> bool | None:
    """Whether the share of requests within the limits is reached; None where no limit is set."""
    share = variant.mean("slo_attainment")
    return None if not has_limits(variant) or share is None else share >= options.slo_attainment


def _answer(
    where: str, group: Sequence[Variant], reference: Variant | None, against: Against, say: _Say
) -> Answer:
    """What has no number to choose by is named and not chosen among, as if it had given nothing."""
    known = [one for one in group if _is_known(one)]
    if len(group) == 1 or len(known) == len(group):
        return _chosen(where, group, reference, against, say)
    unknown = [one for one in group if one not in known]
    said = f"How much {', '.join(say.name(one) for one in unknown)} gave is not known"
    if reference in unknown or len(known) < 2:
        lacks = "hold the others against" if known and reference in unknown else "choose"
        return Answer(where, None, f"{said}: there is nothing to {lacks}.", False, (), (), ())
    answer = _chosen(where, known, reference, against, say)
    taken = reference is not None and answer.choice != say.name(
        reference
    )  # its gain holds whatever others gave
    sure = (*answer.sure, f"{said}: not among the choices")
    return replace(answer, decided=answer.decided and taken, sure=sure)


def _is_known(variant: Variant) -> bool:
    """Whether it has what `_worth` and `meets_limits` go by."""
    columns = ("goodput_per_s", "slo_attainment") if has_limits(variant) else ("output_token_per_s",)
    return all(variant.values(column) for column in columns)


def _chosen(
    where: str, group: Sequence[Variant], reference: Variant | None, against: Against, say: _Say
) -> Answer:
    fit = [one for one in group if meets_limits(one, say.options) is not False]
    if not fit:
        best = max(group, key=lambda one: one.mean("slo_attainment") or 0.0)
        take = (
            f"Nothing measured keeps the limits: the nearest, {say.name(best)}, does for "
            f"{100 * (best.mean('slo_attainment') or 0):.0f} % of the requests; "
            f"{100 * say.options.slo_attainment:.0f} % are asked for."
        )
        return Answer(where, None, take, False, (), (), tuple(limits(best)))
    if len(group) == 1:
        lacks = f", without its baseline opt={say.options.baseline.get('opt', 'none')}"
        take = (
            f"Only {say.name(group[0])} was measured here{'' if reference is not None else lacks}: "
            f"there is nothing to {'choose' if reference is not None else 'hold it against'}."
        )
        return Answer(where, None, take, False, _numbers(group[0]), (), tuple(limits(group[0])))
    if reference is None:
        take = "No baseline was measured here, so there is nothing to hold the others against."
        return Answer(where, None, take, False, (), (), tuple(limits(max(fit, key=_worth))))
    proven = [one for one in fit if is_gain(against[one], say.options)]
    if proven:
        return _take(where, max(proven, key=_worth), reference, fit, against, say)
    if reference not in fit:
        return _only_fit(where, reference, fit, against, say)
    return _stay(where, reference, fit, against, say)


def line_of(lines: Sequence[Line], *keys: str) -> Line | None:
    """The first of these measures that could be compared."""
    for key in keys:
        for line in lines:
            if line.measure.key == key and line.why_not is None:
                return line
    return None


def goal_of(lines: Sequence[Line]) -> Line | None:
    """What decides: goodput where there are limits, else throughput."""
    return line_of(lines, "goodput", "throughput")


def is_gain(lines: Sequence[Line], options: Options) -> bool:
    goal = goal_of(lines)
    if goal is None or goal.verdict != "different" or not goal.better:
        return False
    return _keeps_accuracy(line_of(lines, "accuracy"), options)


def _keeps_accuracy(line: Line | None, options: Options) -> bool:
    """Shown not to be worse by the margin; nothing to show where nothing is graded."""
    if line is None:
        return True
    return line.low is not None and line.low > -options.accuracy_margin


def loses_accuracy(lines: Sequence[Line]) -> bool:
    """Whether a test shows it to be lower."""
    accuracy = line_of(lines, "accuracy")
    return accuracy is not None and accuracy.verdict == "different" and accuracy.better is False


def _worth(variant: Variant) -> float:
    """Goodput, or tokens per second, per GPU where there are any."""
    gpus = variant.row.get("gpus") or 1
    value = variant.mean("goodput_per_s") if has_limits(variant) else variant.mean("output_token_per_s")
    return (value or 0.0) / gpus


def _take(
    where: str, best: Variant, reference: Variant, fit: Sequence[Variant], against: Against, say: _Say
) -> Answer:
    goal, accuracy = goal_of(against[best]), line_of(against[best], "accuracy")
    assert goal is not None
    gain = amounts(goal, *sorted((abs(goal.low or 0.0), abs(goal.high or 0.0))))
    kept = f"; {say.words(accuracy)}" if accuracy is not None else ""
    take = f"Take {say.name(best)}: {gain} more {_what(goal)} than {say.name(reference)}{kept}."
    rivals = [one for one in fit if _worth(one) > _worth(best)]
    also = tuple(
        f"{say.name(one)} gave more still, but {_doubt(one, against, say)}"
        for one in rivals
        if one is not reference
    )
    gains = _beside(goal, against[best], say)
    return Answer(
        where, say.name(best), take, True, gains, (*_sure(goal, accuracy), *also), tuple(limits(best))
    )


def _only_fit(where: str, reference: Variant, fit: Sequence[Variant], against: Against, say: _Say) -> Answer:
    best = max(fit, key=_worth)
    share = 100 * (reference.mean("slo_attainment") or 0.0)
    take = (
        f"Take {say.name(best)}, provisionally: {say.name(reference)} keeps the limits for {share:.0f} % of "
        f"the requests, this one for {100 * (best.mean('slo_attainment') or 0.0):.0f} %; no test says so."
    )
    goal = goal_of(against[best])
    return Answer(
        where,
        say.name(best),
        take,
        False,
        _beside(goal, against[best], say),
        _how_to_know([goal]),
        tuple(limits(best)),
    )


def _stay(where: str, reference: Variant, fit: Sequence[Variant], against: Against, say: _Say) -> Answer:
    others = [one for one in fit if one is not reference]
    goals = [line for one in others if (line := goal_of(against[one])) is not None]
    told = tuple(_told(line, against[line.pair.variant], say) for line in goals)
    best = max(others, key=_worth)
    settled = all(line.verdict in ("different", "equivalent") for line in goals)
    if _worth(best) <= _worth(reference):
        decided = settled and bool(goals)
        more = (
            "no other configuration gave more"
            if decided
            else "it gave most, but the differences are not decided"
        )
        return Answer(
            where,
            say.name(reference),
            f"Stay with {say.name(reference)}: {more}.",
            decided,
            told,
            _how_to_know(goals),
            tuple(limits(reference)),
        )
    more_of = [one for one in others if _worth(one) > _worth(reference)]
    unlike = [one for one in more_of if not _is_equivalent(goal_of(against[one]))]
    if settled and not unlike:
        goal = goal_of(against[best])
        assert goal is not None
        take = (
            f"Stay with {say.name(reference)}: {say.name(best)} is no gain, {_what(goal)} {say.words(goal)}."
        )
        return Answer(where, say.name(reference), take, True, told, (), tuple(limits(reference)))
    able = [one for one in unlike or more_of if not loses_accuracy(against[one])]
    best = max(able or unlike or more_of, key=_worth)
    doubt = _doubt(best, against, say)
    take = f"Stay with {say.name(reference)} for now: {say.name(best)} gave more, but {doubt}."
    return Answer(
        where, say.name(reference), take, False, told, _how_to_know(goals), tuple(limits(reference))
    )


def _told(goal: Line, lines: Sequence[Line], say: _Say) -> str:
    accuracy = line_of(lines, "accuracy")
    lost = f"; accuracy: {say.words(accuracy)}" if accuracy is not None and loses_accuracy(lines) else ""
    return f"{say.name(goal.pair.variant)}, {_what(goal)}: {say.words(goal)}{lost}"


def _is_equivalent(goal: Line | None) -> bool:
    return goal is not None and goal.verdict == "equivalent"


def _doubt(variant: Variant, against: Against, say: _Say) -> str:
    """Why a variant that gave more is not the one to take."""
    goal, accuracy = goal_of(against[variant]), line_of(against[variant], "accuracy")
    if goal is None:
        return "it could not be compared"
    if accuracy is not None and loses_accuracy(against[variant]):
        return f"its accuracy is {say.words(accuracy)}"
    if goal.verdict == "different" and not _keeps_accuracy(accuracy, say.options) and accuracy is not None:
        return (
            f"that its accuracy holds within {100 * say.options.accuracy_margin:g} points is not shown: "
            f"{say.words(accuracy)}"
        )
    return f"{_what(goal)}: {say.words(goal)}"


def _what(goal: Line) -> str:
    per = " per GPU" if goal.measure.per_gpu else ""
    return f"requests within the limits{per}" if goal.measure.key == "goodput" else f"tokens/s{per}"


def _beside(goal: Line | None, lines: Sequence[Line], say: _Say) -> tuple[str, ...]:
    """What the same pair says of the other measures."""
    return tuple(
        f"{line.measure.title}: {say.words(line)}"
        for line in lines
        if line is not goal and line.why_not is None
    )


def _sure(goal: Line, accuracy: Line | None) -> tuple[str, ...]:
    said = [f"{units(goal)}, p = {p_text(goal.adjusted_p)} after the correction over the whole report"]
    if accuracy is not None and accuracy.comparison is not None:
        said.append(f"accuracy over {accuracy.comparison.items} questions that both answered")
    elif accuracy is None:
        said.append("nothing was graded here: what it does to accuracy is not known")
    return tuple(said)


def _how_to_know(lines: Sequence[Line | None]) -> tuple[str, ...]:
    single = [line for line in lines if line is not None and line.verdict == "within this run"]
    if not single:
        return ()
    fewest = max(fewest_runs(line) for line in single)
    quoted = any(quoted_from(line.pair.variant.row) is not None for line in single)
    tells = "" if quoted else f" The same sweep with runs={fewest} tells."
    return (f"One run on a side: what another would give is not known.{tells}",)


def _numbers(variant: Variant) -> tuple[str, ...]:
    value = variant.mean("output_token_per_s")
    return () if value is None else (f"{value:,.0f} tokens/s",)


def p_text(p: float | None) -> str:
    """For people."""
    if p is None:
        return "–"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
