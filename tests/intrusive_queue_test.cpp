#include "residency/shell/intrusive_queue.hpp"

#include "support/catch.hpp"

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

}  // namespace intrusive_queue_test
