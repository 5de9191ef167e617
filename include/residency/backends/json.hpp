#pragma once

// What leaves that read JSON share. It needs Boost.JSON, so it belongs to none of the leaves that need nothing.

#include "residency/compiler.hpp"

#include <boost/json/object.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/parse_options.hpp>
#include <boost/json/storage_ptr.hpp>
#include <boost/json/string_view.hpp>
#include <boost/json/value.hpp>
#include <boost/system/error_code.hpp>

#include <string_view>
#include <utility>

namespace residency::detail {

/// The value that `text` is. Sets `error`, and gives null, if it is not JSON, or is nested more than 64 deep: the
/// parser takes stack for each level. Of members of one name the last counts.
[[nodiscard]] inline boost::json::value parse_json(std::string_view text, boost::system::error_code& error,
                                                   boost::json::storage_ptr memory = {}) {
    boost::json::parse_options options;
    options.max_depth = 64;
    return boost::json::parse(boost::json::string_view(text.data(), text.size()), error, std::move(memory), options);
}

/// The member `name` of `value`, or null if that is no object, or has none of that name.
[[nodiscard]] inline const boost::json::value* member_of(const boost::json::value& value, std::string_view name) {
    const boost::json::object* const object = value.if_object();
    return object == nullptr ? nullptr : object->if_contains(boost::json::string_view(name.data(), name.size()));
}

}  // namespace residency::detail
