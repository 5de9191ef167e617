#pragma once

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <utility>

namespace search {

/// A piece of a file that is embedded as one text: some lines, or a part of one line that is very long.
struct Passage {
    /// The number of its first line, from 1.
    std::size_t first_line = 0;
    /// Which piece of its file it is, from 0.
    std::size_t number = 0;
    /// Its lines, parted by line feeds.
    std::string text{};
};

/// Cuts a file into passages while it is being read, so that a file's size does not matter.
///
/// A passage ends at a blank line once it has some substance, and before it grows past what small models read (1,000
/// bytes are about 250 tokens). A line longer than that is cut at a space.
template <class Use>
class PassageSplitter {
public:
    /// Calls `use(Passage&&)` with each passage.
    explicit PassageSplitter(Use use) : use_(std::move(use)) {}

    /// Takes the next bytes of the file.
    void feed(std::string_view bytes) {
        while (!bytes.empty()) {
            const std::size_t line_end = bytes.find('\n');
            const std::size_t room = most_bytes + 1 - line_.size();
            if (line_end <= room) {
                line_.append(bytes.substr(0, line_end));
                bytes.remove_prefix(line_end + 1);
                end_line();
            } else {
                line_.append(bytes.substr(0, room));
                bytes.remove_prefix(std::min(room, bytes.size()));
                if (line_.size() > most_bytes) {
                    cut_line();
                }
            }
        }
    }

    /// Ends the last line and the last passage.
    void finish() {
        end_line();
        end_passage();
    }

private:
    static constexpr std::size_t enough_bytes = 400;
    static constexpr std::size_t most_bytes = 1000;
    static constexpr std::string_view blanks = " \t\r\v\f";

    void end_line() {
        if (!line_.empty() && line_.back() == '\r') {
            line_.pop_back();
        }
        const bool blank = line_.find_first_not_of(blanks) == std::string::npos;
        if (passage_.text.size() + line_.size() >= most_bytes || (blank && passage_.text.size() >= enough_bytes)) {
            end_passage();
        }
        if (!passage_.text.empty()) {
            passage_.text += '\n';
            passage_.text += line_;
        } else if (!blank) {
            passage_.first_line = line_number_;
            passage_.text = line_;
        }
        line_.clear();
        ++line_number_;
    }

    void end_passage() {
        const std::size_t last = passage_.text.find_last_not_of(" \t\r\v\f\n");
        if (last != std::string::npos) {
            passage_.text.resize(last + 1);
            passage_.number = next_number_++;
            use_(std::move(passage_));
        }
        passage_ = {};
    }

    void cut_line() {
        end_passage();
        std::size_t cut = line_.find_last_of(blanks, most_bytes);
        if (cut == std::string::npos || cut < most_bytes / 2) {
            // No space: the cut must at least not go through a character.
            cut = most_bytes;
            while (cut > most_bytes - 3 && (static_cast<unsigned char>(line_[cut]) & 0xC0U) == 0x80U) {
                --cut;
            }
        }
        passage_.first_line = line_number_;
        passage_.text = line_.substr(0, cut);
        end_passage();
        line_.erase(0, cut);
    }

    Use use_;
    std::string line_;
    Passage passage_;
    std::size_t line_number_ = 1;
    std::size_t next_number_ = 0;
};

/// How reading a file ended.
enum class ReadResult { text, binary, unreadable };

/// Reads a file and calls `use(Passage&&)` with each of its passages. A file with a zero byte in its first 64 KiB is
/// binary. Once `gives_up()`, it reads no further.
template <class Use, class GivesUp>
ReadResult read_passages(const std::filesystem::path& path, Use use, const GivesUp& gives_up) {
    std::ifstream file(path, std::ios::binary);
    if (!file) {
        return ReadResult::unreadable;
    }
    PassageSplitter<Use> splitter(std::move(use));
    std::string chunk(64 * 1024, '\0');
    for (bool first = true; file && !gives_up(); first = false) {
        file.read(chunk.data(), static_cast<std::streamsize>(chunk.size()));
        const std::string_view bytes(chunk.data(), static_cast<std::size_t>(file.gcount()));
        if (file.bad()) {
            return ReadResult::unreadable;
        }
        if (first && bytes.find('\0') != std::string_view::npos) {
            return ReadResult::binary;
        }
        splitter.feed(bytes);
    }
    splitter.finish();
    return ReadResult::text;
}

}  // namespace search
