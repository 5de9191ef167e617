// New here: a backend of one's own. A backend loads a model for a key, a model does the work, its destructor unloads.
// A slot holds whatever is expensive to keep and safe to drop; here it is a word list, and no embedder at all.
#include <residency/model_slot.hpp>

#include <iostream>
#include <memory>
#include <set>
#include <stdexcept>
#include <string>
#include <utility>

/// What the slot holds. Several threads use it at once, so what they call is const.
class WordList {
public:
    explicit WordList(std::set<std::string> words) : words_(std::move(words)) {}
    [[nodiscard]] bool knows(const std::string& word) const { return words_.contains(word); }

private:
    std::set<std::string> words_;
};

//! [backend]
/// Reads a word list. May block, throws to fail, and tells how it goes if it likes.
struct WordListBackend {
    using model_type = WordList;

    std::unique_ptr<WordList> load(const residency::ModelKey& key, residency::LoadContext& context) {
        if (key.name == "english") {
            context.log(residency::Severity::info, "three words will do");
            return std::make_unique<WordList>(std::set<std::string>{"cat", "dog", "horse"});
        }
        if (key.name == "klingon") {
            // An Error keeps its code; invalid_request is the caller's fault and starts no cooldown.
            throw residency::Error(residency::errc::invalid_request, key, residency::Stage::load,
                                   "there is no such language");
        }
        throw std::runtime_error("cannot read " + key.name + ".txt");
    }
};
//! [backend]

int main() {
    residency::ModelSlot<WordListBackend> lists{
        {}, {}, {}, [](const residency::Event& event) { std::cout << event << '\n'; }, "word lists"};
    {
        // Given back at the end of the block: the slot has one place, and the next key wants it.
        const auto english = lists.acquire("english");
        std::cout << "cat: " << english->knows("cat") << ", chat: " << english->knows("chat") << '\n';
    }

    for (const char* name : {"klingon", "missing"}) {
        try {
            const auto list = lists.acquire(name);
            std::cout << "loaded " << list.key() << '\n';
        } catch (const residency::Error& error) {
            std::cout << error.what() << '\n';
        }
    }
}
