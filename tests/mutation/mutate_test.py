#!/usr/bin/env python3
"""Checks that the mutants are those that are meant, and that what is written down by hand still applies to the library."""

import json
import unittest

import classical
import mutate
import schemata
from points import Finder
from tokens import Source


def mutants_of(body, head="inline void f()"):
    """(operator, original, mutated) of each mutant of a function."""
    source = Source(f"#pragma once\n{head} {{ {body} }}\n")
    return [(mutant.operator, source.flat(point.begin, point.end), mutant.text) for point in Finder(source).find() for mutant in point.mutants]


def texts_of(body, head="inline void f()"):
    return [mutated for _, _, mutated in mutants_of(body, head)]


class Points(unittest.TestCase):
    def test_statement_is_deleted_and_its_operators_are_swapped(self):
        self.assertEqual(mutants_of("++a;"), [("statement deleted", "++a;", None), ("operator", "++a;", "--a;")])

    def test_condition_is_forced_and_loses_its_operands(self):
        texts = texts_of("if (a && b <= c) { x(); y(); }")
        for text in ("true", "false", "a || b <= c", "a", "b <= c", "a && b < c", "a && b <= c"[:0] or None):
            self.assertIn(text, texts)

    def test_negating_a_comparison_alone_is_left_out(self):
        self.assertEqual(texts_of("if (a == b) { x(); y(); }"), ["true", "false", None, None])

    def test_only_statement_of_an_if_is_not_deleted_again(self):
        self.assertEqual(texts_of("if (a) { x(); }"), ["true", "false"])

    def test_loop_is_never_made_endless(self):
        self.assertEqual(texts_of("while (a) { x(); }"), ["false", None])
        self.assertNotIn("true", texts_of("for (int i = 0; i < 3; ++i) { x(); }"))

    def test_operands_are_dropped_by_precedence(self):
        texts = texts_of("if (a || b && c) { x(); y(); }")
        for text in ("a || b", "a || c", "b && c", "a"):
            self.assertIn(text, texts)

    def test_templates_and_references_are_no_operators(self):
        self.assertEqual(texts_of("f<int>(std::forward<T&&>(x));"), [None])

    def test_last_return_of_a_value_stays(self):
        self.assertEqual(mutants_of("return a;", "inline int f()"), [])

    def test_result_of_a_bool_function_is_forced(self):
        self.assertEqual(texts_of("return a < b;", "inline bool f()"), ["true", "false", "a <= b"])

    def test_condition_of_a_choice_is_mutated_in_place(self):
        self.assertEqual([(original, text) for _, original, text in mutants_of("return a < b ? c : d;", "inline int f()")],
                         [("a < b", "true"), ("a < b", "false"), ("a < b", "a <= b")])

    def test_body_of_a_lambda_is_mutated_in_place(self):
        self.assertEqual([original for _, original, _ in mutants_of("post([this] { g(); });")], ["post([this] { g(); });", "g();"])

    def test_lock_can_be_left_out(self):
        self.assertEqual(mutants_of("const Lock lock(mutex_); g();")[0], ("not held", "const Lock lock(mutex_);", ""))

    def test_constexpr_functions_and_enumerations_are_left_alone(self):
        self.assertEqual(mutants_of("return 1;", "constexpr int f()"), [])
        self.assertEqual(Finder(Source("enum class E : int { a = 1, b = 2 };\n")).find(), [])

    def test_initialiser_of_a_member_is_mutated(self):
        points = Finder(Source("struct S {\n    bool on = true;\n    static constexpr int two = 2;\n};\n")).find()
        self.assertEqual([mutant.text for point in points for mutant in point.mutants], ["false"])


class Schemata(unittest.TestCase):
    def rewritten(self, text, insertions=()):
        source = Source(f"#pragma once\n{text}")
        points = Finder(source).find()
        for number, mutant in enumerate((mutant for point in points for mutant in point.mutants), 1):
            mutant.id = number
        return schemata.rewrite(source, points, [(offset + len("#pragma once\n"), code) for offset, code in insertions])

    def test_each_mutant_is_there_and_is_marked(self):
        text = self.rewritten("inline bool f() { if (a) { g(); h(); } return b < c; }\n")
        marked = {mutant for ids in schemata.marks(text).values() for mutant in ids}
        self.assertEqual(marked, set(range(1, 8)))
        self.assertEqual(text.count("::on("), 6)  # the last one of an expression needs no question

    def test_insertions_stand_where_they_are_meant(self):
        code = "inline void f() { g(); if (a) { h(); i(); } }\n"
        text = self.rewritten(code, [(code.index("g();"), "if (!MUTANT) "), (code.index("a)"), "MUTANT || ")])
        self.assertIn("if (!MUTANT) { if (", text)
        self.assertIn("static_cast<bool>(MUTANT || a)", text)


class Applied(unittest.TestCase):
    """On the library as it is."""

    @classmethod
    def setUpClass(cls):
        cls.mutants = mutate.Mutants(mutate.ROOT)

    def test_every_file_has_mutants(self):
        files = {file for file, _, _ in self.mutants.where.values()}
        self.assertEqual(files, set(mutate.FILES))

    def test_every_classical_fault_still_applies(self):
        for fault in classical.FAULTS:
            with self.subTest(fault.name):
                self.assertTrue(classical.insertions_in(self.mutants.texts, fault, "on"))

    def test_every_equivalent_mutant_still_is_one_of_the_mutants(self):
        keys = {mutant.key for mutant in self.mutants.all}
        for key, reason in json.loads((mutate.HERE / "equivalents.json").read_text(encoding="utf-8")).items():
            with self.subTest(key):
                self.assertIn(key, keys)
                self.assertTrue(reason.strip())


if __name__ == "__main__":
    unittest.main()
