"""Where a C++ source can be mutated, and how.

A point is a range of tokens (a statement, a condition, an expression) with its mutants: other texts for the same range, of which one at a
time takes its place. Points nest. Looked at are the bodies of functions that are not constexpr, and initialisers of members.
"""

from dataclasses import dataclass, field

SWAPS = {
    "<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "==", "&&": "||", "||": "&&", "+": "-", "-": "+", "*": "/", "/": "*",
    "%": "*", "|": "&", "&": "|", "+=": "-=", "-=": "+=", "++": "--", "--": "++",
}
WORDS = {"true": "false", "false": "true"}
EXTREMES = {"min": "max", "max": "min"}
# An enumerator in the place of another: what is reported, and what state things are in.
ENUMERATORS = {
    "errc": {"overloaded": "timed_out", "": "overloaded"},
    "Stage": {"queue": "load", "load": "queue", "": "queue"},
    "Reason": {"none": "idle", "": "none"},
    "EventType": {"unloaded": "unload_started", "": "unloaded"},
    "ResidentState": {"loading": "ready", "ready": "draining", "draining": "ready", "unloading": "draining"},
    "QueueState": {"none": "needs_place", "grantable": "none", "needs_place": "claimed", "claimed": "needs_place"},
    "UnloadMode": {"drain": "revoke", "revoke": "drain"},
    "State": {"waiting": "done", "leased": "done", "done": "leased"},
    "Job": {"none": "unload", "load": "unload", "unload": "load"},
}
GUARDS = ("Lock", "MutexLock", "UserCodeScope")
NOT_EXPRESSIONS = ("using", "static_assert", "constexpr", "struct", "class", "enum", "namespace", "typedef", "template", "extern", "static")


@dataclass
class Mutant:
    operator: str
    # The mutated text of the point; None: the statement is gone.
    text: str | None
    # The token that it is about: where it is reported.
    at: int
    id: int = 0
    key: str = ""


@dataclass
class Point:
    # statement, condition, expression, or guard: a lock or mark that is held or not.
    kind: str
    begin: int
    end: int
    function: str
    mutants: list = field(default_factory=list)


class Finder:
    def __init__(self, source):
        self.source = source
        self.points = []
        self.function = ""
        # Statements that are all there is in an `if`: that they are gone is the same as a condition that is false.
        self.alone = set()

    def find(self):
        self.scope(0, len(self.source.tokens), False)
        self.points = [point for point in self.points if point.mutants]
        return self.points

    def add(self, kind, begin, end, mutants):
        self.points.append(Point(kind, begin, end, self.function, mutants))

    # -- What is not code ---------------------------------------------------------------------------------------------------------

    def scope(self, index, end, in_class):
        """A namespace's or a class's declarations."""
        source = self.source
        while index < end:
            begin = index
            while index < end and source[index] not in (";", "{"):
                if source[index] == "template" and source[index + 1] == "<":
                    index = self.after_template(index + 1)
                    continue
                if source[index] == "=" and in_class and self.is_member(begin, index):
                    stop = self.until(index, end, ";")
                    self.expression(index + 1, stop)
                    index = stop
                    break
                if source[index] == ":" and source[index - 1] in ("public", "private", "protected"):
                    begin = index + 1
                index = source.skip(index)
            if index < end and source[index] == "{":
                index = self.braces(begin, index)
            else:
                index += 1

    def is_member(self, begin, equals):
        head = [self.source[index] for index in range(begin, equals)]
        return not {"using", "constexpr", "static", "friend", "operator", "virtual"} & set(head) and self.source[equals + 1] not in (
            "default", "delete") and "requires" not in head and not (self.source[equals - 1] == ")" and "RESIDENCY_GUARDED_BY" not in head)

    def until(self, index, end, text):
        while index < end and self.source[index] != text:
            index = self.source.skip(index)
        return index

    def braces(self, begin, opening):
        """What a declaration's brace opens: returns the token after it."""
        source, closing = self.source, self.source.partner[opening]
        head = []
        index = begin
        while index < opening:
            if source[index] == "template" and source[index + 1] == "<":
                index = self.after_template(index + 1)
                continue
            head.append(index)
            index = source.skip(index)
        words = [source[index] for index in head]
        if "enum" in words[:2]:
            pass
        elif {"namespace", "struct", "class", "union"} & set(words[:2]):
            self.scope(opening + 1, closing, words[0] != "namespace")
        elif "(" in words and not (source[opening - 1] == ")" and "RESIDENCY_GUARDED_BY" in words):
            if source.tokens[opening - 1].kind == "word" and source[opening - 1] not in ("const", "noexcept", "override", "final"):
                return closing + 1  # a member's initialiser: the body is still to come
            if "constexpr" not in words and "consteval" not in words:
                name = words.index("(") - 1
                self.function = words[name]
                returns_bool = name > 0 and "bool" in words[:name]
                self.block(opening + 1, closing, returns_bool, True)
                self.function = ""
        return closing + 1

    def after_template(self, index):
        depth = 0
        while True:
            depth += {"<": 1, ">": -1}.get(self.source[index], 0)
            index = self.source.skip(index)
            if depth == 0:
                return index

    # -- Statements ---------------------------------------------------------------------------------------------------------------

    def block(self, index, end, returns_bool, is_body):
        while index < end:
            index = self.statement(index, end, returns_bool, is_body)

    def statement(self, index, end, returns_bool, is_body):
        """Looks at the statement that begins at `index`; returns the token after it."""
        source, word = self.source, self.source[index]
        if word == ";":
            return index + 1
        if word == "{":
            self.block(index + 1, source.partner[index], returns_bool, is_body and source.partner[index] + 1 == end)
            return source.partner[index] + 1
        if word in ("if", "while", "switch", "for"):
            opening = index + 1
            is_constexpr = source[opening] == "constexpr"
            opening += is_constexpr
            closing = source.partner[opening]
            if word == "for":
                self.for_header(opening + 1, closing)
            elif not is_constexpr and word != "switch":
                self.condition_of_statement(opening + 1, closing, word, closing + 1)
            if word == "if" and not is_constexpr:
                self.note_alone(closing + 1)
            after = self.statement(closing + 1, end, returns_bool, False)
            if word == "if" and source[after] == "else":
                after = self.statement(after + 1, end, returns_bool, False)
            return after
        if word in ("else", "do", "try"):
            after = self.statement(index + 1, end, returns_bool, False)
            return after
        if word == "catch":
            return self.statement(source.partner[index + 1] + 1, end, returns_bool, False)
        if word in ("case", "default"):
            while source[index] != ":":
                index += 1
            return index + 1
        stop = self.until(index, end, ";")
        if word in NOT_EXPRESSIONS:
            return stop + 1
        if word in ("return", "throw", "break", "continue"):
            deletions = [Mutant("statement deleted", None, index)]
            if word == "throw" or index in self.alone or (word == "return" and is_body and stop + 1 >= end and stop > index + 1):
                deletions = []  # nothing else could be returned
            self.add("statement", index, stop + 1, deletions)
            if stop > index + 1 and word == "return":
                self.expression(index + 1, stop, returns_bool)
            return stop + 1
        if self.is_declaration(index, stop):
            self.declaration(index, stop)
            return stop + 1
        deletions = [] if index in self.alone else [Mutant("statement deleted", None, index)]
        self.add("statement", index, stop + 1, deletions + self.changes(index, stop, ";"))
        self.inside(index, stop)
        return stop + 1

    def note_alone(self, index):
        source = self.source
        if source[index] != "{":
            return
        closing = source.partner[index]
        if self.until(index + 1, closing, ";") + 1 == closing and source[closing + 1] != "else":
            self.alone.add(index + 1)

    def condition_of_statement(self, begin, end, word, body):
        source = self.source
        semicolon = self.until(begin, end, ";")
        if semicolon < end:
            self.declaration(begin, semicolon)
            begin = semicolon + 1
        if self.is_declaration(begin, end):
            self.declaration(begin, end)
            if source[body] == "{":
                self.add("statement", body, source.partner[body] + 1, [Mutant("block deleted", None, body)])
            return
        self.condition(begin, end, loops=word == "while")

    def condition(self, begin, end, loops=False):
        forced = [Mutant("condition false", "false", begin)]
        if not loops:  # a loop that never ends says nothing about the tests
            forced.insert(0, Mutant("condition true", "true", begin))
        changes = self.changes(begin, end)
        if len(changes) == 1 and changes[0].operator == "operator" and self.source[changes[0].at] in ("==", "!="):
            changes = []  # negated as a whole: true and false are both harder to see
        self.add("condition", begin, end, forced + changes)
        self.inside(begin, end)

    def for_header(self, begin, end):
        first = self.until(begin, end, ";")
        if first == end:
            return
        second = self.until(first + 1, end, ";")
        self.declaration(begin, first)
        if second > first + 1:
            self.condition(first + 1, second, loops=True)

    def is_declaration(self, index, end):
        """Whether it is `type name ...`."""
        source = self.source
        if source[index] in ("const", "auto", "thread_local"):
            return True
        if source[index] == "typename":
            return True
        while index < end and source.tokens[index].kind == "word":
            if source[index] in ("delete", "new", "return", "throw", "co_await", "co_return"):
                return False
            index += 1
            if source[index] == "<" and not source.tokens[index].spaced:
                index = self.after_template(index)
            if source[index] != "::":
                break
            index += 1
        while source[index] in ("&", "*", "const"):
            index += 1
        return index < end and source.tokens[index].kind == "word" and source[index + 1] in ("=", ";", "(", "{", ",", ")")

    def declaration(self, index, end):
        source, begin = self.source, index
        while index < end and source[index] not in ("=", "(", "{", "["):
            if source[index] == "<" and not source.tokens[index].spaced:
                index = self.after_template(index)
            else:
                index += 1
        type_words = {source[word] for word in range(begin, index - 1)}
        if type_words & set(GUARDS) and end < len(source.tokens) and source[end] == ";":
            self.add("guard", begin, end + 1, [Mutant("not held", "", begin)])
            return
        if source[index] == "[":  # a structured binding
            index = source.skip(index)
        if source[index] == "=":
            self.expression(index + 1, end)
        elif source[index] in ("(", "{"):
            self.arguments(index + 1, source.partner[index])

    def arguments(self, begin, end):
        while begin < end:
            comma = self.until(begin, end, ",")
            self.expression(begin, comma)
            begin = comma + 1

    # -- Expressions ---------------------------------------------------------------------------------------------------------------

    def expression(self, begin, end, is_bool=False):
        mutants = self.changes(begin, end)
        if is_bool and end - begin > 1:
            mutants = [Mutant("result true", "true", begin), Mutant("result false", "false", begin)] + mutants
        self.add("expression", begin, end, mutants)
        self.inside(begin, end)

    def inside(self, begin, end):
        """Conditions of ?: and bodies of lambdas."""
        for first, last in self.lambdas(begin, end):
            kept = self.function
            self.block(first + 1, last, False, True)
            self.function = kept
        for first, last in self.choices(begin, end):
            self.condition(first, last)

    def lambdas(self, begin, end):
        """The outermost bodies of lambdas: indices of their braces."""
        source, found, index = self.source, [], begin
        while index < end:
            if source[index] == "{":
                before = index - 1
                while source[before] in ("mutable", "noexcept"):
                    before -= 1
                if source[before] == ")":
                    before = source.partner[before] - 1
                if source[before] == "]":
                    found.append((index, source.partner[index]))
                    index = source.partner[index] + 1
                    continue
            index += 1
        return found

    def in_lambda(self, begin, end):
        return {index for first, last in self.lambdas(begin, end) for index in range(first, last + 1)}

    def choices(self, begin, end):
        """The conditions of ?: that are in no lambda's body."""
        source, hidden, found = self.source, self.in_lambda(begin, end), []
        for index in range(begin, end):
            if source[index] == "?" and index not in hidden:
                found.append((self.operand_begin(index, begin, ("=", ",", "?", ":", "return", ";", "<<")), index))
        return found

    def operand_begin(self, index, begin, stops):
        """Where the operand that ends before the token at `index` begins."""
        source = self.source
        while index > begin:
            before = source[index - 1]
            if before in stops or before in ("(", "[", "{"):
                return index
            index = source.partner[index - 1] if before in (")", "]", "}") else index - 1
        return index

    def changes(self, begin, end, after=""):
        """The mutants of one token each, and of an operand of && or || that is gone."""
        source = self.source
        hidden = self.in_lambda(begin, end)
        for first, last in self.choices(begin, end):
            if (first, last) != (begin, end):
                hidden |= set(range(first, last))
        mutants = []

        def change(index, text, operator, also=None):
            if index not in hidden:
                flat = source.flat(begin, end, {index: text, **(also or {})})
                mutants.append(Mutant(operator, " ".join(flat.split()).replace("( ", "(") + after, index))

        for index in range(begin, end):
            token = source.tokens[index]
            if token.kind == "number" and token.text.isdigit():
                change(index, str(int(token.text) + 1), "constant off by one")
                if token.text != "0":
                    change(index, str(int(token.text) - 1), "constant off by one")
            elif token.text in WORDS:
                change(index, WORDS[token.text], "constant")
            elif token.text in EXTREMES and source[index - 1] == "::":
                change(index, EXTREMES[token.text], "min and max swapped")
            elif source[index - 1] == "::" and source[index - 2] in ENUMERATORS:
                others = ENUMERATORS[source[index - 2]]
                if others.get(token.text, others.get("")):
                    change(index, others.get(token.text, others.get("")), "enumerator")
            elif token.text in ("++", "--"):
                change(index, SWAPS[token.text], "operator")
            elif token.text == "!":
                change(index, "", "negation removed")
            elif token.text in SWAPS and token.spaced:
                change(index, SWAPS[token.text], "operator")
                if token.text in ("&&", "||"):
                    self.drop_operands(begin, end, index, change)
        return mutants

    def drop_operands(self, begin, end, index, change):
        source = self.source
        weaker = ("&&", "||") if source[index] == "&&" else ("||",)
        stops = tuple({"=", ",", "?", ":", "return", ";", *weaker})
        left = self.operand_begin(index, begin, stops)
        right = index + 1
        while right < end and source[right] not in stops and source[right] not in (")", "]", "}"):
            right = source.skip(right)
        change(index, "", "right operand dropped", {other: "" for other in range(index + 1, right)})
        if source[left - 1] != source[index]:  # else it is the right operand of the one before
            change(index, "", "left operand dropped", {other: "" for other in range(left, index)})
