#pragma once

// Models that count the bytes which all of them hold together, of one process.

#include "residency/embeddings.hpp"
#include "residency/model_key.hpp"

#include <atomic>
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace residency::test {

/// The bytes of all that live, and the most that ever did.
class HeldBytes {
public:
    void add(std::size_t bytes) {
        const std::size_t now = bytes_.fetch_add(bytes) + bytes;
        for (std::size_t most = most_; now > most && !most_.compare_exchange_weak(most, now);) {}
    }
    void remove(std::size_t bytes) { bytes_ -= bytes; }
    [[nodiscard]] std::size_t now() const { return bytes_; }
    [[nodiscard]] std::size_t most() const { return most_; }

private:
    std::atomic<std::size_t> bytes_{0};
    std::atomic<std::size_t> most_{0};
};

/// How much a model holds: 10 bytes for the key `a`, 7 more for each letter behind it.
inline std::size_t held_size(const ModelKey& key) { return 10 + 7 * static_cast<std::size_t>(key.name.front() - 'a'); }

/// Answers each text with its size.
class HeldModel {
public:
    HeldModel(HeldBytes& held, std::size_t bytes) : held_(held), bytes_(bytes) { held_.add(bytes_); }
    HeldModel(const HeldModel&) = delete;
    HeldModel& operator=(const HeldModel&) = delete;
    ~HeldModel() { held_.remove(bytes_); }
    [[nodiscard]] Embeddings embed(std::span<const std::string> texts) const {
        return {1, std::vector<float>(texts.size(), static_cast<float>(bytes_))};
    }

private:
    HeldBytes& held_;
    const std::size_t bytes_;
};

/// Says the size of a model before it loads it.
class HeldBackend {
public:
    using model_type = HeldModel;
    explicit HeldBackend(HeldBytes& held) : held_(&held) {}
    [[nodiscard]] std::unique_ptr<HeldModel> load(const ModelKey& key) const {
        return std::make_unique<HeldModel>(*held_, held_size(key));
    }
    [[nodiscard]] static std::size_t memory_needed(const ModelKey& key) { return held_size(key); }

private:
    HeldBytes* held_;
};

}  // namespace residency::test
