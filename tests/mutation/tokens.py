"""C++ source as tokens: as much of the language as it takes to find statements and expressions in code in the style of this repository."""

import re
from dataclasses import dataclass

TOKEN = re.compile(
    r"(?P<space>\s+)"
    r"|(?P<comment>//[^\n]*|/\*.*?\*/)"
    r"|(?P<directive>(?<![^\n])[ \t]*\#(?:\\\n|[^\n])*)"
    r'|(?P<string>"(?:\\.|[^"\\\n])*"|(?<![0-9a-zA-Z_])\'(?:\\.|[^\'\\\n])*\')'
    r"|(?P<number>(?:\d[\w']*\.?\d*\w*))"
    r"|(?P<word>[A-Za-z_]\w*)"
    r"|(?P<sign>->|\+\+|--|<=>|<<=|<=|>=|==|!=|&&|\|\||\+=|-=|\*=|/=|::|\.\.\.|<<|[{}()\[\];,<>=+\-*/%&|^!~?:.\#\\])",
    re.DOTALL,
)

PAIRS = {"(": ")", "[": "]", "{": "}"}


@dataclass
class Token:
    kind: str
    text: str
    start: int
    end: int
    # Whether there is space before and after it: what distinguishes an operator from a template's bracket or a reference.
    spaced: bool = False


class Source:
    """The text of one file, and its tokens with the partner of each bracket."""

    def __init__(self, text):
        self.text = text
        self.tokens = []
        position = 0
        while position < len(text):
            match = TOKEN.match(text, position)
            if not match:
                raise ValueError(f"cannot read {text[position:position + 40]!r}")
            if match.lastgroup not in ("space", "comment", "directive"):
                self.tokens.append(Token(match.lastgroup, match.group(), match.start(), match.end()))
            position = match.end()
        for token in self.tokens:
            before, after = text[token.start - 1 : token.start], text[token.end : token.end + 1]
            token.spaced = before.isspace() and after.isspace()
        self.partner = {}
        open_brackets = []
        for index, token in enumerate(self.tokens):
            if token.text in PAIRS and token.kind == "sign":
                open_brackets.append(index)
            elif token.text in PAIRS.values() and token.kind == "sign":
                opening = open_brackets.pop()
                self.partner[opening] = index
                self.partner[index] = opening

    def __getitem__(self, index):
        return self.tokens[index].text if 0 <= index < len(self.tokens) else ""

    def line(self, index):
        return self.text.count("\n", 0, self.tokens[index].start) + 1

    def column(self, index):
        return self.tokens[index].start - self.text.rfind("\n", 0, self.tokens[index].start)

    def flat(self, begin, end, changes=None):
        """Tokens begin..end-1 on one line, without comments. `changes`: token index -> what stands in its place."""
        changes = changes or {}
        parts = []
        for index in range(begin, end):
            if parts and self.tokens[index].start > self.tokens[index - 1].end:
                parts.append(" ")
            parts.append(changes.get(index, self.tokens[index].text))
        return "".join(parts)

    def skip(self, index):
        """The token after the one at `index`, or after its bracket's partner if it opens one."""
        return self.partner[index] + 1 if self[index] in PAIRS and self.tokens[index].kind == "sign" else index + 1
