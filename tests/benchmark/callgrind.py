"""Runs a program under valgrind's callgrind, and reads what it wrote."""

import os
import re
import subprocess
import tempfile


class Failed(Exception):
    """The program did not run as it should."""


def run(command, *options):
    """(what callgrind wrote, what the program wrote)"""
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "callgrind.out")
        done = subprocess.run(["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", *options, *command], capture_output=True, text=True)
        if done.returncode != 0:
            raise Failed(f"{' '.join(command)}: under valgrind: {done.stderr.strip() or done.stdout.strip()}")
        with open(out) as file:
            return file.read(), done.stdout


def total(text):
    """How many instructions were collected."""
    found = re.search(r"^totals: (\d+)$", text, re.MULTILINE)
    if not found:
        raise Failed("callgrind wrote no total")
    return int(found[1])


class Profile:
    """The instructions of each function: its own, and those of what it calls with them."""

    def __init__(self, text):
        self.own, self.calls = {}, {}
        names = {}
        function = callee = None
        after_calls = False
        for line in text.splitlines():
            if line.startswith(("fn=", "cfn=")):
                kind, number, name = re.fullmatch(r"(c?fn)=\((\d+)\)(?: (.*))?", line).groups()
                name = names.setdefault(number, name)
                if kind == "fn":
                    function = name
                else:
                    callee = name
            elif line.startswith("calls="):
                after_calls = True
            elif re.match(r"[-+*\d]", line):
                cost = int((line.split() + ["0"])[1])
                if not after_calls:
                    self.own[function] = self.own.get(function, 0) + cost
                elif callee != function:
                    edges = self.calls.setdefault(function, {})
                    edges[callee] = edges.get(callee, 0) + cost
                after_calls = False

    def inclusive(self, function):
        return self.own.get(function, 0) + sum(self.calls.get(function, {}).values())

    def below(self, word):
        """All functions that are called by the one that has `word` in its name, however indirectly; and that one."""
        top = [function for function in self.calls if word in function and not any(word in callee for callee in self.calls[function])]
        seen, left = set(), list(top)
        while left:
            function = left.pop()
            if function not in seen:
                seen.add(function)
                left += self.calls.get(function, {})
        return seen - set(top)


def shortened(name):
    """A function's name as people say it: without its arguments, its template arguments, its result and where it belongs."""
    name = name.split("@")[0].replace("(anonymous namespace)::", "").replace("operator()", "operator_call")
    flat = ""
    depth = 0
    for position, letter in enumerate(name):
        opens = letter in "<(" and not flat.endswith("operator")
        if opens and depth == 0:
            if letter == "(":
                break
            flat += "<>"
        depth += 1 if opens else 0
        if depth == 0:
            flat += letter
        if letter in ">)" and depth > 0:
            depth -= 1
    flat = flat.replace("operator_call", "operator()").replace("operator new", "operator_new").replace("operator delete", "operator_delete")
    flat = flat.split(" ")[-1].replace("operator_", "operator ")
    parts = flat.split("::")
    return "::".join(parts[-2:])
