#include "residency/shell/intrusive_queue.hpp"

#include "residency/shell/outbox.hpp"
#include "support/catch.hpp"

#include <exception>
#include <memory>
#include <utility>
#include <vector>

namespace intrusive_queue_test {

using residency::detail::IntrusiveQueue;

struct Owned {
    explicit Owned(int its_number) : number(its_number) {}
    int number;
    std::shared_ptr<Owned> next{};
};

struct Borrowed {
    int number = 0;
    Borrowed* next = nullptr;
};

namespace {

/// A call that nothing is done with.
class IdleCall final : public residency::detail::InferenceWaiter {
public:
    IdleCall() : InferenceWaiter(1, 0, residency::EmbedAs::as_is, false) {}
    void granted() noexcept override {}
    void failed(std::exception_ptr /*error*/) noexcept override {}
    void run() noexcept override {}
    void dropped() noexcept override {}
    void prepare_parts() override {}
    void start_part(residency::detail::CallPart& /*part*/) noexcept override {}
    void run_part(residency::detail::CallPart& /*part*/) noexcept override {}
    void part_dropped(residency::detail::CallPart& /*part*/) noexcept override {}
};

template <class Nodes>
std::vector<int> numbers_of(Nodes& nodes) {
    std::vector<int> numbers;
    while (!nodes.empty()) {
        numbers.push_back(nodes.pop()->number);
    }
    return numbers;
}

}  // namespace

TEST_CASE("IntrusiveQueue: who came first leaves first, whenever the others come") {
    IntrusiveQueue<&Owned::next> chain;
    CHECK(chain.empty());
    chain.push(std::make_shared<Owned>(1));
    chain.push(std::make_shared<Owned>(2));
    CHECK(chain.pop()->number == 1);
    chain.push(std::make_shared<Owned>(3));
    CHECK(numbers_of(chain) == std::vector<int>{2, 3});
    chain.push(std::make_shared<Owned>(4));
    CHECK(numbers_of(chain) == std::vector<int>{4});
}

TEST_CASE("IntrusiveQueue: what has left names no member and is free for the next one") {
    Borrowed first{.number = 1};
    Borrowed second{.number = 2};
    IntrusiveQueue<&Borrowed::next> chain;
    chain.push(&first);
    chain.push(&second);
    CHECK(chain.pop() == &first);
    CHECK(first.next == nullptr);
    chain.push(&first);
    CHECK(numbers_of(chain) == std::vector<int>{2, 1});
}

TEST_CASE("IntrusiveQueue: owns what is in it, and nothing else") {
    auto node = std::make_shared<Owned>(1);
    const std::weak_ptr<Owned> alive = node;
    {
        IntrusiveQueue<&Owned::next> chain;
        chain.push(std::move(node));
        chain.push(std::make_shared<Owned>(2));
        node = chain.pop();
        CHECK(node.use_count() == 1);
        CHECK(node->next == nullptr);
        chain.push(std::move(node));
    }
    CHECK(alive.expired());
}

TEST_CASE("IntrusiveQueue: another's nodes come behind its own, in their order, and the other is empty") {
    IntrusiveQueue<&Owned::next> chain;
    IntrusiveQueue<&Owned::next> other;
    chain.append(other);
    CHECK(chain.empty());
    other.push(std::make_shared<Owned>(1));
    other.push(std::make_shared<Owned>(2));
    chain.append(other);
    CHECK(other.empty());
    other.push(std::make_shared<Owned>(3));
    chain.append(other);
    chain.push(std::make_shared<Owned>(4));
    CHECK(numbers_of(chain) == std::vector<int>{1, 2, 3, 4});
}

TEST_CASE("PostedStops: however many calls are not come to, they are destroyed one by one", "[H11][H29]") {
    residency::detail::StopRequests stops;
    for (int index = 0; index < 300'000; ++index) {
        stops.push(boost::intrusive_ptr<residency::detail::InferenceWaiter>(new IdleCall));
    }
    const residency::detail::PostedStops posted(std::move(stops));
    CHECK(stops.empty());
    CHECK_FALSE(posted.stops.empty());
}

}  // namespace intrusive_queue_test
