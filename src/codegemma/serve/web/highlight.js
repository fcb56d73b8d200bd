// Colours code: one scanner for all languages, which differ in their comments, strings and words.
// In: a text and its language. Out: spans. Not: parsing; what a scanner cannot know keeps the colour of text.

const words = (text) => new Set(text.split(" "));
const C_WORDS =
  "auto bool break case catch char class const continue default delete do double else enum export extern false final float for friend if include inline int " +
  "interface long namespace new null nullptr operator override package private protected public return short signed sizeof static struct super switch template " +
  "this throw throws true try typedef typename union unsigned using virtual void volatile while var val fun string object let function import from of in async " +
  "await yield typeof instanceof extends implements undefined as type readonly abstract record";
const WORDS = {
  python: words(
    "and as assert async await break class continue def del elif else except False finally for from global if import in is lambda match case None nonlocal not or " +
      "pass raise return self True try while with yield",
  ),
  rust: words(
    "as async await break const continue crate dyn else enum extern false fn for if impl in let loop match mod move mut pub ref return self Self static struct " +
      "super trait true type unsafe use where while",
  ),
  go: words(
    "break case chan const continue default defer else fallthrough for func go goto if import interface map nil package range return select struct switch true false type var",
  ),
  shell: words("if then else elif fi for in do done while case esac function return local export echo exit set"),
  sql: words(
    "select from where and or not insert into values update set delete create table drop alter join left right inner outer on group by order having limit as distinct null primary key",
  ),
  json: words("true false null"),
  c: words(C_WORDS),
};
const ALIASES = {
  py: "python", python3: "python", pycon: "python", rs: "rust", golang: "go", sh: "shell", bash: "shell", zsh: "shell",
  toml: "shell", yaml: "shell", yml: "shell", make: "shell", dockerfile: "shell",
};
const PLAIN = new Set(["", "text", "txt", "plain", "output", "console", "markdown", "md"]);
const HASH = new Set(["python", "shell"]);

/** Colours a text into `place`. */
export function highlight(place, code, language) {
  const name = ALIASES[language] ?? (language in WORDS ? language : "c");
  if (PLAIN.has(language)) return place.replaceChildren(code);
  if (language === "diff" || language === "patch") return place.replaceChildren(...colourDiff(code));
  const parts = [];
  for (const match of code.matchAll(makeScanner(name))) {
    const [kind, text] = Object.entries(match.groups).find(([, found]) => found !== undefined);
    parts.push(span(nameKind(kind, text, name, code, match.index), text));
  }
  place.replaceChildren(...parts);
}

function makeScanner(name) {
  const comment = HASH.has(name) ? "#[^\\n]*" : name === "sql" ? "--[^\\n]*" : "//[^\\n]*|/\\*[^]*?(?:\\*/|$)";
  const long = name === "python" ? '[rbfuRBFU]{0,2}(?:"""[^]*?(?:"""|$)|\'\'\'[^]*?(?:\'\'\'|$))|' : "";
  const string = `${long}"(?:\\\\[^]|[^"\\\\\\n])*"?|'(?:\\\\[^]|[^'\\\\\\n])*'?` + (name === "c" || name === "go" ? "|`(?:\\\\[^]|[^`\\\\])*`?" : "");
  return new RegExp(
    `(?<comment>${comment})|(?<string>${string})|(?<number>\\b(?:0[xXbBoO][\\da-fA-F_]+|\\d[\\d_]*(?:\\.\\d+)?(?:[eE][+-]?\\d+)?)\\b)` +
      `|(?<word>@?[\\p{L}_$][\\p{L}\\d_$]*)|(?<sign>[-+*/%=<>!&|^~?:]+)|(?<rest>\\s+|[^])`,
    "gu",
  );
}

function nameKind(kind, text, language, code, at) {
  if (kind !== "word") return kind === "rest" ? "" : kind;
  if (WORDS[language].has(language === "sql" ? text.toLowerCase() : text)) return "keyword";
  if (text.startsWith("@")) return "decorator";
  if (/^\s*\(/.test(code.slice(at + text.length, at + text.length + 3))) return "call";
  return /^[A-Z]/.test(text) ? "type" : "";
}

function colourDiff(code) {
  return code.split(/(?<=\n)/).map((line) => {
    const kind = line.startsWith("@@") ? "type" : line.startsWith("+") ? "added" : line.startsWith("-") ? "removed" : "";
    return span(kind, line);
  });
}

function span(kind, text) {
  if (!kind) return document.createTextNode(text);
  const made = document.createElement("span");
  made.className = `t-${kind}`;
  made.textContent = text;
  return made;
}
