#include "residency/core/memory_requests.hpp"

#include "support/catch.hpp"
#include "support/memory.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <deque>
#include <random>
#include <span>
#include <vector>

namespace residency::core::memory_requests_test {

namespace {

using test::Memory;

MemoryRequest request_of(Index key) {
    MemoryRequest request;
    request.type = MemoryRequest::Type::reserve;
    request.key = key;
    return request;
}
MemoryRequest move_of(Index id) {
    MemoryRequest request;
    request.type = MemoryRequest::Type::move;
    request.id = {id, 0};
    return request;
}

MemoryRequests count_to(Index last) {
    MemoryRequests requests;
    requests.reserve(last);
    for (Index key = 0; key < last; ++key) {
        requests.push(request_of(key));
    }
    return requests;
}

}  // namespace

TEST_CASE("messages to a budget are taken in their order through any history", "[H33]") {
    std::mt19937 random(1);
    MemoryRequests requests;
    std::deque<MemoryRequest> model;
    for (Index step = 0; step < 20'000; ++step) {
        // Grows for a while, then shrinks.
        if (random() % 8 < (step / 3'000 % 2 == 0 ? 7U : 5U)) {
            requests.push(random() % 4 == 0 ? move_of(step) : request_of(step));
            model.push_back(*(requests.end() - 1));
        } else if (random() % 8 == 0 && !model.empty()) {
            const MemoryId id = model[random() % model.size()].id;
            requests.erase_move(id);
            std::erase_if(model, [&](const MemoryRequest& each) {
                return each.type == MemoryRequest::Type::move && each.id == id;
            });
        } else {
            std::array<MemoryRequest, 16> some;
            const std::size_t count = requests.take(std::span(some).first(random() % 17));
            REQUIRE(count <= model.size());
            for (std::size_t each = 0; each < count; ++each) {
                REQUIRE(some[each] == model.front());
                model.pop_front();
            }
        }
        REQUIRE(requests.size() == model.size());
        REQUIRE(requests.empty() == model.empty());
        if (!model.empty()) {
            REQUIRE(requests.front() == model.front());
            REQUIRE(requests.back() == model.back());
        }
    }
    REQUIRE(std::vector<MemoryRequest>(requests.begin(), requests.end()) ==
            std::vector<MemoryRequest>(model.begin(), model.end()));
}

TEST_CASE("taking messages moves no more of them than were taken", "[S18]") {
    MemoryRequests requests = count_to(10'000);
    std::array<MemoryRequest, 16> some;
    std::size_t moved = 0;
    while (!requests.empty()) {
        const MemoryRequest* const next = &requests.front() + (std::min)(some.size(), requests.size());
        requests.take(some);
        moved += !requests.empty() && &requests.front() != next ? requests.size() : 0;
    }
    CHECK(moved <= 10'000);
}

TEST_CASE("the room for messages stays when they are taken", "[H18]") {
    MemoryRequests requests = count_to(100);
    std::array<MemoryRequest, 16> some;
    requests.take(some);
    requests.reserve(50);
    const std::size_t before = Memory::here().allocations;
    for (Index key = 0; key < 50; ++key) {
        requests.push(request_of(key));
    }
    while (requests.take(some) != 0) {}
    for (Index key = 0; key < 100; ++key) {
        requests.push(request_of(key));
    }
    requests.clear();
    CHECK(requests.empty());
    CHECK(Memory::here().allocations == before);
}

TEST_CASE("messages compare by what is left of them") {
    MemoryRequests requests = count_to(100);
    MemoryRequests others;
    others.push(request_of(98));
    others.push(request_of(99));
    std::array<MemoryRequest, 98> most;
    CHECK_FALSE(requests == others);
    requests.take(most);
    CHECK(requests == others);
}

}  // namespace residency::core::memory_requests_test
