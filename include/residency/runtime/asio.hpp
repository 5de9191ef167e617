#pragma once

// The one header that includes Boost.Asio, but for backends/remote/beast.hpp, which has more of it for that leaf alone.
// What a header of ours needs of it is listed here, so that what including the library costs is seen, and what differs
// between Boost versions is mended, in one place.

#include "residency/compiler.hpp"

#include <boost/asio/detail/config.hpp>

#if !defined(BOOST_ASIO_HAS_CO_AWAIT)
#error "residency needs Boost.Asio's coroutines: compile without BOOST_ASIO_DISABLE_CO_AWAIT"
#include "residency/stopped"  // There is none, see compiler.hpp.
#elif !defined(BOOST_ASIO_HAS_CONCEPTS) || defined(BOOST_ASIO_DISABLE_VARIADIC_TEMPLATES)
#error "residency needs Boost.Asio's concepts: compile without BOOST_ASIO_DISABLE_CONCEPTS and _VARIADIC_TEMPLATES"
#include "residency/stopped"  // There is none, see compiler.hpp.
#elif defined(BOOST_ASIO_DISABLE_MOVE)
#error "residency's handlers may be movable only: compile without BOOST_ASIO_DISABLE_MOVE"
#include "residency/stopped"  // There is none, see compiler.hpp.
#elif defined(BOOST_ASIO_DISABLE_THREADS) || defined(BOOST_DISABLE_THREADS)
#error "residency is used from several threads: compile without BOOST_ASIO_DISABLE_THREADS"
#include "residency/stopped"  // There is none, see compiler.hpp.
#elif defined(BOOST_ASIO_USE_TS_EXECUTOR_AS_DEFAULT)
#error "residency needs Boost.Asio's own executors: compile without BOOST_ASIO_USE_TS_EXECUTOR_AS_DEFAULT"
#include "residency/stopped"  // There is none, see compiler.hpp.
#endif

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/associated_allocator.hpp>
#include <boost/asio/associated_cancellation_slot.hpp>
#include <boost/asio/associated_executor.hpp>
#include <boost/asio/async_result.hpp>
#include <boost/asio/basic_waitable_timer.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/cancellation_type.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/dispatch.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/execution_context.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/query.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/system_executor.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace residency {

namespace asio = boost::asio;

}  // namespace residency
