#!/usr/bin/env python3
"""Plants violations in copies of the headers and checks that floors.py sees each, and nothing else."""

import shutil
import tempfile
import unittest
from pathlib import Path

import floors

INCLUDE = Path(__file__).resolve().parents[2] / "include"

# A small house with every floor, so that this test does not depend on what the real one has at the moment.
HOUSE = {
    "error": ["<string>", "<boost/system/error_code.hpp>"],
    "options": ["<chrono>"],
    "model_key": ["<string>"],
    "backend": ['"residency/model_key.hpp"'],
    "core/slot_scheduler": ["<vector>", '"residency/model_key.hpp"', '"residency/core/queue.hpp"'],
    "core/queue": ["<cstddef>", '"residency/core/impl/queue.hpp"'],
    "core/impl/queue": ['"residency/core/queue.hpp"', '"residency/core/impl/queue_order.hpp"'],
    "core/impl/queue_order": ['"residency/core/queue.hpp"'],
    "runtime/asio": ["<boost/asio/post.hpp>"],
    "runtime/alarm": ["<mutex>", '"residency/runtime/asio.hpp"'],
    "detail/leased_model": ['"residency/core/queue.hpp"'],
    "lease": ['"residency/detail/leased_model.hpp"', '"residency/model_key.hpp"'],
    "shell/slot_shell": ['"residency/lease.hpp"', '"residency/core/slot_scheduler.hpp"', '"residency/runtime/alarm.hpp"', '"residency/backend.hpp"',
                         "<mutex>", '"residency/shell/impl/slot_shell.hpp"'],
    "shell/impl/slot_shell": ['"residency/shell/slot_shell.hpp"'],
    "model_slot": ['"residency/shell/slot_shell.hpp"', '"residency/lease.hpp"', '"residency/runtime/asio.hpp"'],
    "model_manager": ['"residency/model_slot.hpp"', '"residency/error.hpp"', '"residency/options.hpp"'],
    "residency": ['"residency/model_manager.hpp"', '"residency/backends/lexical.hpp"'],
    "backends/lexical": ['"residency/backend.hpp"', "<cmath>"],
    "backends/llama_cpp": ['"residency/backend.hpp"', "<llama.h>", "<sys/stat.h>"],
    "backends/remote/beast": ['"residency/runtime/asio.hpp"', "<boost/asio/ip/tcp.hpp>", "<boost/beast/http/read.hpp>"],
    "backends/json": ["<boost/json/parse.hpp>"],
    "backends/remote/json": ['"residency/backends/json.hpp"', "<boost/json/serialize.hpp>"],
    "backends/openvino/folder": ['"residency/backends/json.hpp"', "<boost/json/value.hpp>", "<openvino/openvino.hpp>"],
    "observe/spdlog": ["<spdlog/spdlog.h>", '"residency/error.hpp"'],
    "testing/virtual_clock": ["<chrono>", '"residency/runtime/asio.hpp"'],
    "testing/fake_backend": ['"residency/testing/virtual_clock.hpp"'],
}

# Header, line planted at its end, part of what must be reported.
VIOLATIONS = [
    ("error", "#include <boost/asio/error.hpp>", "Boost.Asio"),
    ("error", "#include <boost/container/vector.hpp>", "Boost.System"),
    ("error", '#include "residency/core/queue.hpp"', "`core`, which `ground` must not know"),
    ("error", '#include "residency/lease.hpp"', "`lease`, which `ground`"),
    ("options", "#include <spdlog/spdlog.h>", "residency/observe/spdlog alone"),
    ("options", "#include <nlohmann/json.hpp>", "no library"),
    ("options", '#include "residency/nowhere.hpp"', "does not exist"),
    ("options", '#include "error.hpp"', "are included as"),
    ("options", "#include <residency/error.hpp>", "are included as"),
    ("options", "#  include <boost/asio.hpp>", "Boost.Asio"),
    ("core/queue", "#include <boost/asio/post.hpp>", "Boost.Asio"),
    ("core/queue", "#include <mutex>", "threads or time"),
    ("core/queue", "#include <thread>", "threads or time"),
    ("core/queue", "#include <atomic>", "threads or time"),
    ("core/queue", "#include <stop_token>", "threads or time"),
    ("core/queue", '#include "residency/runtime/asio.hpp"', "`runtime`, which `core`"),
    ("core/queue", '#include "residency/lease.hpp"', "`lease`, which `core`"),
    ("core/queue", "inline auto t() { return std::chrono::steady_clock::now(); }", "::now("),
    ("core/queue", "inline std::mutex m;", "std::mutex"),
    ("core/queue", "inline std::atomic<int> a;", "std::atomic"),
    ("core/queue", '#include "residency/core/slot_scheduler.hpp"', "cycle"),
    ("core/slot_scheduler", '#include "residency/core/impl/queue.hpp"', "continues residency/core/queue.hpp"),
    ("core/impl/queue_order", "#include <mutex>", "threads or time"),
    ("core/impl/queue_order", '#include "residency/core/impl/queue.hpp"', "cycle"),
    ("core/impl/queue", "#include <mutex>", "threads or time"),
    ("core/impl/queue", '#include "residency/core/slot_scheduler.hpp"', "cycle"),
    ("runtime/alarm", "#include <boost/asio/steady_timer.hpp>", "runtime/asio.hpp alone"),
    ("runtime/alarm", '#include "residency/core/queue.hpp"', "`core`, which `runtime`"),
    ("runtime/alarm", '#include "residency/backend.hpp"', "about models"),
    ("runtime/alarm", '#include "residency/model_key.hpp"', "about models"),
    ("runtime/alarm", '#include "residency/detail/leased_model.hpp"', "`lease`, which `runtime`"),
    ("runtime/alarm", "#include <llama.h>", "residency/backends/llama_cpp alone"),
    ("shell/slot_shell", "#include <sched.h>", "no library"),
    ("core/queue", "#include <unistd.h>", "no library"),
    ("detail/leased_model", '#include "residency/lease.hpp"', "cycle"),
    ("detail/leased_model", '#include "residency/shell/slot_shell.hpp"', "`shell`, which `lease`"),
    ("lease", '#include "residency/runtime/alarm.hpp"', "`runtime`, which `lease`"),
    ("lease", '#include "residency/shell/slot_shell.hpp"', "`shell`, which `lease`"),
    ("lease", '#include "residency/model_manager.hpp"', "`face`, which `lease`"),
    ("lease", '#include "residency/testing/virtual_clock.hpp"', "`leaf`, which `lease`"),
    ("shell/slot_shell", '#include "residency/model_slot.hpp"', "`face`, which `shell`"),
    ("shell/slot_shell", "#include <boost/asio/post.hpp>", "runtime/asio.hpp alone"),
    ("shell/impl/slot_shell", '#include "residency/model_manager.hpp"', "`face`, which `shell`"),
    ("model_slot", '#include "residency/shell/impl/slot_shell.hpp"', "continues residency/shell/slot_shell.hpp"),
    ("model_slot", '#include "residency/model_manager.hpp"', "cycle"),
    ("model_slot", "#include <boost/asio/steady_timer.hpp>", "runtime/asio.hpp alone"),
    ("model_manager", '#include "residency/residency.hpp"', "`front`, which `face`"),
    ("model_manager", '#include "residency/backends/lexical.hpp"', "`leaf`, which `face`"),
    ("model_manager", '#include "residency/observe/spdlog.hpp"', "`leaf`, which `face`"),
    ("residency", '#include "residency/observe/spdlog.hpp"', "of its own"),
    ("residency", '#include "residency/testing/fake_backend.hpp"', "of its own"),
    ("residency", '#include "residency/backends/llama_cpp.hpp"', "of its own"),
    ("backends/lexical", '#include "residency/testing/virtual_clock.hpp"', "another folder"),
    ("backends/lexical", "#include <llama.h>", "residency/backends/llama_cpp alone"),
    ("backends/lexical", "#include <boost/json/parse.hpp>", "json and residency/backends/openvino and residency/backends/remote alone"),
    ("backends/lexical", '#include "residency/backends/json.hpp"', "of its own"),
    ("backends/openvino/folder", "#include <boost/beast/http/read.hpp>", "residency/backends/remote alone"),
    ("core/queue", '#include "residency/backends/json.hpp"', "`leaf`, which `core`"),
    ("backends/remote/json", "#include <boost/asio/ip/tcp.hpp>", "runtime/asio.hpp alone"),
    ("backends/remote/beast", "#include <boost/asio/post.hpp>", "runtime/asio.hpp alone"),
    ("testing/fake_backend", '#include "residency/residency.hpp"', "`front`, which `leaf`"),
    ("testing/fake_backend", "#include <spdlog/fmt/fmt.h>", "residency/observe/spdlog alone"),
]

HARMLESS = [
    ("core/queue", "// #include <mutex> would be wrong here, and so would steady_clock::now()."),
    ("core/queue", "/* #include <boost/asio.hpp>\n   std::mutex */"),
    ("core/queue", 'inline const char* text = "std::mutex";'),
    ("core/queue", "inline int i = 10'000;  // It isn't a std::mutex."),
    ("core/queue", "#include <chrono>"),
    ("runtime/alarm", "#include <thread>"),
    ("runtime/alarm", "#include <sched.h>"),
    ("model_slot", "#include <mutex>"),
    ("testing/fake_backend", '#include "residency/model_manager.hpp"'),
]


class Floors(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.include = Path(temporary.name) / "include"
        for header, includes in HOUSE.items():
            self.write(header, "#pragma once\n" + "".join(f"#include {name}\n" for name in includes))

    def write(self, header, text):
        path = self.include / "residency" / f"{header}.hpp"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def plant(self, header, line):
        path = self.include / "residency" / f"{header}.hpp"
        before = path.read_text(encoding="utf-8")
        path.write_text(before + line + "\n", encoding="utf-8")
        found = floors.check(self.include)[0]
        path.write_text(before, encoding="utf-8")
        return found

    def test_a_house_in_order_has_no_violation(self):
        self.assertEqual(floors.check(self.include), ([], len(HOUSE)))

    def test_each_violation_is_seen_and_named(self):
        for header, line, what in VIOLATIONS:
            with self.subTest(header=header, line=line):
                found = self.plant(header, line)
                self.assertTrue(any(f"{header}" in entry and what in entry for entry in found), found)

    def test_harmless_lines_are_left_alone(self):
        for header, line in HARMLESS:
            with self.subTest(header=header, line=line):
                self.assertEqual(self.plant(header, line), [])

    def test_a_header_without_a_floor_is_seen(self):
        self.write("helpers", "#pragma once\n")
        self.write("misc/helpers", "#pragma once\n")
        found = floors.check(self.include)[0]
        self.assertEqual([entry.split(":")[0] for entry in found], ["residency/helpers.hpp", "residency/misc/helpers.hpp"])

    def test_a_continuation_of_nothing_is_seen(self):
        self.write("core/impl/other", "#pragma once\n")
        self.assertEqual(floors.check(self.include)[0], ["residency/core/impl/other.hpp: continues no header"])

    def test_a_header_that_residency_hpp_forgets_is_seen(self):
        self.write("version", "#pragma once\n")
        self.assertEqual(floors.check(self.include)[0], ["residency/residency.hpp does not bring residency/version.hpp"])

    def test_a_header_without_pragma_once_is_seen(self):
        self.write("core/queue", "#include \"residency/core/impl/queue.hpp\"\n")
        self.assertEqual(floors.check(self.include)[0], ["residency/core/queue.hpp: does not begin with #pragma once"])

    def test_the_real_headers_planted_with_a_violation(self):
        copy = self.include.parent / "copy"
        shutil.copytree(INCLUDE, copy)
        clean = floors.check(copy)[0]
        with (copy / "residency" / "model_key.hpp").open("a", encoding="utf-8") as header:
            header.write("#include <boost/asio/post.hpp>\n")
        planted = [entry for entry in floors.check(copy)[0] if entry not in clean]
        self.assertEqual(len(planted), 1, planted)
        self.assertIn("residency/model_key.hpp", planted[0])


if __name__ == "__main__":
    unittest.main()
