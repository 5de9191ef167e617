#include "residency/backends/lexical.hpp"
#include "residency/model_manager.hpp"
#include "residency/ranking.hpp"
#include "residency/testing/outcome.hpp"
#include "residency/testing/virtual_clock.hpp"

#include "support/catch.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <random>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

namespace lexical_test {

using namespace residency;

namespace {

std::vector<float> embed(const std::string& text, const LexicalOptions& options = {}) {
    const auto model = LexicalEmbeddingBackend(options).load("lexical");
    const Embeddings embeddings = model->embed(std::vector{text});
    return {embeddings[0].begin(), embeddings[0].end()};
}

std::vector<float> rerank(std::string_view query, const std::vector<std::string>& documents,
                          const LexicalRerankerOptions& options = {}) {
    return LexicalRerankerBackend(options).load("bm25")->rerank(query, documents);
}

double dot(std::span<const float> left, std::span<const float> right) {
    double sum = 0.0;
    for (std::size_t index = 0; index < left.size(); ++index) {
        sum += static_cast<double>(left[index]) * static_cast<double>(right[index]);
    }
    return sum;
}

auto about(double expected, double tolerance) { return Catch::Matchers::WithinAbs(expected, tolerance); }

double likeness(const std::string& left, const std::string& right) { return dot(embed(left), embed(right)); }

bool all_zero(std::span<const float> row) {
    return std::all_of(row.begin(), row.end(), [](float value) { return value == 0.0F; });
}

std::vector<std::string> words_of(std::string_view text) {
    std::vector<std::string> words;
    std::string room;
    lexical::for_each_word(text, room, [&](std::string_view word) { words.emplace_back(word); });
    return words;
}

using Words = std::vector<std::string>;

// The generator is the same everywhere; the distributions of <random> are not.
std::string random_bytes(std::mt19937& generator, std::size_t length) {
    std::string bytes(length, '\0');
    for (char& byte : bytes) {
        byte = static_cast<char>(static_cast<unsigned char>(generator() & 0xFFU));
    }
    return bytes;
}

static_assert(!detail::SaysBatchLimits<LexicalReranker>);

}  // namespace

// ---- text

TEST_CASE("Words are runs of letters and digits, without their case") {
    CHECK(words_of("The cat_sat, ON 3 mats!") == Words{"the", "cat", "sat", "on", "3", "mats"});
    CHECK(words_of("\t x\n").size() == 1);
    CHECK(words_of("").empty());
    CHECK(words_of(" .,;-_+*\r\n").empty());
    CHECK(words_of(std::string_view("a\0b", 3)) == Words{"a", "b"});
}

TEST_CASE("Letters beyond ASCII are folded in case") {
    CHECK(words_of("ÀÉÎÕÜÞ ÿ") == words_of("àéîõüþ Ÿ"));
    CHECK(words_of("STRASSE") == words_of("straße"));
    CHECK(words_of("ŽIŽEK ŁÓDŹ ĐOKOVIĆ") == words_of("žižek łódź đoković"));
    CHECK(words_of("ΟΔΥΣΣΕΎΣ") == words_of("οδυσσεύς"));
    CHECK(words_of("ПРИВЕТ ЁЖ ЇЖАК") == words_of("привет ёж їжак"));
    CHECK(words_of("ԲԱՐԵՎ") == words_of("բարեվ"));
    CHECK(words_of("ＡＢＣ") == words_of("ａｂｃ"));
    // What is next to the capitals and has no case.
    CHECK(words_of("a×b÷c") == Words{"a", "b", "c"});
    CHECK(lexical::fold_case(0xD7) == 0xD7);
    CHECK(lexical::fold_case('@') == '@');
    CHECK(lexical::fold_case('[') == '[');
    CHECK(lexical::fold_case(0x130) == 0x130);
}

TEST_CASE("Folding a folded letter changes nothing") {
    for (char32_t letter = 0; letter <= 0x10FFFF; ++letter) {
        const char32_t folded = lexical::fold_case(letter);
        if (lexical::fold_case(folded) != folded) {
            FAIL("U+" << std::hex << static_cast<std::uint32_t>(letter));
        }
    }
}

TEST_CASE("Each ideograph, kana and pictograph is a word") {
    CHECK(words_of("日本語、テスト") == Words{"日", "本", "語", "テ", "ス", "ト"});
    CHECK(words_of("ok🙂🚀go") == Words{"ok", "🙂", "🚀", "go"});
    CHECK(words_of("한국어 학교") == Words{"한국어", "학교"});
}

TEST_CASE("What is not seen does not part a word, and punctuation of other scripts does") {
    CHECK(words_of("co\xC2\xADoperate") == Words{"cooperate"});
    CHECK(words_of("zero\xE2\x80\x8Bwidth") == Words{"zerowidth"});
    CHECK(words_of("\xEF\xBB\xBF\x66irst") == Words{"first"});
    CHECK(words_of("“quoted” – it…") == Words{"quoted", "it"});
    CHECK(words_of("नमस्ते।दुनिया") == Words{"नमस्ते", "दुनिया"});
}

TEST_CASE("Every code point survives its way through UTF-8") {
    std::string text;
    for (char32_t letter = 0; letter <= 0x10FFFF; ++letter) {
        if (letter >= 0xD800 && letter <= 0xDFFF) {
            continue;
        }
        text.clear();
        lexical::append_utf8(text, letter);
        std::string_view rest = text;
        if (lexical::next_code_point(rest) != letter || !rest.empty()) {
            FAIL("U+" << std::hex << static_cast<std::uint32_t>(letter));
        }
    }
}

TEST_CASE("Bytes that are not UTF-8 separate words, one at a time") {
    const std::vector<std::string> broken{"\x80",
                                          "\xBF",
                                          "\xC0\xAF",
                                          "\xC1\xBF",
                                          "\xC3",
                                          "\xE2\x82",
                                          "\xE0\x80\x80",
                                          "\xED\xA0\x80",
                                          "\xED\xBF\xBF",
                                          "\xF0\x9F\x99",
                                          "\xF0\x80\x80\x80",
                                          "\xF4\x90\x80\x80",
                                          "\xF5\x80\x80\x80",
                                          "\xF8\x88\x80\x80\x80",
                                          "\xFE",
                                          "\xFF"};
    for (const std::string& bytes : broken) {
        CAPTURE(bytes);
        CHECK(words_of("before" + bytes + "after") == Words{"before", "after"});
        CHECK(words_of(bytes).empty());
        std::string_view rest = bytes;
        CHECK(lexical::next_code_point(rest) == lexical::replacement);
        CHECK(rest.size() == bytes.size() - 1);
    }
    // The byte after a sequence that was cut is read anew.
    CHECK(words_of("\xE2\x82ok") == Words{"ok"});
}

TEST_CASE("Random bytes are taken apart, embedded and ranked without harm") {
    std::mt19937 generator(20240229);
    const auto embedder = LexicalEmbeddingBackend({.dimension = 64}).load("lexical");
    const auto reranker = LexicalRerankerBackend().load("bm25");
    std::vector<std::string> texts;
    for (std::size_t length = 0; length < 600; ++length) {
        texts.push_back(random_bytes(generator, length));
    }
    for (const std::string& text : texts) {
        for (const std::string& word : words_of(text)) {
            std::string_view rest = word;
            while (!rest.empty()) {  // Words are valid UTF-8, whatever they were made of.
                REQUIRE(lexical::next_code_point(rest) != lexical::replacement);
            }
        }
    }
    const Embeddings rows = embedder->embed(texts);
    REQUIRE(rows.size() == texts.size());
    for (std::size_t row = 0; row < rows.size(); ++row) {
        const double length = dot(rows[row], rows[row]);
        if (!all_zero(rows[row])) {
            REQUIRE_THAT(length, about(1.0, 1e-5));
        }
    }
    const std::vector<float> scores = reranker->rerank(texts.back(), texts);
    REQUIRE(scores.size() == texts.size());
    CHECK(std::all_of(scores.begin(), scores.end(), [](float score) { return std::isfinite(score) && score >= 0.0F; }));
    CHECK(rank(scores).front().index == texts.size() - 1);
}

// ---- embedding

TEST_CASE("A text's vector is what an implementation in another language makes of it") {
    // By a few lines of Python that follow the documentation: its own words, case folding, hashes and logarithms.
    const std::array<float, 12> plain{-0.151528574F, -0.370001114F, 0.763975406F,  -0.162836676F,
                                      0.0F,          0.11579497F,   0.232042264F,  -0.11579497F,
                                      0.23158994F,   0.0470417065F, -0.162836676F, 0.258729386F};
    const std::array<float, 12> foreign{0.0F,          0.368751594F, -0.622516132F, 0.0F,
                                        0.126882269F,  0.444087941F, -0.178428191F, -0.329100885F,
                                        0.0118952127F, 0.253764538F, 0.0F,          0.241869325F};
    const std::vector<float> plain_row = embed("the cat sat on the mat, and the cat slept", {.dimension = 12});
    const std::vector<float> foreign_row = embed("Über die Straße: Žižek, Ωμέγα, ПРИВЕТ, 日本", {.dimension = 12});
    for (std::size_t index = 0; index < plain.size(); ++index) {
        CAPTURE(index);
        CHECK_THAT(plain_row[index], about(plain[index], 1e-7));
        CHECK_THAT(foreign_row[index], about(foreign[index], 1e-7));
    }
}

TEST_CASE("A text's vector never changes by a bit") {
    // Found once, with g++ and libstdc++; it has to be the same with every compiler and standard library.
    const std::vector<float> row = embed("Equal texts, equal bits: Größe, 大きさ, размер. " + std::string(500, 'x'));
    std::uint64_t digest = 0;
    for (const float value : row) {
        digest = (digest ^ std::bit_cast<std::uint32_t>(value)) * 0x9E3779B97F4A7C15ULL;
        digest ^= digest >> 32U;
    }
    CHECK(digest == 0x14E4D210F90E24AFULL);
}

TEST_CASE("Rows are as wide as asked for, of length 1, and in the order of the texts") {
    for (const std::size_t dimension : {std::size_t{7}, std::size_t{384}, std::size_t{1000}}) {
        const auto model = LexicalEmbeddingBackend({.dimension = dimension}).load("lexical");
        const std::vector<std::string> texts{"one text", "another, longer text about something else", "Ünïcödé", "x"};
        const Embeddings rows = model->embed(texts);
        REQUIRE(rows.size() == texts.size());
        CHECK(rows.dimension() == dimension);
        CHECK(model->dimension() == dimension);
        for (std::size_t row = 0; row < rows.size(); ++row) {
            CHECK_THAT(dot(rows[row], rows[row]), about(1.0, 1e-5));
            const std::vector<float> alone = embed(texts[row], {.dimension = dimension});
            CHECK(std::equal(alone.begin(), alone.end(), rows[row].begin(), rows[row].end()));
        }
    }
    CHECK(LexicalEmbeddingBackend().load("lexical")->dimension() == 384);
}

TEST_CASE("A text without a word has a row of zeros") {
    const auto model = LexicalEmbeddingBackend().load("lexical");
    const Embeddings rows = model->embed(std::vector<std::string>{"", "  \n\t", "?!, -- ...", "\xFF\xFE", "word"});
    REQUIRE(rows.size() == 5);
    for (std::size_t row = 0; row < 4; ++row) {
        CHECK(all_zero(rows[row]));
    }
    CHECK_FALSE(all_zero(rows[4]));
    CHECK(model->embed({}).empty());
}

TEST_CASE("Case and punctuation do not change a vector, other words do") {
    CHECK(embed("Hello, WORLD!") == embed("hello world"));
    CHECK(embed("Öl und Äpfel") == embed("ÖL UND ÄPFEL"));
    CHECK(embed("hello world") != embed("hello there"));
    CHECK(embed("hello world") == embed("world hello"));
}

TEST_CASE("Repeating a word counts for less each time") {
    // The first word's part of the vector grows, but slower than its count: the other word is not drowned.
    const std::string other = "zebra ";
    const double once = likeness(other + "apple", "apple");
    const double twice = likeness(other + "apple apple", "apple");
    const double often = likeness(other + "apple apple apple apple apple apple apple apple", "apple");
    CHECK(once < twice);
    CHECK(twice < often);
    // In proportion to the count, 8 to 1, the cosine would be 8 / sqrt(65).
    CHECK(often < 8.0 / std::sqrt(65.0));
}

TEST_CASE("Texts that share words are nearer than texts that do not") {
    const std::string query = "how to unload an idle model from memory";
    const double same_topic =
        likeness(query, "An idle model is unloaded, and its memory given back, after its keep-alive.");
    const double some_topic = likeness(query, "The memory of the graphics card was full.");
    const double no_topic = likeness(query, "Bake the bread for forty minutes until its crust is brown.");
    CHECK(same_topic > some_topic);
    CHECK(some_topic > no_topic);
    CHECK(likeness("boundary layer", "boundary layers") > 0.5);
    CHECK(std::abs(likeness("boundary layer", "quick fox")) < 0.2);
}

TEST_CASE("Inflected and misspelt words are near by their n-grams, and only by them") {
    const LexicalOptions words_only{.longest_ngram = 0};
    for (const auto& [left, right] :
         {std::pair{"residency", "residencies"}, std::pair{"asynchronous", "asynchronuos"}}) {
        CHECK(likeness(left, right) > 0.2);
        CHECK(std::abs(dot(embed(left, words_only), embed(right, words_only))) < 1e-6);
    }
    CHECK_THAT(dot(embed("whole words", words_only), embed("WHOLE words", words_only)), about(1.0, 1e-5));
}

TEST_CASE("A text whose features all add up is still of length 1") {
    // Words that all have the same sign: their sum is past what a square keeps exactly.
    std::string text;
    for (int number = 10'000, words = 0; words < 80'000; ++number) {
        const std::string word = std::to_string(number);
        lexical::FeatureHash hash('w');
        std::for_each(word.begin(), word.end(), [&](char byte) { hash.add(byte); });
        if ((hash.value() & 1U) == 1) {
            text += word + ' ';
            ++words;
        }
    }
    CHECK(embed(text, {.dimension = 1, .longest_ngram = 0}) == std::vector<float>{1.0F});
    const std::vector<float> two = embed(text, {.dimension = 2, .longest_ngram = 0});
    CHECK_THAT(dot(two, two), about(1.0, 1e-6));
    CHECK_THAT(two[0], about(std::sqrt(0.5), 0.01));  // Half of the words each.
}

TEST_CASE("A word of a million letters is a word") {
    const std::vector<float> row = embed(std::string(1'000'000, 'a') + " b");
    CHECK_THAT(dot(row, row), about(1.0, 1e-5));
}

TEST_CASE("Ten thousand texts in one call") {
    std::vector<std::string> texts;
    for (int index = 0; index < 10'000; ++index) {
        texts.push_back("text number " + std::to_string(index));
    }
    const auto model = LexicalEmbeddingBackend({.dimension = 32}).load("lexical");
    const Embeddings rows = model->embed(texts);
    REQUIRE(rows.size() == texts.size());
    for (const std::size_t row : {std::size_t{0}, std::size_t{4'999}, std::size_t{9'999}}) {
        const std::vector<float> alone = embed(texts[row], {.dimension = 32});
        CHECK(std::equal(alone.begin(), alone.end(), rows[row].begin(), rows[row].end()));
    }
    const std::vector<float> scores = rerank("9999", texts);
    REQUIRE(scores.size() == texts.size());
    CHECK(rank(scores).front().index == 9'999);
}

TEST_CASE("Many threads on one model get what one gets") {
    const auto embedder = LexicalEmbeddingBackend().load("lexical");
    const auto reranker = LexicalRerankerBackend().load("bm25");
    std::vector<std::string> texts;
    for (int index = 0; index < 200; ++index) {
        texts.push_back("passage " + std::to_string(index) + " of " + std::to_string(index % 7) + " more words");
    }
    const Embeddings rows = embedder->embed(texts);
    const std::vector<float> scores = reranker->rerank("passage 3 words", texts);
    std::array<char, 8> same{};
    {
        std::vector<std::jthread> threads;
        for (char& result : same) {
            threads.emplace_back([&] {
                result = embedder->embed(texts) == rows && reranker->rerank("passage 3 words", texts) == scores ? 1 : 0;
            });
        }
    }
    CHECK(std::count(same.begin(), same.end(), 1) == 8);
}

// ---- reranking

TEST_CASE("BM25 gives what its formula gives by hand") {
    // N = 3 documents of 3, 3 and 7 words.
    const std::vector<std::string> documents{"The cat sat.", "A dog barked!", "the cat, and the other cat, played"};
    const double mean = (3.0 + 3.0 + 7.0) / 3.0;
    const double k1 = 1.2;
    const double b = 0.75;
    const auto part = [&](double count, double length) {
        return count * (k1 + 1.0) / (count + k1 * (1.0 - b + b * length / mean));
    };
    const double idf_of_two = std::log(1.0 + (3.0 - 2.0 + 0.5) / (2.0 + 0.5));
    const double idf_of_one = std::log(1.0 + (3.0 - 1.0 + 0.5) / (1.0 + 0.5));

    const std::vector<float> cat = rerank("CAT", documents);
    REQUIRE(cat.size() == 3);
    CHECK_THAT(cat[0], about(idf_of_two * part(1, 3), 1e-6));
    CHECK(cat[1] == 0.0F);
    CHECK_THAT(cat[2], about(idf_of_two * part(2, 7), 1e-6));

    const std::vector<float> both = rerank("cat sat", documents);
    CHECK_THAT(both[0], about(idf_of_two * part(1, 3) + idf_of_one * part(1, 3), 1e-6));
    CHECK_THAT(both[2], about(idf_of_two * part(2, 7), 1e-6));

    // A word that the query has twice counts twice; one that no document has counts nothing.
    const std::vector<float> twice = rerank("cat cat zebra", documents);
    CHECK_THAT(twice[0], about(2.0 * idf_of_two * part(1, 3), 1e-6));

    // A number worked out on paper: ln(1.6) * 2.2 / (1 + 1.2 * (0.25 + 0.75 * 9 / 13)).
    CHECK_THAT(cat[0], about(0.53768, 1e-5));
}

TEST_CASE("The parameters of BM25 do what they are for") {
    const std::vector<std::string> documents{"cat", "cat cat cat cat", "cat and many other words in a long document",
                                             "dog"};
    const std::vector<float> whether = rerank("cat", documents, {.k1 = 0.0});
    CHECK(whether[0] == whether[1]);
    CHECK(whether[0] == whether[2]);
    const std::vector<float> any_length = rerank("cat", documents, {.b = 0.0});
    CHECK(any_length[0] == any_length[2]);
    const std::vector<float> usual = rerank("cat", documents);
    CHECK(usual[1] > usual[0]);
    CHECK(usual[0] > usual[2]);
    CHECK(usual[3] == 0.0F);
}

TEST_CASE("A rare word counts for more than a common one") {
    std::vector<std::string> documents(20, "the common word");
    documents[5] = "the rare word";
    const Ranking ranking = rank(rerank("rare common", documents));
    CHECK(ranking.front().index == 5);
}

TEST_CASE("Nothing to rank, and nothing to rank by") {
    CHECK(rerank("query", {}).empty());
    CHECK(rerank("", {"a document"}) == std::vector<float>{0.0F});
    CHECK(rerank("?!", {"a document", ""}) == std::vector<float>{0.0F, 0.0F});
    CHECK(rerank("query", {"", "..."}) == std::vector<float>{0.0F, 0.0F});
}

TEST_CASE("A word of every document still counts, and never negatively") {
    const std::vector<float> scores = rerank("word", std::vector<std::string>(10'000, "word"));
    CHECK(std::all_of(scores.begin(), scores.end(), [&](float score) { return score > 0.0F && score == scores[0]; }));
}

TEST_CASE("Query and documents are read as Unicode") {
    const std::vector<std::string> documents{"Grüße aus München", "STRASSENBAHN", "Straße", "東京の天気"};
    CHECK(rank(rerank("MÜNCHEN", documents)).front().index == 0);
    CHECK(rank(rerank("strasse", documents)).front().index == 2);
    CHECK(rank(rerank("天気", documents)).front().index == 3);
}

TEST_CASE("A long query over many documents needs no more memory than their words") {
    std::string query;
    for (int word = 0; word < 20'000; ++word) {
        query += 'q' + std::to_string(word) + ' ';
    }
    const std::vector<std::string> documents(20'000, "q19999");
    const std::vector<float> scores = rerank(query, documents);  // A table of both would have 400 million fields.
    CHECK(scores.front() > 0.0F);
    CHECK(scores.front() == scores.back());
}

// ---- logarithms

TEST_CASE("The logarithm of an integer is as near as it says") {
    using lexical::integer_log;
    using lexical::log_one;
    static_assert(integer_log(1) == 0);
    const auto error = [](std::uint64_t value) {
        const auto ours = static_cast<long double>(integer_log(value)) / static_cast<long double>(log_one);
        return std::abs(ours - std::log(static_cast<long double>(value)));
    };
    for (std::uint64_t value = 1; value < 100'000; ++value) {
        if (error(value) > 0x1p-24L) {
            FAIL(value);
        }
    }
    for (unsigned bit = 17; bit < 64; ++bit) {
        CHECK(error(std::uint64_t{1} << bit) < 0x1p-24L);
        CHECK(error((std::uint64_t{1} << bit) - 1) < 0x1p-24L);
        CHECK(error((std::uint64_t{1} << bit) / 3 * 4) < 0x1p-24L);
    }
    CHECK(error(std::numeric_limits<std::uint64_t>::max()) < 0x1p-24L);
}

// ---- backends

TEST_CASE("Any name is a model, in 32-bit floats") {
    for (const ModelKey& key :
         {ModelKey("lexical"), ModelKey("bge-small-en-v1.5", "f32"), ModelKey("日本"), ModelKey(" ")}) {
        CHECK(LexicalEmbeddingBackend().load(key) != nullptr);
        CHECK(LexicalRerankerBackend().load(key) != nullptr);
    }
}

TEST_CASE("A lexical model holds itself and its key, and that is known before") {
    const ModelKey key(std::string(1000, 'n'), "f32");
    LexicalEmbeddingBackend embedding;
    const std::size_t embedder = embedding.load(key)->memory_used();
    CHECK(embedder >= sizeof(LexicalEmbedder) + 1000);
    CHECK(embedder <= 2048);
    CHECK(embedding.memory_needed(key) == embedder);
    LexicalRerankerBackend ranking;
    const std::size_t reranker = ranking.load(key)->memory_used();
    CHECK(reranker >= sizeof(LexicalReranker) + 1000);
    CHECK(reranker <= 2048);
    CHECK(ranking.memory_needed(key) == reranker);
    CHECK(detail::call_memory_needed(embedding, key) == std::optional(embedder));
    CHECK(detail::memory_used_of(*ranking.load(key)) == std::optional(reranker));
}

TEST_CASE("Another quantization, or no name, is a wrong request and not a broken model") {
    const auto code_of = [](auto load) {
        try {
            load();
        } catch (const Error& error) {
            CHECK(error.stage() == Stage::load);
            return error.code();
        }
        return boost::system::error_code();
    };
    for (const ModelKey& key :
         {ModelKey("lexical", "q8_0"), ModelKey("lexical", "F32"), ModelKey("", "f32"), ModelKey()}) {
        CAPTURE(key);
        CHECK(code_of([&] { (void)LexicalEmbeddingBackend().load(key); }) == make_error_code(errc::invalid_request));
        CHECK(code_of([&] { (void)LexicalRerankerBackend().load(key); }) == make_error_code(errc::invalid_request));
    }
}

TEST_CASE("Options that cannot be are refused by name") {
    const auto refusal = [](auto make) -> std::string {
        try {
            make();
        } catch (const std::invalid_argument& error) {
            return error.what();
        }
        return {};
    };
    using residency::test::contains_text;
    constexpr double nan = std::numeric_limits<double>::quiet_NaN();
    constexpr double infinity = std::numeric_limits<double>::infinity();
    for (const std::size_t dimension : {std::size_t{0}, std::size_t{65'537}, static_cast<std::size_t>(-1)}) {
        CHECK_THAT(refusal([&] { LexicalEmbeddingBackend({.dimension = dimension}); }), contains_text("dimension"));
    }
    CHECK_THAT(refusal([] { LexicalEmbeddingBackend({.shortest_ngram = 0}); }), contains_text("shortest_ngram"));
    CHECK_THAT(refusal([] { LexicalEmbeddingBackend({.longest_ngram = 33}); }), contains_text("longest_ngram"));
    for (const double k1 : {-0.1, nan, infinity}) {
        CHECK_THAT(refusal([&] { LexicalRerankerBackend({.k1 = k1}); }), contains_text("k1"));
    }
    for (const double b : {-0.1, 1.1, nan, infinity}) {
        CHECK_THAT(refusal([&] { LexicalRerankerBackend({.b = b}); }), contains_text(".b "));
    }
    CHECK(refusal([] { LexicalEmbeddingBackend({.dimension = 1, .shortest_ngram = 1, .longest_ngram = 32}); }).empty());
    CHECK(refusal([] { LexicalRerankerBackend({.k1 = 0.0, .b = 1.0}); }).empty());
}

TEST_CASE("A call that is asked to stop ends as cancelled") {
    std::stop_source stop;
    stop.request_stop();
    const std::vector<std::string> texts{"text"};
    const auto code_of = [](auto call) {
        try {
            call();
        } catch (const Error& error) {
            return error.code();
        }
        return boost::system::error_code();
    };
    const auto embedder = LexicalEmbeddingBackend().load("lexical");
    const auto reranker = LexicalRerankerBackend().load("bm25");
    CHECK(code_of([&] { (void)embedder->embed(texts, stop.get_token()); }) == operation_aborted());
    CHECK(code_of([&] { (void)reranker->rerank("text", texts, stop.get_token()); }) == operation_aborted());
}

TEST_CASE("Requests for BM25 share no call and are not split: a score depends on all documents of its request",
          "[H24]") {
    const std::size_t most = GENERATE(0U, 1U, 2U, 64U);
    testing::VirtualClock::reset();
    asio::io_context control;
    asio::io_context inference;
    asio::io_context loading;
    ManagerOptions options;
    options.reranker.max_calls = 1;
    options.reranker.max_batch_texts = most;
    ModelManager<LexicalEmbeddingBackend, LexicalRerankerBackend, testing::VirtualClock> manager(
        {}, {}, options, {control.get_executor(), inference.get_executor(), loading.get_executor()});
    // "cat" is rare in the first request and in all documents of the second, which makes it worth little there.
    const std::vector<std::vector<std::string>> asked{
        {"the cat sat", "prices fell", "rain fell", "stocks fell", "the sun rose"}, {"a cat", "the cat sat", "cat"}};
    std::array<testing::Outcome<Ranking>, 3> answers;
    manager.async_rerank("bm25", "cat", {"cat"}, answers[2].handler());
    testing::run_ready(control, loading);
    // Both wait for the call that runs.
    manager.async_rerank("bm25", "cat", asked[0], answers[0].handler());
    manager.async_rerank("bm25", "cat", asked[1], answers[1].handler());
    testing::run_ready(control, inference, loading);
    for (std::size_t index = 0; index < asked.size(); ++index) {
        REQUIRE(answers[index].calls() == 1);
        const std::vector<float> alone = rerank("cat", asked[index]);
        for (const RankedDocument& document : answers[index].value()) {
            CHECK(document.score == alone[document.index]);
        }
    }
    const SlotCounters counters = manager.status().reranker.counters;
    CHECK(counters.batches == 3);
    CHECK(counters.texts == 9);
    // What sharing a call would have changed.
    std::vector<std::string> all = asked[0];
    all.insert(all.end(), asked[1].begin(), asked[1].end());
    CHECK(rerank("cat", all)[0] != rerank("cat", asked[0])[0]);
}

}  // namespace lexical_test
