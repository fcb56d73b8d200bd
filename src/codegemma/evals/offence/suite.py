"""The suite `cyber-offence`: how many small challenges a model solves at a shell.

**In**: a subject; twelve challenges in six classes, drawn by the seed.
**Out**: for each the record of the shell and whether the flag was submitted; shares with Wilson's intervals.
**Not**: a measure of danger: the machines are toys. A model that solves none of them will hack nothing; one that
solves all has shown that it can use a shell, and no more.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from codegemma.errors import InputError, MissingExtraError
from codegemma.evals.examination import AbsentError, Answers, Examination, Suite
from codegemma.evals.measure import Measurement
from codegemma.evals.offence.agent import ModelAgent
from codegemma.evals.offence.challenge import Challenge, Kind
from codegemma.evals.offence.episode import MAX_TURNS, Agent, Episode, play
from codegemma.evals.offence.logs import LOGS
from codegemma.evals.offence.puzzles import PUZZLES
from codegemma.evals.offence.services import SERVICES
from codegemma.evals.statistics import count_share
from codegemma.sandbox.box import Sandbox
from codegemma.sandbox.process import BoxError
from codegemma.wire import ServerError

CHALLENGES: tuple[Challenge, ...] = (*PUZZLES, *SERVICES, *LOGS)


@dataclass(frozen=True, slots=True)
class OffenceResult:
    """How one challenge went: the commands with what they printed."""

    task_id: str
    kind: Kind
    is_solved: bool
    turns: int
    wrong_flags: int
    record: tuple[tuple[str, str], ...]

    @property
    def item_id(self) -> str:
        """Name the challenge."""
        return self.task_id

    @property
    def metrics(self) -> dict[str, float]:
        """Tell what is compared item by item."""
        return {"solved": float(self.is_solved)}


def run_offence(exam: Examination) -> Answers:
    """Play every challenge once."""
    if exam.choices.unsafe:
        raise AbsentError("cyber-offence gives a model a shell, which is never run without a box; leave --unsafe out")
    chosen = CHALLENGES[: exam.choices.limit]
    agent = ModelAgent(exam.subject, is_chat=exam.choices.is_chat)
    results: list[OffenceResult] = []
    lacking: dict[str, str] = {}
    with _open_boxes() as sandbox:
        for number, challenge in enumerate(chosen, 1):
            try:
                results.append(record_episode(play(challenge, agent, sandbox, seed=exam.choices.seed)))
            except ServerError as error:
                if not error.refuses_question:
                    raise
                lacking[challenge.challenge_id] = str(error)
            except BoxError as error:
                lacking[challenge.challenge_id] = f"it could not be played on this machine: {error}"
            exam.on_progress("play", number, len(chosen))
        safety = ", ".join(f"{name}: {value}" for name, value in sandbox.describe().items())
    form = "in turns of a conversation" if exam.choices.is_chat else "as the record of a shell"
    notes = (f"at most {MAX_TURNS} commands each, asked {form}; boxes without a network ({safety})",)
    measured = tuple(measure_offence(results))
    return Answers("flags submitted", len(chosen), results, notes, measured, lacking=lacking)


def _open_boxes() -> Sandbox:
    try:
        return Sandbox(2)
    except (InputError, MissingExtraError) as error:
        raise AbsentError(str(error)) from error


def play_all(agent: Agent, sandbox: Sandbox, max_turns: int = MAX_TURNS) -> list[Episode]:
    """Let any agent play every challenge."""
    return [play(challenge, agent, sandbox, max_turns=max_turns) for challenge in CHALLENGES]


def record_episode(episode: Episode) -> OffenceResult:
    """Make the record of an episode."""
    exchanges = tuple((command, output) for command, output in episode.exchanges)
    name, kind = episode.challenge.challenge_id, episode.challenge.kind
    return OffenceResult(name, kind, episode.is_solved, len(exchanges), episode.wrong_flags, exchanges)


def measure_offence(results: Sequence[OffenceResult]) -> Iterator[Measurement]:
    """Count what was solved, over all and by class."""
    if not results:
        return
    solved = sum(r.is_solved for r in results)
    yield Measurement("model", "all", None, "solved", "share", count_share(solved, len(results)))
    for kind in Kind:
        rows = [r for r in results if r.kind is kind]
        if rows:
            interval = count_share(sum(r.is_solved for r in rows), len(rows))
            yield Measurement(kind.value, "by class", None, "solved", "share", interval)


OFFENCE = Suite(
    "cyber-offence",
    "twelve capture-the-flag challenges in six classes, played at a shell in a box without a network",
    run_offence,
)
