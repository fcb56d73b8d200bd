"""Holds a change against what a corpus is held against: licence, opt-out, secrets, block list, quality, pseudonyms.

**In**: a `Change`, the choices of the corpus.
**Out**: the change with pseudonyms in the place of personal data, or the reason why it is not told.
**Not**: rules of its own; all are those of `codegemma build`.
"""

import dataclasses
from collections.abc import Sequence

from codegemma.corpus.block_list import find_blocked, read_block_list
from codegemma.corpus.choices import CorpusChoices
from codegemma.corpus.entries import Listing, refuse
from codegemma.corpus.intake import redact
from codegemma.corpus.judge import judge_license
from codegemma.corpus.names import find_names, load_names_plugin
from codegemma.corpus.opt_out import read_opt_out, refuse_opted_out
from codegemma.corpus.personal import Redaction, apply_redactions, find_personal, read_key
from codegemma.corpus.quality import find_defect
from codegemma.corpus.quality_rules import load_quality_rules
from codegemma.corpus.safety import find_secrets
from codegemma.corpus.secret_rules import load_secret_rules
from codegemma.instruct.history.changes import Change
from codegemma.records import SourceFile


class Screen:
    """The filters of a corpus, for changes."""

    def __init__(self, choices: CorpusChoices) -> None:
        """Read the lists that the choices name.

        Raises:
            InputError: one that cannot be used.
        """
        self._choices = choices
        self._opt_out = read_opt_out(choices.opt_out)
        self._secrets, self._blocked = load_secret_rules(choices.secret_rules), read_block_list(choices.block_list)
        self._quality, self._key = load_quality_rules(choices.quality_rules), read_key(choices.pseudonym_key_file)
        self._names = load_names_plugin(choices.names_plugin)

    def find_reason(self, change: Change, markers: Sequence[str]) -> str | None:
        """Say why a change is not told, if it is not; `markers` are paths of `.noai` files around its files."""
        paths = {path for file in change.files for path in (file.path, file.old_path)}
        if self._is_opted_out(change, sorted(paths), markers):
            return "opted out"
        for file in (text for changed in change.files for text in changed.texts):
            refused = judge_license(file.license, self._choices)
            if refused is not None:
                return f"license: {refused[0]}"
            if reason := self.find_unsafe(file.text, file.path):
                return reason
            defect = find_defect(file.text, self._quality.of_file(file)) if file.text else None
            if defect is not None:
                return f"quality: {defect.reason}"
        return self.find_unsafe(change.message)

    def find_unsafe(self, text: str, path: str = "") -> str | None:
        """Say why a text may not be kept, whatever it is."""
        if (blocked := find_blocked(text, self._blocked)) is not None:
            return f"block list: {blocked.reason}"
        return "safety: secret" if find_secrets(text, path, self._secrets) else None

    def redact(self, change: Change) -> Change:
        """Put pseudonyms into the message and the files: the same for the same, throughout a repository."""
        files = tuple(
            dataclasses.replace(file, before=self._redact_file(file.before), after=self._redact_file(file.after))
            for file in change.files
        )
        return dataclasses.replace(change, message=self.redact_text(change.message, change.repo), files=files)

    def redact_text(self, text: str, repo: str) -> str:
        """Put pseudonyms into a text."""
        return apply_redactions(text, self._find_personal(text, repo))

    def _redact_file(self, file: SourceFile | None) -> SourceFile | None:
        return None if file is None else redact(file, self._find_personal(file.text, file.repo))

    def _find_personal(self, text: str, repo: str) -> list[Redaction]:
        found = find_personal(text, repo, self._key) if self._choices.replace_personal else []
        return found if self._names is None else find_names(text, self._names, repo, self._key, found)

    def _is_opted_out(self, change: Change, paths: Sequence[str], markers: Sequence[str]) -> bool:
        open_entries = [dataclasses.replace(refuse(path, "", ""), refusal=None) for path in (*paths, *markers)]
        listing = refuse_opted_out(Listing(change.repo, change.commit, tuple(open_entries)), self._opt_out)
        refused = {entry.path for entry in listing.entries if entry.refusal is not None}
        return not refused.isdisjoint(paths)
