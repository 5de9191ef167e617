"""Writes sources in which every mutant is compiled in, and one, or none, is chosen when the program starts."""

import re

# What the rewritten headers include. The reached points are written to a file that outlives whatever end the program takes.
RUNTIME = """\
#pragma once

#include <cstdlib>
#include <fcntl.h>
#include <optional>
#include <sys/mman.h>
#include <unistd.h>
#include <utility>

namespace residency_mutation {

inline int active = 0;
inline volatile unsigned char* reached = nullptr;

inline const bool chosen = [] {
    if (const char* number = std::getenv("RESIDENCY_MUTANT")) {
        active = std::atoi(number);
    }
    if (const char* file = std::getenv("RESIDENCY_MUTANTS_REACHED")) {
        const int descriptor = open(file, O_RDWR);
        void* memory = mmap(nullptr, COUNT, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
        reached = memory == MAP_FAILED ? nullptr : static_cast<unsigned char*>(memory);
        close(descriptor);
    }
    return true;
}();

// Whether the mutant that is active is one of the `count` from `first` on.
inline bool any(int first, int count) noexcept {
    if (reached != nullptr) [[unlikely]] {
        for (int mutant = first; mutant < first + count; ++mutant) {
            reached[mutant] = 1;
        }
    }
    return static_cast<unsigned>(active - first) < static_cast<unsigned>(count);
}
inline bool on(int mutant) noexcept { return active == mutant; }

// A guard that is not there if `gone`.
template <class Guard>
class Maybe {
public:
    template <class... Arguments>
    explicit Maybe(bool gone, Arguments&&... arguments) {
        if (!gone) {
            guard_.emplace(std::forward<Arguments>(arguments)...);
        }
    }

private:
    std::optional<Guard> guard_;
};

}  // namespace residency_mutation
"""

PREFIX = "::residency_mutation::"
MARK = re.compile(r"/\*@([\d ]+)\*/")


def mark(*mutants):
    """At the end of a line: a compiler's error there is the fault of these."""
    return f"/*@{' '.join(str(mutant) for mutant in mutants)}*/\n"


def any_of(mutants):
    return f"{PREFIX}any({mutants[0].id}, {len(mutants)})"


def statement(mutants, original):
    lines = ["{ if (" + any_of(mutants) + ") [[unlikely]] { " + mark(*(mutant.id for mutant in mutants))]
    lines += [f"if ({PREFIX}on({mutant.id})) {{ {mutant.text or ''} }} else {mark(mutant.id)}" for mutant in mutants]
    return "".join(lines) + "{} } else { " + original + "\n} }"


def condition(mutants, original):
    lines = [f"({any_of(mutants)} ? ({mark(*(mutant.id for mutant in mutants))}"]
    lines += [f"{PREFIX}on({mutant.id}) ? static_cast<bool>({mutant.text}) : {mark(mutant.id)}" for mutant in mutants]
    return "".join(lines) + f"false) : static_cast<bool>({original}))"


def expression(mutants, original):
    lines = [f"({any_of(mutants)} ? ({mark(*(mutant.id for mutant in mutants))}"]
    lines += [f"{PREFIX}on({mutant.id}) ? ({mutant.text}) : {mark(mutant.id)}" for mutant in mutants[:-1]]
    return "".join(lines) + f"({mutants[-1].text}) {mark(mutants[-1].id)}) : ({original}))"


def guard(mutants, original):
    head, _, arguments = original.strip().rstrip(";").partition("(")
    *kind, name = head.split()
    kind = " ".join(word for word in kind if word != "const")
    arguments = f", {arguments[:-1]}" if arguments else ""
    return f"const {PREFIX}Maybe<{kind}> {name}({any_of(mutants)}{arguments}); {mark(mutants[0].id)}"


WRITERS = {"statement": statement, "condition": condition, "expression": expression, "guard": guard}


def rewrite(source, points, insertions=()):
    """The text of `source` with all mutants of `points` in it, and with `insertions`: (offset, text) each."""
    ordered = sorted((point for point in points if point.mutants), key=lambda point: (point.begin, -point.end))
    tokens = source.tokens
    pending = sorted(insertions, key=lambda insertion: insertion[0])

    def original(start, stop, with_stop):
        parts = []
        while pending and (pending[0][0] < stop or (with_stop and pending[0][0] == stop)):
            offset, text = pending.pop(0)
            parts += [source.text[start:offset], text]
            start = offset
        return "".join([*parts, source.text[start:stop]])

    def render(start, stop, inner, with_stop):
        """The text from offset `start` to `stop`; `inner` are the points in there, outermost first."""
        parts, index = [], 0
        while index < len(inner):
            point = inner[index]
            nested = []
            for index in range(index + 1, len(inner) + 1):
                if index == len(inner) or inner[index].begin >= point.end:
                    break
                nested.append(inner[index])
            first, last = tokens[point.begin].start, tokens[point.end - 1].end
            # What is inserted where a statement begins or ends is outside of it; in an expression it is inside.
            is_statement = point.kind in ("statement", "guard")
            parts.append(original(start, first, is_statement))
            parts.append(WRITERS[point.kind](point.mutants, render(first, last, nested, not is_statement)))
            start = last
        parts.append(original(start, stop, with_stop))
        return "".join(parts)

    text = render(0, len(source.text), ordered, True)
    return text.replace("#pragma once\n", '#pragma once\n#include "residency_mutation.hpp"\n', 1)


def marks(text):
    """Line number -> the mutants that an error there is the fault of."""
    return {
        number: [int(mutant) for mutant in match.group(1).split()]
        for number, line in enumerate(text.split("\n"), 1)
        for match in MARK.finditer(line)
    }
