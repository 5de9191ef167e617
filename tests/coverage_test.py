#!/usr/bin/env python3
"""Checks that coverage.py sees what is covered, and above all what is not."""

import contextlib
import io
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

import coverage


def every_number():
    numbers = [f"R{n}" for n in range(1, 17)] + [f"H{n}" for n in range(1, 41)] + [f"S{n}" for n in range(1, 55)]
    later = coverage.NOT_YET | set(coverage.LATER)
    numbers = [number for number in numbers if number not in later]
    return {number: f'TEST_CASE("covers {number}", "[{number}]") {{}}\n' for number in numbers}


class Coverage(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.folder = Path(temporary.name) / "tests"
        self.list_on_pages(every_number())

    def list_on_pages(self, numbers):
        for page, kinds in coverage.PAGES.items():
            self.write(page, "".join(f"| {number} | what it says |\n" for number in numbers if number[0] in kinds))

    def write(self, name, text):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def run_it(self):
        out = io.StringIO()
        with mock.patch.object(sys, "argv", ["coverage.py", str(self.folder)]), contextlib.redirect_stdout(out):
            return coverage.main(), out.getvalue()

    def covered_by(self, text, name="some_test.cpp"):
        self.write(name, text)
        return dict(coverage.read(self.folder)[0])

    def test_all_covered_passes_and_names_the_tests(self):
        self.write("scenarios/all_test.cpp", "".join(every_number().values()))
        status, out = self.run_it()
        self.assertEqual(status, 0, out)
        self.assertIn("scenario S7:\n    scenarios/all_test.cpp: covers S7\n", out)
        self.assertIn("rules covered: 16 of 16\nhard cases covered: 39 of 39\nscenarios covered: 47 of 47\n", out)

    def test_each_gap_fails_and_is_named(self):
        tests = every_number()
        for number in tests:
            with self.subTest(number=number):
                self.write("all_test.cpp", "".join(text for other, text in tests.items() if other != number))
                status, out = self.run_it()
                self.assertEqual(status, 1)
                self.assertTrue(out.endswith(f"covered by no test: {number}\n"), out)

    def test_an_empty_folder_fails(self):
        self.assertEqual(self.run_it()[0], 1)

    def test_a_number_that_is_on_no_page_or_on_too_many_fails(self):
        self.write("all_test.cpp", "".join(every_number().values()))
        self.assertEqual(self.run_it()[0], 0)
        for wrong, said in (
            ([number for number in every_number() if number != "H12"], "include/residency/README.md: H12 is not listed"),
            ([number for number in every_number() if number != "S7"], "README.md: S7 is not listed"),
            ([*every_number(), "H23"], "include/residency/README.md: H23 is cited by no test"),
            ([*every_number(), "R4"], "include/residency/README.md: R4 is listed more than once"),
        ):
            with self.subTest(said=said):
                self.list_on_pages(wrong)
                status, out = self.run_it()
                self.assertEqual(status, 1)
                self.assertIn(said + "\n", out)

    def test_the_last_two_scenarios_are_asked_for_once_their_programs_exist(self):
        self.write("all_test.cpp", "".join(every_number().values()))
        numbers = list(every_number())
        for number, folder in coverage.LATER.items():
            numbers.append(number)
            self.list_on_pages(numbers)
            self.write(f"{folder}/run.cpp", "int main() {}\n")
            status, out = self.run_it()
            self.assertEqual(status, 1)
            self.assertIn(f"covered by no test: {number}", out)
            self.write(f"{folder}/run.cpp", f"// Covers [{number}]\nint main() {{}}\n")
            self.assertEqual(self.run_it()[0], 0)

    def test_a_number_that_does_not_exist_fails(self):
        for tag in ("S36", "S55", "S0", "H23", "R17", "R01"):
            with self.subTest(tag=tag):
                self.write("all_test.cpp", "".join(every_number().values()) + f'TEST_CASE("odd", "[{tag}]") {{}}')
                status, out = self.run_it()
                self.assertEqual(status, 1)
                self.assertIn(f"all_test.cpp: odd: [{tag}] names nothing", out)

    def test_the_ways_to_write_a_test_case(self):
        for text in (
            'TEST_CASE("a name", "[S1]") {}',
            'TEST_CASE("a name", "[slot][S1][R2]") {}',
            'TEST_CASE( "a "\n     "name",\n  "[slot]"\n  "[S1]" ) {}',
            'TEST_CASE_METHOD(Fixture, "a name", "[S1]") {}',
            'TEST_CASE_METHOD(test::Fixture<int, char>, "a name", "[S1]") {}',
            'TEMPLATE_TEST_CASE("a name", "[S1]", int, char) {}',
            'TEMPLATE_TEST_CASE_METHOD(Fixture, "a name", "[S1]", int) {}',
        ):
            with self.subTest(text=text):
                self.assertEqual(self.covered_by(text)["S1"], ["some_test.cpp: a name"])
        self.assertEqual(self.covered_by('TEST_CASE("quotes \\" and, commas", "[S1]") {}')["S1"], ['some_test.cpp: quotes \\" and, commas'])

    def test_what_does_not_cover(self):
        for text in (
            '// TEST_CASE("a name", "[S1]") {}',
            '/* TEST_CASE("a name", "[S1]") {} */',
            'TEST_CASE("hidden", "[.][S1]") {}',
            'TEST_CASE("hidden", "[.slow][S1]") {}',
            'TEST_CASE("may fail", "[!mayfail][S1]") {}',
            'TEST_CASE("no tag but a name with [S1]") {}',
            'TEST_CASE("a name", "[S12]") {}',
            "// Covers [S1]\nint main() {}",
            "int i = 10'000; // It isn't TEST_CASE(\"a name\", \"[S1]\")",
            'const char* text = R"(TEST_CASE)";',
        ):
            with self.subTest(text=text):
                self.assertNotIn("S1", self.covered_by(text))

    def test_one_test_may_cover_several_and_several_one(self):
        covered = self.covered_by('TEST_CASE("one", "[S1][H2]") {}\nTEST_CASE("two", "[S1]") {}')
        self.assertEqual(covered, {"S1": ["some_test.cpp: one", "some_test.cpp: two"], "H2": ["some_test.cpp: one"]})


if __name__ == "__main__":
    unittest.main()
