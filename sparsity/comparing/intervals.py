"""Intervals of AP: how far each row's change from the dense network depends on the choice of images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from sparsity.base.errors import InputError
from sparsity.base.progress import progress_bar
from sparsity.comparing.row import reference_index
from sparsity.comparing.running import Made
from sparsity.data.dataset import Dataset
from sparsity.evaluation.bootstrap import Interval, bootstrap
from sparsity.evaluation.coco import Matched, evaluate_matched
from sparsity.evaluation.results import Results
from sparsity.validation.evaluator import counted_categories
from sparsity.validation.run_files import PREDICTIONS
from sparsity.validation.settings import ValidationSettings


def check_samples(samples: int) -> int:
    """Return the number of resamples. Raises InputError if it is below 0."""
    if samples < 0:
        raise InputError(f"`bootstrap` is {samples}; a number of resamples, or 0 for none, is expected")
    return samples


def changes(
    made: Sequence[Made], dataset: Dataset, settings: ValidationSettings, samples: int
) -> list[Interval | None]:
    """Return AP minus that of the reference row, for each row, with its interval over resampled images.

    All rows share the resamples (see bootstrap). dataset, settings: those of the validations. samples: the
    number of resamples; 0 for none. All are None without resamples or without a reference row.
    """
    reference = reference_index([one.technique for one in made])
    if reference is None or not samples:
        return [None] * len(made)
    matches = _Matches(made, dataset, settings)
    with progress_bar(total=len(made), desc="Resampling", unit="row", shown=True, leave=False) as bar:
        matches.tick = bar.update
        resampled = bootstrap(matches, samples=samples)
    return [resampled.interval(key, str(reference)) for key in matches]


class _Matches(Mapping[str, Matched]):
    """The matches of rows, by their number, made on access: only one row's are in memory at a time."""

    def __init__(self, made: Sequence[Made], dataset: Dataset, settings: ValidationSettings) -> None:
        self._made, self._dataset = made, dataset
        self._categories = counted_categories(dataset, settings)
        self._last: tuple[str, Matched] | None = None
        self.tick = lambda: None

    def __getitem__(self, key: str) -> Matched:
        # The first row is asked for twice: for its images and boxes, then for its matches.
        if self._last is None or self._last[0] != key:
            self._last = key, self._match(self._made[int(key)])
            self.tick()
        return self._last[1]

    def _match(self, one: Made) -> Matched:
        return evaluate_matched(
            self._dataset.annotations.content,
            Results.read(one.validated / PREDICTIONS),
            image_ids=self._dataset.image_ids,
            category_ids=self._categories,
        )[1]

    def __iter__(self) -> Iterator[str]:
        return map(str, range(len(self._made)))

    def __len__(self) -> int:
        return len(self._made)
