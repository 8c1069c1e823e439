"""What a study leaves: the chosen configuration, tables, a figure, and its cost."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedapm_mpi.analysis.plots import COLORS, STYLE, plain, pyplot, write_figure
from fedapm_mpi.config.yaml_io import dump
from fedapm_mpi.errors import ConfigError
from fedapm_mpi.studies.tune.halving import mean_value
from fedapm_mpi.studies.tune.importance import Importance, importances
from fedapm_mpi.studies.tune.record import Trial
from fedapm_mpi.studies.tune.study import Study
from fedapm_mpi.studies.tune.trials import chosen_values
from fedapm_mpi.utils.atomic_io import atomic_write, write_csv, write_text

SHOWN = 10
"""Trials in the table of the best."""


@dataclass(frozen=True)
class Cost:
    """What the runs of a study have cost."""

    passes: float
    """Passes over the training data."""

    rounds: int
    seconds: float
    cpu_seconds: float | None
    """Of all processes; unknown if some runs were jobs of their own."""

    def __str__(self) -> str:
        cpu = self.cpu_seconds
        used = "" if cpu is None else f", {cpu:,.0f} s of CPU time"
        return (
            f"{self.passes:,.1f} passes over the training data, {self.rounds:,} rounds,"
            f" {self.seconds:,.0f} s{used}"
        )


def cost_of(trials: Sequence[Trial]) -> Cost:
    """Return what the runs of trials have cost, those that have failed included.

    A failed run counts up to the last rung that it has reached.
    """
    known = [one for trial in trials for one in trial.results]
    passes = sum(
        trial.passes * trial.rounds_done / trial.rounds
        for trial in trials
        if trial.rounds
    )
    cpu = [one.cpu_seconds for one in known if one.cpu_seconds is not None]
    return Cost(
        passes,
        sum(trial.rounds_done for trial in trials),
        sum(one.seconds for one in known),
        sum(cpu) if len(cpu) == len(known) else None,
    )


def write_report(study: Study) -> tuple[str, list[str]]:
    """Write the results of a study that is over; return its last line, and notes.

    Parameters
    ----------
    study
        The study, at least one of whose trials was trained to the end.
    """
    chosen = study.best()
    assert chosen is not None
    out, space = study.out, study.space
    values = chosen_values(study.base, space, chosen.params, chosen.rounds)
    write_text(out / "best.yaml", dump(values))
    write_table(study)
    found = importances(
        space, study.searched, higher_is_better=study.plan.higher_is_better
    )
    write_text(out / "tune.md", _markdown(study, chosen, found))
    notes = []
    try:
        draw(study, found, out / "tune.png")
    except ConfigError as error:
        notes.append(f"no tune.png: {error}")
    return _closing(study, chosen), notes


def write_table(study: Study) -> None:
    """Write the trials as CSV, with nothing that depends on time or on ranks.

    That includes the words of an error, which name the client that failed first.
    """
    names = [one.name for one in study.space]
    rungs = [f"{study.metric}_at_{share}" for share in study.plan.rungs]
    header = ["trial", "repeats", "seed", "generation", "state", *names]
    header += ["rounds", "passes"]
    header += ["personal_parameters", *rungs, "reason"]
    rows = []
    for trial in study.trials:
        whole = study.space.whole(trial.params)
        values: list[float | None] = [one.value for one in trial.results]
        missing: list[float | None] = [None] * (len(rungs) - len(values))
        last = trial.repeats is not None  # it has the last rung alone
        values = missing + values if last else values + missing
        reason = "" if trial.failure is None else trial.failure.kind
        rows.append(
            [
                trial.number,
                trial.repeats,
                study.base["seed"] + trial.seed,
                trial.generation,
                state_of(trial),
                *(whole.get(name) for name in names),
                trial.rounds,
                round(trial.passes, 6),
                trial.personal,
                *values,
                reason,
            ]
        )
    write_csv(study.out / "trials.csv", header, rows)


def state_of(trial: Trial) -> str:
    """Return what became of a trial, in a word."""
    if trial.failure is not None:
        return "failed"
    return "complete" if trial.complete else "stopped"


def _closing(study: Study, chosen: Trial) -> str:
    return (
        f"trial {chosen.number} of {len(study.searched)} is the best: "
        f"{_value(study, chosen)} on validation parts, "
        f"{_described(study, chosen)}; the search took "
        f"{cost_of(study.trials)}; next: fedapm train {study.out / 'best.yaml'}"
    )


def _value(study: Study, chosen: Trial) -> str:
    """Return the value of the chosen trial, and over how many seeds it is."""
    seeds = 1 + sum(one.repeats == chosen.number for one in study.trials)
    mean = mean_value(study.trials, chosen)
    value = chosen.results[-1].value if mean is None or seeds == 1 else mean
    over = "" if seeds == 1 or mean is None else f" (mean of {seeds} seeds)"
    return f"{study.metric} {value:.4f}{over}"


def _described(study: Study, trial: Trial) -> str:
    """Return what was chosen, in one line."""
    return ", ".join(
        f"{name.removeprefix('algorithm.')} {_shown(value)}"
        for name, value in trial.params.items()
    )


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _ranked(study: Study) -> list[Trial]:
    """Return the trials that have a value: those trained longest first, then by it."""
    known = [trial for trial in study.searched if trial.results and not trial.failure]
    return sorted(
        known,
        key=lambda t: (
            -len(t.results),
            -study.plan.score(t.results[-1].value),
            t.number,
        ),
    )


def _markdown(study: Study, chosen: Trial, found: Sequence[Importance]) -> str:
    """Return the report of a study."""
    spent = cost_of(study.trials)
    failed = [trial for trial in study.trials if trial.failure is not None]
    lines = [
        f"# Tuning {study.config.algorithm['name']} on {study.manifest.dataset}",
        "",
        f"Trial {chosen.number} of {len(study.searched)} is the best: "
        f"{_value(study, chosen)}, the mean over clients on their validation parts "
        f"after {chosen.rounds} rounds ({chosen.passes:.4g} passes over the training "
        "data). `best.yaml` is its configuration.",
        "",
        "## The best trials",
        "",
        *_table(study, _ranked(study)[:SHOWN]),
        "",
        "## What mattered",
        "",
        "Share of the variance between trials at the first rung that goes with each "
        "key (epsilon squared of an analysis of variance; shares may overlap).",
        "",
        "| key | share | best | trials |",
        "| --- | --- | --- | --- |",
        *(
            f"| {one.name} | {'' if one.share is None else f'{one.share:.2f}'} | "
            f"{one.best} | {one.trials} |"
            for one in found
        ),
        "",
        "## Cost",
        "",
        f"{spent}. A trial that is trained to the end takes at most {study.passes:.4g} "
        f"passes; {sum(t.complete for t in study.searched)} of {len(study.searched)} "
        f"trials were, and {len(failed)} failed.",
        *([""] if failed else []),
        *(f"- trial {t.number}: {_reason(t)}" for t in failed),
    ]
    return "\n".join(lines) + "\n"


def _reason(trial: Trial) -> str:
    assert trial.failure is not None
    return " ".join(trial.failure.message.split())


def _table(study: Study, trials: Sequence[Trial]) -> list[str]:
    """Return a table of trials in Markdown, without what is the same for all."""
    keys = list(dict.fromkeys(one.key for one in study.space.free))
    header = ["trial", *keys, "rounds", "trained", study.metric]
    lines = [f"| {' | '.join(header)} |", f"|{' --- |' * len(header)}"]
    for trial in trials:
        chosen = {
            one.key: trial.params[one.name]
            for one in study.space.free
            if one.name in trial.params
        }
        cells = [_shown(chosen.get(key, "")) for key in keys]
        row = [str(trial.number), *cells, str(trial.rounds), str(trial.rounds_done)]
        row.append(f"{trial.results[-1].value:.4f}")
        lines.append(f"| {' | '.join(row)} |")
    return lines


def draw(study: Study, found: Sequence[Importance], path: Path) -> None:
    """Draw the values of trials in their order, and what mattered, as PNG.

    Raises
    ------
    ConfigError
        If matplotlib is not installed.
    """
    plt = pyplot()
    with plt.rc_context(STYLE):
        figure, (left, right) = plt.subplots(
            1, 2, figsize=(11, 3.8), layout="constrained"
        )
        for step, share in enumerate(study.plan.rungs):
            at = [t for t in study.searched if len(t.results) > step]
            left.plot(
                [trial.number for trial in at],
                [trial.results[step].value for trial in at],
                "o",
                color=COLORS[step % len(COLORS)],
                label=f"after {share} of the budget",
            )
        numbers, values = _best_so_far(study)
        left.step(numbers, values, where="post", color="#666666", label="best")
        title = plain(f"{study.metric} on validation parts")
        left.set(title=title, xlabel="trial")
        left.legend()
        known = [one for one in found if one.share is not None][::-1]
        right.barh(
            [plain(one.name) for one in known],
            [one.share or 0.0 for one in known],
            color=COLORS[0],
        )
        right.set(title="Share of the variance between trials", xlim=(0, 1))
        atomic_write(path, lambda part: write_figure(figure, "png", part))
        plt.close(figure)


def _best_so_far(study: Study) -> tuple[list[int], list[float]]:
    """Return the trials that were trained to the end, and the best value so far."""
    numbers: list[int] = []
    values: list[float] = []
    for trial in study.searched:
        if not trial.complete:
            continue
        value = trial.results[-1].value
        if values and study.plan.score(value) < study.plan.score(values[-1]):
            value = values[-1]
        numbers.append(trial.number)
        values.append(value)
    return numbers, values
