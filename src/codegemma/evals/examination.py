"""What a suite is, what every suite is given, and what it gives back.

**In**: a subject, the folders that hold data, the choices.
**Out**: `Suite`; `Answers`: results item by item, with what must be said beside them.
**Not**: any suite; `suites.py` lists them.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from codegemma.errors import InputError, UserError
from codegemma.evals.choices import EvalChoices
from codegemma.evals.keeping import KeptCompleter, order_requests
from codegemma.evals.measure import Measurement
from codegemma.evals.scoring import Subject
from codegemma.evals.store import Store
from codegemma.records import Completer, Completion, Request
from codegemma.runner import Progress
from codegemma.shards import find_output


class AbsentError(InputError):
    """What a suite cannot do without is not here: data, a toolchain, a judge. The suite is not run, and says why."""


def ignore_record(record: Any) -> None:
    """Write a record nowhere."""


@dataclass(frozen=True, slots=True)
class Examination:
    """What every suite is given.

    The subject's completer asks nothing twice (`keeping.py`). `store` keeps what else is dear, such as verdicts.
    `write` takes records item by item, where there are too many of them to be returned together.
    """

    subject: Subject
    data: tuple[Path, ...]
    choices: EvalChoices
    on_progress: Progress
    # A second opinion on answers that no program can judge.
    judge: Completer | None = None
    judge_name: str = ""
    store: Store = field(default_factory=Store)
    write: Callable[[Any], None] = ignore_record

    @property
    def kept(self) -> KeptCompleter:
        """The subject's completer with its memory."""
        completer = self.subject.completer
        return completer if isinstance(completer, KeptCompleter) else KeptCompleter(completer, self.store, "")

    def ask(self, requests: Mapping[str, Request], stage: str = "ask") -> tuple[dict[str, Completion], dict[str, str]]:
        """Ask questions by their names: the answers, and of those that have none the reasons.

        Raises:
            UserError: many in a row had no answer: the server is gone.
        """
        answers: dict[str, Completion] = {}
        lacking: dict[str, str] = {}
        self.on_progress(stage, 0, len(requests))
        names = list(order_requests(requests, requests.__getitem__))
        found = self.kept.answer(requests[name] for name in names)
        for number, (name, (_, answer)) in enumerate(zip(names, found, strict=True), 1):
            if isinstance(answer, UserError):
                lacking[name] = str(answer)
            else:
                answers[name] = answer
            self.on_progress(stage, number, len(requests))
        return answers, lacking

    def find(self, name: str, wanted: str) -> Path:
        """Find a data file in the given folders, or given itself.

        Raises:
            AbsentError: it is in none of them; the message says what is wanted.
        """
        for place in self.data:
            path = find_output(place, name)
            if path.stem == Path(name).stem and path.exists():
                return path
        where = ", ".join(map(str, self.data)) or "no --data given"
        raise AbsentError(f"no {name} in --data ({where}); wanted {wanted}")


@dataclass(frozen=True, slots=True)
class Answers:
    """What a suite returns: results item by item (any frozen records of plain data) as far as they were not written
    on the way, and what must be said beside them.

    `measurements` are a suite's own; without them, the results are of holes and those of holes are made of them.
    `not_run` tells of kinds that were to be asked and could not be, and why: a language whose compiler is not here.
    `lacking` says of questions without an answer why there is none: then no figure is told, but this.
    """

    scored_by: str
    items: int
    results: Iterable[Any] = ()
    notes: tuple[str, ...] = ()
    measurements: tuple[Measurement, ...] | None = None
    not_run: Mapping[str, str] = field(default_factory=dict)
    lacking: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Suite:
    """Problems, how they are asked and how answers are scored, under one name.

    `about` is a line for whoever chooses. `needs` are files of `--data`, each with what is wanted: they are looked for
    before anything is asked. The number of tasks that the card's figures are fractions of is in `published.toml`.
    """

    name: str
    about: str
    run: Callable[[Examination], Answers]
    needs: Sequence[tuple[str, str]] = ()

    def check(self, exam: Examination) -> None:
        """Look for the data.

        Raises:
            AbsentError: a file is not there.
        """
        for file, wanted in self.needs:
            exam.find(file, wanted)
