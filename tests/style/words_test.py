#!/usr/bin/env python3
"""Checks that words.py sees each word that it looks for, and no other."""

import contextlib
import io
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

import words


class Words(unittest.TestCase):
    def test_each_word_is_seen_wherever_it_stands(self):
        for word in words.WORDS:
            for text in (f"// {word} here", f'TEST_CASE("{word}")', f"{word.capitalize()} is read.", f"a line\n`{word}`"):
                with self.subTest(text=text):
                    self.assertEqual(words.hits(text), [(text.count("\n") + 1, word)])

    def test_a_name_is_read_too(self):
        self.assertEqual(words.hits("int told_in_time = 0;\nstruct was_told {};"), [(1, "told"), (2, "told")])

    def test_a_phrase_is_seen_across_lines_of_a_comment(self):
        self.assertEqual(len(words.hits("// this goes by\n// way of that")), 1)

    def test_other_words_are_let_be(self):
        self.assertEqual(words.hits("intelligent stellar retold satellite anybody somebodys"), [])

    def test_the_place_is_printed_and_fails_the_run(self):
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            (root / "include").mkdir()
            (root / "include/a.hpp").write_text("int a;\n// is told\n")
            (root / "README.md").write_text("plain\n")
            (root / "include/corpus").write_bytes(b"\xff told")
            for text, status in (("int a;\n// is told\n", 1), ("int a;\n", 0)):
                (root / "include/a.hpp").write_text(text)
                out = io.StringIO()
                with mock.patch.object(sys, "argv", ["words.py", folder]), contextlib.redirect_stdout(out):
                    self.assertEqual(words.main(), status)
                self.assertEqual("include/a.hpp:2: told\n" in out.getvalue(), status == 1)

    def test_an_empty_folder_fails(self):
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
            with mock.patch.object(sys, "argv", ["words.py", folder]):
                self.assertEqual(words.main(), 1)


if __name__ == "__main__":
    unittest.main()
