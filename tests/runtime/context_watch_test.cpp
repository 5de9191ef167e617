#include "residency/runtime/context_watch.hpp"

#include "support/catch.hpp"

#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/thread_pool.hpp>

#include <cstddef>
#include <memory>
#include <vector>

using residency::runtime::ContextUser;
using residency::runtime::ContextWatch;
namespace asio = boost::asio;

namespace {

// Writes down which contexts ended.
struct User : ContextUser {
    void context_ends(asio::execution_context& context) noexcept override {
        ended.push_back(&context);
        // Services are still there: a timer can be destroyed, and what is asked of the context answered.
        timer.reset();
    }
    std::vector<const asio::execution_context*> ended;
    std::unique_ptr<asio::steady_timer> timer;
};

// Counts the blocks that live.
template <class Type>
struct Counted {
    using value_type = Type;
    explicit Counted(int& blocks) : live(&blocks) {}
    template <class Other>
    Counted(const Counted<Other>& other) : live(other.live) {}  // NOLINT(google-explicit-constructor)
    Type* allocate(std::size_t count) {
        ++*live;
        return std::allocator<Type>().allocate(count);
    }
    void deallocate(Type* block, std::size_t count) {
        --*live;
        std::allocator<Type>().deallocate(block, count);
    }
    template <class Other>
    bool operator==(const Counted<Other>& other) const {
        return live == other.live;
    }
    int* live;
};

}  // namespace

TEST_CASE("ContextWatch: tells its users when the context is destroyed, once each", "[H11]") {
    const auto first = std::make_shared<User>();
    const auto second = std::make_shared<User>();
    const asio::execution_context* address = nullptr;
    {
        asio::io_context context;
        address = &context;
        ContextWatch::add(context.get_executor(), first);
        ContextWatch::add(context.get_executor(), second);
        asio::post(context, [] {});
        context.run();
        CHECK(first->ended.empty());
    }
    CHECK(first->ended == std::vector{address});
    CHECK(second->ended == std::vector{address});
}

TEST_CASE("ContextWatch: a user may give its timer back while it is told", "[H11]") {
    const auto user = std::make_shared<User>();
    bool called = false;
    {
        asio::io_context context;
        user->timer = std::make_unique<asio::steady_timer>(context, std::chrono::hours(1));
        user->timer->async_wait([&called](boost::system::error_code) { called = true; });
        ContextWatch::add(context.get_executor(), user);
    }
    CHECK(user->ended.size() == 1);
    CHECK_FALSE(called);
    CHECK(user->timer == nullptr);
}

TEST_CASE("ContextWatch: a user that is gone is not told", "[H11]") {
    auto user = std::make_shared<User>();
    const std::weak_ptr<User> watched = user;
    {
        asio::io_context context;
        ContextWatch::add(context.get_executor(), user);
        user.reset();
        // The watch keeps nobody alive.
        CHECK(watched.expired());
        ContextWatch::add(context.get_executor(), std::make_shared<User>());
    }
    CHECK(watched.expired());
}

TEST_CASE("ContextWatch: of users that are gone nothing is kept, however many have been", "[H11]") {
    asio::io_context context;
    int live = 0;
    for (int index = 0; index < 100; ++index) {
        // In one block with its count, which lives for as long as it is watched.
        ContextWatch::add(context.get_executor(), std::allocate_shared<User>(Counted<User>(live)));
        CHECK(live == 1);
    }
}

TEST_CASE("ContextWatch: knows the context of a strand, of a pool, and of what is erased", "[H11]") {
    const auto user = std::make_shared<User>();
    {
        asio::io_context context;
        ContextWatch::add(asio::make_strand(context), user);
        {
            asio::thread_pool pool(1);
            ContextWatch::add(asio::any_io_executor(pool.get_executor()), user);
            pool.join();
        }
        CHECK(user->ended.size() == 1);
    }
    CHECK(user->ended.size() == 2);
}

TEST_CASE("ContextWatch: a user that joined several contexts is told of each", "[H11]") {
    const auto user = std::make_shared<User>();
    auto first = std::make_unique<asio::io_context>();
    auto second = std::make_unique<asio::io_context>();
    const asio::execution_context* const address = first.get();
    ContextWatch::add(first->get_executor(), user);
    ContextWatch::add(second->get_executor(), user);
    first.reset();
    CHECK(user->ended == std::vector{address});
    second.reset();
    CHECK(user->ended.size() == 2);
}
