// New here: a slot of something that neither embeds nor reranks. A slot holds whatever is expensive to keep and safe to
// drop; here it is a word list.
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

struct WordListBackend {
    using model_type = WordList;

    std::unique_ptr<WordList> load(const residency::ModelKey& key) {
        if (key.name != "english") {
            throw std::runtime_error("cannot read " + key.name + ".txt");
        }
        return std::make_unique<WordList>(std::set<std::string>{"cat", "dog", "horse"});
    }
};

int main() {
    residency::ModelSlot<WordListBackend> lists{
        {}, {}, {}, [](const residency::Event& event) { std::cout << event << '\n'; }, "word lists"};
    const auto english = lists.acquire("english");
    std::cout << "cat: " << english->knows("cat") << ", chat: " << english->knows("chat") << '\n';
    return english->knows("cat") && !english->knows("chat") ? 0 : 1;
}
