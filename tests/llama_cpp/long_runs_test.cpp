// Texts with long runs of one kind of character, on threads with little stack: llama.cpp recurses for each character.

#include "residency/backends/llama_cpp.hpp"
#include "support/catch.hpp"
#include "support/comparing.hpp"
#include "support/folders.hpp"
#include "support/tiny_model.hpp"

#include <sys/mman.h>

#include <cfenv>
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

namespace long_runs_test {

using namespace residency;
using namespace residency::test;
using namespace residency::detail::llama_cpp;

namespace {

const boost::system::error_code invalid_request = make_error_code(errc::invalid_request);

// One for each way of splitting that llama.cpp has.
const std::vector<std::string> pre_tokenizers{
    "default",    "jais-2",    "llama-bpe",  "deepseek-llm", "deepseek-coder", "deepseek-v3", "falcon",
    "starcoder",  "gpt-2",     "qwen2",      "qwen35",       "bloom",          "chatglm-bpe", "viking",
    "tekken",     "chameleon", "gpt-4o",     "tiny_aya",     "kimi-k2",        "superbpe",    "granite-embed-multi-97m",
    "bailingmoe", "grok-2",    "afmoe",      "seed-coder",   "laguna",         "exaone-moe",  "gemma4",
    "minicpm5",   "ufakzeka",  "whitespace", "youtu",        "spark2_5"};

// What runs are made of: white space, words, digits, punctuation, line ends, what is beyond ASCII, and bytes that are
// no UTF-8.
const std::vector<std::string> units{" ",
                                     "a",
                                     "A",
                                     "7",
                                     "!",
                                     "/",
                                     "\n",
                                     "\r\n",
                                     "\t",
                                     " \n",
                                     "/\n",
                                     "a ",
                                     "\xC3\xA9",
                                     "\u0416",
                                     "\u4E00",
                                     "\u0301",
                                     "a\u0301",
                                     "\u00A0",
                                     " \u00A0",
                                     "\u3000",
                                     "\u2028 ",
                                     "\u3002",
                                     "\U0001F600",
                                     "\xFF",
                                     "\x80",
                                     "\xC0\xA0",
                                     " \xC0\xA0",
                                     "\xE0\x80\xA0",
                                     " \xF0\x80\x80\xA0"};

constexpr std::size_t little_stack = std::size_t{256} << 10U;

std::string repeated(const std::string& unit, std::size_t characters) {
    std::string text;
    for (std::size_t count = 0; count < characters; ++count) {
        text += unit;
    }
    return text;
}

// The vocabulary of a tiny model.
class Vocabulary {
public:
    explicit Vocabulary(const std::string& pre_tokenizer) {
        const TemporaryFolder folder;
        const std::string file = (folder.path() / "tiny.gguf").string();
        write_tiny_model(file, {.pre_tokenizer = pre_tokenizer});
        LogScope::start();
        const LogScope silence;
        llama_model_params params = llama_model_default_params();
        params.vocab_only = true;
        model_.reset(llama_model_load_from_file(file.c_str(), params));
        REQUIRE(model_);
    }

    [[nodiscard]] const llama_vocab* get() const { return llama_model_get_vocab(model_.get()); }
    [[nodiscard]] Tokenizer tokenizer() const { return Tokenizer(get(), pre_tokenizer_of(*model_)); }
    [[nodiscard]] PreTokenizer pre_tokenizer() const { return {get(), pre_tokenizer_of(*model_)}; }

    // What llama.cpp itself makes of a text.
    [[nodiscard]] Tokens bare(std::string_view text) const {
        Tokens tokens(text.size() + 8);
        const auto count = llama_tokenize(get(), text.data(), static_cast<int>(text.size()), tokens.data(),
                                          static_cast<int>(tokens.size()), false, false);
        REQUIRE(count >= 0);
        tokens.resize(static_cast<std::size_t>(count));
        return tokens;
    }

private:
    ModelHandle model_{};
};

// A folder with a tiny embedder and two tiny rerankers, with a template and without.
class Models {
public:
    explicit Models(const std::string& pre_tokenizer) {
        write_tiny_model(folder_.path() / "embedder.gguf", {.adds_end = true, .pre_tokenizer = pre_tokenizer});
        write_tiny_model(folder_.path() / "flags.gguf",
                         {.pooling = 4, .labels = {"yes", "no"}, .adds_end = true, .pre_tokenizer = pre_tokenizer});
        write_tiny_model(folder_.path() / "template.gguf", {.pooling = 4,
                                                            .labels = {"yes", "no"},
                                                            .rerank_template = "{query}{document}<|im_end|>",
                                                            .pre_tokenizer = pre_tokenizer});
    }

    [[nodiscard]] std::unique_ptr<LlamaCppEmbeddingModel> embedder() const {
        LoadContext context;
        return LlamaCppEmbeddingBackend({.model = options()}).load("embedder", context);
    }
    [[nodiscard]] std::unique_ptr<LlamaCppRerankerModel> reranker(const std::string& name) const {
        LoadContext context;
        return LlamaCppRerankerBackend({.model = options()}).load(name, context);
    }

private:
    [[nodiscard]] LlamaCppModelOptions options() const {
        return {.files = folder_.path(), .contexts = 1, .threads = 1, .truncate = true};
    }

    TemporaryFolder folder_{};
};

}  // namespace

TEST_CASE("a long run of any kind of character is made tokens of on a thread with 256 KiB of stack") {
    for (const std::string& name : pre_tokenizers) {
        const Vocabulary vocabulary(name);
        const Tokenizer tokenizer = vocabulary.tokenizer();
        for (const std::string& unit : units) {
            INFO(name << " on " << unit);
            const std::string text = repeated(unit, 1500);
            Tokens tokens;
            with_stack(little_stack, [&] { tokens = tokenizer.tokenize(text); });
            // Two of the vocabularies have no tokens for single bytes.
            CHECK((!tokens.empty() || name == "whitespace" || name == "gemma4"));
        }
    }
}

TEST_CASE("texts have the tokens that llama.cpp makes of them, whichever stack they are read on") {
    std::string sentence =
        "It's 1234 o'clock; the QUICK brown fox (\u00E4\u4E00\u4E8C\u3002)\r\n\n\tjumps /over/ the lazy dog. ";
    for (const std::string& name : pre_tokenizers) {
        const Vocabulary vocabulary(name);
        const Tokenizer tokenizer = vocabulary.tokenizer();
        INFO(name);
        if (name == "whitespace") {
            CHECK(tokenizer.tokenize("the fox\nth\u4E00 \u4E8C the") ==
                  vocabulary.bare("the fox\nth\u4E00 \u4E8C the"));
            continue;
        }
        for (const std::string& text : {sentence, sentence + repeated("th", 500) + repeated(" ", 700) + sentence}) {
            CHECK(tokenizer.tokenize(text) == vocabulary.bare(text));
        }
    }
}

TEST_CASE("an ordinary text is read on the caller's own stack") {
    for (const std::string& name : pre_tokenizers) {
        if (name == "exaone-moe") {
            continue;  // Its matches go from word to word.
        }
        const std::size_t longest = Vocabulary(name).pre_tokenizer().longest_match(
            "The quick brown fox jumps over the lazy dog and runs away "
            "from it as fast as it can, to https://example.com/a/b?c\n");
        CHECK(longest <= max_match_on_any_stack);
    }
    for (const std::string name : {"qwen2", "llama-bpe", "gpt-2", "gemma4"}) {
        CHECK(Vocabulary(name).pre_tokenizer().longest_match(std::string(1000, ' ')) == 0);
    }
}

TEST_CASE("the longest match goes over what an expression of llama.cpp goes over, in characters") {
    const Vocabulary vocabulary("gpt-4o");
    const PreTokenizer splitter = vocabulary.pre_tokenizer();
    CHECK(splitter.longest_match("") == 0);
    CHECK(splitter.longest_match("ab cde f") == 3);
    CHECK(splitter.longest_match("\u4E00\u4E8C\u4E09 a") == 3);
    CHECK(splitter.longest_match("a \t\r\n\v\f b") == 7);
    CHECK(splitter.longest_match("a \u00A0 \u3000 b") == 5);
    CHECK(splitter.longest_match("/\n/\n/\n") == 6);
    CHECK(splitter.longest_match("\xFF\x80\xC3 \xE4\xB8 ") == 7);
    CHECK(Vocabulary("exaone-moe").pre_tokenizer().longest_match("one two three, four") == 13);
}

TEST_CASE("a text of more bytes than llama.cpp can be given is refused before it is read") {
    const Vocabulary vocabulary("qwen2");
    const Tokenizer tokenizer = vocabulary.tokenizer();
    // Pages that are never touched.
    const std::size_t size = most_bytes + 1;
    void* const pages = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    REQUIRE(pages != MAP_FAILED);
    CHECK(tokenizer.flaw_of({static_cast<const char*>(pages), size}) ==
          "has 2147483632 bytes, and the limit is 2147483631");
    ::munmap(pages, size);
}

TEST_CASE("what takes no stack is refused by no limit: other vocabularies have none") {
    const Vocabulary vocabulary("qwen2");
    const Tokenizer tokenizer = vocabulary.tokenizer();
    const std::string text(100'000, ' ');
    CHECK(tokenizer.flaw_of(text).empty());
    CHECK(tokenizer.tokenize(text).size() == text.size());
}

TEST_CASE("embedders and rerankers answer long runs on a thread with 256 KiB of stack, and refuse endless ones") {
    const std::string longest(max_match, ' ');
    const std::string endless = longest + ' ';
    for (const std::string name : {"granite-embed-multi-97m", "tekken"}) {
        const Models models(name);
        const auto embedder = models.embedder();
        const auto flags = models.reranker("flags");
        const auto form = models.reranker("template");
        const std::vector<std::string> texts{"a text", longest};
        with_stack(little_stack, [&] {
            CHECK(embedder->embed(texts).size() == 2);
            CHECK(flags->rerank("query", texts).size() == 2);
            CHECK(form->rerank("query", texts).size() == 2);
            const std::vector<std::string> bad{"a text", endless};
            const Error text = error_of(invalid_request, [&] { (void)embedder->embed(bad); });
            CHECK_THAT(text.what(), contains_text("text 1: it has 32769 characters in a row"));
            CHECK_THAT(text.what(), contains_text("32768"));
            for (const auto& reranker : {flags.get(), form.get()}) {
                CHECK_THAT(error_of(invalid_request, [&] { (void)reranker->rerank("query", bad); }).what(),
                           contains_text("document 1: it has 32769 characters in a row"));
                CHECK_THAT(error_of(invalid_request, [&] { (void)reranker->rerank(endless, texts); }).what(),
                           contains_text("the query has 32769 characters in a row"));
            }
        });
    }
}

TEST_CASE("where a template joins a query and a document, their runs are one, and it is read all the same") {
    const Models models("gpt-4o");
    const auto reranker = models.reranker("template");
    with_stack(little_stack, [&] {
        // The query leaves no room for a document, but it has been read.
        const Error full = error_of(invalid_request, [&] {
            (void)reranker->rerank(std::string(max_match, '!'), std::vector<std::string>{std::string(max_match, '!')});
        });
        CHECK_THAT(full.what(), contains_text("no room"));
        CHECK(reranker->rerank(std::string(200, '!'), std::vector<std::string>{std::string(5000, '!')}).size() == 1);
    });
}

TEST_CASE("spaces beside other white space do not end the process") {
    const Vocabulary vocabulary("whitespace");
    const Tokenizer tokenizer = vocabulary.tokenizer();
    const Tokens words = tokenizer.tokenize("th the");
    CHECK(words == vocabulary.bare("th the"));
    for (const std::string gap : {"  ", " \n", "\t ", " \u00A0", "\u3000 ", " \xC2\xA0\xC0\xA0 "}) {
        const Tokens tokens = tokenizer.tokenize("th" + gap + "the");
        REQUIRE(tokens.size() >= 2);
        CHECK(tokens.front() == words.front());
        CHECK(tokens.back() == words.back());
    }
}

TEST_CASE("what is thrown on the other thread is thrown here, and a stack that cannot be had is said") {
    CHECK_THROWS_AS(with_stack(little_stack, [] { throw std::length_error("too long"); }), std::length_error);
    CHECK_THROWS_AS(with_stack(std::size_t{1} << 60U, [] {}), std::system_error);
    // It has the default floating-point environment, whatever the caller has.
    std::fesetround(FE_UPWARD);
    int mode = FE_UPWARD;
    with_stack(little_stack, [&] { mode = std::fegetround(); });
    std::fesetround(FE_TONEAREST);
    CHECK(mode == FE_TONEAREST);
}

}  // namespace long_runs_test
