#!/usr/bin/env python3
"""Checks what is said of counted instructions: which figures are too many, too few, or not to be compared at all."""

import json
import unittest

import callgrind
import instructions

CONDITIONS = {"compiler": "g++ 12.2.0", "options": "-O2", "boost": "1.81", "glibc": "2.36", "machine": "x86_64"}


class Judgement(unittest.TestCase):
    def test_figures_within_the_tolerance_are_fine(self):
        for now in (950, 1000, 1050):
            self.assertEqual(instructions.judge({"lease": 1000}, {"lease": now}), [])

    def test_more_asks_for_a_commit_that_says_why(self):
        (problem,) = instructions.judge({"lease": 1000, "embed": 500}, {"lease": 1051, "embed": 500})
        for words in ("lease: 1051 instructions, 1000 are kept", "+5.1%", "raise the figure", "--write", "a commit that says why"):
            self.assertIn(words, problem)

    def test_fewer_asks_to_lower_the_figure(self):
        (problem,) = instructions.judge({"lease": 1000}, {"lease": 949})
        for words in ("lease: 949 instructions, 1000 are kept", "-5.1%", "lower it", "--write"):
            self.assertIn(words, problem)

    def test_each_path_is_judged(self):
        self.assertEqual(len(instructions.judge({"lease": 1000, "embed": 1000}, {"lease": 1100, "embed": 900})), 2)

    def test_what_is_counted_has_to_be_kept_and_the_other_way_round(self):
        (problem,) = instructions.judge({}, {"lease": 1000})
        self.assertIn("no figure is kept", problem)
        (problem,) = instructions.judge({"lease": 1000}, {})
        self.assertIn("nothing is counted", problem)

    def test_a_budget_may_not_cost_a_lease_one_instruction(self):
        kept = {"lease": 1000, "lease_in_budget": 1000}
        self.assertEqual(instructions.judge(kept, kept), [])
        (problem,) = instructions.judge(kept, {**kept, "lease_in_budget": 1001})
        for words in ("lease_in_budget: 1001 instructions without memcmp's, lease takes 1000", "+0.1%", "at most +0%"):
            self.assertIn(words, problem)

    def test_what_memcmp_takes_by_chance_is_not_held_against_a_budget(self):
        now = {"lease": 1000, "lease_in_budget": 1008, "embed": 1000, "embed_in_budget": 1000}
        self.assertEqual(instructions.judge(now, now, {"lease": 36, "lease_in_budget": 44}), [])
        (problem,) = instructions.judge(now, now, {"lease": 36, "lease_in_budget": 43})
        self.assertIn("lease_in_budget: 965 instructions without memcmp's, lease takes 964", problem)

    def test_a_budget_may_cost_two_percent_of_an_embed(self):
        kept = {"embed": 1000, "embed_in_budget": 1000}
        self.assertEqual(instructions.judge(kept, {**kept, "embed_in_budget": 1020}), [])
        self.assertEqual(len(instructions.judge(kept, {**kept, "embed_in_budget": 1021})), 1)


class Comparability(unittest.TestCase):
    def test_same_conditions_compare(self):
        self.assertEqual(instructions.why_incomparable(CONDITIONS, dict(CONDITIONS)), "")

    def test_another_release_of_the_same_compiler_compares(self):
        self.assertEqual(instructions.why_incomparable(CONDITIONS, {**CONDITIONS, "compiler": "g++ 12.4.1"}), "")

    def test_other_options_are_no_excuse(self):
        self.assertEqual(instructions.why_incomparable(CONDITIONS, {**CONDITIONS, "options": "-O3"}), "")

    def test_whatever_else_differs_is_named(self):
        for key, value in {"compiler": "g++ 13.2.0", "boost": "1.88", "glibc": "2.41", "machine": "aarch64"}.items():
            self.assertIn(f"{key}: kept with", instructions.why_incomparable(CONDITIONS, {**CONDITIONS, key: value}))
        self.assertIn("here clang++ 12", instructions.why_incomparable(CONDITIONS, {**CONDITIONS, "compiler": "clang++ 12.2.0"}))


class KeptFigures(unittest.TestCase):
    def test_there_is_one_for_each_path(self):
        with open(instructions.KEPT) as file:
            kept = json.load(file)
        self.assertEqual(set(kept["instructions"]), set(instructions.PATHS))
        self.assertEqual(set(kept["conditions"]), set(CONDITIONS))


# main calls outer, which calls inner twice, which calls itself. Names and positions are compressed as callgrind does it.
WRITTEN = """version: 1
positions: line
events: Ir

ob=(1) /a/program
fl=(1) main.cpp
fn=(1) main
16 400
+3 5
cfn=(2) ns::outer<std::vector<int> >(int)
calls=1 50
* 120
fn=(2)
50 10
fi=(2) inlined.hpp
+7 20
cfi=(1)
cfn=(3) inner
calls=2 60
* 90
fn=(3)
60 80
cfn=(3)
calls=2 60
* 40
61
-1 10

totals: 525
"""


class Reading(unittest.TestCase):
    def setUp(self):
        self.profile = callgrind.Profile(WRITTEN)

    def test_total(self):
        self.assertEqual(callgrind.total(WRITTEN), 525)
        with self.assertRaises(callgrind.Failed):
            callgrind.total("nothing")

    def test_own_instructions_whatever_file_they_come_from(self):
        self.assertEqual(self.profile.own, {"main": 405, "ns::outer<std::vector<int> >(int)": 30, "inner": 90})

    def test_with_calls_but_without_those_of_itself(self):
        self.assertEqual(self.profile.inclusive("main"), 525)
        self.assertEqual(self.profile.inclusive("ns::outer<std::vector<int> >(int)"), 120)
        self.assertEqual(self.profile.inclusive("inner"), 90)

    def test_below_are_those_that_are_called(self):
        self.assertEqual(self.profile.below("outer"), {"inner"})

    def test_names_are_shortened(self):
        for name, short in {
            "ns::outer<std::vector<int> >(int)": "ns::outer<>",
            "void a::b::C<int, a::D>::call<(int)3>(std::function<void (int)>) const": "C<>::call<>",
            "a::(anonymous namespace)::Handler::operator()(int) const": "Handler::operator()",
            "operator new(unsigned long)": "operator new",
            "bool a::operator<(a::B const&)": "a::operator<",
            "pthread_mutex_lock@@GLIBC_2.2.5": "pthread_mutex_lock",
        }.items():
            self.assertEqual(callgrind.shortened(name), short)


if __name__ == "__main__":
    unittest.main()
