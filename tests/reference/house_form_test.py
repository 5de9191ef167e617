#!/usr/bin/env python3
"""Tests of house_form.py."""
import unittest

import house_form

WHOLE = """    /// Does it.
    ///
    /// Signature  void(std::exception_ptr)
    /// Completes  soon
    /// Errors     none that
    ///            anybody knows
    /// Cancel     any type
    /// Threads    any
    /// Example    examples/a.cpp [tag]
    template <class Token>
    auto async_do(Token&& token) {}
"""


class Form(unittest.TestCase):
    def test_whole(self):
        self.assertEqual(house_form.faults(WHOLE), [])

    def test_each_line_is_missed(self):
        for line in house_form.LINES:
            text = "".join(each for each in WHOLE.splitlines(True) if f"/// {line} " not in each)
            self.assertEqual(len(house_form.faults(text)), 1, line)

    def test_order(self):
        text = WHOLE.replace("Cancel     any type", "SWAP").replace("Threads    any", "Cancel     any type").replace("SWAP", "Threads    any")
        self.assertEqual(len(house_form.faults(text)), 1)

    def test_undocumented(self):
        self.assertEqual(len(house_form.faults("template <class Token>\nauto async_do(Token&& token) {}\n")), 1)

    def test_overloads_refer_to_the_first(self):
        text = WHOLE + "    /// The same without options.\n    template <class Token>\n    auto async_do(Token&& token) {}\n"
        self.assertEqual(house_form.faults(text), [])


class Doxygen(unittest.TestCase):
    def test_lines(self):
        text = house_form.for_doxygen(WHOLE)
        self.assertIn("/// @house{Errors} none that\n    ///            anybody knows\n", text)
        self.assertIn("/// @example{examples/a.cpp,tag}\n", text)
        self.assertEqual(text.count("\n"), WHOLE.count("\n"))

    def test_what_is_added_to_other_namespaces_is_left_out(self):
        text = "/// Hashes.\ntemplate <>\nstruct std::hash<A> {\n    int b;\n};\n\nstruct C {};\n"
        self.assertEqual(house_form.for_doxygen(text), "/// Hashes.\n\n\n\n\n\nstruct C {};\n")


if __name__ == "__main__":
    unittest.main()
