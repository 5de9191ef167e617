#include "residency/shell/error_writer.hpp"

#include "support/catch.hpp"

#include <chrono>
#include <exception>
#include <memory>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>

namespace error_writer_test {

using namespace residency;
using namespace std::chrono_literals;
using detail::ErrorWriter;

namespace {

const std::string slot = "embedding";
const SlotOptions options{.max_leases = 3, .max_queue = 7};

/// One who is refused, as a slot would leave it.
class Refused final : public detail::InferenceWaiter {
public:
    Refused(const ModelKey& of, errc why, Stage where, core::Duration retry = core::Duration::zero())
        : InferenceWaiter(1, 1, EmbedAs::as_is, false) {
        key = core::SharedKey(of);
        code = why;
        stage = where;
        retry_after = retry;
    }
    void granted() noexcept override {}
    void failed(std::exception_ptr) noexcept override {}
    void run() noexcept override {}
    void dropped() noexcept override {}
    void prepare_parts() override {}
    void start_part(detail::CallPart&) noexcept override {}
    void run_part(detail::CallPart&) noexcept override {}
    void part_dropped(detail::CallPart&) noexcept override {}
};

Error error_in(const std::exception_ptr& exception) {
    REQUIRE(exception);
    try {
        std::rethrow_exception(exception);
    } catch (const Error& error) {
        return error;
    }
}

const ModelKey a("a");
const ModelKey b("b");

}  // namespace

static_assert(std::is_nothrow_copy_constructible_v<Error> && std::is_nothrow_copy_assignable_v<Error>);

TEST_CASE("ErrorWriter: requests that are refused together share the text of their errors") {
    ErrorWriter errors(slot, options, nullptr);
    const auto write = [&errors](const Refused& refused) { return error_in(errors.failed(refused)); };
    const Refused plain(a, errc::shutting_down, Stage::queue);
    const Error first = write(plain);
    CHECK(std::string(first.what()) ==
          "residency: shutting_down for 'a' in stage queue: slot 'embedding' is shutting down or has shut down");
    CHECK(errors.failed(plain) != errors.failed(plain));
    CHECK(write(plain).what() == first.what());
    // Whatever differs makes a text of its own.
    CHECK(write(Refused(b, errc::shutting_down, Stage::queue)).key() == b);
    CHECK(write(plain).key() == a);
    CHECK(write(Refused(a, errc::shutting_down, Stage::load)).stage() == Stage::load);
    CHECK(write(plain).stage() == Stage::queue);
    CHECK(write(Refused(a, errc::overloaded, Stage::queue)).code() == errc::overloaded);
    CHECK(write(Refused(a, errc::cooling_down, Stage::queue, 5ms)).retry_after() == 5ms);
    CHECK(write(Refused(a, errc::cooling_down, Stage::queue, 6ms)).retry_after() == 6ms);
    const Refused full(a, errc::overloaded, Stage::admission, 5'000'001ns);
    CHECK(write(full).retry_after() == 6ms);
    CHECK_THAT(write(full).what(), residency::test::contains_text("low priority (try again after 6 ms)"));
    const Refused early(a, errc::overloaded, Stage::admission);
    CHECK_FALSE(write(early).retry_after());
    CHECK_THAT(write(early).what(), residency::test::contains_text("; try again later"));
    Refused cancelled(a, errc::cooling_down, Stage::queue, 6ms);
    cancelled.is_cancelled = true;
    CHECK(write(cancelled).code() == operation_aborted());
    CHECK(write(Refused(a, errc::cooling_down, Stage::queue, 6ms)).code() == errc::cooling_down);
}

TEST_CASE("ErrorWriter: a load that failed keeps the words and the code of its own cause") {
    ErrorWriter errors(slot, options, nullptr);
    Refused disk(a, errc::load_failed, Stage::load, 1500us);
    disk.cause = std::make_exception_ptr(std::runtime_error("no such file"));
    const Error first = error_in(errors.failed(disk));
    CHECK(first.detail() == "no such file");
    // Rounded up: who waits that long finds the cooldown over.
    CHECK(first.retry_after() == 2ms);

    Refused memory(a, errc::load_failed, Stage::load, 1500us);
    CHECK(error_in(errors.failed(memory)).detail() == "there was no memory to begin the load");
    CHECK(error_in(errors.failed(disk)).detail() == "no such file");

    Refused unknown(a, errc::load_failed, Stage::load, 1500us);
    unknown.cause = std::make_exception_ptr(Error(errc::invalid_request, a, Stage::load, "no model of that name"));
    const Error kept = error_in(errors.failed(unknown));
    CHECK(kept.code() == errc::invalid_request);
    CHECK(kept.detail() == "no model of that name");
    CHECK_FALSE(kept.retry_after());

    unknown.cause = std::make_exception_ptr(Error(errc::load_failed, a, Stage::load, "it is broken"));
    CHECK(error_in(errors.failed(unknown)).retry_after() == 2ms);

    // An Error of success is a failure all the same.
    for (const boost::system::error_code& success :
         {boost::system::error_code(), boost::system::error_code(0, error_category())}) {
        unknown.cause = std::make_exception_ptr(Error(success, a, Stage::load, "all is well"));
        CHECK(error_in(errors.failed(unknown)).code() == errc::load_failed);
        CHECK(detail::errc_of(unknown.cause.exception(), errc::load_failed) == errc::load_failed);
    }
}

TEST_CASE("ErrorWriter: a load that failed says when its backend said to try again, but not before its cooldown ends",
          "[S54]") {
    ErrorWriter errors(slot, options, nullptr);
    const errc code = GENERATE(errc::overloaded, errc::load_failed);
    for (const auto& [own, expected] : {std::pair(7ms, 7ms), std::pair(2ms, 2ms), std::pair(0ms, 2ms)}) {
        Refused busy(a, errc::load_failed, Stage::load, 1500us);
        busy.cause = std::make_exception_ptr(Error(code, a, Stage::load, "it is busy", own));
        const Error error = error_in(errors.failed(busy));
        CHECK(error.code() == code);
        CHECK(error.retry_after() == expected);
    }
}

TEST_CASE("ErrorWriter: the waiters of one failed load share its text, those of another load do not") {
    ErrorWriter errors(slot, options, nullptr);
    Refused first(a, errc::load_failed, Stage::load);
    first.cause = std::make_exception_ptr(std::runtime_error("no such file"));
    Refused second(a, errc::load_failed, Stage::load);
    second.cause = first.cause;
    Refused other(a, errc::load_failed, Stage::load);
    other.cause = std::make_exception_ptr(std::runtime_error("no such disk"));
    const Error error = error_in(errors.failed(first));
    CHECK(error_in(errors.failed(second)).what() == error.what());
    CHECK(error_in(errors.failed(other)).detail() == "no such disk");
    // The code is the cause's: it must not hide that the rest is the same.
    first.cause = std::make_exception_ptr(Error(errc::invalid_request, a, Stage::load, "no model of that name"));
    const Error unknown = error_in(errors.failed(first));
    CHECK(error_in(errors.failed(first)).what() == unknown.what());
}

TEST_CASE("ErrorWriter: whose model is still at work learns why it is not waited for") {
    const ErrorWriter errors(slot, options, nullptr);
    Refused early(a, errc::overloaded, Stage::queue);
    early.code = errc::timed_out;
    CHECK(error_in(errors.completed_early(early)).code() == errc::timed_out);
    CHECK(error_in(errors.completed_early(early)).stage() == Stage::inference);
    early.code = errc::model_changed;
    CHECK(error_in(errors.completed_early(early)).detail() ==
          "the model was revoked while it was at work, or unloaded between two parts of the request");
    early.is_cancelled = true;
    CHECK(error_in(errors.completed_early(early)).code() == operation_aborted());
}

}  // namespace error_writer_test
