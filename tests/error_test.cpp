#include "residency/error.hpp"

#include "residency/runtime/asio.hpp"

#include "support/catch.hpp"

#include <chrono>
#include <exception>
#include <optional>
#include <set>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace error_test {

using namespace std::chrono_literals;
using boost::system::error_code;
using residency::condition;
using residency::errc;
using residency::Error;
using residency::Stage;

namespace {

const std::vector<errc> every_code{errc::invalid_request, errc::overloaded,    errc::timed_out,
                                   errc::load_failed,     errc::cooling_down,  errc::inference_failed,
                                   errc::bad_result,      errc::model_changed, errc::shutting_down,
                                   errc::would_deadlock,  errc::unknown_model, errc::insufficient_memory};

bool is_any(errc code, const std::set<errc>& codes) { return codes.contains(code); }

// What rethrow_if_nested finds below the exception.
std::string nested_message(const std::exception_ptr& exception) {
    try {
        std::rethrow_exception(exception);
    } catch (const std::exception& outer) {
        try {
            std::rethrow_if_nested(outer);
        } catch (const std::exception& inner) {
            return inner.what();
        } catch (...) {
            return "something else";
        }
    }
    return "nothing";
}

Error as_error(const std::exception_ptr& exception) {
    try {
        std::rethrow_exception(exception);
    } catch (const Error& error) {
        return error;
    }
}

}  // namespace

TEST_CASE("Each code has a name, a message of its own and the category") {
    std::set<std::string> names;
    std::set<std::string> messages;
    for (const errc code : every_code) {
        const error_code made = code;
        CHECK(made.failed());
        CHECK(made.category() == residency::error_category());
        CHECK(made == code);
        CHECK(to_string(code) != "unknown");
        names.insert(std::string(to_string(code)));
        messages.insert(made.message());
    }
    CHECK(names.size() == every_code.size());
    CHECK(messages.size() == every_code.size());
    CHECK(std::string(residency::error_category().name()) == "residency");
    CHECK(residency::error_category().message(99) == "unknown residency error");
    CHECK(residency::condition_category().message(99) == "unknown residency condition");
    CHECK(to_string(static_cast<errc>(99)) == "unknown");
}

TEST_CASE("Conditions group the codes as documented") {
    for (const errc code : every_code) {
        const error_code made = code;
        INFO(to_string(code));
        CHECK((made == condition::caller) ==
              is_any(code, {errc::invalid_request, errc::model_changed, errc::would_deadlock, errc::unknown_model}));
        CHECK((made == condition::capacity) == is_any(code, {errc::overloaded, errc::insufficient_memory}));
        CHECK((made == condition::retryable) == is_any(code, {errc::overloaded, errc::timed_out, errc::cooling_down}));
        CHECK((made == condition::backend) ==
              is_any(code, {errc::load_failed, errc::inference_failed, errc::bad_result}));
    }
}

TEST_CASE("An error is retryable by its code, or because it says when to try again") {
    for (const errc code : every_code) {
        INFO(to_string(code));
        CHECK(Error(code, "minilm", Stage::load).retryable() == (error_code(code) == condition::retryable));
        CHECK(Error(code, "minilm", Stage::load, {}, 5ms).retryable());
    }
    CHECK_FALSE(Error(residency::operation_aborted(), "minilm", Stage::queue).retryable());
}

TEST_CASE("Codes of other categories with the same number meet no condition") {
    const error_code other(static_cast<int>(errc::overloaded), boost::system::generic_category());
    for (const condition group : {condition::caller, condition::capacity, condition::retryable, condition::backend}) {
        CHECK_FALSE(other == group);
        CHECK_FALSE(error_code() == group);
        CHECK_FALSE(residency::make_error_condition(group).message().empty());
    }
}

TEST_CASE("A cancelled request has the code of Boost.Asio") {
    CHECK(residency::operation_aborted() == boost::asio::error::operation_aborted);
}

TEST_CASE("An error's sentence says what, for which key, in which stage and when to try again") {
    const Error error(errc::cooling_down, {"minilm", "f16"}, Stage::load, "the file is broken", 1500ms);
    CHECK(error.code() == errc::cooling_down);
    CHECK(error.key() == residency::ModelKey{"minilm", "f16"});
    CHECK(error.stage() == Stage::load);
    CHECK(error.retry_after() == std::optional(1500ms));
    CHECK(std::string(error.what()) ==
          "residency: cooling_down for 'minilm@f16' in stage load: the file is broken (try again after 1500 ms)");
}

TEST_CASE("An error without a detail says its code's message, without a key none") {
    const Error error(errc::shutting_down, {}, Stage::admission);
    CHECK_FALSE(error.retry_after().has_value());
    CHECK(std::string(error.what()) ==
          "residency: shutting_down in stage admission: the slot is shutting down and takes no requests");
}

TEST_CASE("An error with a foreign code says that code's message") {
    const Error error(residency::operation_aborted(), "minilm", Stage::queue);
    CHECK(error.code() == boost::asio::error::operation_aborted);
    CHECK_THAT(std::string(error.what()), residency::test::contains_text(residency::operation_aborted().message()));
    CHECK_THAT(std::string(error.what()), residency::test::contains_text("in stage queue"));
}

TEST_CASE("An error is caught as a system_error, and a long key does not flood its sentence") {
    try {
        throw Error(errc::timed_out, std::string(4096, 'n'), Stage::inference);
    } catch (const boost::system::system_error& error) {
        CHECK(error.code() == errc::timed_out);
        CHECK(std::string(error.what()).size() < 300);
    }
}

TEST_CASE("make_error nests the cause") {
    const Error error(errc::load_failed, "minilm", Stage::load);
    CHECK(nested_message(make_error(error, std::make_exception_ptr(std::runtime_error("no such file")))) ==
          "no such file");
    CHECK(nested_message(make_error(error, std::make_exception_ptr(42))) == "something else");
    CHECK(nested_message(make_error(error)) == "nothing");
    CHECK(as_error(make_error(error, std::make_exception_ptr(42))).code() == errc::load_failed);
    CHECK(std::string(as_error(make_error(error)).what()) == error.what());
}

TEST_CASE("make_error gives each caller an exception object of its own") {
    const Error error(errc::load_failed, "minilm", Stage::load);
    const std::exception_ptr cause = std::make_exception_ptr(std::runtime_error("no such file"));
    CHECK(make_error(error, cause) != make_error(error, cause));
    CHECK(make_error(error) != make_error(error));
}

TEST_CASE("message_of finds a message in whatever was thrown") {
    CHECK(residency::message_of(std::make_exception_ptr(std::runtime_error("no such file"))) == "no such file");
    CHECK(residency::message_of(std::make_exception_ptr(42)) == "an exception that is not a std::exception");
    CHECK(residency::message_of(nullptr).empty());
}

TEST_CASE("message_of cuts a message at 4 KiB, and says how much is missing") {
    const auto message_of = [](const std::string& text) {
        const std::string plain = residency::message_of(std::make_exception_ptr(std::runtime_error(text)));
        CHECK(plain == residency::message_of(std::make_exception_ptr(Error(errc::load_failed, {}, Stage::load, text))));
        return plain;
    };
    const std::string longest(4096, 'e');
    CHECK(message_of(longest) == longest);
    const std::string cut = message_of(longest + '!');
    CHECK(cut.size() <= 4096);
    const std::size_t mark = cut.find_first_not_of('e');
    REQUIRE(mark > 4000);
    CHECK(cut.substr(mark) == "... (" + std::to_string(4097 - mark) + " bytes more)");
    CHECK(message_of(cut) == cut);
    CHECK(message_of(std::string(std::size_t{10} << 20U, 'e')).size() <= 4096);
}

TEST_CASE("A message is never cut inside a character") {
    for (const std::string character : {"\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80"}) {
        for (std::size_t shift = 0; shift < character.size(); ++shift) {
            std::string text(shift, 'e');
            while (text.size() < 8192) {
                text += character;
            }
            const std::string cut = residency::detail::bounded(text);
            const std::size_t kept = cut.find("... (");
            REQUIRE(kept != std::string::npos);
            CHECK((kept - shift) % character.size() == 0);
            CHECK(kept > 4000);
        }
    }
    // No UTF-8 at all: cut anywhere.
    const std::string cut = residency::detail::bounded(std::string(8192, '\x80'));
    CHECK(cut.size() > 4000);
    CHECK(cut.size() <= 4096);
}

TEST_CASE("Each stage has a name and prints it") {
    std::set<std::string> names;
    for (const Stage stage :
         {Stage::admission, Stage::queue, Stage::load, Stage::inference, Stage::unload, Stage::shutdown}) {
        std::ostringstream out;
        out << stage;
        CHECK(out.str() == to_string(stage));
        CHECK(out.str() != "unknown");
        names.insert(out.str());
    }
    CHECK(names.size() == 6);
    CHECK(to_string(static_cast<Stage>(99)) == "unknown");
}

}  // namespace error_test
