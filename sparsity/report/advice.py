"""What a comparison comes to, in sentences: the smallest and the fastest file that keep the dense AP."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sparsity.comparing.row import REFERENCES, ComparedRow, reference_index
from sparsity.report.fastest import KEPT, join_words
from sparsity.report.kept import Compared
from sparsity.sweeping.table import LEAST_AP

MOST_NAMED = 2
"""The most rows that a sentence about the noise names. It counts the others."""


@dataclass(frozen=True)
class Aim:
    """What the best file is chosen by.

    name: in sentences. better: compared with another file. of: a row's figure; the lower, the better.
    show: the figure as text.
    """

    name: str
    better: str
    of: Callable[[ComparedRow], float]
    show: Callable[[ComparedRow], str]


SMALLEST = Aim("smallest", "smaller", lambda row: row.file_mb, lambda row: f"{row.file_mb:.2f} MB")
FASTEST = Aim(
    "fastest", "faster", lambda row: row.latency_ms, lambda row: f"{row.latency_ms:.1f} ms in {row.engine}"
)


@dataclass(frozen=True)
class Choice:
    """The best file for an aim among those that keep some shares of the dense AP.

    aim: smallest or fastest. shares: of the dense AP, in falling order. technique, engine: its row. path: the
    file. command: what makes it, as a line for a shell; "" for the checkpoint itself. text: a sentence with
    its figures. noise: sentences about differences that are not beyond the noise.
    """

    aim: str
    shares: tuple[float, ...]
    technique: str
    engine: str
    path: str
    command: str
    text: str
    noise: tuple[str, ...] = ()


@dataclass(frozen=True)
class Advice:
    """The choices, and sentences about what could not be chosen or told."""

    choices: tuple[Choice, ...] = ()
    notes: tuple[str, ...] = ()


def advise(rows: Sequence[ComparedRow]) -> Advice:
    """Return the smallest and the fastest file that keep the shares KEPT of the dense AP.

    The dense AP is that of the reference row (see comparing.row). The dense file competes, too.
    """
    reference = reference_index([row.technique for row in rows])
    if reference is None:
        names = " or ".join(REFERENCES)
        return Advice(notes=(f"Without the technique {names}, there is no dense AP to compare with.",))
    compared = Compared(rows, rows[reference])
    if not compared.dense.AP >= LEAST_AP:
        reason = f"The dense network has AP {compared.dense.AP:.3f} here, below {LEAST_AP}"
        return Advice(notes=(f"{reason}, so nothing can be told about how much of it a file keeps.",))
    missed = [share for share in KEPT if not any(compared.keeps(row, share) for row in compared.others)]
    kept = [share for share in KEPT if share not in missed]
    choices = [choice for aim in (SMALLEST, FASTEST) for choice in _choose(compared, kept, aim)]
    return Advice(tuple(choices), (*_describe_missed(compared, missed), *_describe_unknown(rows)))


def format_advice(advice: Advice) -> str:
    """Return the sentences for the terminal. Commands are lines of their own, to be copied."""
    lines = list(advice.notes)
    for choice in advice.choices:
        lines += [choice.text, *(f"  {line}" for line in choice.noise), f"  file: {choice.path}"]
        lines += [f"  {choice.command}"] if choice.command else []
    return "\n".join(lines)


def _choose(compared: Compared, shares: Sequence[float], aim: Aim) -> list[Choice]:
    """Return the best row for each share, as one choice where it is the best for several."""
    best: dict[int, list[float]] = {}
    for share in shares:
        keeping = [(i, row) for i, row in enumerate(compared.rows) if compared.keeps(row, share)]
        # Among equals, a file that was made is no better than the dense one.
        index, _ = min(keeping, key=lambda one: (aim.of(one[1]), not compared.is_dense(one[1])))
        best.setdefault(index, []).append(share)
    return [_choice(compared, compared.rows[index], tuple(kept), aim) for index, kept in best.items()]


def _choice(compared: Compared, row: ComparedRow, shares: tuple[float, ...], aim: Aim) -> Choice:
    dense = compared.dense
    text = f"{aim.name.capitalize()} that keeps {_percents(shares)} of the dense AP ({dense.AP:.3f}): "
    if compared.is_dense(row):
        text += f"the dense file itself, {aim.show(row)}. No other file that keeps it is {aim.better}."
    else:
        kept = f"AP {row.AP:.3f}, {row.AP / dense.AP:.1%}"
        text += f"{row.technique}, {aim.show(row)} (dense: {aim.show(dense)}), {kept}."
    noise = _noise_of_share(compared, row, shares, aim)
    return Choice(
        aim=aim.name,
        shares=shares,
        technique=row.technique,
        engine=row.engine,
        path=row.path,
        command=row.made_by,
        text=text,
        noise=(*noise, *(_noise_of_latency(compared, row, shares) if aim is FASTEST else ())),
    )


def _noise_of_share(compared: Compared, row: ComparedRow, shares: Sequence[float], aim: Aim) -> list[str]:
    """Return what the intervals of AP leave open: whether the row keeps its share, and others miss it."""
    most, least, sentences = shares[0], shares[-1], []
    if compared.may_miss(row, most):
        sentences.append(
            f"That it keeps {most:.0%} is within the noise: the 95% interval of its change of AP is "
            f"{row.AP_change_low:+.3f} to {row.AP_change_high:+.3f}."
        )
    better = sorted((one for one in compared.others if aim.of(one) < aim.of(row)), key=aim.of)
    missing = [one for one in better if not compared.keeps(one, least) and compared.may_keep(one, least)]
    if missing:
        names = _name(
            missing, lambda one: f"{one.technique} ({aim.show(one)}, {one.AP / compared.dense.AP:.1%})"
        )
        sentences.append(f"{aim.better.capitalize()}, but below {least:.0%} by less than the noise: {names}.")
    return sentences


def _noise_of_latency(compared: Compared, row: ComparedRow, shares: Sequence[float]) -> list[str]:
    """Return which other rows that keep the share are not slower by more than the spread."""
    others = [one for one in compared.rows if one is not row and compared.keeps(one, shares[0])]
    close = [one for one in others if one.latency_p10_ms <= row.latency_p90_ms]
    if not close:
        return []
    names = _name(sorted(close, key=FASTEST.of), lambda one: f"{one.technique}, {FASTEST.show(one)}")
    spread = f"{row.latency_p10_ms:.1f} to {row.latency_p90_ms:.1f} ms, 10th to 90th percentile"
    return [f"Not faster by more than the spread ({spread}) than: {names}."]


def _describe_missed(compared: Compared, missed: Sequence[float]) -> list[str]:
    """Return the sentence about shares that no file keeps but the dense one."""
    if not missed:
        return []
    dense = compared.dense
    text = f"No file but the dense one keeps {_percents(missed, 'or')} of the dense AP ({dense.AP:.3f})"
    if not compared.others:
        return [f"{text}: no other was made."]
    row = max(compared.others, key=lambda one: one.AP)
    text += f". The closest is {row.technique} in {row.engine}: AP {row.AP:.3f}, {row.AP / dense.AP:.1%}."
    if reached := [share for share in missed if compared.may_keep(row, share)]:
        text += f" It misses {_percents(reached)} by less than the noise."
    return [text]


def _describe_unknown(rows: Sequence[ComparedRow]) -> list[str]:
    if all(row.AP_change_low is not None for row in rows):
        return []
    return ["The images were not resampled, so the noise of AP is not known."]


def _name(rows: Sequence[ComparedRow], of: Callable[[ComparedRow], str]) -> str:
    """Return the names of the first rows, and the number of the others."""
    names = [of(row) for row in rows[:MOST_NAMED]]
    more = len(rows) - len(names)
    return "; ".join([*names, f"{more} more"] if more else names)


def _percents(shares: Sequence[float], last: str = "and") -> str:
    return join_words([f"{share:.0%}" for share in shares], last)
