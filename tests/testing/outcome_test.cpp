#include "residency/testing/outcome.hpp"

#include "residency/runtime/asio.hpp"

#include "support/catch.hpp"

#include <boost/asio/bind_executor.hpp>

#include <exception>
#include <memory>
#include <optional>
#include <stdexcept>
#include <thread>
#include <utility>

namespace outcome_test {

using residency::errc;
using residency::Error;
using residency::Stage;
using residency::testing::Outcome;
namespace asio = boost::asio;

namespace {

std::exception_ptr failure() { return std::make_exception_ptr(Error(errc::timed_out, "minilm", Stage::queue)); }

}  // namespace

TEST_CASE("An outcome without a call has nothing to give, and says so") {
    Outcome<int> outcome;
    CHECK(outcome.calls() == 0);
    CHECK_THROWS_AS(outcome.value(), std::logic_error);
    CHECK_THROWS_AS(outcome.exception(), std::logic_error);
    CHECK_THROWS_AS(outcome.code(), std::logic_error);
    CHECK_THROWS_AS(outcome.error(), std::logic_error);
}

TEST_CASE("An outcome keeps a result") {
    Outcome<std::unique_ptr<int>> outcome;
    outcome.handler()(nullptr, std::make_unique<int>(42));
    CHECK(outcome.calls() == 1);
    CHECK(*outcome.value() == 42);
    CHECK(outcome.exception() == nullptr);
    CHECK_FALSE(outcome.code().failed());
    CHECK_THROWS_AS(outcome.error(), std::logic_error);
    const auto taken = std::move(outcome.value());
    CHECK(*taken == 42);
}

TEST_CASE("An outcome keeps a failure") {
    Outcome<int> outcome;
    outcome.handler()(failure(), 0);
    CHECK(outcome.calls() == 1);
    CHECK_THROWS_AS(outcome.value(), Error);
    CHECK(outcome.code() == errc::timed_out);
    CHECK(outcome.error().stage() == Stage::queue);
    CHECK(outcome.exception() != nullptr);
}

TEST_CASE("A failure of a kind that is not expected is thrown") {
    Outcome<> outcome;
    outcome.handler()(std::make_exception_ptr(std::runtime_error("something else")));
    CHECK_THROWS_WITH(outcome.code(), "something else");
    CHECK_THROWS_WITH(outcome.error(), "something else");
    CHECK_THROWS_WITH(outcome.value(), "something else");

    Outcome<> aborted;
    aborted.handler()(std::make_exception_ptr(boost::system::system_error(asio::error::operation_aborted)));
    CHECK(aborted.code() == asio::error::operation_aborted);
    CHECK_THROWS_AS(aborted.error(), boost::system::system_error);
}

TEST_CASE("A second call is counted, and the first one's answer kept") {
    Outcome<int> outcome;
    const auto handler = outcome.handler();
    handler(nullptr, 1);
    handler(failure(), 2);
    CHECK(outcome.calls() == 2);
    CHECK(outcome.value() == 1);
}

TEST_CASE("An outcome says whether its handler still exists") {
    Outcome<> outcome;
    CHECK_FALSE(outcome.held());
    auto handler = std::optional(outcome.handler());
    CHECK(outcome.held());
    handler.reset();
    CHECK_FALSE(outcome.held());
    CHECK(outcome.calls() == 0);
}

TEST_CASE("A handler may outlive its outcome") {
    auto outcome = std::make_unique<Outcome<int>>();
    const auto handler = outcome->handler();
    outcome.reset();
    CHECK_NOTHROW(handler(nullptr, 1));
}

TEST_CASE("Another thread's answer can be waited for") {
    const Outcome<> outcome;
    const std::jthread answering([handler = outcome.handler()] { handler(nullptr); });
    outcome.wait();
    CHECK(outcome.calls() == 1);
    outcome.wait();
}

TEST_CASE("The handler is one for Asio, and takes an executor") {
    asio::io_context context;
    Outcome<> outcome;
    auto handler = outcome.handler();
    asio::async_initiate<decltype(handler), void(std::exception_ptr)>(
        [&](auto initiated) {
            asio::post(context, [initiated = std::move(initiated)]() mutable { std::move(initiated)(nullptr); });
        },
        handler);
    CHECK(outcome.calls() == 0);
    context.run();
    CHECK(outcome.calls() == 1);
    CHECK(asio::get_associated_executor(asio::bind_executor(context.get_executor(), outcome.handler())) ==
          context.get_executor());
}

}  // namespace outcome_test
