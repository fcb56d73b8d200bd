r"""Poses a question in another language, and makes a program of an answer.

**In**: a `Question`, a `Target`.
**Out**: `Posed`: the prompt, and around an answer the files of a program that tells what its calls give.
**Not**: what the calls should give: a program never holds that, except a stub, which is made to.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from string import Template

from codegemma.evals.babelcode.languages import Target
from codegemma.evals.babelcode.questions import Question

_PYTHON_TEXT = re.compile(r"'([^'\"\n]*)'(?=[\s,\])}:;.]|$)")
_WORD = re.compile(r"[A-Za-z_]\w*")


@dataclass(frozen=True, slots=True)
class Posed:
    """A question in a language. A model sees `prompt`; `after` closes what the prompt opened."""

    question: Question
    target: Target
    prompt: str
    after: str

    def write_files(self, answer: str, *, has_fixes: bool = False) -> dict[str, str]:
        """Write the files of the program; with fixes, with the imports that the answer needs."""
        target, question = self.target, self.question
        name = target.spell_name(question.name)
        shared = {"name": name, "header": target.program["header"].strip("\n")}
        calls, each = [], []
        for index, call in enumerate(question.calls):
            types = [parameter.type for parameter in question.parameters]
            spelled = [target.spell_value(v, t) for v, t in zip(call.arguments, types, strict=True)]
            values = shared | {"index": str(index), "arguments": ", ".join(spelled)}
            calls.append(Template(target.program["call"]).substitute(values))
            each.append(Template(target.program.get("each", "")).substitute(values))
        parts = shared | {"answer": self.prompt + answer + self.after, "calls": "\n".join(calls), "each": "".join(each)}
        files = {
            file: Template(frame).substitute(parts).lstrip("\n") for file, frame in target.program["files"].items()
        }
        return _add_imports(files, answer, target) if has_fixes else files

    def write_stub(self) -> str:
        """Write an answer that gives the expected values in turn, whatever it is called with."""
        returns = self.question.returns
        values = ", ".join(self.target.spell_value(call.expected, returns) for call in self.question.calls)
        spelled = self.target.spell_type(returns, is_item=True)
        return (
            Template(self.target.stub).substitute(returns=spelled, values=values).removesuffix(self.after.strip("\n"))
        )

    def write_solution(self) -> str:
        """Write the published solution as an answer in Python: defined a second time, under this language's name."""
        name = re.escape(self.question.name)
        solution = re.sub(rf"\b{name}\b", self.target.spell_name(self.question.name), self.question.solution)
        return f"    pass\n\n{solution}"


def pose(question: Question, target: Target) -> Posed:
    """Pose a question in a language: what it asks for as a comment, and the head of the function."""
    if target.key in question.prompts:
        return Posed(question, target, question.prompts[target.key], target.prompt.get("after", ""))
    prompt, indent = target.prompt, target.prompt.get("indent", "")
    parameters = ", ".join(
        Template(prompt["parameter"]).substitute(
            type=target.spell_type(parameter.type), name=target.spell_parameter(parameter.name)
        )
        for parameter in question.parameters
    )
    returns = target.spell_type(question.returns)
    name = target.spell_name(question.name)
    signature = Template(prompt["signature"]).substitute(name=name, parameters=parameters, returns=returns)
    comment = _write_comment(translate_text(question, target), target)
    if prompt.get("is_comment_inside"):
        lines = [signature, *(f"    {line}" if line else "" for line in comment)]
    else:
        lines = [*comment, signature]
    body = "".join(f"{indent}{line}".rstrip() + "\n" for line in lines)
    return Posed(question, target, prompt.get("before", "") + body, prompt.get("after", ""))


def translate_text(question: Question, target: Target) -> str:
    """Put the words, the names and the literals of a language in place of Python's."""
    words = dict(target.words)
    words |= {word.capitalize(): spelled.capitalize() for word, spelled in target.words.items() if word.islower()}
    words |= {f"{word}s": f"{spelled}s" for word, spelled in words.items() if word.lower() == word != word.title()}
    words |= {"Python": target.name, "python": target.name, question.name: target.spell_name(question.name)}
    words |= {p.name: target.spell_parameter(p.name) for p in question.parameters if p.name in target.reserved}
    is_python = target.key == "python"
    text = question.text if is_python else _PYTHON_TEXT.sub(r'"\1"', question.text)
    return _WORD.sub(lambda match: words.get(match[0], match[0]), text)


def _write_comment(text: str, target: Target) -> list[str]:
    for sign, spelled in target.prompt.get("forbidden", {}).items():
        text = text.replace(sign, spelled)
    first, mark, last = target.prompt["comment"]
    lines = [line.rstrip() for line in text.strip().splitlines()] or [""]
    if target.prompt.get("is_comment_inside"):
        return [first + lines[0], *lines[1:], last]
    return [*([first] if first else []), *(f"{mark}{line}".rstrip() for line in lines), *([last] if last else [])]


def _add_imports(files: Mapping[str, str], answer: str, target: Target) -> dict[str, str]:
    """Import what an answer uses of the packages that a header leaves out."""
    if not target.imports:
        return dict(files)
    used = [
        package
        for package in target.imports["packages"]
        if re.search(Template(target.imports["use"]).substitute(name=package.rpartition("/")[2]), answer)
    ]
    lines = "".join(Template(target.imports["line"]).substitute(package=package) + "\n" for package in used)
    after = target.imports["after"]
    return {file: text.replace(after, after + lines, 1) if answer in text else text for file, text in files.items()}
